"""A fingerprint of the code that computes a step: the definitions that its script reaches, wherever they stand.

The script's own statements come first, then all that these refer to: functions, constants, and classes with their bases
and all their methods. A module that does more when it is loaded than to define names counts with all its statements, in
order, but for functions that nobody calls. Beside modules that are reached, files such as templates count too. What is
listed of a statement is its text (see `code_text`) and the numbers
in the list of what it refers to, not where it stands. So moving a function, with imports to match, changes nothing.

Left out are packages that cannot change a result (NEUTRAL): where a file stands says whether it may be edited during
a run (tests/unit/execution/test_neutral.py trains without them and compares bit for bit). A report shows what TOLD
packages say, so there they count. Of the recipe's sections and of specs, fields do not count, only methods: a field
carries a value that stands in the step's spec, hence in its id. Of Run models, which say how a step runs and decide no
result, nothing counts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from smolmake.errors import UserError
from smolmake.execution.code_memory import Definitions, known_code
from smolmake.execution.code_text import ALL
from smolmake.execution.definitions import NO_TEXT, Module, Piece
from smolmake.files import file_digest

PACKAGE = "smolmake"
SOURCE_ROOT = Path(__file__).resolve().parents[2]
TOLD = frozenset({"smolmake.monitoring", "smolmake.planning"})
NEUTRAL = TOLD | {
    "smolmake.errors",
    "smolmake.yaml_files",
    "smolmake.execution",
    "smolmake.cluster",
    "smolmake.train.recovery",
    "smolmake.train.diagnostics",
}
VALUES_ONLY = ("smolmake.recipe.types.Section", "smolmake.execution.step.Spec")
NO_RESULT = ("smolmake.execution.step.Run",)
READ_FILES = (".j2", ".css", ".html", ".js", ".svg", ".json", ".yaml", ".csv")  # endings of files that modules read
Node = tuple[str, int]  # a module and the number of a statement in it, or -1 for all that it defines


class Target(NamedTuple):
    """What a reference leads to: statements, if it is of the first party, and the name and attributes there."""

    nodes: tuple[Node, ...]
    name: str


def code_fingerprint(entry: Path, sources: Path = SOURCE_ROOT) -> str:
    """SHA-256 over a script and all definitions of the first party that it reaches and that can change a result.

    Of the first party are the package, whose folder is in `sources`, and modules beside the script.
    """
    return code_definitions(entry, sources)[""][""]


def code_definitions(entry: Path, sources: Path = SOURCE_ROOT) -> Definitions:
    """For each reached file a short digest of every definition that counts in it.

    Returns:
        Path within the package, or of the script -> definition such as `wsd()`, `Trainer.step()` or `RATE` -> digest.
        Under "" stands the fingerprint of all together.
    """
    script = entry.absolute()
    return known_code(script, sources / PACKAGE, lambda: _definitions(script, sources))


def _definitions(script: Path, sources: Path) -> Definitions:
    code = _code(sources, script.parent, NEUTRAL)
    reads = any(place.startswith(f"{PACKAGE}.report") for place in code.module(str(script)).imports.values())
    code = _code(sources, script.parent, NEUTRAL - TOLD) if reads else code
    lines, nodes = _reach(code, str(script))
    found: Definitions = {}
    for node in nodes:
        file = found.setdefault(code.told_file(node[0]), {}) if node[1] >= 0 else {}
        for piece in code.pieces(node):
            text = " ".join([piece.digest, *(code.resolve(node[0], name).name for name in piece.references)])
            file[piece.label] = hashlib.sha256((file.get(piece.label, "") + text).encode()).hexdigest()[:12]
    for place in code.data_files(nodes):
        told, content = str(place.relative_to(sources / PACKAGE)), file_digest(place)
        found[told] = {"its content": content[:12]}
        lines.append(f"{told} {content}")
    together = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return {"": {"": together}} | {file: found[file] for file in sorted(found) if found[file]}


def _reach(code: Code, script: str) -> tuple[list[str], list[Node]]:
    """The list that a fingerprint is made of, and the statements in it, in the order in which they are reached."""
    lines: list[str] = []
    nodes: list[Node] = []
    numbers: dict[Node, int] = {}
    loaded: set[str] = set()

    def load(module: str) -> None:
        if module in loaded or code.file(module) is None or code.is_neutral(module):
            return
        loaded.add(module)
        load(module.rpartition(".")[0] if module != script else "")
        for statement, imports in code.module(module).order:
            for other in imports:
                load(other)
            says = any(piece.digest != NO_TEXT for piece in code.pieces((module, statement)))
            if says and (module == script or not code.is_calm(module)):
                lines.append(f"run {number((module, statement))}")

    def number(node: Node) -> int:
        if node not in numbers:
            numbers[node] = len(nodes)
            nodes.append(node)
        return numbers[node]

    load(script)
    for node in nodes:  # which grow meanwhile
        for reference in code.loads(node):
            load(reference)
        for text, targets in code.linked(node):
            told = [f"{','.join(str(number(other)) for other in target.nodes)}:{target.name}" for target in targets]
            lines.append(f"{numbers[node]} {text} {' '.join(told)}")
    return lines, nodes


class Code:
    """The modules of the package and of a folder, and where their references lead. A script's name is its path."""

    def __init__(self, sources: Path, folder: Path, neutral: frozenset[str]) -> None:
        self.sources, self.folder, self.neutral = sources, folder, neutral
        self.is_neutral = cache(self._is_neutral)
        self.file = cache(self._find_file)
        self.module = cache(self._read)
        self.resolve = cache(self._resolve)
        self.linked = cache(self._link)
        self.is_calm = cache(self._is_calm)
        self.descends = cache(self._descends)

    def _is_neutral(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{package}.") for package in self.neutral)

    def told_file(self, module: str) -> str:
        """A module's file as reasons name it."""
        file = self._file_of(module)
        inside = module.split(".")[0] == PACKAGE
        return str(file.relative_to(self.sources / PACKAGE)) if inside else "/".join(file.parts[-3:])

    def data_files(self, nodes: list[Node]) -> list[Path]:
        """The files beside the package's modules that are reached which these may read, such as templates."""
        folders = {self._file_of(module).parent for module, _ in nodes if module.split(".")[0] == PACKAGE}
        return [file for folder in sorted(folders) for file in sorted(folder.iterdir()) if file.suffix in READ_FILES]

    def loads(self, node: Node) -> list[str]:
        return self.module(node[0]).code(node[1]).loads if node[1] >= 0 else []

    def pieces(self, node: Node) -> list[Piece]:
        """The parts of a statement that count."""
        if node[1] < 0 or self.descends(node, NO_RESULT):
            return []
        pieces = self.module(node[0]).pieces(node[1])
        return [piece for piece in pieces if not piece.field] if self.descends(node, VALUES_ONLY) else pieces

    def _find_file(self, module: str) -> Path | None:
        if module.startswith(os.sep):
            return Path(module)
        first, _, rest = module.partition(".")
        if not first or (first != PACKAGE and rest and self.file(first) is None):
            return None
        place = (self.sources if first == PACKAGE else self.folder) / Path(*module.split("."))
        return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)

    def _file_of(self, module: str) -> Path:
        file = self.file(module)
        assert file is not None
        return file

    def _read(self, module: str) -> Module:
        file = self._file_of(module)
        try:
            return _module(file.read_text(encoding="utf-8"), module.startswith(os.sep))
        except UserError as error:
            error.file = file
            raise

    def _resolve(self, module: str, reference: str) -> Target:
        if reference == ALL:
            return Target(((module, -1),), "")
        if reference.startswith(":"):
            return self._within(module, reference[1:].split("."))
        return self._follow(reference.split("."))

    def _follow(self, parts: list[str], depth: int = 0) -> Target:
        """Where a dotted place leads: through packages and modules, and through what they import."""
        module, rest = parts[0], parts[1:]
        if self.file(module) is None:
            return Target((), ".".join(parts))
        while rest:
            inner, known = f"{module}.{rest[0]}", self.module(module)
            stands_for = known.imports.get(rest[0])
            if not self.is_neutral(module) and stands_for != inner and (stands_for or rest[0] in known.defined):
                return self._within(module, rest, depth)
            if self.file(inner) is None:
                break
            module, rest = inner, rest[1:]
        if self.is_neutral(module):
            return Target((), "neutral:" + ".".join(rest))
        return self._within(module, rest, depth) if rest else Target(((module, -1),), "")

    def _within(self, module: str, parts: list[str], depth: int = 0) -> Target:
        """Where a name of a module leads, with attributes. All that the module has counts if it has no such name."""
        known, name = self.module(module), ".".join(parts)
        if parts[0] in known.defined:
            return Target(tuple((module, number) for number in known.defined[parts[0]]), name)
        if parts[0] in known.imports and depth < 50:
            return self._follow([*known.imports[parts[0]].split("."), *parts[1:]], depth + 1)
        return Target(((module, -1),), name)

    def _link(self, node: Node) -> list[tuple[str, list[Target]]]:
        """What a statement says: for each part a digest and where its references lead."""
        known = self.module(node[0])
        if node[1] < 0:
            return [(name, [self._within(node[0], [name])]) for name in sorted({*known.defined, *known.imports})]
        linked = [
            (piece.digest, [self.resolve(node[0], name) for name in piece.references]) for piece in self.pieces(node)
        ]
        if self.descends(node, VALUES_ONLY):  # the methods of a field's value may be called
            fields = [piece for piece in known.pieces(node[1]) if piece.field]
            classes = {found for piece in fields for name in piece.references for found in self._classes(node[0], name)}
            linked.append(("", sorted(classes, key=lambda target: target.name)))
        return linked

    def _classes(self, module: str, reference: str, depth: int = 0) -> Iterator[Target]:
        """The classes of the first party that a type names, through names for types as well."""
        target = self.resolve(module, reference)
        for other, number in target.nodes:
            known = self.module(other)
            if known.is_class(number):
                yield target
            elif number >= 0 and depth < 20 and not (first := known.pieces(number)[0]).label.endswith("()"):
                for name in first.references:
                    yield from self._classes(other, name, depth + 1)

    def _base_nodes(self, node: Node) -> list[Node]:
        module, number = node
        bases = self.module(module).bases(number) if number >= 0 else []
        return [base for name in bases for base in self.resolve(module, name).nodes]

    def _descends(self, node: Node, ancestors: tuple[str, ...]) -> bool:
        """Whether a class has one of these among its bases and theirs."""
        roots = [self._follow(place.split(".")) for place in ancestors]
        bases = self.module(node[0]).bases(node[1]) if node[1] >= 0 else []
        return any(self.resolve(node[0], base) in roots for base in bases) or any(
            self.descends(other, ancestors) for other in self._base_nodes(node)
        )

    def _is_calm(self, module: str) -> bool:
        """Whether loading a module only defines names: what it calls makes instances without code for it."""
        made = self.module(module).made
        return made is not None and all(self._only_makes(self.resolve(module, name)) for name in made)

    def _only_makes(self, target: Target) -> bool:
        named = "." not in target.name and all(self._only_fills(node) for node in target.nodes)
        return named if target.nodes else target.name.startswith("neutral:")

    def _only_fills(self, node: Node) -> bool:
        module, number = node
        return self.module(module).only_fills(number) and all(self._only_fills(base) for base in self._base_nodes(node))


@cache
def _module(source: str, is_program: bool) -> Module:
    return Module(source, is_program)


_code = cache(Code)
