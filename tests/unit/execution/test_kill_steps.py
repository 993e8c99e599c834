"""kill -9 at every point where a step of the data puts a file in its place, then the step again: the same bytes."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.data_jobs import clean_job, job, make_place, run, start, tokenize_job

from smolmake.execution.manifest import MANIFEST
from smolmake.graph.specs.data import (
    EpochsSpec,
    MixtureSpec,
    PackingSpec,
    RepeatCap,
    StageSequences,
    TokenizerSpec,
)

# Every file takes its name by os.replace: lease.json first, manifest.json last.
KILLER = """
import os, signal
replace, left = os.replace, [{number}]
def replace_or_die(source, target):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    replace(source, target)
os.replace = replace_or_die
"""
WEIGHTS = {"web": 0.75, "more": 0.25}
MIXTURE = MixtureSpec(weights=WEIGHTS, sequence_length=32, seed=0, label="pretraining")
CAPS = {name: RepeatCap(max_epochs=50.0, domain="web", language="en") for name in WEIGHTS}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tree with what a tokenizer, a mixture and the counts of epochs are made from."""
    tree = tmp_path_factory.mktemp("kill")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tree)
        make_place(tree)
        run(tree, clean_job(tree), code="")
        for name in WEIGHTS:
            run(tree, {**tokenize_job(), "name": name, "folder": f"results/shards/{name}"}, code="")
        yield tree


def jobs() -> dict[str, dict[str, Any]]:
    """The steps, each with inputs that stand under results/ before it."""
    documents = {"documents:web": "results/documents/web/manifest.json"}
    shards = {f"shards:{name}": f"results/shards/{name}/manifest.json" for name in WEIGHTS}
    stages = [StageSequences(stage=name, sequences=n, capped=True) for name, n in (("first", 90), ("second", 30))]
    before = {**shards, "before": "results/mixture/first/manifest.json"}
    mixtures = {f"mixture:{stage.stage}": f"results/mixture/{stage.stage}/manifest.json" for stage in stages}
    return {
        "tokenizer": job("tokenizer", "trained", TokenizerSpec(vocab_size=400, characters=10**5), documents),
        "packing": job("packing", "web", PackingSpec(sequence_length=32), {"shards": shards["shards:web"]}),
        "mixture": job("mixture", "first", MIXTURE, shards),
        "mixture after another": job("mixture", "second", MIXTURE.model_copy(update={"before_sequences": 90}), before),
        "epochs": job("epochs", "run", EpochsSpec(stages=stages, sources=CAPS), mixtures),
    }


@pytest.mark.parametrize("name", jobs())
def test_killed_anywhere_it_is_made_again_to_the_same_bytes(place: Path, name: str) -> None:
    step = jobs()[name]
    run(place, step, code="")
    undisturbed = contents(place / step["folder"])
    assert MANIFEST in undisturbed
    killed = {**step, "folder": f"{step['folder']}-killed"}
    folder, kills = place / killed["folder"], 0
    while True:
        process = start(place, killed, code=KILLER.format(number=kills))
        errors = process.communicate(timeout=120)[1]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        assert not (folder / MANIFEST).exists()
        tear(folder)
        kills += 1
    # lease.json, identity.json, a file of the payload or a part.json, provenance.json, .hashed.json, manifest.json
    assert kills == 6
    assert contents(folder) == undisturbed


def tear(folder: Path) -> None:
    """Cut every file to half, as a loss of power may leave what was not flushed."""
    for path in filter(Path.is_file, folder.rglob("*")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def contents(folder: Path) -> dict[str, bytes]:
    """The manifest and the payload that it names."""
    payload = json.loads((folder / MANIFEST).read_text())["payload"]
    return {name: (folder / name).read_bytes() for name in [MANIFEST, *payload]}
