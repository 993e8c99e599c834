"""A statement of a module as text that changes only with what it computes; its outward names are references.

Left out are positions, comments, docstrings, annotations and texts for people: those of errors, and those that calls of
monitoring are given. A name that stands for one thing of the module or of an import throughout the statement is written
as the number of a reference, such as `smolmake.data.packing.pack` or `:RATE` (of the same module), which `fingerprint`
follows; of a name that may stand for several, all are followed.
"""

from __future__ import annotations

import ast
import symtable
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

MONITORING = "smolmake.monitoring."
USER_ERROR = "smolmake.errors.UserError"
ALL = ":*"  # the reference to all that a module defines
OWN = ""  # in place of a reference: a name of the statement's own
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)
SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_params"})
REFLECTING = frozenset({"globals", "locals", "vars", "eval", "exec"})
# What only gives a value when it is called while a module is loaded; any other call there may have an effect.
CALM_BUILTINS = frozenset(
    "abs bool bytes classmethod complex dict enumerate float frozenset getattr int isinstance len list object property"
    " range set slice staticmethod str tuple zip".split()
)
CALM_MODULES = frozenset("abc dataclasses enum pathlib pyarrow pydantic re string struct types typing".split())
CALM_CALLS = frozenset(
    "contextlib.contextmanager functools.cache functools.lru_cache functools.partial functools.wraps"
    " importlib.util.find_spec numpy.uint64 torch.inference_mode torch.no_grad".split()
)
CALM_METHODS = frozenset("copy format get items join keys replace resolve setter split strip union values".split())


def running(nodes: Iterable[Any]) -> Iterator[Any]:
    """Statements without those under `if TYPE_CHECKING:`."""
    for node in nodes:
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        yield from running(node.orelse) if typing_only else [node]


def imported(node: ast.AST) -> list[tuple[str, str]]:
    """The names that an import binds and what they stand for."""
    if isinstance(node, ast.Import):
        return [(x.asname, x.name) if x.asname else (x.name.partition(".")[0],) * 2 for x in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(x.asname or x.name, f"{node.module}.{x.name}") for x in node.names]
    return []


def imported_modules(node: ast.AST) -> list[str]:
    """The modules that an import may load, in order; which of them are modules shows when they are followed."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    return [node.module or "", *(place for _, place in imported(node))] if isinstance(node, ast.ImportFrom) else names


def run_at_load(node: ast.AST) -> Iterator[Any]:
    """What of a statement runs while its module is loaded: all but the bodies of functions."""
    yield node
    for name, value in ast.iter_fields(node):
        if name != "body" or not isinstance(node, (*FUNCTIONS, ast.Lambda)):
            for inner in running(value if isinstance(value, list) else [value]):
                yield from run_at_load(inner) if isinstance(inner, ast.AST) else ()


class CodeText:
    """Writes a statement, whose functions and classes have these symbol `tables`, of a module.

    `imports` (name -> place) and `own` are the names that the module imports and defines. `loads`: the modules that
    functions of the statement import.
    """

    def __init__(
        self, node: ast.AST, tables: list[symtable.SymbolTable], imports: dict[str, str], own: set[str]
    ) -> None:
        self.imports, self.own = imports, own
        self.references: dict[str, int] = {}
        within = [inner for inner in ast.walk(node) if isinstance(inner, IMPORTS)]
        self.loads = [module for inner in within for module in imported_modules(inner)]
        self.meanings = self._meanings(node, tables, within)
        self.monitors = self._monitors(node)

    # Names

    def _meanings(
        self, node: ast.AST, tables: list[symtable.SymbolTable], within: list[Any]
    ) -> dict[str, set[str | None]]:
        """What each name stands for, in one or another function of the statement."""
        places = defaultdict[str, set[str | None]](set)
        for name, place in (pair for inner in within for pair in imported(inner)):
            places[name].add(place)
        found = defaultdict[str, set[str | None]](set)
        for inner in run_at_load(node):
            if isinstance(inner, ast.Name):
                found[inner.id].add(self._outward(inner.id))
        every = list(tables)
        for table in every:
            every += table.get_children()
            for symbol in table.get_symbols():
                name = symbol.get_name()
                if symbol.is_global():
                    found[name].add(self._outward(name))
                elif symbol.is_imported() and not symbol.is_assigned():
                    found[name] |= places[name]
                elif not symbol.is_free():
                    found[name].add(OWN)
        return found

    def _outward(self, name: str) -> str | None:
        """What a name stands for in the module; None for a builtin."""
        return self.imports.get(name) or (f":{name}" if name in self.own else None)

    def reference_of(self, node: ast.AST) -> str | None:
        """The reference of a name, or of attributes of one; None for one that is a builtin or may be a local."""
        if isinstance(node, ast.Attribute):
            inner = self.reference_of(node.value)
            return None if inner is None else f"{inner}.{node.attr}"
        found = self.meanings.get(node.id, {self._outward(node.id)}) if isinstance(node, ast.Name) else {None}
        return next(iter(found)) or None if len(found) == 1 else None

    def place_of(self, node: ast.AST) -> str:
        """As `reference_of`, with the plain name of a local or a builtin."""
        return self.reference_of(node) or (node.id if isinstance(node, ast.Name) else "")

    def _hole(self, reference: str) -> str:
        return f"@{self.references.setdefault(reference, len(self.references))}"

    # Code

    def text(self, node: Any) -> str:
        if isinstance(node, list):
            return "[" + ",".join(text for item in running(node) if (text := self.text(item))) + "]"
        if not isinstance(node, ast.AST):
            return f"{type(node).__name__}:{node!r}"
        special = getattr(self, f"_{type(node).__name__}", None)
        return str(special(node)) if special else self._plain(node)

    def _plain(self, node: ast.AST) -> str:
        fields = [
            f"{name}={self.text(value)}"
            for name in node._fields
            if name not in SKIPPED and (value := getattr(node, name, None)) is not None and value != []
        ]
        return f"{type(node).__name__}({','.join(fields)})"

    def _Name(self, node: ast.Name) -> str:
        reference = self.reference_of(node)
        if reference is not None:
            return self._hole(reference)
        found = {place for place in self.meanings.get(node.id, set()) if place}
        return node.id + "".join(map(self._hole, sorted(found | ({ALL} if node.id in REFLECTING else set()))))

    def _Attribute(self, node: ast.Attribute) -> str:
        reference = self.reference_of(node)
        return self._plain(node) if reference is None else self._hole(reference)

    def _FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        read = not all(map(self._is_calm_decorator, node.decorator_list))  # others may read annotations
        parts = [node.decorator_list, self._signature(node.args, read), node.returns if read else None, node.body]
        return f"{type(node).__name__}({node.name},{','.join(map(self.text, parts))})"

    _AsyncFunctionDef = _FunctionDef

    def _signature(self, arguments: ast.arguments, annotations: bool) -> list[Any]:
        several = [arguments.posonlyargs, arguments.args, arguments.kwonlyargs]
        groups = [*several, *([single] if single else [] for single in (arguments.vararg, arguments.kwarg))]
        names = [[argument.arg for argument in group] for group in groups]
        told = [[argument.annotation for argument in group if annotations] for group in groups]
        return [*names, arguments.defaults, arguments.kw_defaults, *told]

    def _arguments(self, node: ast.arguments) -> str:
        return self.text(self._signature(node, annotations=False))

    def _AnnAssign(self, node: ast.AnnAssign) -> str:
        return "" if node.value is None else self._plain(ast.Assign([node.target], node.value))

    def _ClassDef(self, node: ast.ClassDef) -> str:
        """A class within other code."""
        body = [self._plain(item) if isinstance(item, ast.AnnAssign) else self.text(item) for item in node.body]
        return f"ClassDef({self.text([node.name, node.bases, node.keywords, node.decorator_list])},{','.join(body)})"

    def _Expr(self, node: ast.Expr) -> str:
        return "" if isinstance(node.value, ast.Constant) else self._plain(node)

    def _Pass(self, node: ast.Pass) -> str:
        return ""

    def _Try(self, node: ast.Try) -> str:
        """With what it tries to import."""
        tried = [module for inner in ast.walk(node) for module in imported_modules(inner)]
        return f"{self._plain(node)} with {tried}"

    def _Import(self, node: ast.Import | ast.ImportFrom) -> str:
        """An import whose names stand for nothing else says nothing: they are followed where they are used."""
        told = [(name, place) for name, place in imported(node) if self.reference_of(ast.Name(name)) != place]
        return f"Import({','.join(f'{name}={self._hole(place)}' for name, place in told)})" if told else ""

    _ImportFrom = _Import

    # Texts for people

    def _Raise(self, node: ast.Raise) -> str:
        error = self._call(node.exc, told=True) if isinstance(node.exc, ast.Call) else self.text(node.exc)
        return f"Raise({error},{self.text(node.cause)})"

    def _Assert(self, node: ast.Assert) -> str:
        return f"Assert({self.text(node.test)})"

    def _Call(self, node: ast.Call) -> str:
        place = self.place_of(node.func)
        told = place.startswith(MONITORING) or place == "sys.exit"
        told |= isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in self.monitors
        streams = [self.place_of(word.value) for word in node.keywords if word.arg == "file"]
        return self._call(node, told or (place == "print" and streams == ["sys.stderr"]))

    def _call(self, node: ast.Call, told: bool) -> str:
        """A call; without the texts among its arguments where they are for people alone."""
        function = self.text(node.func)
        if self.place_of(node.func) == USER_ERROR:
            return f"Call({function})"
        arguments = ["text" if told and _is_text(argument) else self.text(argument) for argument in node.args]
        for word in node.keywords:
            arguments.append(f"{word.arg}={'text' if told and _is_text(word.value) else self.text(word.value)}")
        return f"Call({','.join([function, *arguments])})"

    def _monitors(self, node: ast.AST) -> set[str]:
        """The names, and the attributes of self, that hold nothing but None and what a call of monitoring gave."""
        if not any(place.startswith(MONITORING) for place in self.imports.values()):
            return set()
        bound, given = Counter[str](), Counter[str]()
        for inner in ast.walk(node):
            if isinstance(inner, ast.arg):
                bound[inner.arg] += 1
            elif isinstance(inner, ast.Name | ast.Attribute) and isinstance(inner.ctx, ast.Store):
                bound[ast.unparse(inner)] += 1
            elif isinstance(inner, ast.Assign | ast.AnnAssign):
                value, targets = inner.value, inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                told = isinstance(value, ast.Call) and self.place_of(value.func).startswith(MONITORING)
                if told or (isinstance(value, ast.Constant) and value.value is None):
                    given.update(map(ast.unparse, targets))
        return {name for name, times in given.items() if times == bound[name]}

    # Effects

    def made_by(self, node: ast.AST) -> list[str] | None:
        """What a statement calls while its module is loaded; None if it does more than to bind names to values.

        Not listed is what only gives a value; of what is, `fingerprint` finds out whether it does.
        """
        made = []
        for inner in run_at_load(node):
            if isinstance(inner, ast.NamedExpr) or (isinstance(inner, ast.stmt) and not _only_binds(inner)):
                return None
            if not all(self._is_calm_decorator(decorator) for decorator in getattr(inner, "decorator_list", [])):
                return None
            if isinstance(inner, ast.Call) and not self._only_gives_a_value(inner.func):
                reference = self.reference_of(inner.func)
                if reference is None:
                    return None
                made.append(reference)
        return made

    def _is_calm_decorator(self, node: ast.AST) -> bool:
        return self._only_gives_a_value(node.func if isinstance(node, ast.Call) else node)

    def _only_gives_a_value(self, function: ast.AST) -> bool:
        place = self.place_of(function)
        if isinstance(function, ast.Attribute) and (not place or place.startswith(":")):
            return function.attr in CALM_METHODS
        if place in CALM_BUILTINS or place in CALM_CALLS:
            return True
        return place.partition(".")[0] in CALM_MODULES and place != "pydantic.validate_call"  # which reads annotations


def _only_binds(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return all(isinstance(target, ast.Name | ast.Tuple) for target in targets)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.ClassDef):
        return not node.keywords
    return isinstance(node, (*FUNCTIONS, *IMPORTS, ast.If, ast.Try, ast.Pass))


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) if isinstance(node.op, ast.Mod) else _is_text(node.left) and _is_text(node.right)
    if isinstance(node, ast.Call):  # "...".format() and ", ".join()
        return isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Constant)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
