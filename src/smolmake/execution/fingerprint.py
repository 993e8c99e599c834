"""A fingerprint of the code that computes a step: the definitions that its script reaches, wherever they stand.

The script's own statements come first, then those that loading its imports runs, then all that these refer to:
functions, constants, and classes with their bases and all their methods. What is listed of each is its text (see
`code_text`) and the numbers in the list of what it refers to, not where it stands or what is never reached. So moving
a function, with imports to match, changes nothing.

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

from smolmake.execution.code_memory import memory, state_of
from smolmake.execution.code_text import ALL
from smolmake.execution.definitions import Module, Piece, Statement

PACKAGE = "smolmake"
SOURCE_ROOT = Path(__file__).resolve().parents[2]
TOLD = frozenset({"smolmake.monitoring", "smolmake.planning"})
NEUTRAL = TOLD | {
    "smolmake.errors",
    "smolmake.execution",
    "smolmake.cluster",
    "smolmake.train.recovery",
    "smolmake.train.diagnostics",
}
VALUES_ONLY = ("smolmake.recipe.types.Section", "smolmake.execution.step.Spec")
NO_RESULT = ("smolmake.execution.step.Run",)
Node = tuple[str, int]  # a module and the number of a statement in it, or -1 for all that it defines


class Target(NamedTuple):
    """What a reference leads to: statements, if it is of the first party, and the name and attributes there."""

    nodes: tuple[Node, ...]
    name: str


def code_fingerprint(entry: Path, sources: Path = SOURCE_ROOT) -> str:
    """SHA-256 over a script and all definitions of the first party that it reaches and that can change a result.

    Of the first party are the package, whose folder is in `sources`, and modules beside the script.
    """
    return _known(entry, sources)[0]


def code_definitions(entry: Path, sources: Path = SOURCE_ROOT) -> dict[str, dict[str, str]]:
    """For each reached file a short digest of every definition that counts in it.

    Returns:
        Path within the package, or of the script -> definition such as `wsd()`, `Trainer.step()` or `RATE` -> digest.
        Under "" stands the fingerprint of all together.
    """
    return _known(entry, sources)[1]


@cache
def _known(entry: Path, sources: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """The fingerprint and the definitions, remembered or found out."""
    script = entry.absolute()
    state = state_of(sources / PACKAGE, script.parent)
    known = memory().script(script, state)
    if known is None:
        lines, nodes = _reach(entry, sources)
        fingerprint = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        known = [fingerprint, {"": {"": fingerprint}} | _definitions(_code_beside(entry, sources), nodes)]
        memory().keep_script(script, state, known)
    return known[0], known[1]


def _definitions(code: Code, nodes: list[Node]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for node in nodes:
        file = found.setdefault(code.told_file(node[0]), {}) if node[1] >= 0 else {}
        for piece in code.pieces(node):
            text = " ".join([piece.digest, *(code.resolve(node[0], name).name for name in piece.references)])
            file[piece.label] = hashlib.sha256((file.get(piece.label, "") + text).encode()).hexdigest()[:12]
    return {file: found[file] for file in sorted(found) if found[file]}


def _reach(entry: Path, sources: Path) -> tuple[list[str], list[Node]]:
    """The list that a fingerprint is made of, and the statements in it, in the order in which they are reached."""
    code, script = _code_beside(entry, sources), str(entry.absolute())
    lines: list[str] = []
    numbers: dict[Node, int] = {}
    loaded: set[str] = set()

    def load(module: str) -> None:
        if module in loaded:
            return
        loaded.add(module)
        if code.file(module) is None or code.is_neutral(module):
            return
        if module != script:
            load(module.rpartition(".")[0])
        known = code.module(module)
        for item in [*known.order, *(known.script if module == script else [])]:
            if isinstance(item, str):
                load(item)
            elif item in known.script or code.has_effect((module, item)):
                lines.append(f"run {number((module, item))}")

    def number(node: Node) -> int:
        return numbers.setdefault(node, len(numbers))

    load(script)
    for node in _growing(numbers):
        for reference in code.statement(node).loads:
            load(reference)
        for text, targets in code.linked(node):
            told = [f"{','.join(str(number(other)) for other in target.nodes)}:{target.name}" for target in targets]
            lines.append(f"{numbers[node]} {text} {' '.join(told)}")
    return lines, list(numbers)


def _growing(numbers: dict[Node, int]) -> Iterator[Node]:
    """All nodes, those too that are added meanwhile."""
    done = 0
    while done < len(numbers):
        for node in list(numbers)[done:]:
            yield node
            done += 1


def _code_beside(entry: Path, sources: Path) -> Code:
    """The code that a script sees: the package, and the modules in its own folder."""
    script = str(entry.absolute())
    reads = any(name.startswith(f"{PACKAGE}.report") for name in memory().module(Path(script)).imports.values())
    return _code(sources, entry.absolute().parent, NEUTRAL - TOLD if reads else NEUTRAL)


class Code:
    """The modules of the package and of a folder, and where their references lead. A script's name is its path."""

    def __init__(self, sources: Path, folder: Path, neutral: frozenset[str]) -> None:
        self.sources, self.folder, self.neutral = sources, folder, neutral
        self.is_neutral = cache(self._is_neutral)
        self.file = cache(self._find_file)
        self.module = cache(self._read)
        self.resolve = cache(self._resolve)
        self.linked = cache(self._link)
        self.has_effect = cache(self._has_effect)
        self.descends = cache(self._descends)

    def _is_neutral(self, module: str) -> bool:
        parts = module.split(".")
        return any(".".join(parts[:length]) in self.neutral for length in range(1, len(parts) + 1))

    def told_file(self, module: str) -> str:
        """A module's file as reasons name it."""
        file = self.file(module)
        assert file is not None
        inside = module.split(".")[0] == PACKAGE
        return str(file.relative_to(self.sources / PACKAGE)) if inside else "/".join(file.parts[-3:])

    def statement(self, node: Node) -> Statement:
        return self.module(node[0]).statements[node[1]] if node[1] >= 0 else Statement()

    def pieces(self, node: Node) -> list[Piece]:
        """The parts of a statement that count."""
        if self.descends(node, NO_RESULT):
            return []
        pieces = self.statement(node).pieces
        return [piece for piece in pieces if not piece.field] if self.descends(node, VALUES_ONLY) else pieces

    def _has_effect(self, node: Node) -> bool:
        """Whether loading the module does more by a statement than to define names."""
        statement = self.statement(node)
        if statement.effect or any(self._hooks(base) for base in self._base_nodes(node)):
            return True
        return not all(self._is_quiet(self.resolve(node[0], name)) for name in statement.made)

    def _find_file(self, module: str) -> Path | None:
        if module.startswith(os.sep):
            return Path(module)
        first, _, rest = module.partition(".")
        if not first or (first != PACKAGE and rest and self.file(first) is None):
            return None
        place = (self.sources if first == PACKAGE else self.folder) / Path(*module.split("."))
        return next((file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()), None)

    def _read(self, module: str) -> Module:
        file = self.file(module)
        assert file is not None
        return memory().module(file)

    def _resolve(self, module: str, reference: str) -> Target:
        if reference == ALL:
            return Target(((module, -1),), "")
        return (
            self._within(module, reference[1:].split("."))
            if reference[0] == ":"
            else self._follow(reference.split("."))
        )

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
        for star in known.stars:
            if self.file(star) is not None and depth < 50:
                found = self._follow([*star.split("."), *parts], depth + 1)
                if found.name != name or found.nodes[0][1] >= 0:
                    return found
        return Target((), name) if known.stars else Target(((module, -1),), name)

    def _link(self, node: Node) -> list[tuple[str, list[Target]]]:
        """What a statement says: for each part a digest and where its references lead."""
        if node[1] < 0:
            known = self.module(node[0])
            names = sorted({*known.defined, *known.imports})
            return [(name, [self._within(node[0], [name])]) for name in names]
        linked = [
            (piece.digest, [self.resolve(node[0], name) for name in piece.references]) for piece in self.pieces(node)
        ]
        if self.descends(node, VALUES_ONLY):  # the methods of a field's value may be called
            fields = [piece for piece in self.statement(node).pieces if piece.field]
            classes = {found for piece in fields for name in piece.references for found in self._classes(node[0], name)}
            linked.append(("", sorted(classes, key=lambda target: target.name)))
        return linked

    def _classes(self, module: str, reference: str, depth: int = 0) -> Iterator[Target]:
        """The classes of the first party that a type names, through names for types as well."""
        target = self.resolve(module, reference)
        for other in target.nodes:
            statement = self.statement(other)
            if statement.is_class:
                yield target
            elif depth < 20 and statement.pieces and not statement.pieces[0].label.endswith("()"):
                for name in statement.pieces[0].references:
                    yield from self._classes(other[0], name, depth + 1)

    def _base_nodes(self, node: Node) -> list[Node]:
        return [base for name in self.statement(node).bases for base in self.resolve(node[0], name).nodes]

    def _descends(self, node: Node, ancestors: tuple[str, ...]) -> bool:
        """Whether a class has one of these among its bases and theirs."""
        roots = [self._follow(place.split(".")) for place in ancestors]
        bases = [self.resolve(node[0], name) for name in self.statement(node).bases]
        return any(base in roots or any(self.descends(other, ancestors) for other in base.nodes) for base in bases)

    def _hooks(self, node: Node) -> bool:
        return self.statement(node).hooks or any(self._hooks(base) for base in self._base_nodes(node))

    def _is_quiet(self, target: Target) -> bool:
        """Whether calling this only makes a value: an instance of a class without code for it."""
        if not target.nodes:
            return target.name.startswith("neutral:")
        return "." not in target.name and all(
            self.descends(node, VALUES_ONLY + NO_RESULT)
            or (
                self.statement(node).quiet
                and all(self._is_quiet(Target((base,), "")) for base in self._base_nodes(node))
            )
            for node in target.nodes
        )


_code = cache(Code)
