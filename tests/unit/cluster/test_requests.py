"""What a step asks of Slurm, how processes on several nodes find each other, and what a cluster's answers mean."""

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.recipes import changed, write_recipe
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from smolmake.cluster import srun as launch
from smolmake.errors import CANNOT_WRITE, UserError
from smolmake.planning.requests import Requests, Site
from smolmake.planning.workflow import load_workflow
from snakemake_executor_plugin_smolmake_slurm import queue, site, watch
from snakemake_executor_plugin_smolmake_slurm.queue import OUT_OF_REACH
from snakemake_executor_plugin_smolmake_slurm.site import Partition, check_request


class Resources(dict):  # type: ignore[type-arg]
    """Snakemake's: by key and by attribute, without those that are None."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({name: value for name, value in values.items() if value is not None})

    __getattr__ = dict.__getitem__


def job(tree: Path, layout: str, place: Site) -> Any:
    """A training of SMALL with a layout, as the executor sees it."""
    text = changed("global_batch_size: 4", "global_batch_size: 1152")
    text = f"{text}runtime: {{threads: 12, layouts: {{pretraining: {layout}}}}}\n" if layout else text
    workflow = load_workflow(str(write_recipe(tree, text)), tree)
    asked = Requests(workflow, place).of(workflow.steps.of_kind("segment")[0])
    rule = SimpleNamespace(name="segment")
    return SimpleNamespace(resources=Resources(asked), threads=12, rule=rule)


def sbatch(asked: Any) -> str:
    """The options that the installed Slurm plugin makes of a job's resources."""
    about = dict.fromkeys(("account", "partition", "workdir", "comment_str"), "")
    call = get_submit_command(asked, about | {"run_uuid": "run", "slurm_logfile": "log"})
    return call.split("--comment")[1] + set_gres_string(asked)


def test_the_same_segment_asks_for_what_its_layout_says(tree: Path) -> None:
    none = sbatch(job(tree, "", Site()))
    assert "--ntasks=1" in none and "gres" not in none and "--nodes" not in none
    one = sbatch(job(tree, "{gpus_per_node: 8}", Site(gpu_type="h100")))
    assert "--gres=gpu:h100:8" in one and "--cpus-per-task=96" in one and "ntasks" not in one and "mpi" not in one
    several = sbatch(job(tree, "{nodes: 48, gpus_per_node: 8}", Site()))
    for part in ("--nodes=48", "--ntasks-per-node=8", "--cpus-per-task=12", "--gres=gpu:8"):
        assert part in several, several
    assert "--ntasks-per-gpu" not in several
    pair = sbatch(job(tree, "{nodes: 2, gpus_per_node: 1}", Site()))
    assert "--nodes=2" in pair and "--ntasks=2" in pair and "--ntasks-per-gpu" not in pair


def test_the_time_limit_follows_the_estimate_up_to_the_sites_longest(tree: Path) -> None:
    assert job(tree, "", Site()).resources["runtime"] == 1440
    assert job(tree, "", Site(longest=20)).resources["runtime"] == 20
    assert job(tree, "{gpus_per_node: 8}", Site()).resources["runtime"] == 31
    assert job(tree, "{gpus_per_node: 8}", Site()).resources["mem_mb"] > 8 * 20_000


@pytest.mark.parametrize(("optimizer", "moments"), [("adamw", 2), ("ademamix", 3)])
def test_disk_and_host_memory_follow_the_optimizer(tree: Path, optimizer: str, moments: int) -> None:
    text = changed("pretraining:\n", f"pretraining:\n  optimizer: {{name: {optimizer}}}\n")
    workflow = load_workflow(str(write_recipe(tree, changed("vocab_size: 512", "vocab_size: 2M", text))), tree)
    step, requests = workflow.steps.of_kind("segment")[0], Requests(workflow, Site())
    cost, weights = requests.costs.of(step), requests.costs.parameters * 4
    assert (cost.kept_bytes, cost.temporary_bytes) == ((1 + moments) * weights, 2 * (1 + moments) * weights)
    assert requests.of(step)["mem_mb"] == math.ceil((4 + 3 * moments) * weights / 1e6)


CLUSTER = {"cpu": Partition("cpu", True, 0, 10, 600), "gpu": Partition("gpu", False, 4, 2, None)}


@pytest.mark.parametrize(
    ("layout", "partition", "told", "remedy"),
    [
        ("{gpus_per_node: 8}", "gpu", "asks for 8 GPUs of a node", "fewer"),
        ("{nodes: 3, gpus_per_node: 4}", "gpu", "asks for 3 nodes", "smaller"),
        ("{gpus_per_node: 1}", "gpus", "no such partition", "did you mean `gpu`?"),
    ],
)
def test_what_a_partition_cannot_give_is_told(tree: Path, layout: str, partition: str, told: str, remedy: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        check_request(job(tree, layout, Site()), "smolmake-slurm-gpu-partition", partition, CLUSTER, None)
    assert remedy in caught.value.remedy
    check_request(job(tree, "{nodes: 2, gpus_per_node: 4}", Site()), "key", "gpu", CLUSTER, None)


def test_a_cluster_without_default_partition_wants_one_named(tree: Path) -> None:
    asked = job(tree, "", Site(longest=60))
    check_request(asked, "key", None, CLUSTER, None)
    with pytest.raises(UserError, match="no default partition"):
        check_request(asked, "smolmake-slurm-cpu-partition", None, {"gpu": CLUSTER["gpu"]}, None)


def test_a_limit_shorter_than_the_job_is_told(tree: Path) -> None:
    asked = job(tree, "", Site())
    asked.resources["runtime"] = 900
    with pytest.raises(UserError, match="more time than its partition") as caught:
        check_request(asked, "key", "cpu", CLUSTER, None)
    assert "600" in caught.value.remedy and "segment_steps" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("infinite", None), ("30:00", 30), ("12:00:00", 720), ("2-00:00:00", 2880), ("1-06:30:00", 1830)],
)
def test_slurms_times(text: str, minutes: int | None) -> None:
    assert site.minutes(text) == minutes


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Stand-ins for Slurm's programs: what a real one says at the moments that no test can bring about at will."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_no_answer_is_told_from_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, squeue="exit 0", sacct="echo 'connection refused' >&2; exit 1")
    assert queue.squeue() == {} and queue.sacct(["1"]) is None
    programs(tmp_path, monkeypatch, squeue="exit 1", sacct="echo '5|CANCELLED by 0|gpu-01'; echo '6||'")
    assert queue.squeue() is None
    found = queue.sacct(["5", "6"])
    assert found is not None and [entry.state for entry in found.values()] == ["CANCELLED", "UNKNOWN"]


def test_partitions_are_read_with_their_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "cpu*|10|1-00:00:00|(null)\ngpu|4|infinite|gpu:h100:8(S:0-1)\ngpu|2|infinite|gpu:a100:4,gpu:t4:2"
    programs(tmp_path, monkeypatch, sinfo=f"cat <<END\n{rows}\nEND")
    assert site.partitions() == {"cpu": Partition("cpu", True, 0, 10, 1440), "gpu": Partition("gpu", False, 8, 6, None)}


@pytest.mark.parametrize(
    "message",
    [
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    ],
)
def test_a_controller_out_of_reach_is_told_from_a_refusal(message: str) -> None:
    assert OUT_OF_REACH.search(message)
    assert not OUT_OF_REACH.search("sbatch: error: Batch job submission failed: Invalid account or account/partition")


def test_the_node_that_failed_first_is_named_by_srun(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "step 3\nsrun: error: gpu-02: task 9: Killed\nsrun: error: gpu-01: tasks 0-7: Exited with exit code 1\n"
    )
    assert watch.failed_nodes([tmp_path / "none", log]) == {"gpu-02"}
    log.write_text("srun: error: gpu-01: tasks 0-7: Terminated\n")
    assert watch.failed_nodes([log]) == set()


def test_a_full_disk_is_no_nodes_fault(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not watch.out_of_storage([log])
    log.write_text("step 7: the recovery checkpoint could not be written: No space left on device\n")
    assert not watch.out_of_storage([log])
    log.write_text(f"error: {UserError(CANNOT_WRITE + ': No space left on device', remedy='free space')}\n")
    assert watch.out_of_storage([tmp_path / "none", log])


def test_progress_is_a_newer_checkpoint_or_another_part(tmp_path: Path) -> None:
    before = watch.progress(tmp_path)
    (tmp_path / "recovery" / "step-000000010").mkdir(parents=True)
    first = watch.progress(tmp_path)
    (tmp_path / "parts" / "00001").mkdir(parents=True)
    assert watch.progress(tmp_path) == first != before
    (tmp_path / "parts" / "00001" / "part.json").write_text("{}")
    assert watch.progress(tmp_path) != first


def test_ranks_meet_at_the_address_by_which_slurm_knows_the_first_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = 'if [ "$2" = hostnames ]; then echo node1; echo node2; else echo "NodeName=node1 NodeAddr=10.0.0.1"; fi'
    programs(tmp_path, monkeypatch, scontrol=said)
    step = {"PROCID": "3", "NTASKS": "4", "LOCALID": "1", "STEP_NODELIST": "node[1-2]", "JOB_ID": "9", "STEP_ID": "0"}
    found = launch.rendezvous({f"SLURM_{name}": value for name, value in step.items()})
    assert found["MASTER_ADDR"] == "10.0.0.1" and int(found["MASTER_PORT"]) in launch.PORTS
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == ("3", "4", "1")
    with pytest.raises(UserError, match="inside a Slurm job only"):
        launch.rendezvous({})


def test_the_configuration_of_another_slurm_is_left_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(root / "tools"))
    import slurm_cluster

    monkeypatch.setattr(slurm_cluster, "CONF", tmp_path / "etc")
    monkeypatch.setattr(slurm_cluster, "STATE", tmp_path / "state")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "slurm.conf").write_text("ClusterName=theirs\n")
    with pytest.raises(slurm_cluster.Impossible, match="configuration of another Slurm"):
        slurm_cluster.write_configuration()
    slurm_cluster.stop()
    assert (tmp_path / "etc" / "slurm.conf").read_text() == "ClusterName=theirs\n" and not (tmp_path / "state").exists()


def test_each_rank_but_the_first_has_a_log_of_its_own() -> None:
    job = Path(".smolmake/jobs/segment/stage1-0-170-0123456789.json")
    assert launch.rank_log(job, 12) == Path("logs/segment/stage1-0-170-0123456789.rank-0012.log")
