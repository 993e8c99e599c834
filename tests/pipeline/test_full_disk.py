"""A full disk is told as one, leaves nothing that counts as done, and the same command goes on after it is enlarged."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.workflow_runs import SMALL, copy_tree, fail, manifests, succeed, verify_all, workflow_of, write_notes

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]
SAID = {  # a segment is refused at its start; what fills the disk later is met in tests/unit/train/test_trainer.py
    "documents": "No space left on device",
    "shards": "No space left on device",
    "segment": "not enough free space for what this segment will write",
}


def resize(results: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(results)], check=True)


def used(results: Path) -> int:
    """Kilobytes in use."""
    status = os.statvfs(results)
    return (status.f_blocks - status.f_bfree) * status.f_frsize // 1024


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A tree whose results/ is a file system of its own, of 64 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    tree = copy_tree(tmp_path / "tree")
    write_notes(tree, 600, words=150)
    (tree / "results").mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tree / "results")], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("root without the right to mount")
    yield tree
    subprocess.run(["umount", str(tree / "results")], check=True)


def test_every_kind_of_step_meets_a_full_disk_and_goes_on(tree: Path) -> None:
    steps = workflow_of(tree, SMALL).steps
    for kind, words in SAID.items():
        (step,) = steps.of_kind(kind)
        for before in step.inputs.values():
            succeed(tree, before.manifest, recipe=SMALL)
        if kind == "segment":
            succeed(tree, "data", recipe=SMALL)
        finished = manifests(tree)
        resize(tree / "results", used(tree / "results") + 64)
        said = fail(tree, step.manifest, recipe=SMALL)
        assert words in said and "remedy" in said and "free space" in said, said
        assert manifests(tree) == finished
        resize(tree / "results", 64 * 1024)
        succeed(tree, step.manifest, recipe=SMALL)
        assert verify_all(tree) == len(finished) + 1
