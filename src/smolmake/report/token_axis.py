"""The segments of pretraining and long context on one token axis."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from smolmake.report.artifacts import MetricLine, ReportArtefact, is_extension, is_pretraining, of_kind, read_metrics
from smolmake.report.charts.svg import Point


@dataclass(frozen=True)
class Stretch:
    """One segment on the common token axis: its lines, and the tokens trained before its run."""

    artefact: ReportArtefact
    group: str
    lines: list[MetricLine]
    offset: float

    @property
    def end(self) -> float:
        return self.offset + self.lines[-1].tokens

    def curve(self, value: Callable[[MetricLine], float | None]) -> list[Point]:
        return [(self.offset + m.tokens, v) for m in self.lines if (v := value(m)) is not None]


def stretches(artefacts: list[ReportArtefact]) -> list[Stretch]:
    """The segments of pretraining and long context one after the other.

    Tokens of a segment count from the start of its run: the stages are one run, each extension is another.
    """
    found: list[Stretch] = []
    offset, run = 0.0, ""
    for artefact in of_kind(artefacts, "segment"):
        if not (is_pretraining(artefact.group) or is_extension(artefact.group)):
            continue
        lines = read_metrics(artefact)
        if not lines:
            continue
        this = "pretraining" if is_pretraining(artefact.group) else artefact.group
        if run not in ("", this):
            offset = found[-1].end
        run = this
        found.append(Stretch(artefact, artefact.group, lines, offset))
    return found


def segment_steps(segment: Stretch) -> str:
    """The span of a segment, as its name says it: stage1-0-150 -> 0–150."""
    named = re.search(r"-(\d+)-(\d+)$", segment.artefact.name)
    first, last = named.groups() if named else (segment.lines[0].step, segment.lines[-1].step)
    return f"{first}–{last}"
