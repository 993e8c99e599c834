"""Which finished steps of a plan were computed with other versions of libraries than are installed today."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from smolmake.execution.kinds import KINDS
from smolmake.execution.libraries import LIBRARIES, NO_RESULT, installed_versions
from smolmake.execution.step import Step
from smolmake.planning.history import History

PINNED = re.compile(r"- ([\w.-]+)(?:\[\S+\])?==")


@dataclass(frozen=True)
class LibraryChange:
    """A library of another version than made some finished steps, with the number of these by kind."""

    library: str
    before: str
    now: str
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return sum(self.kinds.values())


def library_changes(steps: list[Step], history: History, root: Path) -> list[LibraryChange]:
    """The changes that finished steps have not seen, the widest first; of the libraries that a kind imports."""
    today = {library: version for library, version in installed_versions().items() if library not in NO_RESULT}
    found: dict[tuple[str, str], LibraryChange] = {}
    for step in steps:
        made_with = history.versions(step)
        for library in imported_libraries(KINDS[step.kind].environment, root):
            before, now = made_with.get(library), today.get(library)
            if before is not None and now is not None and before != now:
                kinds = found.setdefault((library, before), LibraryChange(library, before, now)).kinds
                kinds[step.kind] = kinds.get(step.kind, 0) + 1
    return sorted(found.values(), key=lambda change: -change.steps)


@cache
def imported_libraries(environment: str, root: Path) -> tuple[str, ...]:
    """Those of the libraries that the scripts of an environment import; all where there is no such environment."""
    file = root / "envs" / f"{environment}.yaml"
    if not file.is_file():
        return LIBRARIES
    pinned = {name.replace("-", "_") for name in PINNED.findall(file.read_text(encoding="utf-8"))}
    return tuple(library for library in LIBRARIES if library in pinned)
