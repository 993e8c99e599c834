"""Which files a path means: one list for what is read, hashed, counted and shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from smolmake.errors import UserError

# Folders that hold nothing of a tree's own.
NOT_ITS_OWN = {"__pycache__", "node_modules", "site-packages"}
HIDDEN, INSTALLED, CIRCLE = "hidden", "compiled or installed code", "a link to a folder that it lies in"


Pattern = tuple[str, ...]  # parts of a glob
ALL: Pattern = ("**",)


@dataclass(frozen=True)
class Listing:
    """Files by their `names` in the folder `base`, in order, and what of the folder is passed over, by reason."""

    base: Path
    names: list[str]
    passed_over: dict[str, list[str]] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        return [self.base / name for name in self.names]

    def pass_over(self, name: str, reason: str) -> None:
        self.passed_over.setdefault(reason, []).append(name)


def list_files(pattern: str, root: Path) -> Listing:
    """The files that a `path` of the recipe means: a file, all files under a folder, or a glob. Links are followed.

    Hidden files and folders, and folders of compiled or installed code, are passed over where the path does not name
    them, and so is a link to a folder that it lies in.

    Raises:
        UserError: if a folder cannot be read, a name is not UTF-8, or a link leads nowhere.
    """
    place = root / pattern
    if place.is_file():
        return Listing(place.parent, [place.name])
    parts = place.parts
    wild = next((number for number, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    base, rest = (place, ALL) if place.is_dir() else (Path(*parts[:wild]), parts[wild:])
    listing = Listing(base, [])
    if base.is_dir() and rest:
        listing.names.extend(_names(str(base), "", {rest}, [], listing))
    return listing


def matching_files(pattern: str, root: Path) -> list[Path]:
    """The files that `list_files` finds."""
    return list_files(pattern, root).files


def _names(
    folder: str, prefix: str, patterns: set[Pattern], above: list[tuple[int, int]], listing: Listing
) -> Iterator[str]:
    """The files under a folder that match one of `patterns`, sorted by the parts of their names.

    `above` holds the device and inode of every folder that it lies in; what `listing` passes over is added to.
    """
    try:
        above = [*above, _identity(os.stat(folder))]
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            "this folder cannot be read", file=folder, value=error.strerror, remedy="give read permission, or move it"
        ) from None
    for entry in entries:
        name, inside = prefix + entry.name, _inside(patterns, entry.name)
        if not inside:
            if ALL in patterns:
                listing.pass_over(name, HIDDEN if entry.name.startswith(".") else INSTALLED)
        elif not entry.name.isascii() and not _is_utf8(entry.name):
            told = os.fsencode(entry.path).decode(errors="backslashreplace")
            raise UserError("the name of this file is not UTF-8", file=told, remedy="rename it")
        elif entry.is_file():
            if not inside.isdisjoint(((), ALL)):
                yield name
        elif not entry.is_dir():
            raise UserError(
                "neither a file nor a folder: a link that leads nowhere, a pipe or a device", file=entry.path,
                remedy="bring back what it points to, or remove it",
            )  # fmt: skip
        elif entry.is_symlink() and _identity(entry.stat()) in above:
            listing.pass_over(name, CIRCLE)
        else:
            yield from _names(entry.path, name + "/", inside, above, listing)


def _inside(patterns: set[Pattern], name: str) -> set[Pattern]:
    """What is left of `patterns` in the folder, or for the file, of this name: () where one has come to its end."""
    free = not name.startswith(".") and name not in NOT_ITS_OWN  # whether a wildcard may stand for it
    if patterns == {ALL}:
        return patterns if free else set()
    left: set[Pattern] = set()
    for pattern in patterns:
        while pattern[:1] == ALL:  # it may stand for no folder at all
            if free:
                left.add(pattern)
            pattern = pattern[1:]
        if pattern and (pattern[0] == name or fnmatchcase(name, pattern[0]) and (free or pattern[0].startswith("."))):
            left.add(pattern[1:])
    return left


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
