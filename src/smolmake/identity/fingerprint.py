"""A fingerprint of the code that computes a step: syntax trees, first-party imports followed.

Comments, docstrings and formatting do not count, nor do the modules in NEUTRAL, which cannot change a result
(tests/unit/test_neutral.py trains with and without them and compares bit for bit).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "smolmake"
SOURCE_ROOT = Path(__file__).resolve().parents[2]
NEUTRAL = frozenset(
    {
        "smolmake",
        "smolmake.errors",
        "smolmake.progress",
        "smolmake.train.metrics",
        "smolmake.train.recovery",
        "smolmake.train.stopping",
        "smolmake.train.telemetry",
        "smolmake.identity.manifest",
        "smolmake.program",
    }
)


@cache
def code_fingerprint(entry: Path) -> str:
    """SHA-256 over the canonical syntax trees of a script and of all first-party modules that it reaches."""
    trees: dict[str, str] = {}
    waiting = [("__main__", entry)]
    while waiting:
        name, path = waiting.pop()
        if name in trees:
            continue
        text, imported = _read_module(path)
        trees[name] = text
        waiting += [(module, file) for module in imported if (file := _module_file(module)) and module not in NEUTRAL]
    joined = "\n".join(f"{name}\n{text}" for name, text in sorted(trees.items()))
    return hashlib.sha256(joined.encode()).hexdigest()


@cache
def _read_module(path: Path) -> tuple[str, tuple[str, ...]]:
    """A module's canonical tree as a hash, and the first-party modules that it imports anywhere."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    imported: set[str] = set()
    for node in _running_code(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    first_party = tuple(sorted(name for name in imported if name.split(".")[0] == PACKAGE))
    return hashlib.sha256(canonical_tree(tree).encode()).hexdigest(), first_party


def _running_code(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def canonical_tree(node: ast.AST) -> str:
    """The tree as text without positions, docstrings and empty fields, so that Python's versions agree on it."""
    parts = []
    for field, value in ast.iter_fields(node):
        if field == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            value = _without_docstring(value)
        if field in ("ctx", "type_comment", "kind") or value is None or value == []:
            continue
        parts.append(f"{field}={_canonical_value(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _canonical_value(value: object) -> str:
    if isinstance(value, ast.AST):
        return canonical_tree(value)
    if isinstance(value, list):
        return "[" + ",".join(_canonical_value(item) for item in value) + "]"
    return f"{type(value).__name__}:{value!r}"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:]
    return body


def _module_file(module: str) -> Path | None:
    place = SOURCE_ROOT / Path(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None
