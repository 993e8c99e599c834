"""Random edits of a user's files: rows, texts, questions, tasks, a program, templates; and what says nothing new."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers.edits.edit import Edit

ROWS = ("texts/notes/part-*.jsonl", "questions/*.jsonl", "chats.jsonl", "prompts.jsonl")
TEXTS = ("texts/pages/*.txt", "program/*.py", "program/*.txt", "config/templates/*.jinja")
NAMES = ("texts/notes/part-*.jsonl", "texts/pages/*.txt")
DATA = ("texts/notes", "texts/pages", "tasks", "questions")
Change = Callable[[Path], None]


def _reworded(number: int) -> Change:
    """Another word in a row, of those that stand in texts."""

    def change(file: Path) -> None:
        lines = file.read_text().splitlines(keepends=True)
        row = json.loads(lines[number % len(lines)])
        lines[number % len(lines)] = json.dumps(_other(row)) + "\n"
        file.write_text("".join(lines))

    return change


def _other(value: object) -> object:
    """A row with other first words: its keys, its roles and its numbers stay."""
    if isinstance(value, dict):
        return {key: each if key == "role" else _other(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_other(each) for each in value]
    return f"other {value}" if isinstance(value, str) else value


def _dropped(number: int) -> Change:
    def change(file: Path) -> None:
        lines = file.read_text().splitlines(keepends=True)
        del lines[number % len(lines)]
        file.write_text("".join(lines))

    return change


def _turned(number: int) -> Change:
    def change(file: Path) -> None:
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join([*lines[1:], lines[0]]))

    return change


def _longer(number: int) -> Change:
    def change(file: Path) -> None:
        word = {".py": f"LATER = {number}", ".jinja": f"word{number}"}.get(file.suffix, f"rofan{number}")
        file.write_text(f"{file.read_text()}{word}\n")

    return change


def _same_size(number: int) -> Change:
    """One letter, with size and modification time as they were."""

    def change(file: Path) -> None:
        before, text = file.stat(), file.read_text()
        at = next(at for at, letter in enumerate(text) if letter == "a" and at > len(text) // 3)
        file.write_text(text[:at] + "e" + text[at + 1 :])
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    return change


def _renamed(number: int) -> Change:
    return lambda file: file.rename(file.with_name(f"zz-{number}{file.suffix}")) and None


def _touched(number: int) -> Change:
    return lambda file: os.utime(file, (number, number))


def _written_again(number: int) -> Change:
    def change(file: Path) -> None:
        text = file.read_bytes()
        file.unlink()
        file.write_bytes(text)

    return change


def _linked(number: int) -> Change:
    """The file lies elsewhere, and a link in its place."""

    def change(file: Path) -> None:
        elsewhere = file.parents[2] / f"elsewhere-{number}-{file.name}"
        shutil.move(file, elsewhere)
        file.symlink_to(os.path.relpath(elsewhere, file.parent))

    return change


def _beside(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text) and None


def _questioned(number: int) -> Change:
    return lambda file: file.write_text(f"{file.read_text()}description: 'Think {number} times. '\n") and None


def _commented(number: int) -> Change:
    return lambda file: file.write_text(f"# {number}\n{file.read_text()}# The end.\n") and None


def _turned_keys(number: int) -> Change:
    def change(file: Path) -> None:
        blocks: list[str] = []
        for line in file.read_text().splitlines(keepends=True):
            if line[0].isspace() and blocks:
                blocks[-1] += line
            else:
                blocks.append(line)
        file.write_text("".join(blocks[::-1]))

    return change


# what is done: with which files, how, and whether no result can differ
KINDS: dict[str, tuple[tuple[str, ...], Callable[[int], Change], bool]] = {
    "a row's words": (ROWS, _reworded, False),
    "a row less": (ROWS, _dropped, False),
    "rows in another order": (ROWS, _turned, False),
    "a longer text": (TEXTS, _longer, False),
    "a letter, with size and time as they were": (NAMES, _same_size, False),
    "another name": (NAMES, _renamed, False),
    "a task's description": (("tasks/*.yaml",), _questioned, False),
    "a touched file": ((*ROWS, *TEXTS), _touched, True),
    "a file written again": ((*ROWS, *TEXTS), _written_again, True),
    "a link in place of a file": (NAMES, _linked, True),
    "a README": (("texts/notes", "tasks", "questions"), lambda n: _beside("README.md", f"Words {n}.\n"), True),
    "notes beside rows": (("texts/notes",), lambda n: _beside(f"notes-{n}.log", f"{n}\n"), True),
    "a hidden file": (DATA, lambda n: _beside(f".hidden-{n}", f"{n}\n"), True),
    "a comment in a task": (("tasks/*.yaml",), _commented, True),
    "a task's keys in another order": (("tasks/*.yaml",), _turned_keys, True),
}


def file_edits(tree: Path, rng: random.Random, count: int, neutral: bool) -> Iterator[Edit]:
    """Random edits of files of a tree."""
    kinds = [kind for kind, (_, _, is_neutral) in KINDS.items() if is_neutral == neutral]
    for _ in range(count):
        kind, number = rng.choice(kinds), rng.randrange(1, 10**6)
        patterns, make, _ = KINDS[kind]
        places = sorted(str(file.relative_to(tree)) for each in patterns for file in tree.glob(each))
        place = rng.choice(places)
        yield Edit(f"files: {kind}", place, place, neutral, _at(place, make(number)))


def _at(place: str, change: Change) -> Callable[[Path], None]:
    return lambda tree: change(tree / place)
