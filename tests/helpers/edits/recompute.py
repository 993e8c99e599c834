"""Computing steps again under edited code, files and recipes, to see whether their results really differ.

A step's result is a function of its spec, of its inputs' results and of its code: that is what its id claims. So each
step is computed by itself, from the inputs of the unedited run, by its own script in a tree with the edits: where the
edited plan keeps spec, code and inputs, the payload must be what it was. Whatever is wrong in a graph is wrong at one
of its steps first.

Scripts are started in forks of one process that has loaded the libraries, and nothing of the package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from smolmake.execution.manifest import MANIFEST
from smolmake.files import canonical_json

CODE = ("src/smolmake", "workflow", "config/templates")
DATA = ("texts", "program", "tasks", "questions")
FILES = ("chats.jsonl", "prompts.jsonl", "edits.yaml")
RECIPE = "edits.yaml"
PLAN = """
import json, sys
from pathlib import Path
from smolmake.files import digest
from smolmake.planning.workflow import load_workflow
workflow = load_workflow("edits.yaml", Path.cwd())
labels = {step.key: step.label for step in workflow.steps.all.values()}
json.dump({
    step.label: {
        "key": step.key, "code": step.code, "spec": digest(step.spec.values()), "job": json.loads(workflow.job(step)),
        "inputs": {role: other.key if step.kind == "report" else other.label for role, other in step.inputs.items()},
    }
    for step in workflow.steps.all.values()
}, sys.stdout)
"""
SERVER = """
import json, os, runpy, signal, sys, traceback
os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", TOKENIZERS_PARALLELISM="false")
exec(sys.argv[2])
assert not [name for name in sys.modules if name.partition(".")[0] == "smolmake"]
def start(task):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    signal.alarm(300)
    try:
        os.chdir(task["tree"])
        log = os.open(task["log"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        os.environ["PYTHONPATH"] = task["tree"] + "/src"
        sys.path[:0] = [os.path.dirname(task["script"]), task["tree"] + "/src"]
        sys.argv = [task["script"], task["job"]]
        runpy.run_path(task["script"], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        print(end, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)

for line in sys.stdin:
    waiting, running, codes = json.loads(line), {}, {}
    while waiting or running:
        while waiting and len(running) < int(sys.argv[1]):
            task = waiting.pop(0)
            running[start(task)] = task["label"]
        pid, status = os.wait()
        codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
    print(json.dumps(codes), flush=True)
"""
LIBRARIES = """
import datasets, numpy, pyarrow.parquet, pydantic, tokenizers, torch, transformers, yaml
import accelerate, jinja2, safetensors.torch, torch._dynamo, trl
from lm_eval import simple_evaluate
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, SmolLM3ForCausalLM, Trainer
from trl import DPOTrainer, SFTTrainer
"""
Planned = dict[str, dict[str, Any]]  # label -> key, code, spec, job, inputs


def local(step: dict[str, Any]) -> tuple[Any, ...]:
    """What of a planned step decides its result, beside the results of its inputs."""
    return step["code"], step["spec"], tuple(sorted(step["inputs"].items()))


@dataclass
class Result:
    """What a step gave: its payload and facts, or None with the end of its log."""

    payload: Any
    log: str = ""


def copy_edits(source: Path, place: Path) -> Path:
    """A tree with the code and the files of another, without its results."""
    for part in (*CODE, *DATA):
        if (source / part).exists():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / part, place / part, ignore=ignore, symlinks=True)
    for file in FILES:
        shutil.copy2(source / file, place / file)
    return place


def plan_of(tree: Path) -> Planned | str:
    """The plan of a tree as its own code makes it in a new process; what it said where it made none."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", PLAN]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "no plan within two minutes"
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


class Recomputer:
    """Computes steps again, so many at once. `base` is a tree whose steps in `planned` have their results."""

    def __init__(self, base: Path, scratch: Path, at_once: int = 2, libraries: str = "") -> None:
        self.base, self.scratch, self.trees, self.computed = base, scratch, 0, 0
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(at_once), libraries or LIBRARIES],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=scratch,
        )  # fmt: skip
        planned = plan_of(base)
        assert isinstance(planned, dict), planned
        self.planned = planned

    def close(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait()

    def new_tree(self) -> Path:
        self.trees += 1
        tree = copy_edits(self.base, self.scratch / f"tree-{self.trees}")
        (tree / "results").symlink_to(self.base / "results")
        return tree

    def make_base(self, wanted: Iterable[str] = ()) -> list[str]:
        """Compute the base's steps with these labels, or all, and what they read; gives the labels of all."""
        asked, waiting = set[str](), list(wanted or self.planned)
        while waiting:
            if (label := waiting.pop()) not in asked:
                asked.add(label)
                waiting += self.reads(label).values()
        order = [label for label in self.planned if label in asked]
        done: set[str] = set()
        while len(done) < len(order):
            ready = [label for label in order if label not in done and done.issuperset(self.reads(label).values())]
            for label, result in self.compute(self.base, ready, self.planned, "results").items():
                assert result.payload is not None, f"{label}: {result.log}"
                done.add(label)
        return order

    def reads(self, label: str) -> dict[str, str]:
        """The labels of a step's inputs by role."""
        inputs = self.planned[label]["job"]["inputs"]
        keys = {role: "/".join(Path(manifest).parts[1:3]) for role, manifest in inputs.items()}
        return {role: key.rpartition("-")[0] for role, key in keys.items()}

    def before(self, label: str) -> Any:
        return _payload(self.base / "results" / self.planned[label]["key"])

    def is_near(self, label: str, tree: Path) -> bool:
        """Whether a step computed in a tree differs from the base's by rounding alone: tensors to 1e-3."""
        key = self.planned[label]["key"]
        one, two = self.base / "results" / key, tree / "again" / key
        if not (two / MANIFEST).exists():
            return False
        before, now = (_payload(folder)["payload"] for folder in (one, two))
        differing = [name for name in before if before[name] != now.get(name)]
        return before.keys() == now.keys() and all(
            name.endswith(".safetensors") and _close(one / name, two / name) for name in differing
        )

    def compute(self, tree: Path, labels: list[str], planned: Planned, out: str = "again") -> dict[str, Result]:
        """Compute steps as an edited plan has them, from the inputs of the base and under their names there."""
        assert self.server.stdin is not None and self.server.stdout is not None
        tasks, folders = [], {}
        for label in labels:
            job, key = dict(planned[label]["job"]), self.planned[label]["key"]
            folders[label] = tree / out / key
            job |= {"id": key.rpartition("-")[2], "folder": f"{out}/{key}"}
            job["inputs"] = self.planned[label]["job"]["inputs"]
            file = tree / ".smolmake" / "again" / f"{key}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(canonical_json(job))
            script = tree / "workflow" / "scripts" / f"{label.partition('/')[0]}.py"
            log = str(file.with_suffix(".log"))
            tasks.append({"label": label, "tree": str(tree), "script": str(script), "job": str(file), "log": log})
        self.server.stdin.write(json.dumps(tasks) + "\n")
        self.server.stdin.flush()
        codes = json.loads(self.server.stdout.readline())
        self.computed += len(tasks)
        logs = {task["label"]: Path(task["log"]).read_text(errors="replace")[-1500:] for task in tasks}
        return {label: Result(_payload(folders[label]) if codes[label] == 0 else None, logs[label]) for label in labels}


def _payload(folder: Path) -> Any:
    manifest = json.loads((folder / MANIFEST).read_text())
    return {"payload": manifest["payload"], "facts": manifest["facts"]}


def _close(one: Path, two: Path) -> bool:
    before, now = load_file(one), load_file(two)
    return before.keys() == now.keys() and all(
        torch.allclose(before[name].float(), now[name].float(), rtol=1e-3, atol=1e-3) for name in before
    )
