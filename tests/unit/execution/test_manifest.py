"""A manifest is deterministic, and a payload that differs from it is never used."""

import itertools
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from smolmake.errors import UserError
from smolmake.execution.manifest import read_manifest, verify_payload, write_manifest
from smolmake.files import SETTLED


def make(folder: Path, started: float = 0.0) -> Path:
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "tokens.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "checkpoint" / "config.json").write_text('{"a": 1}')
    (folder / "empty.txt").touch()
    (folder / "metrics.jsonl").write_text(f"{time.time()}")
    before = folder / "before.json"
    before.write_text("{}")
    payload = [folder / name for name in ("tokens.bin", "checkpoint/config.json", "empty.txt")]
    step = {"kind": "shards", "name": "code", "id": "0123456789"}
    write_manifest(folder, step, {"documents": before}, payload, {"tokens": 5, "share": 0.1}, started)
    return folder / "manifest.json"


def test_two_writes_are_byte_equal_whatever_the_place_and_the_time(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a" / "x"), make(tmp_path / "b" / "y", time.time())
    assert first.read_bytes() == second.read_bytes()
    assert (first.parent / "provenance.json").read_bytes() != (second.parent / "provenance.json").read_bytes()


def test_it_names_payload_and_no_place(tmp_path: Path) -> None:
    path = make(tmp_path / "step")
    manifest = read_manifest(path)
    assert set(manifest) == {"kind", "name", "id", "inputs", "payload", "facts"}
    assert set(manifest["payload"]) == {"tokens.bin", "checkpoint/config.json", "empty.txt"}
    assert manifest["payload"]["tokens.bin"]["bytes"] == 10_240
    assert str(tmp_path) not in path.read_text() and os.uname().nodename not in path.read_text()
    provenance = json.loads((path.parent / "provenance.json").read_text())
    assert {"seconds", "started", "host", "python", "versions", "git"} <= set(provenance)


def test_a_whole_payload_is_accepted_and_logs_may_differ(tmp_path: Path) -> None:
    path = make(tmp_path / "step")
    (path.parent / "metrics.jsonl").unlink()
    verify_payload(path)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(["tokens.bin", "checkpoint/config.json"], ["truncated", "changed"]),
        *itertools.product(["tokens.bin", "checkpoint/config.json", "empty.txt"], ["missing", "longer", "folder"]),
    ],
)
def test_a_damaged_payload_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = make(tmp_path / "step")
    file = path.parent / name
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[:-1])
    elif damage == "changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "longer":
        file.write_bytes(content + b"\0")
    elif damage == "folder":
        file.mkdir()
    with pytest.raises(UserError) as caught:
        verify_payload(path)
    assert caught.value.file == file and str(path) in caught.value.remedy


def test_a_file_is_hashed_once_until_it_is_touched(tmp_path: Path) -> None:
    path = make(tmp_path / "step")
    assert len(verify_payload(path)) == 3 and len(verify_payload(path)) == 3  # a change just now might not be seen
    time.sleep(2 * SETTLED / 1e9)
    assert len(verify_payload(path)) == 3
    assert verify_payload(path) == []
    copy = tmp_path / "copy"
    shutil.copytree(path.parent, copy)  # sizes and times are those of the files copied, but for the system's own
    assert len(verify_payload(copy / "manifest.json")) == 3
    tokens = path.parent / "tokens.bin"
    before = tokens.stat()
    tokens.write_bytes(tokens.read_bytes()[::-1])
    os.utime(tokens, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nobody had touched it
    with pytest.raises(UserError):
        verify_payload(path)
    with pytest.raises(UserError):
        verify_payload(path)  # a wrong file is never noted as right


@pytest.mark.parametrize("text", ["", "{", "{}", '{"payload": {}}', "[]", "null", '"text"'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a whole manifest"):
        read_manifest(path)


def test_a_failed_write_leaves_no_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "step"
    folder.mkdir()
    step = {"kind": "shards", "name": "code", "id": "0123456789"}
    with pytest.raises(FileNotFoundError):
        write_manifest(folder, step, {}, [folder / "lost.bin"], {}, 0.0)
    with pytest.raises(TypeError):
        write_manifest(folder, step, {}, [], {"loss": object()}, 0.0)
    assert [path.name for path in folder.iterdir()] == ["provenance.json"]
