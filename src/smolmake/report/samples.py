"""Several answers to each item: those of a suite's jobs put together, and the score of the best of k."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from smolmake.stats import guess_interval, item_interval

Row = dict[str, Any]
AVERAGED = ("thoughts", "unclosed", "cut")


def join_samples(parts: list[list[Row]]) -> list[Row]:
    """The scores of a suite of which each job asked other answers to the same items; of one job, its own.

    A mean over items is one over all answers, with its interval; of what is none, such as BLEU or a group, the value
    and the bounds are averaged, which makes the interval too wide rather than too narrow.
    """
    if len(parts) == 1:
        return parts[0]
    others = [{_name(row): row for row in part} for part in parts[1:]]
    return [_joined([row, *(part[_name(row)] for part in others)]) for row in parts[0]]


def _name(row: Row) -> tuple[Any, ...]:
    return row["task"], row["metric"], row["filter"], row["length"]


def _joined(rows: list[Row]) -> Row:
    first, repeats = rows[0], [row.get("repeats", 1) for row in rows]
    joined = first | {key: _mean([row[key] for row in rows], repeats) for key in ("value", "low", "high")}
    joined |= {key: _mean([row[key] for row in rows], repeats) for key in AVERAGED if first.get(key) is not None}
    if first.get("repeats") is not None:
        joined["repeats"] = sum(repeats)
    if all(row.get("items") for row in rows):
        answers = [values for row in rows for values in row.get("samples") or [row["items"]]]
        items = [math.fsum(each) / len(answers) for each in zip(*answers, strict=True)]
        low, high = item_interval(items, first.get("clusters", ()), len(answers), first["share"])
        joined |= {"samples": answers, "items": items, "value": math.fsum(items) / len(items), "low": low, "high": high}
        if first["chance"] and first.get("chance_low") != first.get("chance_high"):
            bounds = guess_interval(first["chance"], len(items) * len(answers))
            joined |= dict(zip(("chance_low", "chance_high"), bounds, strict=True))
    return joined


def _mean(values: list[float], weights: list[int]) -> float:
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def best_of(row: Row) -> Iterator[Row]:
    """Beside a score of right and wrong with several answers an item: pass@k, for k of 2, 4, 8 … and all answers.

    How likely one of k answers is right, without bias from the n that there are: 1 - C(n - c, k) / C(n, k) of an item
    with c right ones (Chen et al., Evaluating Large Language Models Trained on Code, arXiv:2107.03374, section 2.1).
    """
    answers = row.get("samples") or []
    if len(answers) < 2 or not all(value in (0.0, 1.0) for values in answers for value in values):
        return
    n, right = len(answers), [round(sum(each)) for each in zip(*answers, strict=True)]
    for k in [*(2**power for power in range(1, n.bit_length()) if 2**power < n), n]:
        items = [1 - math.comb(n - c, k) / math.comb(n, k) for c in right]
        low, high = item_interval(items, row.get("clusters", ()), 1, share=True)
        chance = 1 - (1 - row["chance"]) ** k
        score = {"value": math.fsum(items) / len(items), "low": low, "high": high, "items": items, "chance": chance}
        yield row | score | {
            "metric": f"{row['metric']} pass@{k}", "chance_low": chance, "chance_high": chance, "samples": [],
            "beside": True,
        }  # fmt: skip
