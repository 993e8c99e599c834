"""Where a run is: stages, the training under way, goodput, events, time left, disk.

    smolmake status toy
    smolmake status smollm3 --watch 30

It only reads, so it may be called at any time, from any machine that sees results/.

Goodput is the share of wall-clock time that became training steps that are kept: the seconds of all steps that the
metrics.jsonl of the recipe's segments have now (steps that were done again after a stop, or dropped, count once or not
at all), over the time from the start of the first segment's first training until now, or until the last step when
pretraining is finished. Waiting for machines, starting, saving and repeated steps are all lost time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smolmake.cluster.excluded_nodes import excluded_nodes
from smolmake.errors import UserError
from smolmake.execution.code_memory import remembered_code
from smolmake.execution.kinds import KINDS
from smolmake.execution.step import Step
from smolmake.graph.build import build_steps
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.monitoring.events import read_events, read_starts
from smolmake.monitoring.run_state import END, TrainingState, disk_use, holder, training
from smolmake.planning.cost import Costs
from smolmake.planning.history import History
from smolmake.planning.plan import Plan, unfinished
from smolmake.planning.text import size_text, time_text, uncounted
from smolmake.planning.workflow import Workflow
from smolmake.recipe.load import find_recipe, load_recipe

MAX_RUNNING, MAX_EVENTS = 8, 5  # lines at most


@dataclass(frozen=True)
class StageCounts:
    """Counts of a stage's steps."""

    stage: str
    done: int
    running: int
    to_do: int


@dataclass(frozen=True)
class Running:
    """A step under way, or (not `alive`) the training that stands still where the run is to go on."""

    step: str
    alive: bool
    host: str | None = None
    job: str | None = None
    training: TrainingState | None = None
    first: int | None = None
    end: int | None = None

    @property
    def seconds_left(self) -> float | None:
        """Of a segment, at its present rate."""
        if self.training is None or self.end is None or self.training.seconds_per_step is None:
            return None
        return (self.end - self.training.step) * self.training.seconds_per_step


@dataclass(frozen=True)
class Goodput:
    """Seconds of kept steps and of wall-clock time (see above), and how often a training was started."""

    kept_seconds: float
    wall_seconds: float
    starts: int

    @property
    def share(self) -> float:
        return self.kept_seconds / self.wall_seconds


@dataclass(frozen=True)
class Status:
    """The state of a recipe's run at a `time` (seconds since 1970)."""

    recipe: str
    time: float
    stages: list[StageCounts]
    running: list[Running]
    goodput: Goodput | None
    events: list[dict[str, Any]]
    hours_left: float
    unknown: int
    uncounted: str
    used_bytes: int
    used_is_all: bool
    free_bytes: int
    excluded: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        found = asdict(self)
        found["running"] = [asdict(entry) | {"seconds_left": entry.seconds_left} for entry in self.running]
        if self.goodput is not None:
            found["goodput"]["share"] = self.goodput.share
        return found


def open_workflow(name: str, root: Path) -> Workflow:
    """A recipe's steps, without the checks that come before a run.

    Raises:
        UserError: if the recipe cannot be read.
    """
    recipe = load_recipe(name, root)
    with remembered_code(root):
        return Workflow(recipe, find_recipe(name, root), build_steps(recipe, root))


def status_of(workflow: Workflow) -> Status:
    """Read what the folders of a recipe's steps say now."""
    history, results = History(workflow.steps.root), workflow.steps.root / "results"
    missing = unfinished(workflow, history)
    running = list(_running(missing, results))
    alive = {entry.step for entry in running if entry.alive}
    costs = Costs(workflow.recipe, workflow.steps.root, history)
    left = {step.key: costs.of(step) for step in missing}
    for entry in running:
        if entry.seconds_left is not None:
            left[entry.step] = replace(left[entry.step], hours=entry.seconds_left / 3600)
    plan = Plan(workflow, history, missing, left, {}, {})
    used, is_all = disk_use(results)
    segments = workflow.steps.of_kind("segment")
    return Status(
        workflow.recipe.name, time.time(), list(_stages(workflow, plan.keys, alive)), running,
        goodput_of([results / step.key for step in segments], any(step.key in plan.keys for step in segments)),
        _last_events(segments, results), plan.hours, len(plan.unknown), uncounted(plan), used, is_all,
        shutil.disk_usage(results if results.exists() else results.parent).free, excluded_nodes(workflow.steps.root),
    )  # fmt: skip


def _stages(workflow: Workflow, missing: set[str], alive: set[str]) -> Iterator[StageCounts]:
    groups: dict[str, list[str]] = {}
    for step in workflow.steps.all.values():
        groups.setdefault(step.stage, []).append(step.key)
    for group, keys in groups.items():
        running = sum(key in alive for key in keys)
        to_do = sum(key in missing for key in keys)
        yield StageCounts(group, len(keys) - to_do, running, to_do - running)


def _running(missing: list[Step], results: Path) -> Iterator[Running]:
    """The steps under way, trainings first; a training that was begun and stands still counts as one."""
    found = []
    for step in missing:
        folder = results / step.key
        who, at = holder(folder), training(folder) if KINDS[step.kind].trains else None
        if who is not None or at is not None:
            host, job = (who.host, who.job) if who is not None else (None, None)
            span = (step.spec.start, step.spec.end) if isinstance(step.spec, SegmentSpec) else (None, None)
            found.append(Running(step.key, who is not None, host, job, at, *span))
    yield from sorted(found, key=lambda entry: (entry.training is None, not entry.alive))


def goodput_of(folders: list[Path], going_on: bool, now: float | None = None) -> Goodput | None:
    """The goodput of segments as defined above, or None before the first step."""
    starts = [began for folder in folders for began in read_starts(folder)]
    trainings = [found for folder in folders if (found := training(folder)) is not None]
    kept = sum(found.kept_seconds or 0.0 for found in trainings)
    last = max((found.last or 0.0 for found in trainings), default=0.0)
    if not starts or not kept:
        return None
    end = (now or time.time()) if going_on else last
    return Goodput(kept, max(end - min(starts), kept), len(starts))


def _last_events(segments: list[Step], results: Path) -> list[dict[str, Any]]:
    found = [event | {"segment": step.name} for step in segments for event in read_events(results / step.key, END)]
    return sorted(found, key=lambda event: str(event.get("time")))[-MAX_EVENTS:]


def status_text(status: Status) -> str:
    """The status on one screen."""
    return "\n".join([*_head(status), "", *_now(status), "", *_figures(status), *_told(status)])


def _head(status: Status) -> Iterator[str]:
    yield f"{status.recipe} at {_clock(status.time)}"
    width = max(len(stage.stage) for stage in status.stages)
    yield f"{'stage':<{width}}  {'done':>7}  {'running':>7}  {'to do':>7}"
    for stage in status.stages:
        yield f"{stage.stage:<{width}}  {stage.done:>7,}  {stage.running:>7,}  {stage.to_do:>7,}"


def _now(status: Status) -> Iterator[str]:
    if not status.running:
        yield "No step is under way." if any(s.to_do for s in status.stages) else "Everything is done."
    for entry in status.running[:MAX_RUNNING]:
        yield f"{entry.step}: " + ", ".join(_about(entry, status.time))
    if len(status.running) > MAX_RUNNING:
        yield f"... and {len(status.running) - MAX_RUNNING:,} more: --json has all"


def _about(entry: Running, now: float) -> Iterator[str]:
    yield "running" if entry.alive else "NOT running"
    if entry.job or entry.host:
        yield " on ".join(str(part) for part in (entry.job and f"job {entry.job}", entry.host) if part)
    at = entry.training
    if at is None:
        return
    of = "" if entry.end is None else f" of {entry.end:,}"
    yield f"step {at.step:,}{of}" + (f" (this segment is from {entry.first:,} on)" if entry.first else "")
    yield "no loss" if at.loss is None else f"loss {at.loss:.3f}"
    if at.tokens_per_second is not None:
        yield f"{at.tokens_per_second:,.0f} tokens/s"
    if at.mfu is not None:
        yield f"MFU {at.mfu:.1%}"
    if entry.seconds_left is not None:
        yield f"{time_text(entry.seconds_left / 3600)} left"
    if at.last is not None:
        yield f"last step {time_text(max(now - at.last, 0) / 3600)} ago"


def _figures(status: Status) -> Iterator[str]:
    good = status.goodput
    if good is not None:
        kept, wall = time_text(good.kept_seconds / 3600), time_text(good.wall_seconds / 3600)
        starts = f"{good.starts:,} start{'' if good.starts == 1 else 's'}"
        yield f"goodput    {good.share:.1%}: {kept} of kept steps in {wall}, {starts}"
    unknown = f", without {status.uncounted}, whose time is not known yet" if status.unknown else ""
    yield f"left       {time_text(status.hours_left)} with the devices there are{unknown}"
    more = "" if status.used_is_all else "more than "
    yield f"disk       {more}{size_text(status.used_bytes)} in results, {size_text(status.free_bytes)} free"


def _told(status: Status) -> Iterator[str]:
    for node, reason in status.excluded.items():
        yield f"left out   {node}, {reason} (once it is repaired: smolmake nodes --clear {node})"
    if status.events:
        yield "events"
    for event in status.events:
        what = " ".join(str(event.get("what")).split())
        yield f"  {event.get('time')}  {event['segment']} step {event.get('step')}: {what[:120]}"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", default="toy", help="a name in config/recipes, or a path (default: toy)")
    parser.add_argument("--json", action="store_true", help="all of it as JSON, on one line")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="repeat until interrupted")


def run(arguments: argparse.Namespace) -> None:
    if arguments.watch is not None and not arguments.watch > 0:
        raise UserError("--watch is a time in seconds", value=arguments.watch, remedy="for example --watch 10")
    with contextlib.suppress(KeyboardInterrupt):
        _show(open_workflow(arguments.recipe, Path.cwd()), arguments.json, arguments.watch)


def _show(workflow: Workflow, as_json: bool, every: float | None) -> None:
    while True:
        status = status_of(workflow)
        clear = "\033[H\033[2J" if every and not as_json else ""
        print(clear + (json.dumps(status.as_json()) if as_json else status_text(status)), flush=True)
        if not every:
            return
        time.sleep(every)
