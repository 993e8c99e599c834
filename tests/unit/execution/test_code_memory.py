"""What was found out about code is kept in .smolmake/code.json, and believed only as long as it holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "script.py": "from smolmake.data import used\nprint(used.rate())\n",
    "src/smolmake/__init__.py": "",
    "src/smolmake/data/__init__.py": "",
    "src/smolmake/data/used.py": "from smolmake.data.deep import RATE\ndef rate():\n    return RATE\n",
    "src/smolmake/data/deep.py": "RATE = 0.5\n",
}
PROGRAM = """
import sys
from pathlib import Path
from smolmake.execution import code_memory, fingerprint
root, reached = Path(sys.argv[1]), []
reach = fingerprint._reach
fingerprint._reach = lambda *script: reached.append("followed") or reach(*script)
with code_memory.remembered_code(root):
    found = fingerprint.code_fingerprint(root / "script.py", root / "src")
    assert fingerprint.code_definitions(root / "script.py", root / "src")[""][""] == found
    print(found, *reached)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def look(project: Path) -> list[str]:
    """The fingerprint as a new process sees it, and whether references were followed."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(project)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_code_is_followed_again_once_a_file_was_written_to(project: Path) -> None:
    first, *done = look(project)
    assert done == ["followed"]
    assert look(project) == [first]
    deep = project / "src/smolmake/data/deep.py"
    deep.touch()
    assert look(project) == [first, "followed"]
    before = deep.stat()
    deep.write_text("RATE = 0.7\n")  # as long as it was, and as old as it was
    os.utime(deep, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert deep.stat().st_size == before.st_size and deep.stat().st_mtime_ns == before.st_mtime_ns
    second, *done = look(project)
    assert second != first and done == ["followed"]


def test_a_file_that_comes_or_goes_is_seen(project: Path) -> None:
    """A package goes before a module of its name, in our package and beside the script."""
    first, *_ = look(project)
    for place in ("src/smolmake/data/used/__init__.py", "smolmake.py", "used/__init__.py"):
        new = project / place
        new.parent.mkdir(exist_ok=True)
        new.write_text("def rate():\n    return 1\n")
        second, *done = look(project)
        assert done == ["followed"] and (second != first) == place.startswith("src/")
        new.unlink()
        assert look(project) == [first, "followed"] and look(project) == [first]


def test_a_link_to_nothing_does_no_harm(project: Path) -> None:
    """Editors make such a link beside a file that is open."""
    first, *_ = look(project)
    (project / "src/smolmake/data/.#used.py").symlink_to("somebody@somewhere.1")
    assert look(project) == [first]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"maker": 1, "scripts": {}}', '{"scripts": 3}', "\0"])
def test_a_spoilt_memory_is_made_again(project: Path, content: str) -> None:
    first, *done = look(project)
    (project / ".smolmake/code.json").write_text(content)
    assert look(project) == [first, *done] and look(project) == [first]


def test_a_memory_made_otherwise_is_not_believed(project: Path) -> None:
    first, *done = look(project)
    memory = project / ".smolmake/code.json"
    kept = json.loads(memory.read_text())
    for entry in kept["scripts"].values():
        entry[1] = {"": {"": "another"}}
    memory.write_text(json.dumps(kept))
    assert look(project) == ["another"]
    memory.write_text(json.dumps(kept | {"maker": "another Python"}))
    assert look(project) == [first, *done]


def test_a_tree_that_cannot_be_written_only_has_no_memory(project: Path) -> None:
    (project / ".smolmake").write_text("no folder")
    assert look(project) == look(project)
