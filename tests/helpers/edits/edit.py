"""What an edit is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, eq=False)
class Edit:
    """A change of a tree. `neutral`: by what it is, no step's result can differ.

    Edits of one `slot` exclude each other; one that is `alone` is judged by itself, as it may change the order in which
    numbers are added up.
    """

    kind: str
    place: str
    slot: str
    neutral: bool
    apply: Callable[[Path], None]
    alone: bool = False

    def __repr__(self) -> str:
        return f"{self.kind}: {self.place}"
