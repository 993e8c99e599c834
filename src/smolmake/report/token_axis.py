"""The segments of pretraining and long context on one token axis."""

from collections.abc import Callable
from dataclasses import dataclass

from smolmake.graph.stages import GraphStage
from smolmake.report.artifacts import MetricLine, ReportArtefact, metric_lines, of_kind
from smolmake.report.charts.svg import Point


@dataclass(frozen=True)
class PlacedSegment:
    """One segment on the common token axis: its lines, and the tokens trained before its run."""

    artefact: ReportArtefact
    lines: list[MetricLine]
    offset: float

    @property
    def stage(self) -> GraphStage:
        return self.artefact.stage

    @property
    def label(self) -> str:
        """Its stage and steps, as on an axis: stage1, 0–170."""
        return f"{self.stage.short}, {self.lines[0].step}–{self.lines[-1].step + 1}"

    @property
    def end(self) -> float:
        return self.offset + self.lines[-1].tokens

    def curve(self, value: Callable[[MetricLine], float | None]) -> list[Point]:
        return [(self.offset + m.tokens, v) for m in self.lines if (v := value(m)) is not None]


def place_segments(artefacts: list[ReportArtefact]) -> list[PlacedSegment]:
    """The segments of pretraining and long context one after the other.

    Tokens of a segment count from the start of its run: the stages of pretraining are one run, each extension another.
    """
    placed: list[PlacedSegment] = []
    offset, run = 0.0, ""
    for artefact in of_kind(artefacts, "segment"):
        lines = metric_lines(artefact)
        if not lines:
            continue
        this = "" if artefact.stage.section == "pretraining" else artefact.stage.name
        if placed and run != this:
            offset = placed[-1].end
        run = this
        placed.append(PlacedSegment(artefact, lines, offset))
    return placed
