"""The evaluations of a run: scores and held-out losses of each checkpoint, in the order of work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from smolmake.graph.stages import GraphStage
from smolmake.report.artifacts import ReportArtefact, load, pick


class Key(NamedTuple):
    """What tells one score of a checkpoint from another; `suite` is empty for the recipe's own tasks."""

    task: str
    metric: str
    suite: str = ""


@dataclass(frozen=True)
class Score:
    """One task and metric at one checkpoint, with its 95 % interval; `suite` is empty for the recipe's own tasks."""

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

    @property
    def key(self) -> Key:
        return Key(self.task, self.metric, self.suite)


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


@dataclass(frozen=True)
class Checkpoint:
    """The evaluation of one checkpoint; `ends` is its name in the recipe, empty inside a stage."""

    name: str
    ends: str
    stage: GraphStage
    tokens: float
    scores: dict[Key, Score]
    heldout: list[HeldOut]
    file: str
    suite_files: tuple[str, ...] = ()

    @property
    def score_files(self) -> list[str]:
        return [self.file, *self.suite_files]


def read_checkpoints(artefacts: list[ReportArtefact]) -> list[Checkpoint]:
    """The evaluations with the scores of their suites, in the order of the checkpoints."""
    suites: dict[str, list[tuple[dict[str, Any], str]]] = defaultdict(list)
    for _, suite, file in load(artefacts, "suite", "scores.json"):
        suites[suite["checkpoint"]].append((suite, file))
    checkpoints = []
    for artefact, raw, file in load(artefacts, "evaluation", "scores.json"):
        scores = [pick(Score, s) for s in raw["scores"]]
        scores += [pick(Score, s, suite=suite["suite"]) for suite, _ in suites[artefact.name] for s in suite["scores"]]
        checkpoints.append(
            Checkpoint(
                artefact.name,
                artefact.checkpoint,
                artefact.stage,
                raw["tokens"] or 0,
                {s.key: s for s in scores},
                [pick(HeldOut, h) for h in raw["heldout"]],
                file,
                tuple(file for _, file in suites[artefact.name]),
            )
        )
    return checkpoints
