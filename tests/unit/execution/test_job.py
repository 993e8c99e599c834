"""A job is read from its file into the models of its step; what does not fit is told before anything is computed."""

import json
from pathlib import Path
from typing import Any

import pytest

from smolmake.errors import UserError
from smolmake.execution.job import read_job
from smolmake.execution.step import Run
from smolmake.graph.specs.data import DocumentsSpec, MixtureSpec, PackingSpec, PathDataset
from smolmake.recipe.sources import Cleaning, Source


def written(folder: Path, **changes: Any) -> Path:
    job = {"kind": "packing", "name": "web-64", "id": "0", "folder": "results/packing/web-64-0", "inputs": {}}
    file = folder / "job.json"
    file.write_text(json.dumps({**job, "spec": {"sequence_length": 64}, "run": {"threads": 2}, **changes}))
    return file


def test_a_job_has_the_models_of_its_step(tmp_path: Path) -> None:
    job = read_job(written(tmp_path), PackingSpec, Run)
    assert job.spec == PackingSpec(sequence_length=64) and job.run.threads == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec": {"length": 64}}, "sequence_length: Field required"),
        ({"spec": {"sequence_length": "long"}}, "sequence_length: Input should be a valid integer"),
        ({"run": {"workers": 2}}, "workers: Extra inputs are not permitted"),
        ({"inputs": []}, "items"),
        ({"stage": "data"}, "stage"),
    ],
)
def test_a_job_that_does_not_fit_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_job(written(tmp_path, **changes), PackingSpec, Run)
    assert words in str(caught.value.value) and "PackingSpec" in caught.value.what and caught.value.remedy
    (tmp_path / "job.json").write_text("no JSON")
    with pytest.raises(UserError):
        read_job(tmp_path / "job.json", PackingSpec, Run)


def test_a_spec_comes_back_from_its_job_as_it_was() -> None:
    """Also what is None although its default is something: a rule of cleaning that was switched off."""
    files = PathDataset(path="data", format="auto", content="0")
    rules = Cleaning(repeated_ngrams=None, decontamination="measure")
    spec = DocumentsSpec(files=files, rows=Source(path="data", text="body", domain="code"), cleaning=rules)
    written = spec.model_dump(mode="json")
    again = DocumentsSpec.model_validate(written)
    assert again.model_dump(mode="json") == written and again.cleaning.repeated_ngrams is None
    assert again.values() == spec.values() and "decontamination" not in str(written) and "domain" not in str(written)


def test_the_identity_has_neither_an_order_of_keys_nor_what_is_switched_off() -> None:
    one = MixtureSpec(weights={"a": 0.5, "b": 0.5}, sequence_length=64, seed=0, label="x", before_sequences=None)
    other = MixtureSpec(label="x", seed=0, sequence_length=64, weights={"b": 0.5, "a": 0.5})
    assert one.values() == other.values() and "before_sequences" not in one.values()
