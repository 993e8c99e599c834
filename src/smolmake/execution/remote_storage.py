"""Copies of checkpoints in remote storage, by fsspec: put there whole, fetched back when the local files are gone.

An upload is a folder of files (a recovery checkpoint, a milestone, a segment's checkpoint). Its `files.json`, with size
and hash of every file, goes last: an upload without it is not whole. Credentials come from the environment alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.files import file_digest, new_file, write_json

LISTING = "files.json"
REMOTE = "remote.json"  # beside a manifest: which files of the payload are also elsewhere, and where
FileRecords = dict[str, dict[str, Any]]


class RemoteStore:
    """A folder of a remote file system.

    Raises:
        UserError: if the address names a file system that is not installed.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self.fs, self.root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise UserError(
                "this address cannot be used", key="runtime.upload.url", value=url,
                remedy=f"install its file system (s3: pip install -c constraints.txt -e '.[s3]'): {error}",
            ) from None  # fmt: skip

    def put(self, folder: Path, upload: str) -> FileRecords:
        """Upload a folder's files as an upload; gives their sizes and hashes.

        Raises:
            OSError: if the other side has not what was sent.
        """
        self.remove(f"{upload}/{LISTING}")  # of an earlier upload of this name, whose files are overwritten now
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            self._make_folder(f"{upload}/{name}")
            self.fs.put_file(str(path), self._path(f"{upload}/{name}"))
        for name, about in files.items():
            there = self.fs.info(self._path(f"{upload}/{name}"))["size"]
            if there != about["bytes"]:
                raise OSError(f"{upload}/{name} has {there} bytes there instead of {about['bytes']}")
        self._make_folder(f"{upload}/{LISTING}")
        self.fs.pipe_file(self._path(f"{upload}/{LISTING}"), json.dumps(files).encode())
        return files

    def files(self, upload: str) -> FileRecords | None:
        """Sizes and hashes of an upload's files, or None if it is not whole."""
        try:
            found: FileRecords = json.loads(self.fs.cat_file(self._path(f"{upload}/{LISTING}")))
        except (FileNotFoundError, ValueError):
            return None
        return found

    def uploads(self, folder: str) -> list[str]:
        """Names of what is in a folder, whole or not."""
        try:
            return sorted(place.rstrip("/").rsplit("/", 1)[1] for place in self.fs.ls(self._path(folder), detail=False))
        except FileNotFoundError:
            return []

    def get(self, name: str, target: Path, about: dict[str, Any]) -> None:
        """Fetch a file beside its place and rename it once its hash is right.

        Raises:
            OSError: if what came is not what `about` says.
        """
        with new_file(target) as beside:
            self.fs.get_file(self._path(name), str(beside))
            if file_digest(beside) != about["sha256"]:
                raise OSError(f"what came for {name} differs from its hash")

    def remove(self, upload: str) -> None:
        if self.fs.exists(self._path(upload)):
            self.fs.rm(self._path(upload), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def _make_folder(self, name: str) -> None:
        self.fs.makedirs(self._path(name).rsplit("/", 1)[0], exist_ok=True)


def write_remote(folder: Path, url: str, names: list[str]) -> None:
    """Note beside a manifest that these files of its payload are under `url` too."""
    write_json(folder / REMOTE, {"url": url, "files": sorted(names)})


def download(folder: Path, name: str, about: dict[str, Any]) -> bool:
    """Fetch a file of a step's payload that is gone from its folder; False if remote.json does not have it.

    Raises:
        UserError: if it cannot be fetched whole.
    """
    if not has_remote(folder, name):
        return False
    url = json.loads((folder / REMOTE).read_text())["url"]
    print(f"fetching {name} of {folder.name} from {url}", file=sys.stderr, flush=True)
    try:
        RemoteStore(url).get(name, folder / name, about)
    except UserError:
        raise
    except Exception as error:  # whatever the other side's library raises
        raise UserError(
            f"this file is only in remote storage and cannot be fetched: {' '.join(str(error).split())}",
            file=folder / name, value=url, remedy="check the address and the credentials in the environment",
        ) from error  # fmt: skip
    return True


def has_remote(folder: Path, name: str) -> bool:
    """Whether remote.json of a step's folder has a file of its payload."""
    try:
        return name in json.loads((folder / REMOTE).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return False
