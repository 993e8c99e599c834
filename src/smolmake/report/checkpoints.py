"""The evaluations of a run: scores and held-out losses of each checkpoint, in the order of work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from smolmake.graph.stages import GraphStage
from smolmake.report.artifacts import ReportArtefact, load, pick
from smolmake.report.blocks import Cell
from smolmake.report.text import compact, round_to


class Key(NamedTuple):
    """What tells one score of a checkpoint from another; `suite` is empty for the recipe's own tasks."""

    task: str
    metric: str
    suite: str = ""
    filter: str = "none"
    length: int | None = None


@dataclass(frozen=True)
class Score:
    """One task or group, metric and filter at one checkpoint, with its 95 % interval; `suite` as in Key.

    `share`: it lies between 0 and 1, as an accuracy does and BLEU or a perplexity does not. A group has `tasks`.
    `questions` are the files that a task of the recipe's own asks. Of written answers, `thoughts`, `unclosed` and `cut`
    are the shares with a thought, with one that never ended, and that hit the limit of tokens; `merged` are the items
    whose choices merge with their question, `truncated` is how many were too long for the model. `shots` are examples
    before the question, and `repeats` answers of each item. The sources held `items_found` of `items_searched`; None
    where they were not looked for. `beside`: it is told beside the task's own metrics. `clusters` numbers the questions
    of `items`, where several items ask one. 95 % of all guessers score from `chance_low` to `chance_high`. The `clean`
    ones are of the items that no source held. `file` is the scores.json that has it.
    """

    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    chance: float
    formulation: str
    items: Sequence[float] = ()
    suite: str = ""
    filter: str = "none"
    length: int | None = None
    share: bool = True
    higher_is_better: bool = True
    tasks: Sequence[str] = ()
    questions: Sequence[str] = ()
    thoughts: float | None = None
    unclosed: float = 0.0
    cut: float = 0.0
    merged: Sequence[int] = ()
    truncated: int = 0
    shots: int = 0
    repeats: int = 1
    items_searched: int | None = None
    items_found: int | None = None
    clean_n: int | None = None
    clean_value: float | None = None
    clean_low: float | None = None
    clean_high: float | None = None
    beside: bool = False
    clusters: Sequence[int] = ()
    chance_low: float = 0.0
    chance_high: float = 0.0
    file: str = ""

    @property
    def key(self) -> Key:
        return Key(self.task, self.metric, self.suite, self.filter, self.length)

    @property
    def words(self) -> tuple[str, str]:
        """The value and its interval, of a share in percent."""
        return self._words(self.value, self.low, self.high)

    @property
    def clean_words(self) -> tuple[str, str] | None:
        """As `words`, on the items that no source held; None where that is not known."""
        if self.clean_value is None or self.clean_low is None or self.clean_high is None:
            return None
        return self._words(self.clean_value, self.clean_low, self.clean_high)

    def _words(self, value: float, low: float, high: float) -> tuple[str, str]:
        if self.share:
            return f"{100 * value:.1f}", f"{100 * low:.0f}–{100 * high:.0f}"
        return round_to(value, 4), f"{round_to(low, 3)}–{round_to(high, 3)}"


@dataclass(frozen=True)
class HeldOut:
    """Loss on the held-out documents of one source; `low` and `high` bound the bits per byte.

    `nats` and `sizes` hold the loss and the bytes of each document, for comparisons document by document.
    """

    source: str
    domain: str
    tokens: int
    loss: float
    bits_per_byte: float
    low: float
    high: float
    nats: Sequence[float] = ()
    sizes: Sequence[float] = ()

    @property
    def words(self) -> tuple[str, str]:
        """The bits per byte and their interval."""
        return f"{self.bits_per_byte:.3f}", f"{self.low:.3f}–{self.high:.3f}"


@dataclass(frozen=True)
class Checkpoint:
    """The evaluation of one checkpoint; `ends` is its name in the recipe, empty inside a stage.

    `compared`: it is another model, which the recipe's own checkpoints are compared with. `logits_apart` is how far its
    logits are from the trainer's, None of what was not converted.
    """

    name: str
    ends: str
    stage: GraphStage
    tokens: float
    scores: dict[Key, Score]
    heldout: list[HeldOut]
    file: str
    suite_files: tuple[str, ...] = ()
    compared: bool = False
    logits_apart: float | None = None

    @property
    def label(self) -> str:
        """What stands below it on an axis."""
        return self.name if self.compared else self.stage.short

    @property
    def score_files(self) -> list[str]:
        return [self.file, *self.suite_files]

    @property
    def cells(self) -> list[Cell]:
        """Its name and its tokens, for a row of a table."""
        return [self.name, compact(self.tokens) if self.tokens else "–"]


def read_checkpoints(artefacts: list[ReportArtefact], table: pa.Table) -> list[Checkpoint]:
    """The evaluations with the scores that the table has of them, in the order of the checkpoints."""
    scores: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        scores[row["checkpoint"]].append(row)
    checkpoints = []
    for a, raw, file in load(artefacts, "evaluation", "scores.json"):
        by_key = {score.key: score for score in (pick(Score, row) for row in scores[a.name])}
        heldout, tokens = [pick(HeldOut, h) for h in raw["heldout"]], raw["tokens"] or 0
        files = tuple(dict.fromkeys(row["file"] for row in scores[a.name] if row["file"] != file))
        compared = a.measures.startswith("adopted/") and a.checkpoint != "base"
        apart = [row.get("logits_apart") for row in [a.facts, *scores[a.name]]]
        farthest = max((each for each in apart if each is not None), default=None)
        checkpoints.append(
            Checkpoint(a.name, a.checkpoint, a.stage, tokens, by_key, heldout, file, files, compared, farthest)
        )
    return checkpoints


def own_checkpoints(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """The recipe's own, without the models that they are compared with."""
    return [c for c in checkpoints if not c.compared]
