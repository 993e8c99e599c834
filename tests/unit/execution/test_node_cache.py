"""Shards on a node's disk are those of the manifest, or there is an error; a copy that was stopped goes on."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.training import ROOT

from smolmake.errors import UserError
from smolmake.execution.manifest import verify_payload, write_manifest
from smolmake.execution.node_cache import scratch_folder, stage

FILES = {"parts/00000/tokens.bin": 300_000, "parts/00000/offsets.npy": 800, "parts/00001/tokens.bin": 70_000}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "shards" / "web-0123456789"
    for number, (name, size) in enumerate(FILES.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes([number + 1]) * size)
    step = {"kind": "shards", "name": "web", "id": "0123456789"}
    write_manifest(folder, step, {}, [folder / name for name in FILES], {"tokens": 1}, time.time())
    return folder / "manifest.json"


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in FILES if (folder / name).exists()}


def test_a_copy_is_whole_and_is_not_made_twice(manifest: Path, tmp_path: Path) -> None:
    copy = stage(manifest, tmp_path / "scratch")
    assert copy == tmp_path / "scratch/shards/web-0123456789"
    verify_payload(copy / "manifest.json")
    before = times(copy)
    assert stage(manifest, tmp_path / "scratch") == copy and times(copy) == before
    assert sorted(path.name for path in copy.iterdir()) == [".hashed.json", ".lock", "manifest.json", "parts"]


def test_a_file_that_was_lost_or_cut_is_copied_again(manifest: Path, tmp_path: Path) -> None:
    copy = stage(manifest, tmp_path / "scratch")
    before = times(copy)
    lost, cut, kept = FILES
    (copy / lost).unlink()
    (copy / cut).write_bytes(b"x")
    stage(manifest, tmp_path / "scratch")
    verify_payload(copy / "manifest.json")
    assert times(copy)[kept] == before[kept] and times(copy)[lost] != before[lost]


def test_a_neighbour_is_taken_where_it_is_right(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    neighbour = stage(manifest, tmp_path / "neighbour")
    first, second, third = FILES
    (neighbour / second).write_bytes(b"\xff" * FILES[second])
    (neighbour / third).unlink()
    (manifest.parent / first).unlink()  # only the neighbour has it
    copy = stage(manifest, tmp_path / "scratch", [tmp_path / "nowhere", tmp_path / "neighbour"])
    verify_payload(copy / "manifest.json")
    said = capsys.readouterr().err
    assert f"{neighbour / second} is not what its manifest says" in said and f"{neighbour / third} is not there" in said


def test_a_changed_file_is_an_error_and_leaves_nothing(manifest: Path, tmp_path: Path) -> None:
    first = next(iter(FILES))
    (manifest.parent / first).write_bytes(b"y" * FILES[first])
    with pytest.raises(UserError, match="no place has this file") as caught:
        stage(manifest, tmp_path / "scratch")
    assert first in str(caught.value.file)
    copy = tmp_path / "scratch/shards/web-0123456789"
    assert not (copy / first).exists() and not (copy / "manifest.json").exists()
    assert not list(copy.rglob("*.tmp"))


def test_too_little_room_is_told_before(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="no room") as caught:
        stage(manifest, tmp_path / "scratch")
    assert "0.0 GB wanted" in str(caught.value.value) and not times(tmp_path / "scratch/shards/web-0123456789")


def test_killed_it_goes_on(manifest: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from smolmake.execution import node_cache as staging\n"
        "replace = staging.os.replace\n"
        "def slowly(a, b): replace(a, b); time.sleep(0.3)\n"
        "staging.os.replace = slowly\n"
        "staging.stage(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([sys.executable, "-c", script, str(manifest), str(tmp_path / "s")], env=environment)
    copy, limit = tmp_path / "s/shards/web-0123456789", time.monotonic() + 60
    while not times(copy):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.005)
    process.kill()
    process.wait()
    (copy / ".left.1.tmp").touch()
    done = times(copy)
    assert 0 < len(done) < len(FILES) and not (copy / "manifest.json").exists()
    stage(manifest, tmp_path / "s")
    verify_payload(copy / "manifest.json")
    assert {name: times(copy)[name] for name in done} == done and not list(copy.glob(".*.tmp"))


def test_large_files_are_copied_in_blocks(manifest: Path, tmp_path: Path) -> None:
    verify_payload(stage(manifest, tmp_path / "scratch", block=1000) / "manifest.json")


def test_where_scratch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_DISK", "/local")
    monkeypatch.setenv("USER_OF_DISK", "me")
    assert scratch_folder(None) is None and scratch_folder("/scratch/me") == Path("/scratch/me")
    assert scratch_folder("/local/$USER_OF_DISK/${NODE_DISK}") == Path("/local/me//local")
    assert scratch_folder("$NODE_DISK") == scratch_folder("${NODE_DISK}") == Path("/local")
    monkeypatch.delenv("NODE_DISK")
    with pytest.raises(UserError, match="not set on the node"):
        scratch_folder("$NODE_DISK")
