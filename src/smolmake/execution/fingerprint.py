"""A fingerprint of the code that computes a step: syntax trees, first-party imports followed.

Comments, docstrings and formatting do not count, nor do the modules in NEUTRAL, which cannot change a result
(tests/unit/execution/test_neutral.py trains with and without them and compares bit for bit).
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from smolmake.files import file_stamp, write_json

CACHE = Path(".smolmake") / "code.json"
PACKAGE = "smolmake"
SOURCE_ROOT = Path(__file__).resolve().parents[2]
NEUTRAL = frozenset(
    {
        "smolmake",
        "smolmake.monitoring.alerts",
        "smolmake.errors",
        "smolmake.execution.lease",
        "smolmake.cluster.excluded_nodes",
        "smolmake.execution.parts",
        "smolmake.monitoring.progress",
        "smolmake.execution.remote_storage",
        "smolmake.execution.node_cache",
        "smolmake.monitoring.events",
        "smolmake.monitoring.run_log",
        "smolmake.train.leaving",
        "smolmake.monitoring.metrics",
        "smolmake.train.diagnostics.gradient_noise",
        "smolmake.train.recovery.checkpoint",
        "smolmake.train.recovery.disk_space",
        "smolmake.train.recovery.safe_unpickle",
        "smolmake.train.diagnostics.source_loss",
        "smolmake.train.recovery.signals",
        "smolmake.monitoring.device_stats",
        "smolmake.monitoring.trackers",
        "smolmake.train.recovery.uploads",
        "smolmake.train.diagnostics.watch",
        "smolmake.execution.manifest",
        "smolmake.execution.job",
    }
)


@cache
def code_fingerprint(entry: Path) -> str:
    """SHA-256 over the canonical syntax trees of a script and of all first-party modules that it reaches."""
    trees = {name: _read_module(path)[0] for name, path in reached_modules(entry).items()}
    joined = "\n".join(f"{name}\n{text}" for name, text in sorted(trees.items()))
    return hashlib.sha256(joined.encode()).hexdigest()


@cache
def reached_modules(entry: Path) -> dict[str, Path]:
    """A script, as `__main__`, and the first-party modules that it reaches and that can change a result."""
    found: dict[str, Path] = {}
    waiting = [("__main__", entry)]
    while waiting:
        name, path = waiting.pop()
        if name in found:
            continue
        found[name] = path
        imported = _read_module(path)[1]
        waiting += [(module, file) for module in imported if (file := _module_file(module)) and module not in NEUTRAL]
    return found


@cache
def code_definitions(entry: Path) -> dict[str, dict[str, str]]:
    """For each reached module a short digest of every function and method, and, under "", of all the rest.

    Returns:
        Path within the package or of the script -> definition such as `wsd()` or `Trainer.step()` -> digest.
    """
    names = {"__main__": f"workflow/scripts/{entry.name}"}
    return {
        names.get(module, module.removeprefix(PACKAGE + ".").replace(".", "/") + ".py"): _definitions(path)
        for module, path in sorted(reached_modules(entry).items())
    }


@cache
def _definitions(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    rest: list[str] = []
    waiting = [("", node) for node in ast.parse(path.read_text(encoding="utf-8")).body]
    for prefix, node in waiting:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[f"{prefix}{node.name}()"] = _short(canonical_tree(node))
        elif isinstance(node, ast.ClassDef):
            waiting += [(f"{prefix}{node.name}.", inner) for inner in _without_docstring(node.body)]
            rest.append(f"{prefix}{node.name} {[canonical_tree(x) for x in (*node.bases, *node.decorator_list)]}")
        elif not isinstance(node, ast.Expr):
            rest.append(prefix + canonical_tree(node))
    return {**found, "": _short("\n".join(rest))}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextlib.contextmanager
def remembered_trees(root: Path) -> Iterator[None]:
    """Within it, what `_read_module` finds is kept in .smolmake/code.json of a tree by path, size and times.

    Parsing all modules takes most of a second, and every job of a cluster would do it.
    """
    maker = [sys.version, *file_stamp(Path(__file__).stat())]  # another Python or another way to make them: all anew
    before: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        kept = json.loads((root / CACHE).read_text())
        before = kept.get("modules", {}) if kept.get("maker") == maker else {}
    _remembered.clear()
    _remembered.update(before)
    yield
    if _remembered != before:
        with contextlib.suppress(OSError):  # a read-only tree only loses the cache
            write_json(root / CACHE, {"maker": maker, "modules": _remembered})
    _remembered.clear()


_remembered: dict[str, Any] = {}


@cache
def _read_module(path: Path) -> tuple[str, tuple[str, ...]]:
    """A module's canonical tree as a hash, and the first-party modules that it imports anywhere."""
    place = str(path.absolute())
    entry = _remembered.get(place)
    if entry is None or entry[0] != file_stamp(path.stat()):
        with path.open(encoding="utf-8") as file:
            entry = _remembered[place] = [file_stamp(os.fstat(file.fileno())), *_parse_module(file.read(), path)]
    return entry[1], tuple(entry[2])


def _parse_module(source: str, path: Path) -> tuple[str, list[str]]:
    tree = ast.parse(source, filename=str(path))
    imported: set[str] = set()
    for node in _running_code(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    first_party = sorted(name for name in imported if name.split(".")[0] == PACKAGE)
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


@cache
def _module_file(module: str) -> Path | None:
    place = SOURCE_ROOT / Path(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None
