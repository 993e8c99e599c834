"""Random edits of code, files and recipe, each held against what really differs when its steps are computed again.

    python benchmarks/edits.py [--seed 1] [--rounds 1] [--count 20] [--check]

A round makes `count` edits of code, of files and of the recipe, and as many of each that change nothing, over
tests/pipeline/edits.yaml (35 steps of 16 kinds on a few texts). Every step is computed under all edits that its plan
says it does not depend on. Printed are the edits by kind, those that the recipe's checks refuse, and both faults with
their examples: steps that are kept although they differ ("under"), and edits that change nothing and rerun steps
("over"). With --check the exit code is 1 for a step that is kept too long, or 2 % of edits that rerun without cause.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from helpers.edits.judge import Verdict  # noqa: E402
from helpers.edits.runs import make_judge, random_edits  # noqa: E402

MOST_OVER = 0.02  # of the edits that change nothing


def table(verdicts: list[Verdict]) -> list[str]:
    """Edits by kind: how many, refused, those that rerun steps, and the faults."""
    made, refused, reruns, over, under = (Counter[str]() for _ in range(5))
    for verdict in verdicts:
        for edit, planning in verdict.planned.items():
            made[edit.kind] += 1
            refused[edit.kind] += bool(planning.refused)
            reruns[edit.kind] += bool(planning.running)
        over.update(edit.kind for edit, _ in verdict.over)
        under.update({edit.kind for edits, _, _ in verdict.under for edit in edits})
    rows = [
        "| edit | edits | refused | rerun steps | kept too long | without cause |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind in sorted(made):
        counts = (made[kind], refused[kind], reruns[kind], under[kind], over[kind])
        rows.append(f"| {kind} | {' | '.join(map(str, counts))} |")
    return rows


def examples(verdict: Verdict) -> list[str]:
    told = [f"kept too long: {label}: {edits[:3]} ({how.strip()[-200:]})" for edits, label, how in verdict.under]
    told += [f"without cause: {edit}: {', '.join(labels[:4])}" for edit, labels in verdict.over]
    return told + [f"in the last bits alone: {label}: {edit}" for edit, label in verdict.rounded]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    verdicts, started = list[Verdict](), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="smolmake-edits-") as scratch:
        judge = make_judge(Path(scratch))
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            verdicts.append(judge.judge(random_edits(judge.recomputer.base, seed, arguments.count)))
            print(*[f"seed {seed}: {line}" for line in examples(verdicts[-1])], sep="\n", file=sys.stderr, flush=True)
        judge.recomputer.close()
        computed = judge.recomputer.computed
    edits = [edit for verdict in verdicts for edit in verdict.accepted]
    neutral = sum(edit.neutral for edit in edits)
    over, under = sum(len(each.over) for each in verdicts), sum(len(each.under) for each in verdicts)
    print(*table(verdicts), sep="\n")
    pairs, seconds = sum(each.pairs for each in verdicts), time.monotonic() - started
    print(f"\n{len(edits):,} edits that a plan takes, {pairs:,} pairs of an edit and a step that it keeps,", end=" ")
    print(f"{computed:,} steps computed, {seconds:,.0f} s")
    print(f"kept too long: {under}; without cause: {over} of {neutral:,} edits that change nothing")
    if arguments.check and (under or over >= MOST_OVER * neutral):
        sys.exit("the plan is not what really differs")


if __name__ == "__main__":
    main()
