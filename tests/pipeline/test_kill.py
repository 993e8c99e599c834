"""Killed at any moment and started again, a run goes on: nothing finished is redone, nothing half-done is used."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.timeouts import WAIT
from helpers.workflow_runs import MINI, clone, fail, manifests, stamps, start, succeed, verify_all, workflow_of

# A kill has to come at a moment: on a busy machine the moment can be gone, so each is tried twice.
pytestmark = [pytest.mark.pipeline, pytest.mark.slow, pytest.mark.flaky(reruns=1)]


def kill_group(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=WAIT)


def wait(process: subprocess.Popen[str], seen: Path, lines: int) -> None:
    """Wait until a file has some lines, while the run still goes on."""
    limit = time.monotonic() + WAIT
    while not (seen.exists() and seen.read_text().count("\n") >= lines):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < limit, f"{seen} did not come"
        time.sleep(0.005)


def test_killed_in_a_segment_it_ends_in_the_same_bits(mini: Path, tmp_path: Path) -> None:
    tree = clone(mini, tmp_path / "tree")
    workflow = workflow_of(tree, MINI)
    first, second, *_ = workflow.steps.of_kind("segment")
    assert (first.name, second.name) == ("stage1-0-8", "stage1-8-16")
    for step in (first, second):
        shutil.rmtree((tree / step.manifest).parent)
    before = stamps(tree, "generated", "documents", "shards", "mixture", "epochs", "tokenizer")
    for step in (first, second):
        process = start(tree, second.manifest, recipe=MINI)
        wait(process, (tree / step.manifest).with_name("metrics.jsonl"), 3)
        kill_group(process)
        assert not (tree / step.manifest).exists()
    finished = stamps(tree, "segment")[first.manifest]
    said = succeed(tree, second.manifest, recipe=MINI)
    assert "training segment stage1-8-16" in said and "training segment stage1-0-8" not in said
    assert "resuming at step" in (tree / f"logs/segment/{second.name}-{second.id}.log").read_text()
    assert stamps(tree, "generated", "documents", "shards", "mixture", "epochs", "tokenizer") == before
    assert stamps(tree, "segment")[first.manifest] == finished
    for step in (first, second):
        ours, theirs = (tree / step.manifest).parent, (mini / step.manifest).parent
        assert json.loads((ours / "manifest.json").read_text()) == json.loads((theirs / "manifest.json").read_text())
        lines = [
            [
                {key: line[key] for key in ("step", "loss", "grad_norm", "learning_rate")}
                for line in map(json.loads, text.splitlines())
            ]
            for text in ((place / "metrics.jsonl").read_text() for place in (ours, theirs))
        ]
        assert lines[0] == lines[1] and len(lines[0]) == 8


def test_killed_while_data_is_made_it_goes_on(mini: Path, tmp_path: Path) -> None:
    tree = clone(mini, tmp_path / "tree")
    workflow = workflow_of(tree, MINI)
    targets = [step.manifest for step in workflow.steps.of_kind("documents")]
    for target in targets:
        shutil.rmtree((tree / target).parent)
    before = stamps(tree, "generated")
    process = start(tree, *targets, recipe=MINI)
    limit = time.monotonic() + WAIT
    while not manifests(tree, "documents"):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    kill_group(process)
    finished = stamps(tree, "documents")
    assert 0 < len(finished) < len(targets)
    succeed(tree, *targets, recipe=MINI)
    after = stamps(tree, "documents")
    assert len(after) == len(targets) == verify_all(tree, "documents")
    assert {name: after[name] for name in finished} == finished
    assert stamps(tree, "generated") == before
    for target in targets:
        assert (tree / target).read_bytes() == (mini / target).read_bytes()


def test_a_step_that_fails_after_its_manifest_is_done(mini: Path, tmp_path: Path) -> None:
    tree = clone(mini, tmp_path / "tree")
    with (tree / "workflow/scripts/mixture.py").open("a") as script:
        script.write("    raise SystemExit('something failed at the very end')\n")
    target = workflow_of(tree, MINI).steps.of_kind("mixture")[0].manifest
    assert not (tree / target).exists()
    said = fail(tree, target, recipe=MINI)
    assert "something failed at the very end" in said and "--keep-incomplete" not in said
    made = (tree / target).stat().st_mtime_ns
    assert "mixing" not in succeed(tree, target, recipe=MINI)
    assert (tree / target).stat().st_mtime_ns == made
