"""Random programs of functions, constants and classes over several modules, run and compared with their fingerprints.

What a program computes depends on its definitions alone; how it is written (in which modules, with which imports,
in what order, with annotations) is drawn apart from that.
"""

import contextlib
import io
import runpy
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from smolmake.execution.fingerprint import code_fingerprint

LAZY, CALM = ("function", "class"), ("constant", "conditional")
KINDS = (*LAZY, *CALM, "decorated", "effect", "set again")
MODULES = ("m0", "m1", "m2", "script")
STYLES = ("from", "alias", "module", "module alias", "inside", "package")


@dataclass(frozen=True)
class Definition:
    """`number` in its expression, those before it that it uses, and for methods and defaults a number more."""

    kind: str
    number: int
    uses: tuple[int, ...]
    default: int


@st.composite
def programs(draw: Any, effects: bool = True) -> list[Definition]:
    """Without `effects` nothing is called while a module is loaded, where the order would matter."""
    program: list[Definition] = []
    for place in range(draw(st.integers(2, 7))):
        kind = draw(st.sampled_from(KINDS if effects else LAZY + CALM))
        usable = [other for other in range(place) if effects or kind in LAZY or program[other].kind in CALM]
        uses = draw(st.lists(st.sampled_from(usable), max_size=3, unique=True)) if usable else []
        program.append(Definition(kind, draw(st.integers(0, 9)), tuple(uses), draw(st.integers(0, 3))))
    return program


@st.composite
def layouts(draw: Any, count: int) -> dict[str, Any]:
    """A way to write a program of `count` definitions: their modules, in ascending order, and a style of each use."""
    modules = sorted(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    styles = draw(st.lists(st.sampled_from(STYLES), min_size=count + 1, max_size=count + 1))
    return {"modules": modules, "styles": styles, "typed": draw(st.booleans()), "turned": draw(st.booleans())}


def used(definition: Definition, name: str) -> str:
    if definition.kind in ("function", "decorated"):
        return f"{name}(2)"
    if definition.kind == "class":
        return f"({name}().total() + {name}.level)"
    return f"{name}[0]" if definition.kind == "effect" else name


def written(program: list[Definition], layout: dict[str, Any]) -> dict[str, str]:
    """The files of a program."""
    imports: dict[str, dict[str, str]] = {module: {} for module in MODULES}  # module -> name -> line
    blocks: dict[str, list[str]] = {module: [] for module in MODULES}

    def name(place: int) -> str:
        return f"{'K' if program[place].kind == 'class' else 'd'}{place}"

    def use(place: int, module: str, style: str, inside: list[str] | None) -> str:
        home = MODULES[layout["modules"][place]]
        if home == module:
            return used(program[place], name(place))
        if style == "package" and home == "m0":
            home = "p"
        if style == "inside" and inside is not None:
            inside.append(f"from {home} import {name(place)}")
            return used(program[place], name(place))
        line, called = {
            "alias": (f"from {home} import {name(place)} as other{place}", f"other{place}"),
            "module": (f"import {home}", f"{home}.{name(place)}"),
            "module alias": (f"import {home} as of_{home}", f"of_{home}.{name(place)}"),
        }.get(style, (f"from {home} import {name(place)}", name(place)))
        imports[module].setdefault(called.partition(".")[0], line)
        return used(program[place], called)

    for place, definition in enumerate(program):
        module = MODULES[layout["modules"][place]]
        lazy = definition.kind in ("function", "class", "decorated")
        inside: list[str] = []
        style = layout["styles"][place]
        terms = [use(other, module, style, inside if lazy else None) for other in definition.uses]
        total = " + ".join([str(definition.number), *terms])
        blocks[module].append(block(definition, name(place), total, inside, layout["typed"]))
    shown = [use(place, "script", layout["styles"][-1], None) for place in (len(program) - 1, 0)]
    blocks["script"].append(f"from log import LOG\nprint({', '.join(shown)}, LOG)")
    files = {}
    for module in MODULES:
        parts = blocks[module]
        if layout["turned"] and all(part.startswith(("def ", "class ")) for part in parts):
            parts = parts[::-1]
        files[f"{module}.py"] = "\n".join([*imports[module].values(), *parts]) + "\n"
    first = [name(place) for place, module in enumerate(layout["modules"]) if module == 0]
    files["p/__init__.py"] = f"from m0 import {', '.join(first)}\n" if first else ""
    files["log.py"] = "LOG = []\n"
    files["tools.py"] = "def plus(function):\n    return lambda x: function(x) + 1\n"
    return files


def block(definition: Definition, name: str, total: str, inside: list[str], typed: bool) -> str:
    hint, result, text = (": int", " -> int", '    """Some text."""\n') if typed else ("", "", "")
    body = text + "".join(f"    {line}\n" for line in inside)
    function = f"def {name}(x{hint}, y{hint}={definition.default}){result}:\n{body}    return x * y + {total}\n"
    if definition.kind == "function":
        return function
    if definition.kind == "decorated":
        return f"from tools import plus\n@plus\n{function}"
    if definition.kind == "class":
        lines = "".join(f"        {line}\n" for line in inside)
        method = f"    def total(self){result}:\n{lines}        return self.level + {total}\n"
        return f"class {name}:\n    level{hint} = {definition.default}\n{method}"
    if definition.kind == "effect":
        return f"from log import LOG\n{name} = [{total}]\nLOG.append({definition.default})"
    if definition.kind == "set again":
        return f"{name}{hint} = {total}\n{name} += {definition.default}"
    if definition.kind == "conditional":
        return f"try:\n    {name} = int({definition.default}) + {total}\nexcept ValueError:\n    {name} = 0"
    return f"{name}{hint} = {total}"


def computed(files: dict[str, str]) -> tuple[str, str]:
    """What a program gives, and its fingerprint."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).parent.mkdir(exist_ok=True)
            (Path(folder) / name).write_text(text)
        fingerprint = code_fingerprint(Path(folder) / "script.py")
        before = set(sys.modules)
        sys.path.insert(0, folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                runpy.run_path(f"{folder}/script.py")
        finally:
            sys.path.remove(folder)
            for module in set(sys.modules) - before:
                del sys.modules[module]
    return printed.getvalue(), fingerprint


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_program_that_gives_something_else_has_another_fingerprint(data: st.DataObject) -> None:
    program = data.draw(programs())
    place = data.draw(st.integers(0, len(program) - 1))
    other = list(program)
    other[place] = replace(
        program[place],
        kind=data.draw(st.sampled_from([program[place].kind, *KINDS])),
        number=data.draw(st.integers(0, 9)),
        default=data.draw(st.integers(0, 3)),
        uses=tuple(data.draw(st.lists(st.integers(0, place - 1), max_size=3, unique=True))) if place else (),
    )
    first, second = (computed(written(each, data.draw(layouts(len(program))))) for each in (program, other))
    if first[0] != second[0]:
        assert first[1] != second[1]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_program_that_is_written_otherwise_has_the_same_fingerprint(data: st.DataObject) -> None:
    program = data.draw(programs(effects=False))
    first, second = (computed(written(program, data.draw(layouts(len(program))))) for _ in range(2))
    assert first == second
