"""A real run of Snakemake posts its failed jobs and its end to the recipe's webhook, whose address is never told."""

from pathlib import Path

import pytest
from helpers.webhook import SECRET, VARIABLE, serving
from helpers.workflow_runs import ROOT, SMALL, copy_tree, fail, succeed, workflow_of, write_notes

pytestmark = pytest.mark.pipeline


def test_failed_jobs_and_the_end_of_a_run_are_posted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = copy_tree(tmp_path / "tree")
    (tree / SMALL).write_text((ROOT / SMALL).read_text().replace("runtime: {", "runtime: {alerts: {}, "))
    write_notes(tree, 200)
    whole = (tree / "texts" / "notes.jsonl").read_text()
    (tree / "texts" / "notes.jsonl").write_text(whole + "no JSON\n")
    (step,) = workflow_of(tree, SMALL).steps.of_kind("documents")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert "the environment has no address" in fail(tree, step.manifest, recipe=SMALL)
    with serving() as hook:
        monkeypatch.setenv(VARIABLE, hook.address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        said = fail(tree, step.manifest, recipe=SMALL)
        job, end = sorted(hook.got, key=lambda message: message["kind"] == "end")
        assert job["kind"] == "job" and job["text"] == f"small: a job failed: {step.manifest}"
        assert job["log"].endswith(".log") and not end["succeeded"] and end["recipe"] == "small"
        (tree / "texts" / "notes.jsonl").write_text(whole)
        (step,) = workflow_of(tree, SMALL).steps.of_kind("documents")
        said += succeed(tree, step.manifest, recipe=SMALL)
        assert len(hook.got) == 3 and hook.got[2]["succeeded"] and hook.got[2]["done"] == 1
    assert SECRET not in said
    for file in tree.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
