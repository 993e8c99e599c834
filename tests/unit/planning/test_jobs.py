"""Job files: what a step's script is told, of any length; and steps computed by hand from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.recipes import SMALL, changed, write_recipe
from helpers.training import finish

from smolmake.errors import UserError
from smolmake.execution.job import job_file
from smolmake.planning.by_hand import run_step_by_hand
from smolmake.planning.workflow import Workflow, load_workflow

LONGEST_ARGUMENT = 128 * 1024  # of a command on Linux


def many_sources(count: int) -> str:
    sources = "".join(f"  source-{number:04d}: {{path: notes.txt}}\n" for number in range(count))
    text = changed("  notes: {path: notes.txt}\n  code: {path: notes.txt, domain: code}\n", sources)
    mixture = ", ".join(f"source-{number:04d}: 1" for number in range(count))
    for weights in ("notes: 0.5, code: 0.5", "notes: 0.2, code: 0.8"):
        text = changed(weights, mixture, text)
    return text


@pytest.fixture(autouse=True)
def package(tree: Path, root: Path) -> None:
    (tree / "src").symlink_to(root / "src")


def finish_inputs(workflow: Workflow, kind: str) -> None:
    """Finished documents of one held-out text each."""
    (step,) = workflow.steps.of_kind(kind)
    first, *others = (workflow.steps.root / "results" / source.key for source in step.inputs.values())
    first.mkdir(parents=True)
    pq.write_table(pa.table({"id": ["0"], "text": ["a text"]}), first / "heldout.parquet")
    finish(first, ["heldout.parquet"], {})
    for other in others:
        shutil.copytree(first, other)


def test_a_step_of_a_thousand_sources_is_computed(tree: Path) -> None:
    workflow = load_workflow(str(write_recipe(tree, many_sources(1000))), tree)
    (step,) = workflow.steps.of_kind("heldout")
    assert len(workflow.job(step)) > LONGEST_ARGUMENT
    finish_inputs(workflow, "heldout")
    assert run_step_by_hand(str(workflow.file), "heldout/small", tree) == 0
    rows = pq.read_table(tree / "results" / step.key / "heldout.parquet")
    assert rows["source"].to_pylist() == [f"source-{number:04d}" for number in range(1000)]


def test_a_step_is_found_by_its_label_or_its_key_and_missing_inputs_are_named(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_recipe(tree, SMALL)
    workflow = load_workflow(str(file), tree)
    (step,) = workflow.steps.of_kind("heldout")
    for label in ("heldout/small", step.key):
        with pytest.raises(UserError, match="documents/notes, documents/code") as caught:
            run_step_by_hand(str(file), label, tree)
        assert step.manifest in caught.value.remedy
    with pytest.raises(UserError, match="no such step") as caught:
        run_step_by_hand(str(file), "documents/note", tree)
    assert "`documents/notes`" in caught.value.remedy
    finish_inputs(workflow, "heldout")
    assert run_step_by_hand(str(file), "heldout/small", tree) == 0
    assert run_step_by_hand(str(file), "heldout/small", tree) == 0 and "is finished" in capsys.readouterr().err


def test_job_files_are_written_for_the_steps_that_run_and_left_alone_where_they_are_right(tree: Path) -> None:
    workflow = load_workflow(str(write_recipe(tree, SMALL)), tree)
    documents = workflow.steps.of_kind("documents")
    workflow.write_jobs([step.manifest for step in documents])
    files = {step.key: tree / job_file(step.key) for step in documents}
    assert set((tree / ".smolmake" / "jobs").glob("*/*.json")) == set(files.values())
    first, second = files.values()
    before = first.stat().st_mtime_ns
    second.write_text("{")
    workflow.write_jobs([step.manifest for step in documents])
    assert first.stat().st_mtime_ns == before
    for step in documents:
        assert files[step.key].read_text() == workflow.job(step)


def test_a_job_file_that_is_gone_is_told_in_a_screen(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "workflow/scripts/heldout.py"), ".smolmake/jobs/heldout/small-0.json"]
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no such job" in done.stderr and "remedy" in done.stderr
