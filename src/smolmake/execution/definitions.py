"""The statements of a module: what each defines, what it refers to, and whether it does more when it is loaded."""

from __future__ import annotations

import ast
import hashlib
from typing import Any, NamedTuple

from smolmake.execution.code_text import USER_ERROR, CodeText, imported_modules
from smolmake.execution.scopes import FUNCTIONS, bindings, only_imported, running

# Bases that do nothing with the annotations of a class; any other may.
PLAIN_BASES = frozenset(
    {"Exception", "ValueError", "object", "abc.ABC", "typing.Protocol", "typing.TypedDict", "enum.Enum"}
    | {"torch.nn.Module", "torch.autograd.Function", "torch.optim.Optimizer", "yaml.SafeLoader"}
)
IMPORTS = (ast.Import, ast.ImportFrom)
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


class Statement(NamedTuple):
    """A statement of a module. `loads`: modules that its functions import.

    `effect`: whether loading the module does more by it than to define names; `made`: calls for which that depends on
    what is called. Of a class: its `bases`, whether it `hooks` into its subclasses, and whether it is `quiet`: making
    an instance only fills its attributes.
    """

    pieces: list[Piece] = []
    loads: list[str] = []
    effect: bool = False
    made: list[str] = []
    is_class: bool = False
    bases: list[str] = []
    hooks: bool = False
    quiet: bool = False


class Module(NamedTuple):
    """A module by itself. `imports`: name -> place; `defined`: name -> numbers of the statements that bind it.

    `stars`: modules whose names it takes all. `order`: what loading it does, in order: modules to load (by name) and
    statements (by number); `script`: those that only a script runs.
    """

    imports: dict[str, str]
    defined: dict[str, list[int]]
    stars: list[str]
    order: list[str | int]
    script: list[int]
    statements: list[Statement]

    @classmethod
    def from_json(cls, values: list[Any]) -> Module:
        """What JSON made of a module."""
        imports, defined, stars, order, script, found = values
        statements = [Statement([Piece(*piece) for piece in pieces], *more) for pieces, *more in found]
        return cls(imports, defined, stars, order, script, statements)


def read_module(source: str, filename: str = "<module>") -> Module:
    """The statements of a module's source."""
    body = list(running(ast.parse(source, filename=filename).body))
    found = [list(bindings([node])) for node in body]
    bound: dict[str, set[str | None]] = {}
    for node, names in zip(body, found, strict=True):
        for name, target in names:
            bound.setdefault(name, set()).add(target if isinstance(node, IMPORTS) else None)
    module = Module(only_imported(bound), {}, _star_imports(body), [], [], [])
    own = set(bound) - set(module.imports)
    for node, names in zip(body, found, strict=True):
        defined = {name for name, _ in names} & own
        if isinstance(node, IMPORTS):
            module.order.extend(imported_modules(node))
            if not defined:
                continue
        code = CodeText(module.imports, own, bool(module.stars))
        statement = _read_class(node, code) if isinstance(node, ast.ClassDef) else _read(node, code)
        if not defined and not statement.effect and not statement.made:
            continue
        number = len(module.statements)
        module.statements.append(statement)
        for name in sorted(defined):
            module.defined.setdefault(name, []).append(number)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            module.script.append(number)
        else:
            module.order.extend([*code.loads_at_once, number])
    _keep_order_of_rebound(module)
    return module


def _keep_order_of_rebound(module: Module) -> None:
    """Where a name is bound by several statements, what reads it depends on their order: all of them count as run."""
    for name, numbers in module.defined.items():
        if len(numbers) > 1:
            readers = {
                number
                for number, statement in enumerate(module.statements)
                if any(
                    f":{name}" == reference.split(".")[0]
                    for piece in statement.pieces
                    for reference in piece.references
                )
            }
            for number in readers | set(numbers):
                module.statements[number] = module.statements[number]._replace(effect=True)


def _star_imports(body: list[ast.stmt]) -> list[str]:
    imports = [node for node in body if isinstance(node, ast.ImportFrom)]
    return [node.module or "" for node in imports if any(alias.name == "*" for alias in node.names)]


def _read(node: ast.stmt, code: CodeText) -> Statement:
    pieces, made = [_piece(code, _label(node), node)], list[str]()
    return Statement(pieces, code.loads, not _is_calm(node, code, made), made)


def _piece(code: CodeText, label: str, node: Any, is_field: bool = False) -> Piece:
    code.references = {}
    text = code.text(node)
    return Piece(label, hashlib.sha256(text.encode()).hexdigest()[:16], list(code.references), is_field)


def _read_class(node: ast.ClassDef, code: CodeText) -> Statement:
    """A class: its head, what its body binds in order, and its methods, whose order does not matter, by name."""
    names = [name for name, _ in bindings(node.body)]
    keep, head = _kept_annotations(node, code), [node.name, node.bases, node.keywords, node.decorator_list]
    pieces, quiet = [_piece(code, node.name, head)], not node.keywords
    methods: list[Piece] = []
    code.enter(node)
    for item in running(node.body):
        if isinstance(item, FUNCTIONS):
            sortable = names.count(item.name) == 1 and _is_calm(item, code, [])
            piece = _piece(code, f"{node.name}.{item.name}()", item)
            (methods if sortable else pieces).append(piece)
            quiet = quiet and (item.name not in MAKING or _only_fills(item, code))
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            pieces += _field(node.name, item, code, keep)
        else:
            pieces.append(_piece(code, node.name, item))
    code.leave()
    pieces += sorted(methods)
    bases, made = [place for base in node.bases if (place := code.reference_of(base))], list[str]()
    effect, hooks = not _is_calm(node, code, made), "__init_subclass__" in names
    return Statement(pieces, code.loads, effect, made, True, bases, hooks, quiet)


def _only_fills(method: ast.FunctionDef | ast.AsyncFunctionDef, code: CodeText) -> bool:
    """Whether all that a method does is to set attributes of its object, or to raise."""
    code.enter(method)
    calm, made = True, list[str]()
    for node in (inner for statement in method.body for inner in ast.walk(statement)):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            calm = calm and isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self"
        elif isinstance(node, ast.Global | ast.Nonlocal | ast.Delete):
            calm = False
        elif isinstance(node, ast.Call):
            error = code.place_of(node.func) == USER_ERROR or getattr(node.func, "id", "").endswith("Error")
            calm = calm and (error or (code.is_calm(node, made, decorator=False) and not made))
    code.leave()
    return calm


def _kept_annotations(node: ast.ClassDef, code: CodeText) -> str:
    """What counts of the annotations in a class: "all", whether a name has one ("names"), or nothing ("")."""
    bases = {code.place_of(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases}
    decorators = {code.place_of(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list}
    if decorators or node.keywords:
        return "names" if decorators == {"dataclasses.dataclass"} and not node.keywords else "all"
    unknown = bases - PLAIN_BASES
    return "" if not unknown else "names" if unknown == {"typing.NamedTuple"} else "all"


def _field(label: str, item: ast.AnnAssign, code: CodeText, keep: str) -> list[Piece]:
    if keep == "all":
        return [_piece(code, label, item, is_field=True)]
    if keep == "names":
        special = [name for name in ("ClassVar", "InitVar", "KW_ONLY") if name in ast.unparse(item.annotation)]
        return [_piece(code, label, ["field", special, item.target, item.value], is_field=True)]
    return [] if item.value is None else [_piece(code, label, ast.Assign([item.target], item.value))]


def _is_calm(node: ast.AST, code: CodeText, made: list[str]) -> bool:
    """Whether a statement does nothing more, when its module is loaded, than to bind names; see `CodeText.is_calm`."""
    if isinstance(node, FUNCTIONS):
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        return all(code.is_calm(d, made) for d in node.decorator_list) and all(
            code.is_calm(value, made, decorator=False) for value in defaults
        )
    if isinstance(node, ast.ClassDef):
        if node.keywords or not all(code.is_calm(decorator, made) for decorator in node.decorator_list):
            return False
        code.enter(node)
        calm = all(_is_calm(item, code, made) for item in running(node.body))
        code.leave()
        return calm
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        named = all(isinstance(target, ast.Name | ast.Tuple) for target in targets)
        return named and (node.value is None or code.is_calm(node.value, made, decorator=False))
    if isinstance(node, ast.If | ast.Try):
        return all(_is_calm(inner, code, made) for inner in running(ast.iter_child_nodes(node)))
    if isinstance(node, ast.ExceptHandler):
        return all(_is_calm(inner, code, made) for inner in running(node.body))
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.expr):
        return code.is_calm(node, made, decorator=False)
    return isinstance(node, (*IMPORTS, ast.Pass))


def _label(node: ast.stmt) -> str:
    """What reasons call a statement: the name that it defines, or its beginning."""
    if isinstance(node, FUNCTIONS):
        return f"{node.name}()"
    names = list(dict.fromkeys(name for name, _ in bindings([node])))
    text = ast.unparse(node).splitlines()[0]
    return ", ".join(names[:3]) if names else text if len(text) <= 50 else text[:47] + "..."
