"""Copies of checkpoints in remote storage: whole or not there, fetched back when local files are gone; an upload that
fails costs nothing but itself. Once against a real server that speaks S3."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.timeouts import WAIT
from helpers.trainers import trainer
from helpers.training import TRAIN_SLOWLY, curve, finish, finished, make_artefacts, segment, start, wait_for_lines
from moto.server import ThreadedMotoServer

from smolmake.errors import UserError
from smolmake.execution.manifest import payload_under, verify_payload
from smolmake.execution.remote_storage import LISTING, RemoteStore, write_remote
from smolmake.monitoring.events import read_events
from smolmake.recipe.runtime import Upload
from smolmake.train.recovery.checkpoint import step_of
from smolmake.train.recovery.uploads import Uploads

pytestmark = pytest.mark.usefixtures("handlers")


def upload(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, "retries": 0, "remove_local": False} | more


def test_a_unit_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    (tmp_path / "unit/deep").mkdir(parents=True)
    (tmp_path / "unit/a").write_bytes(b"first")
    (tmp_path / "unit/deep/b").write_bytes(b"second")
    store = RemoteStore(f"file://{tmp_path}/remote")
    assert store.uploads("x") == [] and store.files("x/unit") is None
    files = store.put(tmp_path / "unit", "x/unit")
    assert files == store.files("x/unit") and files["deep/b"]["bytes"] == 6 and store.uploads("x") == ["unit"]
    store.get("x/unit/deep/b", tmp_path / "back/b", files["deep/b"])
    assert (tmp_path / "back/b").read_bytes() == b"second"
    (tmp_path / "remote/x/unit/a").write_bytes(b"wrong")
    with pytest.raises(OSError, match="differs from its hash"):
        store.get("x/unit/a", tmp_path / "back/a", files["a"])
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["b"]
    store.remove("x/unit")
    assert store.files("x/unit") is None


def test_an_address_that_cannot_be_used_is_told_before_the_start() -> None:
    with pytest.raises(UserError, match="cannot be used") as caught:
        RemoteStore("nosuch://bucket/x")
    assert "pip install" in caught.value.remedy


def test_training_goes_on_from_remote_on_a_machine_without_its_checkpoints(
    place: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = upload(f"file://{tmp_path}/remote")
    whole = trainer(place, tmp_path / "whole")
    whole.train()
    first = trainer(place, tmp_path / "run", steps=8, recovery_every=1e-9, upload=settings)
    first.spec = first.spec.model_copy(update={"end": 6})
    save = first.save

    def save_and_wait(step: int) -> None:  # else one that is due while another is written is left out
        save(step)
        first.recovery.wait()
        first.uploads.waiting.join()

    monkeypatch.setattr(first, "save", save_and_wait)
    first.train()
    remote = tmp_path / "remote" / tmp_path.name / "run" / "recovery"
    newest = max(remote.iterdir())
    (newest / "state.safetensors").write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "run")
    second = trainer(place, tmp_path / "run", steps=8, upload=settings)
    second.train()
    told = {event["kind"]: event for event in read_events(tmp_path / "run")}
    assert "differs from its hash" in told["upload"]["what"]
    assert told["resumed"]["step"] == told["fetched"]["step"] == step_of(newest.name) - 1
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, second.model.get_parameter(name)), name


def test_an_upload_that_fails_is_an_event_and_no_more(place: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "file").write_text("in the way")
    run = trainer(place, tmp_path / "run", recovery_every=1e-9, upload=upload(f"file://{tmp_path}/file/x"))
    run.train()
    run.uploads.waiting.join()
    told = [event["what"] for event in read_events(tmp_path / "run") if event["kind"] == "upload"]
    assert told and all("is not uploaded" in what or "cannot be fetched" in what for what in told)
    assert len(curve(tmp_path / "run")) == 8


def test_a_failed_try_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolmake.train.recovery.uploads.FIRST_PAUSE", 0.01)
    told: list[Any] = []
    settings = Upload.model_validate(upload(f"file://{tmp_path}/remote", retries=2))
    uploads = Uploads(settings, tmp_path / "s", lambda *what: told.append(what))
    (tmp_path / "s/recovery").mkdir(parents=True)
    checkpoint = tmp_path / "s/recovery/step-000000001"
    tries = []
    put = uploads.store.put

    def failing(folder: Path, unit: str) -> Any:
        tries.append(unit)
        if len(tries) < 3:
            raise ConnectionError("away")
        return put(folder, unit)

    monkeypatch.setattr(uploads.store, "put", failing)
    checkpoint.mkdir()
    (checkpoint / "state").write_text("x")
    uploads.recovery(checkpoint, None)
    uploads.waiting.join()
    assert len(tries) == 3 and not told and uploads.store.files("recovery/step-000000001") is not None
    shutil.rmtree(checkpoint)
    uploads.recovery(checkpoint, None)  # replaced by a newer one before its turn: nothing to tell
    uploads.waiting.join()
    assert not told


def test_files_that_are_only_remote_come_back_when_they_are_read(tmp_path: Path) -> None:
    step = tmp_path / "results/segment/s"
    for name in ("checkpoint/model", "milestones/step-5/model"):
        (step / name).parent.mkdir(parents=True)
        (step / name).write_text(f"weights of {name}")
    finish(step, ["checkpoint/model", "milestones/step-5/model"], {})
    store = RemoteStore(f"file://{tmp_path}/remote")
    for unit in ("checkpoint", "milestones/step-5"):
        store.put(step / unit, unit)
        shutil.rmtree(step / unit)
    manifest = step / "manifest.json"
    with pytest.raises(UserError, match="not what its manifest says"):
        verify_payload(manifest)
    write_remote(step, f"file://{tmp_path}/remote", ["checkpoint/model", "milestones/step-5/model"])
    verify_payload(manifest)
    assert (step / "checkpoint/model").read_text() == "weights of checkpoint/model"
    assert not (step / "milestones/step-5").exists()  # nobody asked for it
    verify_payload(manifest, only=payload_under(manifest, "milestones/step-5"))
    assert (step / "milestones/step-5/model").exists()
    shutil.rmtree(step / "checkpoint")
    (tmp_path / "remote/checkpoint/model").write_text("damaged")
    with pytest.raises(UserError, match="cannot be fetched: what came for checkpoint/model differs"):
        verify_payload(manifest)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a server on this machine that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket/runs"
    server.stop()


@pytest.mark.slow
def test_a_segment_lives_in_s3(tmp_path: Path, s3: str) -> None:
    make_artefacts(tmp_path)
    local = finished(tmp_path, segment(0, 16, name="local", milestones=[4, 8]))
    job = segment(
        0, 16, name="cloud", milestones=[4, 8], recovery_every=1e-9, upload=upload(s3, retries=2, remove_local=True)
    )
    folder = tmp_path / "results/segment/cloud"
    process = start(tmp_path, job, TRAIN_SLOWLY)
    wait_for_lines(folder / "metrics.jsonl", 6, process)
    process.terminate()  # it saves, uploads and stops
    errors = process.communicate(timeout=WAIT)[1]
    assert process.returncode == 143, errors
    shutil.rmtree(folder)  # the machine is lost
    finished(tmp_path, job)
    told = {event["kind"]: event for event in read_events(folder)}
    assert told["fetched"]["step"] == told["resumed"]["step"] >= 6 and "upload" not in told
    assert not (folder / "milestones/step-4").exists()
    payloads = [json.loads((step / "manifest.json").read_text())["payload"] for step in (local, folder)]
    assert payloads[0] == payloads[1] and "milestones/step-4/model.safetensors" in payloads[1]
    assert set(json.loads((folder / "remote.json").read_text())["files"]) == set(payloads[1])
    assert RemoteStore(f"{s3}/segment/cloud").uploads("recovery") == []
    shutil.rmtree(folder / "checkpoint")
    child = finished(tmp_path, segment(16, 18, steps=18, name="child", parent="cloud"))
    assert (folder / "checkpoint/model.safetensors").exists() and len(curve(child)) == 2
    manifest = folder / "manifest.json"
    verify_payload(manifest, only=payload_under(manifest, "milestones/step-4"))
    for name in ("model.safetensors", "config.json"):
        found, expected = (step / "milestones/step-4" / name for step in (folder, local))
        assert found.read_bytes() == expected.read_bytes()
    assert not list(folder.rglob(f"*{LISTING}"))
    assert "testing" not in "".join(path.read_text() for path in folder.glob("*.json*") if os.path.isfile(path))
