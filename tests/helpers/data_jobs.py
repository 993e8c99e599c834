"""Jobs of the data's scripts for tests: a small tree of sources, and the scripts started on it as the rules do."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.jobs import write_job
from helpers.models import write_tokenizer
from helpers.training import ROOT, finish
from smolmake.data.tokenizer import load_tokenizer
from smolmake.execution.content_hash import listing_digest
from smolmake.execution.kinds import script_of
from smolmake.execution.manifest import read_manifest, verify_payload
from smolmake.execution.step import Spec
from smolmake.graph.specs.data import DocumentsSpec, PathDataset, ShardsSpec
from smolmake.recipe.formats import list_data
from smolmake.recipe.sources import Cleaning, Source

PARTS = 6
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "")]


def text_of(rng: random.Random, words: int = 80) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def make_place(tmp_path: Path) -> None:
    """A tree with six input files, each a part of its own, and a tokenizer."""
    rng = random.Random(0)
    texts = [text_of(rng) for _ in range(PARTS * 40)]
    texts[50] = texts[3]
    for number in range(PARTS):
        part = texts[number * 40 : (number + 1) * 40]
        write_rows(tmp_path / "data" / f"{number}.parquet", part)
    write_tokenizer(tmp_path / "results/tokenizer/bpe", texts[:40])
    size = load_tokenizer(tmp_path / "results/tokenizer/bpe").get_vocab_size()
    finish(tmp_path / "results/tokenizer/bpe", ["tokenizer.json", "tokenizer_config.json"], {"vocab_size": size})


def write_rows(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"text": texts}), path)


def clean_job(place: Path, name: str = "web", path: str = "data", **keys: Any) -> dict[str, Any]:
    source = Source(path=path, **{k: v for k, v in keys.items() if k in Source.model_fields})
    cleaning = Cleaning(min_characters=20, heldout_fraction=0.1, near_duplicates={"similarity": 0.8})  # type: ignore[arg-type]
    files = PathDataset(path=path, format="auto", content=listing_digest(list_data(path, "auto", place), place))
    return job("documents", name, DocumentsSpec(files=files, rows=source, cleaning=cleaning), {})


def tokenize_job(documents: str = "web", special_tokens: bool = False) -> dict[str, Any]:
    inputs = {
        "documents": f"results/documents/{documents}/manifest.json",
        "tokenizer": "results/tokenizer/bpe/manifest.json",
    }
    return job("shards", "web", ShardsSpec(special_tokens=special_tokens), inputs)


def job(kind: str, name: str, spec: Spec, inputs: dict[str, str]) -> dict[str, Any]:
    folder, values = f"results/{kind}/{name}", spec.model_dump(mode="json")
    return {"kind": kind, "name": name, "id": "0", "folder": folder, "spec": values, "inputs": inputs, "run": {}}


def start(place: Path, job: dict[str, Any], *arguments: str, code: str = "") -> subprocess.Popen[str]:
    """Start the script of a job, after some `code` of the test's in the same process."""
    script = script_of(job["kind"], ROOT)
    program = [str(script)]
    if code:
        lines = ["import runpy, sys", f"sys.argv = [{str(script)!r}, *sys.argv[1:]]", code]
        program = ["-c", "\n".join([*lines, f"runpy.run_path({str(script)!r}, run_name='__main__')"])]
    return subprocess.Popen(
        [sys.executable, *program, write_job(place, job), *arguments],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


SMALL_PARTS = "import functools, smolmake.data.clean as d; d.group_files = functools.partial(d.group_files, limit=1)"


def run(place: Path, job: dict[str, Any], *arguments: str, code: str = SMALL_PARTS) -> str:
    process = start(place, job, *arguments, code=code)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors
    verify_payload(place / job["folder"] / "manifest.json")
    return errors


def fail(place: Path, job: dict[str, Any], code: str = SMALL_PARTS, traceback: bool = False) -> str:
    """The errors of a job that fails, without a stack trace unless a program of the user's may print its own."""
    process = start(place, job, code=code)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "remedy" in errors and (traceback or "Traceback" not in errors), errors
    assert not (place / job["folder"] / "manifest.json").exists()
    return errors


def same_artefact(one: Path, other: Path) -> None:
    first, second = read_manifest(one / "manifest.json"), read_manifest(other / "manifest.json")
    assert first["payload"] == second["payload"] and first["facts"] == second["facts"]
