"""Files and folders are whole or as before; locks end with their holder; lines that were cut are left out."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.timeouts import WAIT

from smolmake.files import is_locked, json_lines, lock_file, new_file, new_folder

HOLDER = "import sys; from pathlib import Path; from smolmake.files import lock_file\n"
HOLDER += "with lock_file(Path(sys.argv[1]), byte=eval(sys.argv[2])): print('held', flush=True); sys.stdin.readline()"


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    with new_file(file) as beside:
        beside.write_text("first")
    with pytest.raises(OSError, match="full"), new_file(file) as beside:
        beside.write_text("sec")
        raise OSError("full")
    assert file.read_text() == "first" and list(file.parent.iterdir()) == [file]


def test_a_folder_takes_the_place_of_the_old_one_only_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    (tmp_path / ".checkpoint.tmp").mkdir()
    (tmp_path / ".checkpoint.tmp" / "left").write_text("by a process that was killed")
    with new_folder(place) as beside:
        (beside / "weights").write_text("1")
        assert not place.exists()
    with pytest.raises(OSError, match="full"), new_folder(place) as beside:
        (beside / "weights").write_text("2")
        raise OSError("full")
    assert [file.name for file in place.iterdir()] == ["weights"] and (place / "weights").read_text() == "1"
    with new_folder(place) as beside:
        (beside / "other").write_text("3")
    assert [file.name for file in place.iterdir()] == ["other"] and list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("byte", [None, 5])
def test_a_lock_is_seen_by_others_and_ends_with_its_holder(tmp_path: Path, byte: int | None) -> None:
    lock = tmp_path / ".lock"
    assert not is_locked(lock)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock), str(byte)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with lock_file(lock, wait=False, byte=byte) as held:
        assert not held
    with lock_file(lock, wait=False, byte=6) as held:  # another byte; locks on bytes and on files do not meet
        assert held
    assert is_locked(lock) == (byte is None)
    holder.kill()
    holder.communicate(timeout=WAIT)
    with lock_file(lock, byte=byte) as held:
        assert held


def test_lines_that_were_cut_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    assert list(json_lines(file)) == []
    file.write_text('{"a": 1}\n{"a": 2}\n{"a": [3\n4\n{"a": 5}\n{"a": 6')
    assert [line["a"] for line in json_lines(file)] == [1, 2, 5]
    assert [line["a"] for line in json_lines(file, last=18)] == [5]
