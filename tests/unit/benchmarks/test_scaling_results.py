"""The figure and the table of benchmarks/scaling.py's results, and its plan of jobs; no GPU is asked."""

import json
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

from scaling import Bench, last_error  # noqa: E402
from scaling_cases import FULL, PARTS  # noqa: E402
from scaling_results import figure, table, with_efficiency  # noqa: E402

MEASURED = json.loads((ROOT / "benchmarks/results/2026-11-22-h200-x4.json").read_text())


def test_the_figure_in_the_docs_is_that_of_the_measured_rows() -> None:
    assert (ROOT / "docs/images/scaling-h200-x4.svg").read_text() == figure(MEASURED) + "\n"


def test_efficiency_is_against_the_same_case_on_one_gpu() -> None:
    failed = {"asked": "a", "case": "3b big", "gpus": 8, "error": "OutOfMemoryError: of 139 GiB"}
    rows = [*MEASURED["rows"], failed]
    shares = {
        (row["case"][:7], row["strategy"]): row["efficiency"]
        for row in with_efficiency(rows)
        if row["gpus"] > 1 and "efficiency" in row
    }
    assert shares["3b bf16", "ddp"] == pytest.approx(28_065 / 28_594) and len(shares) == 10
    unknown = [row for row in with_efficiency(rows) if "efficiency" not in row]
    assert {(row["gpus"], row["context"]) for row in unknown} == {(4, 4)}  # one GPU had two sequences a step, not four
    told = table(rows)
    assert "| 28,065 | 98.1% |" in told and "not measured: 3b big on 8: OutOfMemoryError" in told


@pytest.mark.parametrize("largest", [1, 2, 4, 8])
def test_no_gpu_has_two_jobs_at_a_time(tmp_path: Path, largest: int) -> None:
    counts = [n for n in (1, 2, 4, 8) if n <= largest]
    bench = Bench(FULL, tmp_path / "rows.jsonl", tmp_path, False, time.monotonic() + 600)
    plan = bench.jobs(counts, list(PARTS))
    for jobs in plan:
        places = [job.device for job in jobs]
        assert len(jobs) == 1 or (None not in places and len(set(places)) == len(places) <= largest)
    single = [
        text for jobs in plan for job in jobs if job.part == "single" for texts, _ in job.launches for text in texts
    ]
    assert sorted(single) == sorted(FULL.single)
    assert {job.part for jobs in plan for job in jobs} >= {"single", "posttrain", "long", "saving"}


def test_cases_without_time_leave_a_row_with_the_reason(tmp_path: Path) -> None:
    bench = Bench(FULL, tmp_path / "rows.jsonl", tmp_path, False, time.monotonic() + 1)
    [[job]] = bench.jobs([2], ["shared"])
    bench.run(job)
    rows = [json.loads(line) for line in bench.out.read_text().splitlines()]
    assert [row["asked"] for row in rows] == [text for text in FULL.shared if "hsdp" not in text]
    assert all("not started" in row["error"] and row["gpus"] == 2 for row in rows)


def test_a_log_is_told_by_its_last_error() -> None:
    log = "loading\nTraceback\ntorch.OutOfMemoryError: tried 2 GiB\nraise ChildFailedError(\nRoot Cause"
    assert last_error(log) == "torch.OutOfMemoryError: tried 2 GiB" and last_error("") == "it said nothing"
