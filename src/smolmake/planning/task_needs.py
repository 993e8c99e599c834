"""What tasks of the lm-evaluation-harness need, read in their files without running them: packages, and a sandbox."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections import ChainMap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

FUNCTION = re.compile(r"!function\s+['\"]?([\w./]+)\.\w+")
NAMING = ("task", "group")
Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # of tags and of plain words it makes texts
METRIC = "code_eval"  # the one that is judged in the sandbox
ALWAYS = {"lm_eval"} | set(sys.stdlib_module_names)


@dataclass
class Needs:
    """Modules that the code of tasks imports as it is loaded, the tasks that run what the model writes, those of them
    that do so in a way of their own, and the data sets of the hub, with the commit where a task file names one."""

    modules: list[str]
    unsafe: list[str]
    outside: list[str]
    datasets: dict[str, str | None]

    @property
    def missing(self) -> list[str]:
        return [module for module in self.modules if find_spec(module) is None]


def task_needs(name: str, mentions: dict[str, list[Path]]) -> Needs:
    """What a task, or all tasks of a group or tag, need; `mentions` are the files that name each."""
    waiting, seen, modules, unsafe, outside = [name], {name}, set[str](), set[str](), set[str]()
    datasets: dict[str, str | None] = {}
    while waiting:
        asked = waiting.pop()
        for path in mentions.get(asked, ()):
            content = _read(path)
            if asked not in _named(content):
                continue
            parts = list(_included(path, content))
            codes = [code for place, _ in parts for code in _code(place)]
            modules |= {module for code in codes for module in loaded_modules(code)}
            settings = dict(ChainMap(*(part for _, part in parts)))  # a file's own before those that it includes
            if str(settings.get("unsafe_code")).lower() == "true":
                unsafe.add(asked)
                if not any(METRIC in code.read_text() for code in codes):
                    outside.add(asked)
            arguments = settings.get("dataset_kwargs") or {}
            if (data := settings.get("dataset_path")) and isinstance(arguments, dict) and "data_files" not in arguments:
                datasets[str(data)] = arguments.get("revision")
            new = set(_members(content.get("task"))) - seen
            seen |= new
            waiting += sorted(new)
    return Needs(sorted(modules), sorted(unsafe), sorted(outside), dict(sorted(datasets.items())))


def _named(content: dict[str, Any]) -> set[str]:
    """The names by which a task file is asked."""
    tags = content.get("tag") or []
    names = {str(content[key]) for key in NAMING if isinstance(content.get(key), str)}
    return names | set(map(str, [tags] if isinstance(tags, str) else tags))


def _members(tasks: Any) -> Iterator[str]:
    """The tasks and groups that a group names, also within groups that it makes itself."""
    for member in tasks if isinstance(tasks, list) else []:
        if isinstance(member, str):
            yield member
        elif isinstance(member, dict):
            yield from (str(member[key]) for key in NAMING if isinstance(member.get(key), str))
            yield from _members(member.get("task"))


def _included(path: Path, content: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A task file and those that it includes."""
    yield path, content
    more = content.get("include") or []
    for name in [more] if isinstance(more, str) else more:
        place = path.parent / str(name)
        if place.is_file():
            yield from _included(place, _read(place))


@cache
def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_bytes(), Loader=Loader)  # noqa: S506 (the base loader)
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _code(path: Path) -> list[Path]:
    """The files of code that a task file names functions of."""
    found = []
    for module in FUNCTION.findall(path.read_text(errors="replace")):
        beside = path.parent / f"{module.replace('.', '/')}.py"
        found.append(beside if beside.is_file() else _module_file(module))
    return [file for file in dict.fromkeys(found) if file is not None]


@cache
def loaded_modules(code: Path) -> frozenset[str]:
    """Top-level names of what a file imports as it is loaded, through the harness's own modules too."""
    outside, waiting, seen = set[str](), [code], {code}
    while waiting:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how others write their strings
            tree = ast.parse(waiting.pop().read_text())
        for module in _imports(tree.body):
            inside = _module_file(module) if module.startswith("lm_eval.tasks") else None
            if inside is not None and inside not in seen:
                seen.add(inside)
                waiting.append(inside)
            outside.add(module.partition(".")[0])
    return frozenset(outside - ALWAYS)


def _imports(body: list[ast.stmt]) -> Iterator[str]:
    """Modules that statements import wherever they run; an import that may fail in silence is none."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Try):
            if all(any(isinstance(each, ast.Raise) for each in handler.body) for handler in node.handlers):
                yield from _imports(node.body)
            yield from _imports(node.finalbody)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            yield from _imports([*node.body, *node.orelse])
        elif isinstance(node, ast.ClassDef | ast.With):
            yield from _imports(node.body)


def _module_file(module: str) -> Path | None:
    """The file of one of the harness's own modules; None of a name that is none, such as a function's."""
    package = find_spec("lm_eval")
    if package is None or not package.submodule_search_locations or not module.startswith("lm_eval."):
        return None
    place = Path(package.submodule_search_locations[0], *module.split(".")[1:])
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
