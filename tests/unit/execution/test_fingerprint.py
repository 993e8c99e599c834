"""The fingerprint of a step's code changes with what can change its result, and with nothing else."""

import ast
from pathlib import Path

import pytest

from smolmake.errors import UserError
from smolmake.execution.fingerprint import READ_FILES, code_definitions, code_fingerprint
from smolmake.planning.reasons import code_changes

FILES = {
    "script.py": '''\
"""A script."""
from __future__ import annotations

from typing import TYPE_CHECKING

import smolmake.data.shapes as forms
from smolmake.data import used
from smolmake.errors import UserError
from smolmake.graph.specs import LayoutRun, RunSpec
from smolmake.monitoring.progress import Progress, tell

if TYPE_CHECKING:
    from smolmake.data.typing_only import Name


def main(name: Name) -> float:
    """Compute."""
    count: int = 3
    progress = Progress("at first")
    progress.add("some work")
    if count > 5:
        raise UserError("too many", value=count, remedy="use fewer")
    tell(f"{count} told")
    assert count, "none"
    return used.rate(count) * 2 + forms.Square(RunSpec(side=2).side * LayoutRun().share()).area()


def unused() -> int:
    return forms.UNUSED


if __name__ == "__main__":
    main("x")
''',
    "src/smolmake/__init__.py": "",
    "src/smolmake/errors.py": "class UserError(Exception): pass\n",
    "src/smolmake/monitoring/__init__.py": "",
    "src/smolmake/monitoring/progress.py": "class Progress: pass\ndef tell(text): pass\n",
    "src/smolmake/recipe/__init__.py": "",
    "src/smolmake/recipe/types.py": "from pydantic import BaseModel\nclass Section(BaseModel):\n    pass\n",
    "src/smolmake/graph/__init__.py": "",
    "src/smolmake/execution/__init__.py": "",
    "src/smolmake/execution/step.py": "from pydantic import BaseModel\nclass Spec(BaseModel):\n    pass\n"
    "class Run(BaseModel):\n    pass\n",
    "src/smolmake/graph/specs.py": '''\
from pydantic import Field

from smolmake.execution.step import Run, Spec

class DeviceRun(Run):
    def share(self) -> int:
        return 1

class LayoutRun(DeviceRun):
    nodes: int = 1

class Schedule(Spec):
    peak: float = 1e-3

    def at(self, step: int) -> float:
        return self.peak

class RunSpec(Spec):
    """What is run."""
    side: float = Field(1.0, description="The side.")
    schedule: Schedule = Schedule()

    def doubled(self) -> float:
        return 2 * self.side
''',
    "src/smolmake/data/__init__.py": "from smolmake.data.deep import RATE as SPEED\n",
    "src/smolmake/data/used.py": '''\
"""A module."""
from functools import cache

from smolmake.data import SPEED
from smolmake.data import effects, quiet

try:
    import numpy as fast
except ImportError:
    fast = None

LIMIT = 7


@cache
def rate(times: int, power: int = 1) -> float:
    """A number."""
    if times > LIMIT:
        raise ValueError("too often")
    assert fast is None or times
    return SPEED * times**power  # as it is


def idle() -> int:
    return LIMIT


def late() -> int:
    from smolmake.data.unused import X

    return X
''',
    "src/smolmake/data/deep.py": "RATE = 0.5\n",
    "src/smolmake/data/effects.py": "import sys\n\nsys.setrecursionlimit(1000)\n",
    "src/smolmake/data/quiet.py": "NUMBER = int('3')\n",
    "src/smolmake/data/shapes.py": """\
import math
from dataclasses import dataclass

UNUSED = 1


def slow(function):
    return function


class Shape:
    corners = 4

    def around(self) -> float:
        return 0.0


@dataclass
class Square(Shape):
    side: float
    scale: float = 1.0

    def area(self) -> float:
        return self.side**2 * self.scale

    def perimeter(self) -> float:
        return 4 * self.side
""",
    "src/smolmake/data/typing_only.py": "Name = str\n",
    "src/smolmake/data/unused.py": "X = 1\n",
}
DATA = "src/smolmake/data/"


NOTHING_CHANGES: dict[str, list[tuple[str, str, str]]] = {
    "a comment": [(DATA + "used.py", "  # as it is", "  # another comment\n\n\n")],
    "a docstring": [(DATA + "used.py", '"""A number."""', '"""Another,\n    of two lines."""')],
    "no docstring": [("script.py", '    """Compute."""\n', ""), ("script.py", '"""A script."""', "")],
    "formatting": [(DATA + "used.py", "return SPEED * times", "return SPEED *\\\n        times")],
    "an annotation": [("script.py", "main(name: Name) -> float", "main(name) -> object")],
    "an annotation of a variable": [("script.py", "count: int = 3", "count = 3")],
    "an annotation without a value": [("script.py", "    count: int = 3", "    other: str\n    count: int = 3")],
    "the type of a dataclass's field": [(DATA + "shapes.py", "side: float", "side: int")],
    "what only types import": [(DATA + "typing_only.py", "str", "bytes")],
    "an unused function": [(DATA + "used.py", "def idle() -> int:\n    return LIMIT", "")],
    "another unused function": [(DATA + "used.py", "def late", "def later")],
    "a function that an unused one calls": [("script.py", "return forms.UNUSED", "return forms.UNUSED + used.idle()")],
    "an unused constant": [(DATA + "shapes.py", "UNUSED = 1", "UNUSED = 2")],
    "an unused import": [(DATA + "used.py", "from functools import cache", "import json\nfrom functools import cache")],
    "an unused import of ours": [(DATA + "deep.py", "RATE", "import smolmake.data.unused\nRATE")],
    "what an unused function imports": [(DATA + "unused.py", "X = 1", "print(3)")],
    "a module that is imported for nothing": [(DATA + "quiet.py", "3", "4")],
    "an error of ours": [("script.py", 'UserError("too many", value=count, remedy="use fewer")',
                          'UserError("so many", key="count", value=count + 1, remedy="do not")')],
    "an error's text": [(DATA + "used.py", '"too often"', 'f"{times} is too often"')],
    "an assertion's text": [("script.py", 'assert count, "none"', 'assert count, f"{count} is none"')],
    "a text of monitoring": [("script.py", 'Progress("at first")', 'Progress("first")')],
    "a text to a monitor": [("script.py", '"some work"', '"work"'), ("script.py", 'f"{count} told"', '"told"')],
    "a neutral package": [("src/smolmake/monitoring/progress.py", "Progress: pass", "Progress:\n    x = 1")],
    "a neutral package's start": [("src/smolmake/monitoring/__init__.py", "", "print(1)\n")],
    "errors": [("src/smolmake/errors.py", "pass", "text = 'x'")],
    "the order of functions": [
        (DATA + "used.py", "LIMIT = 7\n", ""), (DATA + "used.py", "def idle", "LIMIT = 7\n\n\ndef idle"),
    ],
    "the order of methods": [
        (DATA + "shapes.py", "    def area(self) -> float:\n        return self.side**2 * self.scale\n\n", ""),
        (DATA + "shapes.py", "4 * self.side\n",
         "4 * self.side\n\n    def area(self) -> float:\n        return self.side**2 * self.scale\n"),
    ],
    "the order of imports": [("script.py", "import smolmake.data.shapes as forms\nfrom smolmake.data import used\n",
                              "from smolmake.data import used\nimport smolmake.data.shapes as forms\n")],
    "another name for an import": [("script.py", "shapes as forms", "shapes as other"),
                                   ("script.py", "forms.", "other.")],
    "an import by another way": [("script.py", "import smolmake.data.shapes as forms", "import smolmake.data.shapes"),
                                 ("script.py", "forms.", "smolmake.data.shapes.")],
    "an import inside": [("script.py", "import smolmake.data.shapes as forms\n", ""),
                         ("script.py", '    """Compute."""\n', "    from smolmake.data import shapes as forms\n")],
    "a re-export less": [(DATA + "used.py", "data import SPEED", "data.deep import RATE as SPEED")],
    "a moved constant": [(DATA + "__init__.py", "smolmake.data.deep", "smolmake.data.unused"),
                         (DATA + "unused.py", "X", "RATE = 0.5\nX")],
    "a spec's default": [("src/smolmake/graph/specs.py", "Field(1.0", "Field(2.0")],
    "a spec's description": [("src/smolmake/graph/specs.py", "The side.", "A side.")],
    "a spec's new field": [("src/smolmake/graph/specs.py", "    side:", "    name: str = ''\n    side:")],
    "how a step runs": [("src/smolmake/graph/specs.py", "return 1", "return 2"),
                        ("src/smolmake/graph/specs.py", "nodes: int = 1", "gpus: int = 2")],
    "another script's main part": [(DATA + "deep.py", "RATE", "if __name__ == '__main__':\n    print(1)\nRATE")],
    "what runs for types": [(DATA + "deep.py", "RATE", "import typing\nif typing.TYPE_CHECKING:\n    print(1)\nRATE")],
}  # fmt: skip

SOMETHING_CHANGES: dict[str, list[tuple[str, str, str]]] = {
    "a constant": [(DATA + "deep.py", "0.5", "0.25")],
    "a constant's type": [(DATA + "deep.py", "0.5", "'0.5'")],
    "an expression": [(DATA + "used.py", "return SPEED", "return -SPEED")],
    "a number in the script": [("script.py", "* 2 +", "* 2.0 +")],
    "another order of operands": [(DATA + "used.py", "SPEED * times**power", "times**power * SPEED")],
    "the condition of an error": [(DATA + "used.py", "times > LIMIT", "times >= LIMIT")],
    "the type of an error": [(DATA + "used.py", "raise ValueError", "raise KeyError")],
    "a constant of a condition": [(DATA + "used.py", "LIMIT = 7", "LIMIT = 8")],
    "a condition that is asserted": [("script.py", "assert count,", "assert not count,")],
    "a default": [(DATA + "used.py", "power: int = 1", "power: int = 2")],
    "a new parameter": [(DATA + "used.py", "times: int,", "times: int, more: int = 1,")],
    "a decorator": [(DATA + "used.py", "@cache\n", "")],
    "a decorator of a class": [(DATA + "shapes.py", "@dataclass\n", "@dataclass(frozen=True)\n")],
    "a decorator of ours": [(DATA + "shapes.py", "    def area", "    @slow\n    def area")],
    "a base class": [(DATA + "shapes.py", "class Square(Shape)", "class Square")],
    "a base class's method": [(DATA + "shapes.py", "return 0.0", "return 1.0")],
    "a base class's attribute": [(DATA + "shapes.py", "corners = 4", "corners = 5")],
    "a method that may be called": [(DATA + "shapes.py", "4 * self.side", "5 * self.side")],
    "a field's default": [(DATA + "shapes.py", "scale: float = 1.0", "scale: float = 2.0")],
    "the order of fields": [(DATA + "shapes.py", "    side: float\n", ""),
                            (DATA + "shapes.py", " = 1.0\n", " = 1.0\n    side: float = 2.0\n")],
    "a field that is of the class": [(DATA + "shapes.py", "scale: float =", "scale: ClassVar[float] =")],
    "a spec's method": [("src/smolmake/graph/specs.py", "2 * self.side", "3 * self.side")],
    "a method of a spec in a spec": [("src/smolmake/graph/specs.py", "return self.peak", "return -self.peak")],
    "a package's start": [(DATA + "__init__.py", "from", "import os\nos.environ['X'] = '1'\nfrom")],
    "the first package's start": [("src/smolmake/__init__.py", "", "import smolmake.data.loud\n")],
    "an effect": [(DATA + "effects.py", "1000", "1001")],
    "a new effect": [(DATA + "quiet.py", "NUMBER", "print(1)\nNUMBER")],
    "a call of ours": [(DATA + "quiet.py", "int('3')", "0\nfrom smolmake.data.used import idle\nX = idle()")],
    "an import with an effect": [(DATA + "deep.py", "RATE", "import smolmake.data.loud\nRATE")],
    "an import with an effect inside": [("script.py", '    """Compute."""\n', "    import smolmake.data.loud\n")],
    "a conditional import": [(DATA + "used.py", "fast = None", "fast = 0")],
    "another re-export": [(DATA + "__init__.py", "RATE as SPEED", "OTHER as SPEED")],
    "another function by a name": [("script.py", "import used", "import quiet as used")],
    "what a package exports": [(DATA + "__init__.py", "from smolmake.data.deep import RATE as", "SPEED = 1 #")],
    "a name that is set twice": [(DATA + "deep.py", "RATE = 0.5", "RATE = 0.5\nRATE += 1")],
    "a local name": [("script.py", "count", "number")],
    "a string": [("script.py", 'main("x")', 'main("y")')],
}  # fmt: skip
EXTRA = {DATA + "loud.py": "print('loud')\n"}


def changed(folder: Path, changes: list[tuple[str, str, str]]) -> bool:
    """Whether edits (file, old, new) of the files above, one after the other, change the fingerprint."""
    prints = []
    for name, edits in (("before", []), ("after", changes)):
        for file, text in (FILES | EXTRA).items():
            (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_text(text)
        for edit in edits:
            replace(folder / name, *edit)
        prints.append(code_fingerprint(folder / name / "script.py", folder / name / "src"))
    return prints[0] != prints[1]


def replace(project: Path, name: str, old: str, new: str) -> None:
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new) if old else new + text)


@pytest.mark.parametrize("name", NOTHING_CHANGES)
def test_what_cannot_change_a_result_does_not_count(tmp_path: Path, name: str) -> None:
    assert not changed(tmp_path, NOTHING_CHANGES[name])


@pytest.mark.parametrize("name", SOMETHING_CHANGES)
def test_what_can_change_a_result_counts(tmp_path: Path, name: str) -> None:
    assert changed(tmp_path, SOMETHING_CHANGES[name])


def test_what_a_moved_definition_is_called_in_reasons(tmp_path: Path) -> None:
    """None of its own; another definition is named by its file and name."""
    edits = [
        (DATA + "__init__.py", "smolmake.data.deep", "smolmake.data.unused"),
        (DATA + "unused.py", "X", "RATE = 0.5\nX"),
        (DATA + "shapes.py", "self.side**2", "self.side"),
        (DATA + "used.py", "LIMIT = 7", "LIMIT = 8"),
    ]
    changed(tmp_path, edits)
    before, after = [
        code_definitions(tmp_path / name / "script.py", tmp_path / name / "src") for name in ("before", "after")
    ]
    assert code_changes(before, after) == ["data/shapes.py: Square.area() changed", "data/used.py: LIMIT changed"]
    assert code_changes(before, before) == []


def test_other_uses_of_the_same_definitions_are_a_reason_too(tmp_path: Path) -> None:
    told = []
    for first in ("one", "two"):
        for name, text in (("one", "def give():\n    return 1\n"), ("two", "def give():\n    return 2\n")):
            (tmp_path / first).mkdir(exist_ok=True)
            (tmp_path / first / f"{name}.py").write_text(text)
        second = "two" if first == "one" else "one"
        script = tmp_path / first / "script.py"
        script.write_text(f"import {first} as a, {second} as b\nprint(a.give(), b.give())\n")
        told.append(code_definitions(script))
    assert code_changes(*told) == ["which of its definitions its code uses where, or their order, changed"]


def test_the_package_does_nothing_that_fingerprints_cannot_follow(root: Path) -> None:
    """No modules or names that are computed, no class that does something with its subclasses."""
    files = {*(root / "src" / "smolmake").rglob("*.py"), *(root / "workflow" / "scripts").glob("*.py")}
    for path in files - {root / "src" / "smolmake" / "cli.py"}:  # which no step reaches
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("eval", "exec", "__import__", "import_module", "importlib.import_module"), path
            assert getattr(node, "name", "") not in ("__init_subclass__", "__set_name__"), path


def test_the_package_has_no_files_that_fingerprints_leave_out(root: Path) -> None:
    files = [file for file in (root / "src" / "smolmake").rglob("*") if file.is_file() and file.suffix != ".pyc"]
    assert {file.suffix for file in files} - set(READ_FILES) <= {".py"}


@pytest.mark.parametrize("line", ["from smolmake.data.used import *", "from . import used"])
def test_an_import_that_cannot_be_followed_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError, match=r"shapes\.py:1"):
        changed(tmp_path, [(DATA + "shapes.py", "import math\n", f"{line}\n")])


def test_the_order_of_statements_that_bind_a_name_again_counts(tmp_path: Path) -> None:
    """What `b` is depends on when it is read."""
    found = set()
    for number, lines in enumerate(("a = 1\nb = a\na = 2\n", "a = 1\na = 2\nb = a\n")):
        script = tmp_path / str(number) / "script.py"
        script.parent.mkdir()
        script.write_text(f"{lines}print(b)\n")
        found.add(code_fingerprint(script))
    assert len(found) == 2
