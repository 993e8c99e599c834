"""The content of a user's files and scripts as part of an identity.

Files are hashed once, and again only when they may have been written to: .smolmake/content/ keeps the hashes with the
files' sizes, times and inodes. Of the times, the system sets the ctime itself, whatever a program sets the other one
back to. Where a file system has no such time, as a probe finds out, files are hashed whenever they are looked at.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from smolmake.errors import UserError
from smolmake.files import canonical_json, digest, file_digest, file_stamp, is_settled, write_atomically
from smolmake.listing import Listing, list_files

HASHES = Path(".smolmake") / "content"
Entry = list[Any]


def content_digest(pattern: str, root: Path) -> str:
    """A digest over the files that `pattern` means (see `list_files`): their names within it and their bytes."""
    return listing_digest(list_files(pattern, root), root)


def listing_digest(listing: Listing, root: Path) -> str:
    """A digest over listed files: their names within their folder and their bytes; no touch or copy changes it.

    Raises:
        UserError: if a file cannot be read.
    """
    folder, began = str(listing.base.absolute()), time.time_ns()
    kept = root / HASHES / f"{digest(folder)[:32]}.json"
    known, entries, devices = _known(kept), dict[str, Entry](), dict[int, str]()
    try:
        for name in listing.names:
            status = os.stat(f"{folder}/{name}")
            stamp, entry = file_stamp(status), known.get(name)
            if entry is None or entry[:-1] != stamp:
                entry = [*stamp, file_digest(listing.base / name)]
                devices[status.st_dev] = os.path.dirname(f"{folder}/{name}")
            entries[name] = entry
    except OSError as error:
        raise UserError(
            "this file cannot be read", file=error.filename, value=error.strerror,
            remedy="give read permission, or take it out of the data",
        ) from None  # fmt: skip
    with contextlib.suppress(OSError):  # a read-only tree only loses the cache
        kept.parent.mkdir(parents=True, exist_ok=True)
        if devices and all(_notes_changes(place, kept.parent) for place in devices.values()):
            settled = {name: entry for name, entry in entries.items() if is_settled(entry, began)}
            write_atomically(kept, json.dumps(known | settled))
    return digest({name: entry[-1] for name, entry in entries.items()})


def _known(file: Path) -> dict[str, Entry]:
    """What is kept of a folder's files: name -> stamp and SHA-256; nothing where the file is damaged."""
    try:
        known = json.loads(file.read_bytes())
        return {name: entry for name, entry in known.items() if len(entry) == 5}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _notes_changes(folder: str, own: Path) -> bool:
    """Whether a file of a folder has another stamp once it was written to and its time was set back.

    That is tried with a file in `own` if it is on the same file system, else in the folder. Where nothing can be
    written, nobody can try; the stamps are believed then.
    """
    place = own if own.stat().st_dev == os.stat(folder).st_dev else folder
    try:
        with tempfile.NamedTemporaryFile(prefix=".smolmake-", dir=place, buffering=0) as file:
            file.write(b"a")
            before = os.stat(file.name)
            time.sleep(0.02)  # longer than a tick of the clock that times of files are taken from
            file.seek(0)
            file.write(b"b")
            os.utime(file.name, ns=(before.st_atime_ns, before.st_mtime_ns))
            return file_stamp(os.stat(file.name)) != file_stamp(before)
    except OSError:
        return True


def code_digests(script: Path) -> dict[str, str]:
    """SHA-256 of a script and of every module that it imports from its own folder, by name within that folder."""
    found: dict[str, str] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(script.parent).as_posix()
        if name in found:
            continue
        found[name] = file_digest(path)
        try:
            tree = ast.parse(path.read_bytes(), filename=str(path))
        except (SyntaxError, ValueError) as error:
            raise UserError(
                "this Python file cannot be read", file=path, value=error,
                remedy="fix that line: try it with `python -m py_compile FILE`",
            ) from None  # fmt: skip
        for module in _imports(tree, path, script.parent):
            parts = [module.joinpath(*rest) for rest in ((), ("__init__",))]
            waiting += [file for part in parts if (file := part.with_name(part.name + ".py")).is_file()]
    return dict(sorted(found.items()))


def tasks_digest(folder: Path) -> str:
    """A digest over what the task files (YAML) and the Python beside them in a folder say.

    Comments, layout, the order of keys and other files, such as a README, change nothing.
    """
    said: dict[str, Any] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in (".yaml", ".py"):
            try:
                text = file.read_text(encoding="utf-8")
                said[file.name] = ast.dump(ast.parse(text)) if file.suffix == ".py" else _said(yaml.compose(text))
            except (SyntaxError, ValueError, yaml.YAMLError):  # the harness tells what is wrong with it
                said[file.name] = file_digest(file)
    return digest(said)


def _said(node: yaml.Node | None) -> Any:
    """What YAML says, with its tags: of a mapping the pairs in order of their keys."""
    if isinstance(node, yaml.MappingNode):
        return [node.tag, sorted(([_said(key), _said(value)] for key, value in node.value), key=canonical_json)]
    if isinstance(node, yaml.SequenceNode):
        return [node.tag, [_said(part) for part in node.value]]
    return None if node is None else [node.tag, node.value]


def _imports(tree: ast.AST, path: Path, folder: Path) -> Iterator[Path]:
    """Where the modules that a file imports would lie, without `.py`, if they are its script's own."""
    for node in ast.walk(tree):
        names: list[str] = []
        start = folder
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = path.parents[node.level - 1] if node.level else folder
            module = [node.module] if node.module else []
            names = [".".join([*module, *rest]) for rest in ([], *([alias.name] for alias in node.names))]
        for name in filter(None, names):
            parts = name.split(".")
            yield from (start.joinpath(*parts[: i + 1]) for i in range(len(parts)))
