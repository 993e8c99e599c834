"""A tiny training of the tests: real artefacts on disk, and the jobs that the rules would start over them."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from helpers.jobs import write_job
from helpers.models import SHAPE, write_tokenizer
from helpers.timeouts import WAIT
from smolmake.data.mixture import build_pattern
from smolmake.data.packing import join_packings, pack_window
from smolmake.data.token_shards import open_shards, write_shards
from smolmake.data.tokenizer import load_tokenizer
from smolmake.execution.job import Job, read_job
from smolmake.execution.manifest import read_manifest, write_manifest
from smolmake.execution.parts import do_parts, part_record
from smolmake.files import write_json
from smolmake.graph.pretrain import segment_run
from smolmake.graph.specs.pretrain import SegmentRun, SegmentSpec
from smolmake.monitoring.metrics import read_metrics
from smolmake.recipe.pretraining import Guard, ModelShape, Optimizer, Schedule
from smolmake.recipe.runtime import Layout, Runtime
from smolmake.recipe.schedule import schedule_pieces, within

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "workflow" / "scripts" / "segment.py"
TRAIN_SLOWLY = Path(__file__).with_name("train_slowly.py")
LENGTH, BATCH = 32, 4
MODEL = {key: SHAPE[key] for key in SHAPE if key not in ("vocab_size", "rope_theta", "max_position_embeddings")}
MODEL |= {"scale_output_projections": True, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}


def make_artefacts(place: Path) -> None:
    """Tokenizer, shards of two sources and mixtures of them, cut and packed, under `place`/results."""
    results = place / "results"
    texts = {
        "count": [" ".join(str(n) for n in range(start, start + 30)) for start in range(120)],
        "rhyme": [f"the cat number {n} sat on the mat and the dog number {n + 1} ate the bone" for n in range(120)],
    }
    write_tokenizer(results / "tokenizer" / "bpe", sum(texts.values(), []))
    size = load_tokenizer(results / "tokenizer" / "bpe").get_vocab_size()
    finish(results / "tokenizer" / "bpe", ["tokenizer.json", "tokenizer_config.json"], {"vocab_size": size})
    sources = {}
    for name, documents in texts.items():
        folder = results / "shards" / name
        folder.mkdir(parents=True)
        facts = write_shards(folder, documents, load_tokenizer(results / "tokenizer" / "bpe"))
        finish(folder, ["tokens.bin", "offsets.npy"], facts)
        sources[name] = {
            "first": 0,
            "available": open_shards(folder, facts).sequences(LENGTH),
            "shards": f"shards/{name}",
        }
    packed = {name: about | pack(results / about["shards"]) for name, about in sources.items()}
    for stage, drawn in (("stage1", sources), ("packed", packed)):
        mixture = results / "mixture" / stage
        mixture.mkdir(parents=True)
        description = {"sources": drawn, "sequence_length": LENGTH, "seed": 0, "label": "pretraining"}
        write_json(mixture / "mixture.json", description)
        np.save(mixture / "pattern.npy", build_pattern([600, 424]))
        finish(mixture, ["mixture.json", "pattern.npy"], {})


def pack(shards: Path) -> dict[str, Any]:
    """Pack the documents of some shards; what mixture.json says of it."""
    source = open_shards(shards, read_manifest(shards / "manifest.json")["facts"])
    folder = shards.parents[1] / "packing" / shards.name
    folder.mkdir(parents=True)
    do_parts(folder, 1, lambda number, part: pack_window(source, number, LENGTH, part), helper=False)
    record = part_record(folder, 0)
    assert record is not None
    facts = join_packings([record["facts"]], LENGTH)
    finish(folder, [f"parts/00000/{name}" for name in record["files"]], facts)
    return {"available": facts["sequences"], "packing": f"packing/{shards.name}"}


def poison(place: Path, name: str, steps: range) -> None:
    """A mixture `name` that is stage1's, but for some steps whose batches are noise from shards of their own."""
    results = place / "results"
    noise = random.Random(0)
    texts = ["".join(noise.choices("#$%&@~^|<>{}[]", k=400)) for _ in range(60)]
    folder = results / "shards" / f"noise-{name}"
    folder.mkdir(parents=True)
    facts = write_shards(folder, texts, load_tokenizer(results / "tokenizer" / "bpe"))
    finish(folder, ["tokens.bin", "offsets.npy"], facts)
    mixture = results / "mixture" / name
    mixture.mkdir(parents=True)
    description = json.loads((results / "mixture/stage1/mixture.json").read_text())
    available = open_shards(folder, facts).sequences(LENGTH)
    # Its name comes last, so that the numbers of the other sources stay.
    description["sources"]["static"] = {"first": 0, "available": available, "shards": f"shards/{folder.name}"}
    pattern = np.load(results / "mixture/stage1/pattern.npy")
    pattern[steps.start * BATCH : steps.stop * BATCH] = len(description["sources"]) - 1
    write_json(mixture / "mixture.json", description)
    np.save(mixture / "pattern.npy", pattern)
    finish(mixture, ["mixture.json", "pattern.npy"], {})


def finish(folder: Path, payload: list[str], facts: dict[str, Any]) -> None:
    step = {"kind": folder.parent.name, "name": folder.name, "id": "0"}
    write_manifest(folder, step, {}, [folder / name for name in payload], facts, time.time())


def segment(
    start: int,
    end: int,
    *,
    steps: int = 0,
    name: str = "s",
    parent: str | None = None,
    mixture: str = "stage1",
    guard: Guard | None = None,
    **run: Any,
) -> dict[str, Any]:
    """The job of one segment of a run of `steps` steps, as the rules write it."""
    pieces = schedule_pieces(Schedule(lr=3e-3, warmup_steps=4, decay_steps=4), steps or end)
    spec = SegmentSpec(
        start=start, end=end, stage_start=0, schedule=tuple(within(pieces, start, end)), optimizer=Optimizer(),
        fresh_optimizer=start == 0, precision="fp32", z_loss=0.0, guard=guard, sequence_length=LENGTH,
        global_batch_size=BATCH, rope_theta=1e4,
        model=None if parent else ModelShape(**MODEL), seed=None if parent else 0,
    )  # fmt: skip
    inputs = {"mixture": f"results/mixture/{mixture}/manifest.json", "tokenizer": "results/tokenizer/bpe/manifest.json"}
    if parent is not None:
        inputs["parent"] = f"results/segment/{parent}/manifest.json"
    layout, milestones = Layout(**run.pop("layout", {})), run.pop("milestones", ())
    settings = segment_run(Runtime(**{"micro_batch": BATCH, "device": "cpu", **run}), layout, milestones=milestones)
    return {
        "kind": "segment", "name": name, "id": "0", "folder": f"results/segment/{name}",
        "spec": spec.values(), "inputs": inputs, "run": settings.model_dump(),
    }  # fmt: skip


def segment_job(place: Path, values: dict[str, Any]) -> Job[SegmentSpec, SegmentRun]:
    """The job in this process, with paths under `place`."""
    job = read_job(place / write_job(place, values), SegmentSpec, SegmentRun)
    inputs = {role: place / path for role, path in job.inputs.items()}
    return replace(job, folder=place / job.folder, inputs=inputs)


def start(place: Path, job: dict[str, Any], script: Path = TRAIN) -> subprocess.Popen[str]:
    """Start a segment's script on its job."""
    return subprocess.Popen(
        [sys.executable, str(script), write_job(place, job)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def finished(place: Path, job: dict[str, Any]) -> Path:
    """Run a segment to its end; returns its folder."""
    process = start(place, job)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 0, errors
    return place / str(job["folder"])


def wait_for_lines(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a metrics file has `count` lines while its process still runs."""
    limit = time.monotonic() + WAIT
    while time.monotonic() < limit:
        if path.exists() and path.read_text().count("\n") >= count:
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    raise AssertionError(f"{path} did not reach {count} lines")


def curve(folder: Path) -> list[tuple[int, float, float]]:
    """Step, loss and gradient norm of all lines of metrics.jsonl."""
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["step"], line["loss"], line["grad_norm"]) for line in lines]


def same_checkpoint(first: Path, second: Path) -> None:
    """Assert that two segments ended in the same bytes."""
    names = sorted(path.name for path in (first / "checkpoint").iterdir())
    assert names == sorted(path.name for path in (second / "checkpoint").iterdir())
    assert {"model.safetensors", "optimizer.safetensors", "config.json"} <= set(names)
    for name in names:
        assert (first / "checkpoint" / name).read_bytes() == (second / "checkpoint" / name).read_bytes(), name
