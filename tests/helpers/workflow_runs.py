"""Running the real Snakemake in a copy of the tree, so that no test touches the results of the tree under test."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from helpers.timeouts import RUN
from smolmake.execution.manifest import verify_payload
from smolmake.planning.workflow import Workflow, load_workflow

ROOT = Path(__file__).parents[2]
MINI, SMALL = "tests/pipeline/mini.yaml", "tests/pipeline/small.yaml"
TWO_NODES = "tests/slurm/two_nodes.yaml"
PARTS = ("Snakefile", "workflow", "config", "examples", "profiles", "src", "envs", MINI, SMALL, TWO_NODES)
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def copy_tree(place: Path) -> Path:
    """What the workflow needs, without results, in `place`."""
    for part in PARTS:
        source, target = ROOT / part, place / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return place


def clone(tree: Path, place: Path) -> Path:
    """`cp -r` of a whole tree, results included, times not kept."""
    shutil.copytree(tree, place, symlinks=True, copy_function=shutil.copyfile)
    return place


def start(tree: Path, *arguments: str, recipe: str) -> subprocess.Popen[str]:
    """Start Snakemake in a process group of its own."""
    command = [str(SNAKEMAKE), "--workflow-profile", "profiles/local", "--cores", "2"]
    return subprocess.Popen(
        [*command, *arguments, "--config", *f"recipe={recipe}".split()],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(tree: Path, *arguments: str, recipe: str, timeout: float = RUN) -> tuple[int, str]:
    """Run Snakemake to its end; returns its exit code and all that it said."""
    process = start(tree, *arguments, recipe=recipe)
    try:
        said, _ = process.communicate(timeout=timeout)
    finally:  # a test that is ended leaves no run behind
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


def succeed(tree: Path, *arguments: str, recipe: str, timeout: float = RUN) -> str:
    code, said = run(tree, *arguments, recipe=recipe, timeout=timeout)
    assert code == 0, said[-6000:]
    return said


def fail(tree: Path, *arguments: str, recipe: str) -> str:
    """Run what must fail: with an exit code, and with a message instead of a stack trace."""
    code, said = run(tree, *arguments, recipe=recipe)
    assert code != 0, said[-3000:]
    assert "Traceback" not in said, said[-6000:]
    return said


def workflow_of(tree: Path, recipe: str) -> Workflow:
    """The plan of a recipe of `tree`, which is not this process's working folder."""
    return load_workflow(str(tree / recipe), tree)


def manifests(tree: Path, kind: str = "*") -> list[Path]:
    return sorted((tree / "results").glob(f"{kind}/*/manifest.json"))


def verify_all(tree: Path, kind: str = "*") -> int:
    """Verify the payload of every manifest; returns their number."""
    found = manifests(tree, kind)
    for path in found:
        verify_payload(path)
        assert json.loads(path.read_text())["kind"] == path.parents[1].name
    return len(found)


def stamps(tree: Path, *kinds: str) -> dict[str, tuple[int, str]]:
    """For finished steps of these kinds, what changes if one runs again: its manifest's time, its provenance."""
    return {
        str(path.relative_to(tree)): (path.stat().st_mtime_ns, path.with_name("provenance.json").read_text())
        for kind in kinds
        for path in manifests(tree, kind)
    }


def write_chats(tree: Path, rows: int) -> None:
    """Conversations of one question each."""
    (tree / "texts").mkdir(exist_ok=True)
    lines = []
    for number in range(rows):
        question = {"role": "user", "content": f"What is {number} + 2?"}
        lines.append(json.dumps({"messages": [question, {"role": "assistant", "content": f"It is {number + 2}."}]}))
    (tree / "texts" / "chats.jsonl").write_text("\n".join(lines) + "\n")


def write_notes(tree: Path, documents: int, words: int = 60) -> None:
    """Texts that no compression makes much smaller."""
    rng = random.Random(documents)
    (tree / "texts").mkdir(exist_ok=True)
    rows = [{"text": " ".join(f"{rng.getrandbits(32):x}" for _ in range(words))} for _ in range(documents)]
    (tree / "texts" / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
