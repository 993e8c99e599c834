"""The undisturbed run: every kind of job where it belongs, and what a site gets wrong, told before anything is sent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.slurm_cluster import SITE, Controller, jobs_sent, step_of
from helpers.workflow_runs import TWO_NODES, verify_all, workflow_of

from smolmake.cluster.excluded_nodes import exclude_nodes, excluded_nodes, include_nodes
from smolmake.monitoring.metrics import read_metrics
from snakemake_executor_plugin_smolmake_slurm.queue import node_names

pytestmark = pytest.mark.slow


def test_the_graph_runs_to_its_end_each_job_where_it_belongs(undisturbed: Controller) -> None:
    undisturbed.succeed()
    reference = undisturbed.tree
    assert verify_all(reference) == 11
    rows = jobs_sent(reference, "Partition,NNodes,AllocTRES")
    first = [row for row in rows if row[1] == "2"]
    assert len(first) == 4, rows  # the check of the machines, twice, the segment, the SFT
    assert all(row[0] == "gpu" and "gres/gpu=2" in row[2] for row in first)
    assert {row[0] for row in rows if "gres/gpu" not in row[2]} == {"cpu"}
    step = step_of(reference)
    second = workflow_of(reference, TWO_NODES).steps.of_kind("segment")[1]
    logs = reference / "logs" / "segment"
    assert "== job" in (logs / f"{step.name}-{step.id}.rank-0001.log").read_text()
    assert "done in" in (logs / f"{second.name}-{second.id}.log").read_text()
    (sft,) = workflow_of(reference, TWO_NODES).steps.of_kind("posttraining")
    assert "== job" in (reference / f"logs/posttraining/{sft.name}-{sft.id}.rank-0001.log").read_text()
    assert len(losses_of(reference / sft.manifest)) == 4
    provenance = json.loads((reference / sft.manifest).with_name("provenance.json").read_text())
    assert provenance["gpus"] == 0  # processes on the CPU book none
    jobs = (reference / ".snakemake/slurm_logs").glob("rule_*")
    assert "rule_epochs" not in {place.name for place in jobs}, "a cheap rule became a job"


def test_a_node_that_the_preflight_found_wanting_was_left_out(undisturbed: Controller) -> None:
    """The disk of gpu-02 could not be written: the check passed without it, and all else ran without it."""
    said, tree = undisturbed.succeed(), undisturbed.tree
    assert "The preflight found node gpu-02 wanting (reading, scratch of a node 0 to" in said
    assert "Jobs failed twice" not in said
    check = next(step for step in workflow_of(tree, TWO_NODES).steps.of_kind("preflight") if step.name == "stage1")
    checks = json.loads((tree / check.manifest).with_name("checks.json").read_text())
    assert all(check["passed"] for check in checks)
    on_two = [nodes for count, nodes in jobs_sent(tree, "NNodes,NodeList") if count == "2"]
    # The first check of the machines, the second, the segment, the SFT.
    assert ["gpu-02" in node_names(nodes) for nodes in on_two] == [True, False, False, False]
    assert list(excluded_nodes(tree)) == ["gpu-02"]
    shown = subprocess.run(
        [sys.executable, "-m", "smolmake.cli", "status", TWO_NODES],
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "left out   gpu-02, " in shown.stdout


def test_too_few_nodes_are_told_until_they_are_taken_back(undisturbed: Controller) -> None:
    undisturbed.succeed()
    tree, step = undisturbed.tree, step_of(undisturbed.tree)
    exclude_nodes(tree, {"gpu-03": "test", "gpu-04": "test"})
    refused = Controller(tree, ("--forcerun", "segment", step.manifest))
    assert refused.process.wait(timeout=120) != 0
    assert "takes 2 nodes, and 1 are left" in refused.said and "Traceback" not in refused.said, refused.said[-3000:]
    assert include_nodes(tree, ["all"]) == ["gpu-02", "gpu-03", "gpu-04"] and not excluded_nodes(tree)


@pytest.mark.needs("deepspeed")
def test_deepspeed_shares_an_sft_over_two_nodes(undisturbed: Controller) -> None:
    undisturbed.succeed()
    tree, zero3 = undisturbed.tree, "tests/slurm/zero3.yaml"
    (tree / zero3).write_text(
        # another rate, so that it is a step of its own, which rounding in fp32 does not tell from the first
        f"extends: {TWO_NODES}\nname: zero3\nsft: {{learning_rate: 1.00001e-3}}\n"
        "runtime: {layouts: {sft: {nodes: 2, gpus_per_node: 1, strategy: zero3}}}\n"
    )
    Controller(tree, ("posttrain",), zero3).succeed()
    (one,), (other,) = (workflow_of(tree, recipe).steps.of_kind("posttraining") for recipe in (TWO_NODES, zero3))
    assert one.id != other.id
    assert losses_of(tree / other.manifest) == pytest.approx(losses_of(tree / one.manifest), rel=1e-4)
    assert (tree / "logs" / f"{other.key}.rank-0001.log").is_file()


def losses_of(manifest: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(manifest.with_name("metrics.jsonl"))]


def test_a_forced_step_is_made_anew(undisturbed: Controller) -> None:
    undisturbed.succeed()
    manifest = workflow_of(undisturbed.tree, TWO_NODES).steps.of_kind("mixture")[0].manifest
    before = (undisturbed.tree / manifest).stat().st_mtime_ns
    Controller(undisturbed.tree, (manifest, "--forcerun", "mixture")).succeed()
    assert (undisturbed.tree / manifest).stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("smolmake-slurm-gpu-partition", "gpus", "did you mean `gpu`?"),
        ("smolmake-slurm-gpu-partition", "cpu", "no node of the partition has that many"),
        ("smolmake-slurm-account", "x;touch PWNED;#", "no name that Slurm could have"),
    ],
)
def test_a_wrong_site_is_told_before_anything_is_sent(
    undisturbed: Controller, monkeypatch: pytest.MonkeyPatch, option: str, value: str, told: str
) -> None:
    undisturbed.succeed()
    monkeypatch.setitem(SITE, option, value)
    step = step_of(undisturbed.tree)
    run = Controller(undisturbed.tree, ("--forcerun", "segment", step.manifest))
    assert run.process.wait(timeout=120) != 0
    assert told in run.said and "remedy" in run.said and "Traceback" not in run.said, run.said[-3000:]
    assert "submitted" not in run.said and (undisturbed.tree / step.manifest).exists()
