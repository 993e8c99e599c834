"""The segments of pretraining and long context on one token axis."""

from collections.abc import Callable
from dataclasses import dataclass

from smolmake.graph.stages import GraphStage
from smolmake.report.artifacts import MetricLine, ReportArtefact, of_kind
from smolmake.report.charts.lines import Span
from smolmake.report.charts.svg import Point


@dataclass(frozen=True)
class PlacedSegment:
    """One segment on the common token axis, with the tokens trained before its run."""

    artefact: ReportArtefact
    offset: float

    @property
    def lines(self) -> list[MetricLine]:
        return self.artefact.metrics

    @property
    def stage(self) -> GraphStage:
        return self.artefact.stage

    @property
    def file(self) -> str:
        return self.artefact.file("metrics.jsonl")

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
        if artefact.metrics:
            this = "" if artefact.stage.section == "pretraining" else artefact.stage.name
            if placed and run != this:
                offset = placed[-1].end
            run = this
            placed.append(PlacedSegment(artefact, offset))
    return placed


def stage_spans(segments: list[PlacedSegment]) -> list[Span]:
    """Where each stage lies on the token axis."""
    spans: list[Span] = []
    for stage in dict.fromkeys(s.stage for s in segments):
        end = max(s.end for s in segments if s.stage == stage)
        spans.append(Span(spans[-1].end if spans else 0.0, end, stage.title))
    return spans
