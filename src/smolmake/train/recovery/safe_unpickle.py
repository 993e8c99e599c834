"""Sharded checkpoints are read without trust: their plan is a pickle, of which only torch's own parts are made."""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from smolmake.errors import UserError

PARTS = {
    (metadata.__name__, name): getattr(metadata, name)
    for name in (
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
        "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    )
}  # fmt: skip
PARTS |= {
    (filesystem.__name__, "_StorageInfo"): filesystem._StorageInfo,
    ("pathlib", "PosixPath"): pathlib.PosixPath,
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
}


class ShardReader(FileSystemReader):
    """Torch's reader with a plan that can run no code."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The plan.

        Raises:
            UserError: if it holds anything that no plan of torch's has.
        """
        path = self._get_metadata_path(kwargs.get("rank"))
        try:
            with self.fs.create_stream(path, "rb") as file:
                plan = _PlanUnpickler(file).load()
        except pickle.UnpicklingError as error:
            raise UserError(
                f"this checkpoint's plan is not one of torch's: {error}",
                file=path, remedy="do not use it: delete its folder, and find out who wrote it",
            ) from None  # fmt: skip
        assert isinstance(plan, Metadata)
        if plan.storage_meta is None:
            plan.storage_meta = StorageMeta()
        plan.storage_meta.load_id = self.load_id
        return plan


class _PlanUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in PARTS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return PARTS[module, name]
