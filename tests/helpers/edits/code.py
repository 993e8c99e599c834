"""Random edits of the package's code: what may change a result, and what changes none."""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from helpers.edits.edit import Edit
from smolmake.execution.fingerprint import NEUTRAL
from smolmake.execution.kinds import KINDS

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
FLIPS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "+"}
Patch = tuple[ast.AST, str]  # a part of the code and what to write in its place; before it where that ends in a line
Operator = Callable[[ast.AST, "Text"], list[Patch]]


class Text:
    """A module's source, of which parts are replaced by their places in its tree."""

    def __init__(self, source: str) -> None:
        self.source, self.tree = source.encode(), ast.parse(source)
        self.starts = [0]
        for line in self.source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        begin, end = getattr(node, "lineno") - 1, getattr(node, "end_lineno") - 1  # noqa: B009
        return self.starts[begin] + getattr(node, "col_offset"), self.starts[end] + getattr(node, "end_col_offset")  # noqa: B009

    def of(self, node: ast.AST) -> str:
        begin, end = self.span(node)
        return self.source[begin:end].decode()

    def patched(self, patch: Patch) -> str:
        node, text = patch
        begin, end = self.span(node)
        if text.endswith("\n"):  # a statement of its own, before this one
            text, end = text + " " * getattr(node, "col_offset"), begin  # noqa: B009
        return (self.source[:begin] + text.encode() + self.source[end:]).decode()

    @property
    def units(self) -> dict[str, ast.AST]:
        """Functions, methods and constants that have a name of their own in the module."""
        found: list[tuple[str, ast.AST]] = []
        for node in self.tree.body:
            if isinstance(node, FUNCTIONS):
                found.append((node.name, node))
            elif isinstance(node, ast.ClassDef):
                found += [(f"{node.name}.{item.name}", item) for item in node.body if isinstance(item, FUNCTIONS)]
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found.append((node.targets[0].id, node))
        times = Counter(name for name, _ in found)
        return {name: node for name, node in found if times[name] == 1}


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a definition that have places: without annotations, docstrings and what stands in f-strings."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment") or isinstance(node, ast.JoinedStr):
            continue
        for inner in value if isinstance(value, list) else [value]:
            is_text = isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant)
            if isinstance(inner, ast.AST) and not is_text and not isinstance(inner, ast.pattern):
                yield from _inside(inner)


def _first(node: ast.AST) -> ast.stmt | None:
    """The first statement of a function that is no docstring."""
    body = node.body if isinstance(node, FUNCTIONS) else []
    return next((s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))), None)


def _constants(node: ast.AST, text: Text) -> list[Patch]:
    found: list[Patch] = []
    for inner in _inside(node):
        if (
            isinstance(inner, ast.Constant)
            and isinstance(inner.value, int | float)
            and inner.value not in (True, False)
        ):
            found.append((inner, f"({text.of(inner)} + 1)"))
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, bool):
            found.append((inner, str(not inner.value)))
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            found.append((inner, repr(inner.value + "x")))
    return found


def _flips(node: ast.AST, text: Text) -> list[Patch]:
    tests = [inner.test for inner in _inside(node) if isinstance(inner, ast.If | ast.IfExp | ast.While)]
    compares = [inner for inner in _inside(node) if isinstance(inner, ast.Compare)]
    return [(inner, f"(not ({text.of(inner)}))") for inner in [*tests, *compares]]


def _failures(node: ast.AST, text: Text) -> list[Patch]:
    first = _first(node)
    return [] if first is None else [(first, 'raise RuntimeError("an edit")\n')]


def _drops(node: ast.AST, text: Text) -> list[Patch]:
    kinds = (ast.Assign, ast.AugAssign, ast.Expr)
    return [(inner, "pass") for inner in _inside(node) if isinstance(inner, kinds) and inner is not node]


def _returns(node: ast.AST, text: Text) -> list[Patch]:
    found = [inner.value for inner in _inside(node) if isinstance(inner, ast.Return) and inner.value is not None]
    return [(value, "None") for value in found if text.of(value) != "None"]


def _defaults(node: ast.AST, text: Text) -> list[Patch]:
    arguments = [node.args] if isinstance(node, FUNCTIONS) else []
    values = [value for each in arguments for value in [*each.defaults, *each.kw_defaults] if value is not None]
    return [patch for value in values for patch in _constants(value, text)] + [
        (value, "0") for value in values if isinstance(value, ast.Constant) and value.value is None
    ]


def _decorators(node: ast.AST, text: Text) -> list[Patch]:
    return [(each, "(lambda each: each)") for each in getattr(node, "decorator_list", [])]


def _comments(node: ast.AST, text: Text) -> list[Patch]:
    first = _first(node)
    return [] if first is None else [(first, "# A comment.\n")]


def _docstrings(node: ast.AST, text: Text) -> list[Patch]:
    if not isinstance(node, FUNCTIONS):
        return []
    doc = node.body[0]
    has = isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str)
    return [(doc, '"""Another."""')] if has and len(node.body) > 1 else [(doc, '"""New."""\n')] if not has else []


def _annotations(node: ast.AST, text: Text) -> list[Patch]:
    if not isinstance(node, FUNCTIONS) or node.decorator_list:
        return []
    groups = (node.args.posonlyargs, node.args.args, node.args.kwonlyargs)
    told = [argument.annotation for group in groups for argument in group] + [node.returns]
    return [(each, "object") for each in told if each is not None]


def _error_texts(node: ast.AST, text: Text) -> list[Patch]:
    calls = [inner.exc for inner in _inside(node) if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call)]
    texts = [part for call in calls for part in [*call.args, *(word.value for word in call.keywords)]]
    return [
        (each, repr(each.value + "!"))
        for each in texts
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]


def _log_texts(node: ast.AST, text: Text) -> list[Patch]:
    found: list[Patch] = []
    for inner in _inside(node):
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "print" and "sys.stderr" in ast.unparse(inner):
            found += [(each, f"({text.of(each)} + '!')") for each in inner.args if isinstance(each, ast.Constant)]
    return found


def _passes(node: ast.AST, text: Text) -> list[Patch]:
    first = _first(node)
    return [] if first is None else [(first, "pass\n")]


EFFECTIVE: dict[str, Operator] = {
    "a constant": _constants, "a condition": _flips, "a function that fails": _failures, "a dropped statement": _drops,
    "a returned value": _returns, "a default": _defaults, "a decorator": _decorators,
}  # fmt: skip
NOTHING: dict[str, Operator] = {
    "a comment": _comments, "a docstring": _docstrings, "an annotation": _annotations, "an error's text": _error_texts,
    "a log's text": _log_texts, "a pass": _passes,
}  # fmt: skip
WHOLE = ("an unused function", "an unused constant", "an unused import", "another layout", "another order")


def _whole(kind: str, source: str) -> str:
    """A module with an edit that is of no definition in it."""
    if kind == "another layout":
        return ast.unparse(ast.parse(source)) + "\n"
    if kind == "another order":
        text = Text(source)
        for one, two in zip(text.tree.body, text.tree.body[1:], strict=False):
            plain = all(isinstance(each, ast.FunctionDef) and not each.decorator_list for each in (one, two))
            if plain and not [*getattr(one, "args").defaults, *getattr(two, "args").defaults]:  # noqa: B009
                begin, end = text.span(one)[0], text.span(two)[1]
                turned = f"{text.of(two)}\n\n\n{text.of(one)}".encode()
                return (text.source[:begin] + turned + text.source[end:]).decode()
        return source
    if kind == "an unused import":
        head, at = source.splitlines(keepends=True), ast.parse(source).body
        last = [node for node in at if isinstance(node, ast.Import | ast.ImportFrom)]
        line = (last[-1].end_lineno or 0) if last else len(head)
        return "".join([*head[:line], "import json as unused_json\n", *head[line:]])
    return source + ("\n\ndef unused_of_the_test():\n    return 1\n" if "function" in kind else "\nUNUSED = 17\n")


def modules(tree: Path) -> list[str]:
    """The modules of the package and the scripts of steps, by their places in a tree."""
    package = sorted((tree / "src" / "smolmake").rglob("*.py"))
    scripts = [tree / "workflow" / "scripts" / f"{kind}.py" for kind in KINDS]
    return [str(file.relative_to(tree)) for file in [*package, *scripts]]


def is_neutral(module: str) -> bool:
    name = module.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return any(f"{name}.".startswith(f"{package}.") for package in NEUTRAL)


def code_edits(tree: Path, rng: random.Random, count: int, neutral: bool) -> Iterator[Edit]:
    """Random edits: a kind, then a module and a definition in which there is something of that kind."""
    operators = NOTHING if neutral else EFFECTIVE
    kinds = [*operators, *(WHOLE if neutral else ())]
    places = [module for module in modules(tree) if neutral or not is_neutral(module)]
    parsed = cache(lambda module: Text((tree / module).read_text()))
    while count:
        kind, module = rng.choice(kinds), rng.choice(places)
        if kind in WHOLE:
            source = (tree / module).read_text()
            if _whole(kind, source) != source and source.strip():
                count -= 1
                yield Edit(f"code: {kind}", module, f"{module}:*", True, _rewriter(module, kind))
            continue
        units = parsed(module).units
        if not units:
            continue
        name = rng.choice(sorted(units))
        if found := operators[kind](units[name], parsed(module)):
            number = rng.randrange(len(found))
            count -= 1
            place = f"{module}: {name} line {getattr(found[number][0], 'lineno')}"  # noqa: B009
            apply = _patcher(module, name, operators[kind], number)
            yield Edit(f"code: {kind}", place, f"{module}:{name}", neutral, apply)


def _rewriter(module: str, kind: str) -> Callable[[Path], None]:
    def apply(tree: Path) -> None:
        (tree / module).write_text(_whole(kind, (tree / module).read_text()))

    return apply


def _patcher(module: str, name: str, operator: Operator, number: int) -> Callable[[Path], None]:
    def apply(tree: Path) -> None:
        text = Text((tree / module).read_text())
        patched = text.patched(operator(text.units[name], text)[number])
        ast.parse(patched)
        (tree / module).write_text(patched)

    return apply
