"""What a module of the first party says: its statements, the names that they bind, and what loading it does."""

from __future__ import annotations

import ast
import hashlib
import symtable
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any, NamedTuple

from smolmake.errors import UserError
from smolmake.execution.code_text import FUNCTIONS, IMPORTS, CodeText, imported, imported_modules, run_at_load, running

# Bases that do nothing with the types of a class's fields; any other may.
PLAIN_BASES = frozenset(
    {"Exception", "ValueError", "object", "abc.ABC", "typing.NamedTuple", "typing.Protocol", "typing.TypedDict"}
    | {"enum.Enum", "torch.nn.Module", "torch.autograd.Function", "torch.optim.Optimizer", "yaml.SafeLoader"}
)
NO_TEXT = hashlib.sha256(b"").hexdigest()[:16]
MAKING = frozenset({"__new__", "__init__", "__post_init__"})


class Piece(NamedTuple):
    """A definition, or the part of a class that a label such as `Trainer.step()` names.

    `digest` is of its text (see `code_text`), in which `references` stand as numbers. `field`: an annotated name of a
    class.
    """

    label: str
    digest: str
    references: list[str]
    field: bool = False


class Module:
    """A module by itself. `imports`: name -> place; `defined`: name -> numbers of the statements that bind it."""

    def __init__(self, source: str, is_program: bool) -> None:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.level or node.names[0].name == "*"):
                error = UserError(
                    "what this import gives cannot be told from the line alone, so neither can what depends on it",
                    value=ast.unparse(node), remedy="name the module by its full place, and what is imported of it",
                )  # fmt: skip
                error.line = node.lineno
                raise error
        self.statements = [node for node in running(tree.body) if is_program or not _is_main_part(node)]
        self.imports, self.defined = dict[str, str](), dict[str, list[int]]()
        self._tables = symtable.symtable(source, "", "exec").get_children()
        bound = defaultdict[str, list[tuple[int, str]]](list)
        for number, node in enumerate(self.statements):
            for name, place in imported(node) or [(name, "") for name in _bound_by(node)]:
                bound[name].append((number, place))
        for name, found in bound.items():
            if len(places := {place for _, place in found}) == 1 and "" not in places:
                self.imports[name] = places.pop()
            else:
                self.defined[name] = sorted({number for number, _ in found})
        self.code = cache(self._code)
        self.pieces = cache(self._pieces)

    def _code(self, number: int) -> CodeText:
        node = self.statements[number]
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        tables = [table for table in self._tables if table.get_lineno() in lines]
        return CodeText(node, tables, self.imports, set(self.defined))

    @cached_property
    def made(self) -> list[str] | None:
        """The references that are called when it is loaded; None if it does more than to bind each name to a value.

        Then it matters in what order its statements run.
        """
        made = [self.code(number).made_by(node) for number, node in enumerate(self.statements)]
        if any(len(numbers) > 1 for numbers in self.defined.values()) or None in made:
            return None
        return [reference for references in made for reference in references or []]

    @cached_property
    def order(self) -> list[tuple[int, list[str]]]:
        """Its statements in order, but for functions that loading it does not call, and the modules that each loads."""
        return [
            (number, [module for inner in run_at_load(node) for module in imported_modules(inner)])
            for number, node in enumerate(self.statements)
            if not _is_inert(node)
        ]

    def is_class(self, number: int) -> bool:
        return number >= 0 and isinstance(self.statements[number], ast.ClassDef)

    def bases(self, number: int) -> list[str]:
        """The references of a class's bases."""
        places = [self.code(number).reference_of(base) for base in getattr(self.statements[number], "bases", [])]
        return [place for place in places if place is not None]

    def only_fills(self, number: int) -> bool:
        """Whether a statement is a class of which an instance is made without code of its own."""
        node = self.statements[number] if number >= 0 else None
        return isinstance(node, ast.ClassDef) and MAKING.isdisjoint(_bound_by(*node.body))

    def _pieces(self, number: int) -> list[Piece]:
        """A statement in parts; of a class the head, what its body binds in order, and its methods by name."""
        node, code = self.statements[number], self.code(number)
        if not isinstance(node, ast.ClassDef):
            return [_piece(code, _label(node), node)]
        names, read = list(_bound_by(*node.body)), _read_of_fields(node, code)
        head = [node.name, node.bases, node.keywords, node.decorator_list]
        pieces, methods = [_piece(code, node.name, head)], list[Piece]()
        for item in running(node.body):
            if isinstance(item, FUNCTIONS):
                piece = _piece(code, f"{node.name}.{item.name}()", item)
                (methods if _is_inert(item) and names.count(item.name) == 1 else pieces).append(piece)
            elif isinstance(item, ast.AnnAssign) and read:
                special = [name for name in ("ClassVar", "InitVar", "KW_ONLY") if name in ast.unparse(item.annotation)]
                told = ["field", item.annotation if read == "types" else special, item.target, item.value]
                pieces.append(_piece(code, node.name, told, is_field=True))
            else:
                pieces.append(_piece(code, node.name, item))
        return pieces + sorted(methods)


def _piece(code: CodeText, label: str, node: Any, is_field: bool = False) -> Piece:
    code.references = {}
    text = code.text(node)
    return Piece(label, hashlib.sha256(text.encode()).hexdigest()[:16], list(code.references), is_field)


def _read_of_fields(node: ast.ClassDef, code: CodeText) -> str:
    """What may be read of a class's annotated names: their "types", that they are "fields", or nothing ("")."""
    bases = {code.place_of(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases}
    decorators = {code.place_of(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list}
    if not node.keywords and (decorators == {"dataclasses.dataclass"} or (not decorators and bases <= PLAIN_BASES)):
        return "fields" if decorators or "typing.NamedTuple" in bases else ""
    return "types"


def _is_main_part(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _bound_by(*nodes: ast.AST) -> Iterator[str]:
    """The names that statements bind; of a loop and the like also those that are bound in functions in it."""
    for node in nodes:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif not isinstance(node, IMPORTS):
            yield from {name for inner in ast.walk(node) for name in _bound_in_it(inner)}


def _bound_in_it(node: Any) -> list[str]:
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, IMPORTS):
        return [name for name, _ in imported(node)]
    return [name for field in ("name", "rest") if isinstance(name := getattr(node, field, None), str)]


def _is_inert(node: ast.AST) -> bool:
    """Whether a statement is a function of which nothing runs, and nothing is read, before it is called."""
    if not isinstance(node, FUNCTIONS):
        return False
    plain = {ast.unparse(decorator) for decorator in node.decorator_list} <= {"property", "staticmethod", "classmethod"}
    defaults = [*node.args.defaults, *node.args.kw_defaults]
    return plain and all(default is None or isinstance(default, ast.Constant) for default in defaults)


def _label(node: ast.stmt) -> str:
    """What reasons call a statement: the name that it defines, or its beginning."""
    if isinstance(node, FUNCTIONS):
        return f"{node.name}()"
    names = list(dict.fromkeys(_bound_by(node)))
    text = ast.unparse(node).splitlines()[0]
    return ", ".join(names[:3]) if names else text if len(text) <= 50 else text[:47] + "..."
