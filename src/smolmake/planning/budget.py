"""What the recipe's budget leaves, whether a run may start, and the whole project's budget line by line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from smolmake.errors import UserError
from smolmake.planning.plan import Plan, number_text
from smolmake.recipe.runtime import BudgetLine


class Limit(NamedTuple):
    """A limit that the recipe sets (`key` of cost.budget), with what is spent and planned in the same unit."""

    key: str
    limit: float
    spent: float
    planned: float
    unit: str

    @property
    def left(self) -> float:
        return self.limit - self.spent - self.planned


def limits(plan: Plan) -> list[Limit]:
    """The limits on GPU-hours and on money that the recipe sets."""
    cost, found = plan.workflow.recipe.cost, []
    spent, planned, price = plan.spent_gpu_hours, plan.gpu_hours, cost.price_per_gpu_hour
    if cost.budget.gpu_hours is not None:
        found.append(Limit("gpu_hours", cost.budget.gpu_hours, spent, planned, "GPU-hours"))
    if cost.budget.money is not None and price is not None:
        found.append(Limit("money", cost.budget.money, spent * price, planned * price, cost.currency))
    return found


def check_budget(plan: Plan, consent: float | None) -> None:
    """Raise UserError if what would run exceeds the budget and `consent` (GPU-hours) does not cover it."""
    if consent is not None and plan.gpu_hours <= consent:
        return
    file, root, name = plan.workflow.file, plan.workflow.steps.root, plan.workflow.recipe.name
    if root / "config" / "recipes" / f"{name}.yaml" != file:
        name = str(file.relative_to(root) if file.is_relative_to(root) else file)
    size = math.ceil(plan.gpu_hours)
    for limit in limits(plan):
        if limit.planned > 0 and limit.left < 0:
            raise UserError(
                f"over budget: this run would {'take' if limit.key == 'gpu_hours' else 'cost'}"
                f" {number_text(limit.planned)} {limit.unit}, {number_text(limit.spent)} are spent",
                file=file, key=f"cost.budget.{limit.key}", value=f"{limit.limit:,}",
                remedy="make it smaller, raise the budget, or consent to this run:"
                f" smolmake run {name} --consent {size} (with snakemake: --config recipe={name} consent={size})",
            )  # fmt: skip


def budget_text(plan: Plan) -> list[str]:
    """The budget's part of the plan; nothing where the recipe sets none."""
    told = []
    for limit in limits(plan):
        left = (
            f"{number_text(limit.left)} left"
            if limit.left >= 0
            else f"{number_text(-limit.left)} OVER: it would not start"
        )
        spent, planned = number_text(limit.spent), number_text(limit.planned)
        told.append(f"  {limit.limit:,.0f} {limit.unit}: {spent} spent, {planned} planned, {left}")
    try:
        check_budget(plan, None)
    except UserError as error:
        told.append(f"  {error.what}: {error.remedy}")
    told += ["  " + line for line in budget_table(plan.workflow.recipe.cost.budget.lines)]
    return ["Budget", *told] if told else []


def budget_table(lines: dict[str, BudgetLine]) -> Iterator[str]:
    """The lines with their inputs, GPU-hours and share of the total."""
    if not lines:
        return
    total = sum(line.gpu_hours for line in lines.values())
    width = max(len(name) for name in [*lines, "total"])
    yield f"{'':<{width}}  {'from':<24}{'GPU-hours':>12}{'share':>8}"
    for name, line in lines.items():
        yield f"{name:<{width}}  {line.told:<24}{line.gpu_hours:>12,.0f}{line.gpu_hours / total:>8.1%}"
    yield f"{'total':<{width}}  {'':<24}{total:>12,.0f}{1:>8.1%}"
