"""Code as text that changes only with what the code computes: a syntax tree whose outward names are references.

Left out are positions, comments, docstrings, annotations and texts for people: those of errors, and those that calls of
monitoring are given. A name of the module or of an import stands as the number of a reference, such as
`smolmake.data.packing.pack` or `:RATE` (of the same module), which `fingerprint` follows.
"""

from __future__ import annotations

import ast
from typing import Any

from smolmake.execution.scopes import COMPREHENSIONS, FUNCTIONS, Scope, bindings, running

MONITORING = "smolmake.monitoring."
USER_ERROR = "smolmake.errors.UserError"
ALL = ":*"  # the reference to all that a module defines
SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_params"})
REFLECTING = frozenset({"globals", "locals", "vars", "eval", "exec"})
# What only gives a value when it is called while a module is loaded; any other call there may have an effect.
CALM_BUILTINS = frozenset(
    "abs bool bytes classmethod complex dict divmod enumerate filter float frozenset getattr hasattr hash int len list"
    " isinstance issubclass map max min object ord property range repr reversed round set slice sorted staticmethod"
    " str sum super tuple type zip".split()
)
CALM_MODULES = frozenset(
    "abc collections contextlib dataclasses datetime enum functools itertools math numpy operator os pathlib pyarrow"
    " pydantic re string struct types typing".split()
)
CALM_CALLS = frozenset({"importlib.util.find_spec", "torch.no_grad", "torch.inference_mode", "torch.device"})
CALM_METHODS = frozenset("copy format get items join keys replace resolve split strip union values".split())


class CodeText:
    """Writes code of a module whose names are known: `imports` (name -> place) and `own`, those it defines."""

    def __init__(self, imports: dict[str, str], own: set[str], stars: bool) -> None:
        self.imports, self.own, self.stars = imports, own, stars
        self.scopes: list[Scope] = []
        self.references: dict[str, int] = {}
        self.loads: list[str] = []  # modules that functions import
        self.loads_at_once: list[str] = []
        self._monitors: list[set[str]] = []

    def enter(self, node: Any) -> None:
        """Write what follows inside a function, lambda, comprehension or class."""
        self.scopes.append(Scope.of(node))
        self._monitors.append(self._monitors_of(node) if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else set())

    def leave(self) -> None:
        self.scopes.pop()
        self._monitors.pop()

    # Names

    def reference_of(self, node: ast.AST) -> str | None:
        """The reference of a name, or of attributes of one; None for a local or a builtin."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self._is_class_name(node.id):
            return None
        reference = self._look_up(node.id)
        return None if reference is None else ".".join([reference, *attributes])

    def place_of(self, node: ast.AST) -> str:
        """As `reference_of`, with the plain name of a local or a builtin."""
        return self.reference_of(node) or (node.id if isinstance(node, ast.Name) else "")

    def _is_class_name(self, name: str) -> bool:
        return bool(self.scopes) and self.scopes[-1].kind == "class" and name in self.scopes[-1].bound

    def _look_up(self, name: str) -> str | None:
        for scope in reversed(self.scopes):
            if name in scope.global_names:
                break
            if scope.kind == "class":
                continue
            if name in scope.imports:
                return scope.imports[name]
            if name in scope.bound:
                return None
        if name in self.imports:
            return self.imports[name]
        return f":{name}" if name in self.own or self.stars else None

    def _hole(self, reference: str) -> str:
        return f"@{self.references.setdefault(reference, len(self.references))}"

    # Code

    def text(self, node: Any) -> str:
        if isinstance(node, list):
            return "[" + ",".join(text for item in running(node) if (text := self.text(item))) + "]"
        if not isinstance(node, ast.AST):
            return f"{type(node).__name__}:{node!r}"
        if isinstance(node, COMPREHENSIONS):
            return self._over(node)
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
        if not self.scopes and isinstance(node.ctx, ast.Store):
            return node.id
        if self._is_class_name(node.id):  # before the class binds it, it is the module's
            outer = None if isinstance(node.ctx, ast.Store) else self._look_up(node.id)
            return node.id if outer is None else node.id + self._hole(outer)
        reference = self._look_up(node.id)
        if reference is None:
            return node.id + (self._hole(ALL) if node.id in REFLECTING else "")
        return self._hole(reference)

    def _Attribute(self, node: ast.Attribute) -> str:
        reference = self.reference_of(node)
        return self._plain(node) if reference is None else self._hole(reference)

    def _FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        read = not all(self.is_calm(decorator, []) for decorator in node.decorator_list)  # may read annotations
        outside = [node.decorator_list, *self._signature(node.args, read), node.returns if read else None]
        text = f"{type(node).__name__}({node.name},{','.join(map(self.text, outside))}"
        self.enter(node)
        text += f",{self.text(node.body)})"
        self.leave()
        return text

    _AsyncFunctionDef = _FunctionDef

    def _signature(self, arguments: ast.arguments, annotations: bool) -> list[Any]:
        several: list[list[ast.arg]] = [arguments.posonlyargs, arguments.args, arguments.kwonlyargs]
        groups = [*several, *([single] if single else [] for single in (arguments.vararg, arguments.kwarg))]
        names = [[argument.arg for argument in group] for group in groups]
        told = [[argument.annotation for argument in group if annotations] for group in groups]
        return [*names, arguments.defaults, arguments.kw_defaults, *told]

    def _Lambda(self, node: ast.Lambda) -> str:
        arguments = self.text(self._signature(node.args, annotations=False))
        self.enter(node)
        text = f"Lambda({arguments},{self.text(node.body)})"
        self.leave()
        return text

    def _over(self, node: Any) -> str:
        first = self.text(node.generators[0].iter)  # evaluated outside
        self.enter(node)
        text = f"{self._plain(node)} over {first}"
        self.leave()
        return text

    def _ClassDef(self, node: ast.ClassDef) -> str:
        """A class within other code; `definitions` writes those of a module in pieces."""
        text = self.text([node.name, node.bases, node.keywords, node.decorator_list])
        self.enter(node)
        text = f"ClassDef({text},{self.text(node.body)})"
        self.leave()
        return text

    def _AnnAssign(self, node: ast.AnnAssign) -> str:
        if self.scopes and self.scopes[-1].kind == "class":
            return self._plain(node)
        return "" if node.value is None else self._plain(ast.Assign([node.target], node.value))

    def _Expr(self, node: ast.Expr) -> str:
        return "" if isinstance(node.value, ast.Constant) else self._plain(node)

    def _Pass(self, node: ast.Pass) -> str:
        return ""

    def _Import(self, node: ast.Import | ast.ImportFrom) -> str:
        """An import whose names stand for nothing else says nothing: they are followed where they are used."""
        inside = any(scope.kind == "function" for scope in self.scopes)
        (self.loads if inside else self.loads_at_once).extend(imported_modules(node))
        found = [(name, target) for name, target in bindings([node]) if target is not None]
        told = [f"{n}={self._hole(t)}" for n, t in found if self.reference_of(ast.Name(n, ast.Load())) != t]
        return f"Import({','.join(told)})" if told else ""

    _ImportFrom = _Import

    # Texts for people

    def _Raise(self, node: ast.Raise) -> str:
        error = self._call(node.exc, told=True) if isinstance(node.exc, ast.Call) else self.text(node.exc)
        return f"Raise({error},{self.text(node.cause)})"

    def _Assert(self, node: ast.Assert) -> str:
        return f"Assert({self.text(node.test)})"

    def _Call(self, node: ast.Call) -> str:
        place, first = self.place_of(node.func), node.args[0] if node.args else None
        if place == "importlib.import_module" and isinstance(first, ast.Constant) and isinstance(first.value, str):
            self.loads.append(first.value)
            return self._hole(first.value)
        streams = [self.place_of(word.value) for word in node.keywords if word.arg == "file"]
        told = place.startswith(MONITORING) or place == "sys.exit" or self._monitors_method(node.func)
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

    def _monitors_of(self, node: ast.AST) -> set[str]:
        """The names, and the attributes of self, that hold what a call of monitoring gave."""
        found: set[str] = set()
        if not any(place.startswith(MONITORING) for place in self.imports.values()):
            return found
        for inner in (inner for inner in ast.walk(node) if isinstance(inner, ast.Assign)):
            if isinstance(inner.value, ast.Call) and self.place_of(inner.value.func).startswith(MONITORING):
                found |= {ast.unparse(target) for target in inner.targets}
        return {name for name in found if name.startswith("self.") == isinstance(node, ast.ClassDef)}

    def _monitors_method(self, function: ast.expr) -> bool:
        return isinstance(function, ast.Attribute) and any(
            ast.unparse(function.value) in names for names in self._monitors if names
        )

    # Effects

    def is_calm(self, node: ast.AST, made: list[str], decorator: bool = True) -> bool:
        """Whether evaluating an expression, or decorating with it, only gives a value.

        That of a class of the first party depends on the class: its reference is added to `made`.
        """
        calls: list[ast.AST] = [inner.func for inner in _evaluated(node) if isinstance(inner, ast.Call)]
        if decorator and not isinstance(node, ast.Call):
            calls.append(node)
        return all(self._only_gives_a_value(function, made, decorator) for function in calls)

    def _only_gives_a_value(self, function: ast.AST, made: list[str], decorator: bool) -> bool:
        reference = self.reference_of(function)
        if reference is None:
            if isinstance(function, ast.Attribute):
                local = isinstance(function.value, ast.Name)  # such as `@rate.setter` in a class
                return function.attr in CALM_METHODS or (decorator and local)
            return isinstance(function, ast.Name) and function.id in CALM_BUILTINS
        if reference in CALM_CALLS or reference.partition(".")[0] in CALM_MODULES:
            return reference != "pydantic.validate_call"  # which reads annotations
        if reference.startswith(":") and "." in reference and reference.rpartition(".")[2] in CALM_METHODS:
            return True
        made.append(reference)
        return not decorator


def imported_modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules that an import may load, in order; which of them are modules shows when they are followed."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")]


def _evaluated(node: ast.AST) -> list[ast.AST]:
    """The nodes of an expression without the bodies of lambdas."""
    found, waiting = [], [node]
    while waiting:
        inner = waiting.pop()
        found.append(inner)
        waiting += ast.iter_child_nodes(inner.args if isinstance(inner, ast.Lambda) else inner)
    return found


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) if isinstance(node.op, ast.Mod) else _is_text(node.left) and _is_text(node.right)
    if isinstance(node, ast.Call):  # "...".format() and ", ".join()
        return isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Constant)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
