"""Copying token shards to a node's own disk, verified, so that training does not read them over the network.

A copy is as good as its check: every file is hashed while it is copied, and takes its name only when the hash is that
of the manifest. So what is there after a crash is whole, and a second start copies what is missing. Any place that
holds the files can be copied from, such as another node's disk: the manifest says what they must be.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.execution.manifest import MANIFEST, read_manifest
from smolmake.files import lock_file, new_file, write_atomically

BLOCK_BYTES = 2**22


def scratch_folder(asked: str | None) -> Path | None:
    """The folder that `runtime.scratch` means on this node: a path, in which variables such as $TMPDIR are filled in.

    Raises:
        UserError: if a variable is not set here.
    """
    if asked is None:
        return None
    found = os.path.expandvars(asked)
    if not found or "$" in found:
        raise UserError(
            "a variable is not set on the node, so there is no folder to copy the token shards to",
            key="runtime.scratch", value=asked, remedy="name a variable of your cluster, a folder, or leave it out",
        )  # fmt: skip
    return Path(found)


def stage(manifest: Path, scratch: Path, neighbours: Iterable[Path] = (), block: int = BLOCK_BYTES) -> Path:
    """Copy an artefact's payload into `scratch`/kind/name-id; returns that folder, which then holds its manifest too.

    `neighbours` are scratch folders of other nodes, which are tried before the shared storage. Processes of one node
    that ask for the same artefact wait for the first.

    Raises:
        UserError: if there is no room, or no place has a file as the manifest says it is.
    """
    about = read_manifest(manifest)
    folder = manifest.parent
    target = scratch / folder.parent.name / folder.name
    places = [*(place / folder.parent.name / folder.name for place in neighbours), folder]
    target.mkdir(parents=True, exist_ok=True)
    with lock_file(target / ".lock"):
        for left in target.rglob(".*.tmp"):  # of a process that was killed
            left.unlink()
        missing = {name: file for name, file in about["payload"].items() if not _whole(target / name, file)}
        _check_room(target, sum(file["bytes"] for file in missing.values()), folder)
        for name, file in missing.items():
            _copy(name, file, places, target, block)
        write_atomically(target / MANIFEST, manifest.read_text(encoding="utf-8"))
    return target


def _whole(path: Path, expected: dict[str, Any]) -> bool:
    """Whether a file is there: it was given its name after its hash had been checked, so its size is enough."""
    return path.is_file() and path.stat().st_size == expected["bytes"]


def _check_room(target: Path, wanted: int, folder: Path) -> None:
    free = shutil.disk_usage(target).free
    if wanted > free:
        raise UserError(
            f"no room on the node's disk for {folder.name}",
            file=target,
            value=f"{wanted / 1e9:.1f} GB wanted, {free / 1e9:.1f} GB free",
            remedy="free space there, take another folder, or train from the shared storage",
        )


class _Different(Exception):
    """The content differs from the manifest's."""


def _copy(name: str, expected: dict[str, Any], places: list[Path], target: Path, block: int) -> None:
    """Copy a file, `block` bytes at a time, from the first place that has it as it should be."""
    wrong = []
    for place in places:
        try:
            with (place / name).open("rb") as source, new_file(target / name) as beside, beside.open("wb") as copy:
                hashed = hashlib.sha256()
                while content := source.read(block):
                    hashed.update(content)
                    copy.write(content)
                if hashed.hexdigest() != expected["sha256"]:
                    raise _Different
            return
        except _Different:
            wrong.append(f"{place / name} is not what its manifest says")
        except FileNotFoundError:
            wrong.append(f"{place / name} is not there")
        print(f"staging: {wrong[-1]}", file=sys.stderr)
    raise UserError(
        "no place has this file as its manifest says it is",
        file=places[-1] / name,
        value="; ".join(wrong),
        remedy=f"delete {places[-1] / MANIFEST}; the step that makes it then runs again",
    )
