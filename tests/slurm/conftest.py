"""A finished run on Slurm, and a training of it that is under way and may be disturbed."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import slurm_cluster as cluster
from helpers.workflow_runs import TWO_NODES, clone, copy_tree, succeed, workflow_of, write_chats, write_notes


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave these tests to `make slurm-test`, which starts a Slurm."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker("slurm")
    if here and not cluster.daemons.STATE.is_dir():
        config.hook.pytest_deselected(items=here)
        items[:] = [item for item in items if item not in here]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster.Controller]:
    """The recipe on its way on Slurm, from raw text to the model of its SFT; the scratch disk of one node is broken."""
    tree = copy_tree(tmp_path_factory.mktemp("slurm") / "reference")
    write_notes(tree, 900)
    write_chats(tree, 16)
    scratch = tree / "scratch"
    scratch.mkdir()
    (scratch / "gpu-02").write_text("a file where a folder should be")  # the disk of a node that fails its preflight
    recipe = tree / TWO_NODES
    recipe.write_text(f"{recipe.read_text()}  scratch: {scratch}/$SLURMD_NODENAME\n")
    run = cluster.Controller(tree, ("pretrain", "posttrain"))
    yield run
    if run.process.poll() is None:
        run.kill()


@pytest.fixture(scope="session")
def prepared(undisturbed: cluster.Controller, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree whose data is there, made without Slurm while the undisturbed run goes on; it has no preflight."""
    tree = copy_tree(tmp_path_factory.mktemp("data") / "tree")
    write_notes(tree, 900)
    write_chats(tree, 16)
    recipe = tree / TWO_NODES
    recipe.write_text(f"{recipe.read_text()}  preflight: {{when: never}}\n")
    segment = cluster.step_of(tree)
    needed = [step.manifest for step in segment.inputs.values()]
    succeed(tree, *needed, *workflow_of(tree, TWO_NODES).gates(segment, "epochs"), recipe=TWO_NODES)
    return tree


@pytest.fixture
def tree(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return clone(prepared, tmp_path / "tree")


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], None]]:
    """A function that makes a folder a file system of its own, of some MB."""
    mounted: list[Path] = []

    def mount(folder: Path, size: int) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("root without the right to mount")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def training(undisturbed: cluster.Controller, tree: Path) -> Iterator[cluster.Training]:
    """The segment on two nodes, some steps on its way."""
    step = cluster.step_of(tree)
    run = cluster.Training(tree, undisturbed.tree, step, cluster.Controller(tree, (step.manifest,)))
    run.wait_for_recovery()
    yield run
    if run.controller.process.poll() is None:
        run.controller.kill()
    cluster.daemons.output("scancel", *run.jobs("PD,R,CG,CF"))


@pytest.fixture
def end_undisturbed(undisturbed: cluster.Controller) -> None:
    """Wait until the undisturbed run has ended: before faults of the whole cluster."""
    undisturbed.succeed()
