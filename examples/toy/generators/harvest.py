"""Code and English that every Python installation brings along."""

import ast
import os
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from generators.arithmetic import shows_held_out
from generators.tables import Row, keyed_fraction

SKIPPED_FOLDERS = set("test tests site-packages dist-packages idlelib lib2to3 encodings pydoc_data".split())
LARGEST_FILE = 60_000  # bytes
SHORTEST, LONGEST = 500, 6_000  # characters of a code document
SHORTEST_PROSE = 200
PROSE_SHARE = 0.65  # of characters that are letters or spaces
README_CHARACTERS = 10_000  # of one package, so that none dominates

_BORDER = re.compile(r"^(?=(?:def|class|async def|@)\b|@)", re.MULTILINE)
_README_NOISE = (
    re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE),  # fenced code
    re.compile(r"^\.\. .*(\n[ \t]+.*)*", re.MULTILINE),  # reStructuredText directives, comments, targets
    re.compile(r"<!--.*?-->|<[^<>]+>", re.DOTALL),  # html
    re.compile(r"\[?!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])(\](\([^)]*\)|\[[^\]]*\]))?"),  # images and badges
    re.compile(r"^\[[^\]]+\]:.*$", re.MULTILINE),  # link targets
    re.compile(r"^[-=~*#^|+ ]{4,}$", re.MULTILINE),  # rules and underlines
    re.compile(r"^(>>>|\.\.\. |    |\t|\|).*$", re.MULTILINE),  # code and tables
)
_LINK = re.compile(r"\[([^\]]+)\](\([^)]*\)|\[[^\]]*\])|`([^`<]+?) *<[^>]*>`_+")
_NOT_PROSE = re.compile(r"[^\w ]+|[\d_]+")
_ADDRESS = re.compile(r"\(?https?://\S+")


@cache
def _library_names(seed: int) -> tuple[str, ...]:
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        for name in names:
            path = Path(folder, name)
            # _sysconfigdata holds the build's own paths.
            wanted = path.suffix == ".py" and not name.startswith("_sysconfigdata")
            if wanted and path.stat().st_size <= LARGEST_FILE:
                found.append(path.relative_to(root).as_posix())
    return tuple(sorted(found, key=lambda name: keyed_fraction(seed, "library", name)))


def library_files(seed: int) -> Iterator[tuple[str, str]]:
    """Path and text of the standard library's sources, in an order that the seed picks."""
    root = Path(sysconfig.get_path("stdlib"))
    for name in _library_names(seed):
        try:
            yield name, (root / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def code(seed: int, size: int) -> list[Row]:
    """Python sources of `size` characters in all, cut at top-level definitions."""
    rows: list[Row] = []
    for name, text in library_files(seed):
        for piece in _pieces(_BORDER.split(text)):
            if len(piece) >= SHORTEST and not shows_held_out(piece, seed):
                rows.append({"content": piece, "path": name, "license": "PSF-2.0"})
                size -= len(piece)
        if size <= 0:
            break
    return rows


def english(seed: int, size: int, packages: list[str]) -> list[Row]:
    """English prose of about `size` characters: Python's help topics, packages' descriptions, docstrings."""
    rows: list[Row] = []
    for origin, text in (*_topics(), *_descriptions(packages), *_docstrings(seed)):
        for number, piece in enumerate(_pieces([f"{p}\n\n" for p in re.split(r"\n\s*\n", text)])):
            if len(piece) >= SHORTEST_PROSE and _is_prose(piece) and not shows_held_out(piece, seed):
                rows.append({"text": piece, "id": f"{origin}#{number}", "origin": origin.split(":")[0]})
                size -= len(piece)
        if size <= 0:
            break
    return rows


def _pieces(parts: list[str]) -> Iterator[str]:
    """Join parts into pieces of at most LONGEST characters; what is longer by itself is left out."""
    piece = ""
    for part in [*parts, ""]:
        if piece and (not part or len(piece) + len(part) > LONGEST):
            if len(piece.strip()) <= LONGEST:
                yield piece.strip()
            piece = ""
        piece += part


def _is_prose(text: str) -> bool:
    return len(_NOT_PROSE.sub("", text)) >= PROSE_SHARE * len(text)


def _topics() -> Iterator[tuple[str, str]]:
    """The texts of `help("topic")`, read as data."""
    path = Path(sysconfig.get_path("stdlib")) / "pydoc_data" / "topics.py"
    if not path.exists():
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for key, text in sorted(ast.literal_eval(node.value).items()):
                yield f"topic:{key}", re.sub(r"^[*=\-~^]{4,}\n", "", text, flags=re.MULTILINE)


def _descriptions(packages: list[str]) -> Iterator[tuple[str, str]]:
    """The cleaned descriptions of installed packages."""
    for name in packages:
        text = str(metadata.metadata(name).json.get("description", ""))
        for noise in _README_NOISE:
            text = noise.sub("", text)
        text = _ADDRESS.sub("", _LINK.sub(lambda link: link[1] or link[3], text))
        yield f"package:{name}", re.sub(r"\n\s*\n(\s*\n)+", "\n\n", text)[:README_CHARACTERS]


def _docstrings(seed: int) -> Iterator[tuple[str, str]]:
    """The long docstrings of the standard library."""
    for name, text in library_files(seed):
        try:
            waiting: list[ast.Module | ast.ClassDef | ast.FunctionDef] = [ast.parse(text)]
        except SyntaxError:
            continue
        while waiting:
            node = waiting.pop()
            docstring = ast.get_docstring(node)
            if docstring and len(docstring) >= SHORTEST_PROSE:
                yield f"docstring:{name}:{getattr(node, 'name', '')}", docstring
            if not isinstance(node, ast.FunctionDef):
                waiting += [child for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef)]
