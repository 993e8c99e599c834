"""Which names a piece of code binds: Python's scopes, for `definitions`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Scope:
    """The names of a function, comprehension or class. `imports`: what a name that is only imported stands for."""

    kind: str
    bound: frozenset[str]
    imports: dict[str, str]
    global_names: frozenset[str]

    @classmethod
    def of(cls, node: Any) -> Scope:
        """The scope of a function, lambda, comprehension or class."""
        if isinstance(node, COMPREHENSIONS):
            names = {name for name, _ in bindings([part.target for part in node.generators])}
            return cls("comprehension", frozenset(names), {}, frozenset())
        found: dict[str, set[str | None]] = {name: {None} for name in _parameters(node)}
        global_names: set[str] = set()
        elsewhere: set[str] = set()
        for inner in _inside(node.body if isinstance(node.body, list) else [node.body]):
            if isinstance(inner, ast.Global | ast.Nonlocal):
                elsewhere |= set(inner.names)
                global_names |= set(inner.names) if isinstance(inner, ast.Global) else set()
            for name, target in _bound_by(inner):
                found.setdefault(name, set()).add(target)
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        return cls(kind, frozenset(found) - elsewhere, only_imported(found), frozenset(global_names))


def only_imported(bound: dict[str, set[str | None]]) -> dict[str, str]:
    """Of names and what they are bound to (None: not by an import), those that always stand for one import."""
    single = {name: next(iter(targets)) for name, targets in bound.items() if len(targets) == 1}
    return {name: target for name, target in single.items() if target is not None}


def bindings(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str | None]]:
    """The names that code binds outside of scopes within it, and what an import makes them stand for."""
    for node in _inside(nodes):
        yield from _bound_by(node)


def _bound_by(node: Any) -> Iterable[tuple[str, str | None]]:
    if isinstance(node, ast.Name):
        return () if isinstance(node.ctx, ast.Load) else [(node.id, None)]
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return [(node.name, None)]
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return [(node.name, None)] if node.name else ()
    if isinstance(node, ast.MatchMapping):
        return [(node.rest, None)] if node.rest else ()
    if isinstance(node, ast.Import):
        return [(x.asname, x.name) if x.asname else (x.name.partition(".")[0],) * 2 for x in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(x.asname or x.name, f"{node.module}.{x.name}") for x in node.names if x.name != "*"]
    return ()


def running(nodes: Iterable[Any]) -> Iterator[Any]:
    """Statements without those under `if TYPE_CHECKING:`."""
    for node in nodes:
        if isinstance(node, ast.If) and is_typing_only(node):
            yield from running(node.orelse)
        else:
            yield node


def is_typing_only(node: ast.If) -> bool:
    return "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", ""))


def _parameters(node: Any) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return []
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return [argument.arg for argument in every if argument is not None]


def _inside(nodes: Iterable[Any]) -> Iterator[Any]:
    """The nodes that can bind names, but for those in scopes of their own; `:=` in a comprehension binds outside."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        kind = type(node)
        if kind in _NAMES:
            yield node
        elif kind in COMPREHENSIONS:
            waiting += [inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)]
        elif kind in FUNCTIONS:
            yield node
            waiting += [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]
        elif kind is ast.ClassDef:
            yield node
            waiting += node.decorator_list
        elif kind is ast.Lambda:
            waiting += [*node.args.defaults, *node.args.kw_defaults]
        elif kind is ast.If and is_typing_only(node):
            waiting += node.orelse
        elif node is not None:
            if kind in _BINDERS:
                yield node
            for name in node._fields:
                value = getattr(node, name)
                if isinstance(value, list):
                    waiting += [item for item in value if isinstance(item, ast.AST)]
                elif isinstance(value, ast.AST) and name != "ctx":
                    waiting.append(value)


_NAMES = frozenset({ast.Name, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal})
_BINDERS = frozenset({ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping})
