"""The fingerprint of a step's code changes with what can change its result, and with nothing else."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smolmake.execution.fingerprint import NEUTRAL

ENTRY = '''\
"""A script."""
from __future__ import annotations

from typing import TYPE_CHECKING

from smolmake.data import used
from smolmake.monitoring.progress import Progress

if TYPE_CHECKING:
    from smolmake.data.typing_only import Name


def main() -> float:
    """Compute."""
    return used.rate() * 2
'''
USED = '''\
"""A module."""
from smolmake.data.deep import RATE


def rate() -> float:
    """A number."""
    return RATE  # as it is
'''
FILES = {
    "script.py": ENTRY,
    "src/smolmake/__init__.py": "",
    "src/smolmake/monitoring/progress.py": "class Progress: pass\n",
    "src/smolmake/data/__init__.py": "",
    "src/smolmake/data/used.py": USED,
    "src/smolmake/data/deep.py": "RATE = 0.5\n",
    "src/smolmake/data/typing_only.py": "Name = str\n",
    "src/smolmake/data/unused.py": "X = 1\n",
}
PROGRAM = """
import sys
from pathlib import Path
import smolmake.execution.fingerprint as fingerprint
root = Path(sys.argv[1])
fingerprint.SOURCE_ROOT = root / "src"
parsed = []
parse = fingerprint._parse_module
fingerprint._parse_module = lambda source, path: parsed.append(path.name) or parse(source, path)
with fingerprint.remembered_trees(root):
    print(fingerprint.code_fingerprint(root / "script.py"), *sorted(parsed))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def fingerprint(project: Path) -> str:
    """As a new process sees it, since fingerprints are kept for a process's life."""
    return look(project)[0]


def look(project: Path) -> list[str]:
    """The fingerprint, and the modules that had to be parsed for it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(project)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def edit(project: Path, name: str, old: str, new: str) -> None:
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))


def test_what_cannot_change_a_result_does_not_count(project: Path) -> None:
    before = fingerprint(project)
    edit(project, "src/smolmake/data/used.py", "  # as it is", "  # another comment\n\n\n")
    edit(project, "src/smolmake/data/used.py", '"""A number."""', '"""Another docstring,\n    of two lines."""')
    edit(project, "src/smolmake/data/used.py", "return RATE", "return (\n        RATE\n    )")
    edit(project, "script.py", '"""Compute."""\n    ', "")
    edit(project, "script.py", '"""A script."""', "")
    (project / "src/smolmake/data/typing_only.py").write_text("Name = bytes\n")
    (project / "src/smolmake/data/unused.py").write_text("X = 2\n")
    (project / "src/smolmake/monitoring/progress.py").write_text("class Progress:\n    fast = True\n")
    assert fingerprint(project) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("src/smolmake/data/deep.py", "0.5", "0.25"),
        ("src/smolmake/data/deep.py", "0.5", "'0.5'"),
        ("src/smolmake/data/used.py", "return RATE", "return -RATE"),
        ("src/smolmake/data/used.py", "def rate()", "def rate(x: int = 1)"),
        ("script.py", "* 2", "* 2.0"),
        ("script.py", "used.rate() * 2", "2 * used.rate()"),
        ("src/smolmake/data/__init__.py", "", "import smolmake.data.unused\n"),
    ],
)
def test_what_can_change_a_result_counts(project: Path, name: str, old: str, new: str) -> None:
    before = fingerprint(project)
    edit(project, name, old, new)
    assert fingerprint(project) != before


@pytest.mark.parametrize(
    "line",
    [
        "import smolmake.data.unused",
        "from smolmake.data import unused",
        "from smolmake.data.unused import X",
        "def late() -> None:\n    from smolmake.data import unused",
    ],
)
def test_every_form_of_import_is_followed(project: Path, line: str) -> None:
    edit(project, "src/smolmake/data/used.py", "\n\ndef rate", f"\n{line}\n\ndef rate")
    before = fingerprint(project)
    (project / "src/smolmake/data/unused.py").write_text("X = 2\n")
    assert fingerprint(project) != before


def test_only_what_was_written_to_is_parsed_again(project: Path) -> None:
    first, *parsed = look(project)
    assert parsed == ["__init__.py", "deep.py", "script.py", "used.py"]
    assert look(project) == [first]
    deep = project / "src/smolmake/data/deep.py"
    deep.touch()
    assert look(project) == [first, "deep.py"]
    before = deep.stat()
    deep.write_text("RATE = 0.7\n")  # as long as it was, and as old as it was
    os.utime(deep, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert deep.stat().st_size == before.st_size and deep.stat().st_mtime_ns == before.st_mtime_ns
    second, *parsed = look(project)
    assert second != first and parsed == ["deep.py"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"maker": 1, "modules": {}}', '{"modules": 3}', "\0"])
def test_a_spoilt_memory_is_made_again(project: Path, content: str) -> None:
    first, *parsed = look(project)
    (project / ".smolmake/code.json").write_text(content)
    assert look(project) == [first, *parsed] and look(project) == [first]


def test_a_memory_made_otherwise_is_not_believed(project: Path) -> None:
    first, *parsed = look(project)
    memory = project / ".smolmake/code.json"
    kept = json.loads(memory.read_text())
    for entry in kept["modules"].values():
        entry[1] = "0" * 64
    memory.write_text(json.dumps(kept | {"maker": ["another Python", *kept["maker"][1:]]}))
    assert look(project) == [first, *parsed]


def test_a_tree_that_cannot_be_written_only_has_no_memory(project: Path) -> None:
    (project / ".smolmake").write_text("no folder")
    assert look(project) == look(project)


def test_no_module_imports_relatively_which_would_not_be_followed(root: Path) -> None:
    for path in [*(root / "src").rglob("*.py"), *(root / "workflow" / "scripts").glob("*.py")]:
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert all(node.level == 0 for node in imports), path


def test_a_changed_string_that_is_no_docstring_counts(project: Path) -> None:
    edit(project, "src/smolmake/data/deep.py", "RATE = 0.5", 'RATE = 0.5\nTEXT = """a"""')
    before = fingerprint(project)
    edit(project, "src/smolmake/data/deep.py", '"""a"""', '"""b"""')
    assert fingerprint(project) != before


def test_neutral_modules_exist(root: Path) -> None:
    for module in NEUTRAL:
        place = root / "src" / Path(*module.split("."))
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), module
