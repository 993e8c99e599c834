"""Datasets of the Hugging Face hub, streamed in parts: one for each of the files that the hub keeps a split in.

The token comes from the environment alone (HF_TOKEN, as `datasets` reads it). A part that was read is kept in its
step's folder, so an interrupted download goes on with the parts that are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smolmake.data.columns import MissingColumn
from smolmake.data.documents import Document, needed_columns, to_document, told_of_source
from smolmake.errors import UserError
from smolmake.graph.specs.data import HubDataset
from smolmake.recipe.sources import Rows


def open_hub(dataset: HubDataset, key: str) -> Any:
    """The dataset as `datasets` streams it; `key` is its place in the recipe, for errors.

    Raises:
        UserError: if the hub does not answer or has no such dataset.
    """
    import datasets

    try:
        return datasets.load_dataset(
            dataset.hub, name=dataset.config, split=dataset.split, revision=dataset.revision,
            data_files=dataset.files or None, streaming=True,
        )  # fmt: skip
    except Exception as error:  # many kinds: of the network, of the hub, of the dataset's files
        raise _told(dataset, key, error) from None


def hub_parts(dataset: HubDataset, source: str) -> int:
    """How many parts the dataset is read in."""
    return max(1, int(open_hub(dataset, f"sources.{source}").num_shards))


def read_hub(dataset: HubDataset, rows: Rows, source: str, number: int, count: int) -> Iterator[Document]:
    """The documents of one part.

    Raises:
        UserError: if the hub stops answering, or the dataset lacks a column.
    """
    stream = open_hub(dataset, f"sources.{source}").shard(num_shards=count, index=number)
    for row in _all_rows(stream, dataset, f"sources.{source}"):
        for column in needed_columns(rows):
            if column not in row:
                missing = MissingColumn(column, row, file=dataset.hub, place="this dataset")
                raise told_of_source(missing, rows, source)
        yield to_document(row, rows, source, dataset.hub, skip=rows.on_error == "skip")


def hub_rows(dataset: HubDataset, key: str) -> Iterator[dict[str, Any]]:
    """All rows of a dataset, as post-training reads them: conversations, pairs, prompts.

    Raises:
        UserError: if the hub stops answering.
    """
    yield from _all_rows(open_hub(dataset, key), dataset, key)


def _all_rows(stream: Any, dataset: HubDataset, key: str) -> Iterator[dict[str, Any]]:
    rows = iter(stream)
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise _told(dataset, key, error) from None
        if row is None:
            return
        yield row


def _told(dataset: HubDataset, key: str, error: Exception) -> UserError:
    parts = {"config": dataset.config, "split": dataset.split, "revision": dataset.revision}
    requested = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    return UserError(
        f"cannot read the dataset {dataset.hub} of the hub ({requested}): {type(error).__name__}",
        file=dataset.hub, key=f"{key}.hub", value=error,
        remedy="check the name, the configuration and the network; for a dataset behind a gate set HF_TOKEN. Parts "
        "that were read are kept: run the same command again",
    )  # fmt: skip
