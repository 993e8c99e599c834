"""The plan as text: stages, reasons, cost, budget and pins on one or two screens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from smolmake.execution.kinds import KINDS
from smolmake.execution.step import Step
from smolmake.planning.budget import budget_text
from smolmake.planning.checks import repeat_warnings
from smolmake.planning.estimate import short
from smolmake.planning.payloads import passed_milestones
from smolmake.planning.plan import Plan, number_text
from smolmake.planning.reasons import NEW
from smolmake.planning.recipe_names import name_warnings
from smolmake.planning.requests import beyond_machine, gpus_here, machine_text
from smolmake.planning.suite_contexts import context_warnings
from smolmake.planning.task_names import revision_warnings
from smolmake.posttrain.findings import told_checks

CAUSES, STEPS = 12, 24  # lines at most


def plan_text(plan: Plan) -> str:
    """The whole plan."""
    workflow = plan.workflow
    root = workflow.steps.root
    file = workflow.file.relative_to(root) if workflow.file.is_relative_to(root) else workflow.file
    parts = [f"Plan of {workflow.recipe.name} ({file})"]
    parts.append("\n".join(_stages(plan)))
    if plan.data:
        parts.append("\n".join(_data(plan)))
    if plan.running:
        parts += ["\n".join(_why(plan)), "\n".join(_what(plan)), "\n".join(_cost(plan))]
    else:
        parts.append("Nothing would run: every result is there.")
    notes = (budget_text(plan), _pins(plan), _other_names(plan), _libraries(plan), _machine(plan), _warnings(plan))
    parts += ["\n".join(lines) for lines in notes if lines]
    return "\n\n".join(parts)


def _stages(plan: Plan) -> Iterator[str]:
    steps = plan.workflow.steps.all.values()
    stages = list(dict.fromkeys(step.stage for step in steps))
    width = max(len(stage) for stage in stages)
    yield f"{'stage':<{width}}  {'done':>6}  {'to run':>6}  {'GPU-hours':>10}  waits for"
    for stage in stages:
        members = [step for step in steps if step.stage == stage]
        running = [step for step in members if step.key in plan.keys]
        hours = sum(plan.costs[step.key].gpu_hours for step in running)
        others = {other.stage for step in running for other in step.inputs.values() if other.key in plan.keys}
        done = sum(step.key in plan.done for step in members)
        waits = ", ".join(name for name in stages if name in others - {stage})
        if stage == "report" and running:
            waits = "all"
        yield f"{stage:<{width}}  {done:>6,}  {len(running):>6,}  {number_text(hours):>10}  {waits}".rstrip()


def _data(plan: Plan) -> Iterator[str]:
    """The files of each dataset by format, and what of its folder is passed over."""
    yield "Data"
    for key, about in list(plan.data.items())[:STEPS]:
        told = ", ".join(f"{count:,} {kind}" for kind, count in about["files"].items())
        yield f"  {key}: {told} ({_cut(about['path'])})"
        if rows := about.get("rows"):
            skipped = f", {rows['skipped']:,} skipped: {_cut(rows['first_skipped'])}" if rows["skipped"] else ""
            lost = "".join(f", {count:,} lose {name}" for name, count in rows["lost"].items())
            yield f"    {_count(rows['rows'], 'row')}{skipped}{lost}"
            yield from (f"    {told}" for told in told_checks(rows["checks"]))
        for reason, names in about["passed_over"].items():
            yield f"    {len(names):,} passed over, {reason}: {_cut(', '.join(names[:STEPS]))}"
    yield from _more(len(plan.data) - STEPS, "dataset")


def _why(plan: Plan) -> Iterator[str]:
    yield "Why"
    for cause, steps in plan.by_cause[:CAUSES]:
        hours = sum(plan.costs[step.key].gpu_hours for step in steps)
        price = plan.money(hours)
        told = f"{_count(len(steps), 'step')}" + (f", {number_text(hours)} GPU-hours" if hours else "")
        told += f", {number_text(price)} {plan.workflow.recipe.cost.currency}" if price else ""
        yield f"  {cause}: {told}"
    yield from _more(len(plan.by_cause) - CAUSES, "reason")


def _what(plan: Plan) -> Iterator[str]:
    """The steps by kind and stage, with what changed in each of them itself; the others only follow."""
    yield "To run"
    alike: dict[tuple[str, str, str], list[str]] = {}
    for step in plan.running:
        alike.setdefault((step.kind, step.stage, ", ".join(plan.own[step.key])), []).append(step.name)
    for (kind, _, own), names in list(alike.items())[:STEPS]:
        first = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names):,})"
        yield f"  {kind} {first}" + ("" if own in ("", NEW) else f": {_cut(own)}")
    yield from _more(len(alike) - STEPS, "line")


def _cost(plan: Plan) -> Iterator[str]:
    cost = plan.workflow.recipe.cost
    yield "Cost"
    trained = sum(plan.costs[step.key].tokens for step in plan.running if KINDS[step.kind].trains)
    yield f"  tokens      {short(trained)} trained, {plan.total('flops'):.2e} FLOPs in all"
    if plan.gpu_hours:
        goodput = f", goodput {cost.goodput:.0%}" if cost.goodput < 1 else ""
        price = plan.money(plan.gpu_hours)
        money = f", {number_text(price)} {cost.currency} at {cost.price_per_gpu_hour:g}" if price is not None else ""
        yield f"  GPU-hours   {number_text(plan.gpu_hours)} ({cost.gpu}, MFU {cost.mfu:.0%}{goodput}){money}"
    for told, steps in plan.uncertain.items():
        kinds = " and ".join(dict.fromkeys(step.kind for step in steps))
        hours = number_text(sum(plan.costs[step.key].gpu_hours for step in steps))
        yield f"  uncertain   {hours} of these GPU-hours, {_count(len(steps), 'step')} of {kinds}: {told}"
    for told, steps in plan.encoders.items():
        hours = time_text(sum(plan.costs[step.key].hours or 0.0 for step in steps))
        yield f"  tokenizing  {_count(len(steps), 'source')} in {hours} one after the other, {told}"
    path = _path(plan.critical_path, plan)
    without = f" without {uncounted(plan)}, whose time is not known yet" if plan.unknown else ""
    yield f"  wall-clock  {time_text(plan.hours)}{without}; longest chain {path}"
    kept = {
        "documents and shards": ("documents", "shards"),
        "checkpoints": [kind for kind in KINDS if KINDS[kind].model],
    }
    parts = [
        f"{name} {size_text(sum(plan.costs[s.key].kept_bytes for s in plan.running if s.kind in kinds))}"
        for name, kinds in kept.items()
    ]
    temporary = max(plan.costs[step.key].temporary_bytes for step in plan.running)
    kept_bytes = size_text(plan.total("kept_bytes"))
    yield f"  disk        {kept_bytes} kept ({', '.join(parts)}), {size_text(temporary)} for a while"


def uncounted(plan: Plan) -> str:
    """The steps whose time is in no sum, by kind: `10 steps of evaluation and 1 of alignment`."""
    kinds = Counter(step.kind for step in plan.unknown).most_common()
    first, *others = [f"{count:,} of {kind}" for kind, count in kinds] or ["none"]
    first = first.replace(" of", " step of" if kinds and kinds[0][1] == 1 else " steps of", 1)
    return ", ".join([first, *others[:-1]]) + (f" and {others[-1]}" if others else "")


def _pins(plan: Plan) -> list[str]:
    pinned = [step for step in plan.workflow.steps.all.values() if step.pin is not None]
    told = [f"  {step.label} stays {step.id}: {step.pin.reason}" for step in pinned if step.pin is not None]
    return ["Pinned, although their code has changed", *told] if told else []


def _other_names(plan: Plan) -> list[str]:
    """Finished steps that lie under a name that they had once."""
    kept = [step for step in plan.workflow.steps.all.values() if step.kept_as]
    told = [f"  {step.label} is results/{step.key}" for step in kept]
    head = "Kept under an earlier name: another name changes no result"
    return [head, *told[:CAUSES], *_more(len(told) - CAUSES, "step")] if told else []


def _libraries(plan: Plan) -> list[str]:
    told = [
        f"  {change.library} {change.before} → {change.now}: {_count(change.steps, 'step')} of"
        f" {', '.join(sorted(change.kinds, key=lambda kind: -change.kinds[kind]))}"
        for change in plan.library_changes
    ]
    head = "Finished with other versions of libraries than today's, and kept (`library_versions` makes them count)"
    return [head, *told[:CAUSES], *_more(len(told) - CAUSES, "library")] if told else []


def _machine(plan: Plan) -> list[str]:
    """What the machines mean for the run, above all this one for a run on it."""
    told, machine = list[str](), plan.machine
    checks = [step for step in plan.running if step.kind == "preflight"]
    if checks and plan.gpu_hours < 1:
        told.append(
            f"{_count(len(checks), 'preflight')} of about a minute before training: a recipe as small as this can leave"
            " them out with `runtime: {preflight: {when: never}}`."
        )
    if machine is None:
        return told
    beyond = beyond_machine(plan.running, machine)
    if beyond:
        step, needed, _ = beyond[0]
        others = f", and {_count(len(beyond) - 1, 'other step')} need more than it has, too" if beyond[1:] else ""
        told.append(f"A run here would be refused: {machine_text(machine)}; {step.label} needs {needed}{others}.")
    unbooked = [step for step in plan.running if gpus_here(step, machine) and not step.run.gpus]
    if machine and unbooked:
        told.append(
            f"{_count(len(unbooked), 'step')} without GPUs in the recipe's layouts take one of this machine's {machine}"
            " for a while and book no GPU-hours; with `runtime.device: cpu` they do not."
        )
    return told


def _warnings(plan: Plan) -> list[str]:
    passed = [f"Warning: {told}." for told in passed_milestones(plan.workflow.steps, plan.running)]
    workflow = plan.workflow
    passed += [f"Warning: {told}." for told in name_warnings(workflow.recipe.name, workflow.file, workflow.steps.root)]
    if any(step.kind == "suite" for step in plan.running):
        recipe, root = plan.workflow.recipe, plan.workflow.steps.root
        passed += [f"Warning: {told}." for told in (*context_warnings(recipe), *revision_warnings(recipe, root))]
    return passed + [
        f"Warning: {told} (an estimate)."
        for told in repeat_warnings(plan.workflow.recipe, plan.workflow.steps, plan.keys)
    ]


def _path(chain: list[Step], plan: Plan) -> str:
    """The longest chain by stages, each with its time."""
    hours: dict[str, float] = {}
    for step in chain:
        hours[step.stage] = hours.get(step.stage, 0.0) + (plan.costs[step.key].hours or 0.0)
    return (
        " → ".join(f"{group} {time_text(spent)}" for group, spent in hours.items() if spent * 3600 >= 1) or "under 1 s"
    )


def _more(count: int, what: str) -> Iterator[str]:
    if count > 0:
        yield f"  ... and {_count(count, f'more {what}')}: the JSON form has all"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _cut(text: str, width: int = 90) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def size_text(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e3:.0f} kB"


def time_text(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.1f} d"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"
