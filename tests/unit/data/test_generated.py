"""Data made by a user's script is kept if the script ends well; else an error shows what it printed last."""

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.data_jobs import fail, job, run, start
from helpers.training import ROOT

from smolmake.data.generated import options
from smolmake.execution.content_hash import code_digests
from smolmake.execution.manifest import read_manifest
from smolmake.graph.specs.data import GeneratedSpec
from smolmake.recipe.sources import Generated, Source

WRITE = """
import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--output", type=pathlib.Path)
parser.add_argument("--rows", type=int, default=3)
arguments = parser.parse_args()
"""
ROWS = '(arguments.output / "rows.jsonl").write_text(\'{"text": "a"}\\n\' * arguments.rows)\n'


def script_job(tree: Path, script: str, expected: list[str], arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    """The job of a script, as the graph makes it."""
    code = code_digests(tree / script)
    spec = GeneratedSpec(code=code, arguments=arguments or {}, reads={}, packages={})
    return job("generated", "mine", spec, {}) | {"run": {"script": script, "expected": expected}}


def write(tree: Path, text: str, expected: tuple[str, ...] = ("rows.jsonl",), **arguments: Any) -> dict[str, Any]:
    (tree / "mine.py").write_text(text)
    return script_job(tree, "mine.py", list(expected), arguments)


def left(tree: Path) -> set[str]:
    """What a step that has failed leaves in its folder, apart from what is written before the script starts."""
    return {path.name for path in (tree / "results/generated/mine").iterdir()} & {"files", "manifest.json", "work"}


def test_the_example_of_the_docs(tmp_path: Path) -> None:
    page = next(path for path in (ROOT / "docs").rglob("*.md") if "# my-data/squares.py" in path.read_text())
    recipe = yaml.safe_load(re.findall(r"```yaml\n(generated:.*?)```", page.read_text(), re.DOTALL)[0])
    text = re.findall(r"```python\n(# my-data/squares.py.*?)```", page.read_text(), re.DOTALL)[0]
    assert len(text.splitlines()) <= 12
    section = Generated.model_validate(recipe["generated"]["squares"])
    source = Source.model_validate(recipe["sources"]["squares"])
    assert source.generated is not None
    (tmp_path / section.script).parent.mkdir()
    (tmp_path / section.script).write_text(text)
    run(tmp_path, script_job(tmp_path, section.script, [source.generated.partition("/")[2]], section.arguments))
    manifest = read_manifest(tmp_path / "results/generated/mine/manifest.json")
    assert manifest["facts"]["rows"] == {"squares.jsonl": 1000}
    written = tmp_path / "results/generated/mine/files/squares.jsonl"
    assert manifest["payload"]["files/squares.jsonl"]["bytes"] == written.stat().st_size
    assert json.loads(written.read_text().splitlines()[12])["text"] == "The square of 12 is 144."


def test_it_starts_in_an_empty_folder_with_its_own_modules_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words/__init__.py").write_text("")
    (tmp_path / "words/one.py").write_text("WORD = 'one'\n")
    text = WRITE + "import os\nfrom words import one\nassert not os.listdir()\nopen('scratch', 'w').close()\n" + ROWS
    errors = run(tmp_path, write(tmp_path, text + "print('wrote', one.WORD)\n", rows=5))
    assert "wrote one" in errors
    assert read_manifest(tmp_path / "results/generated/mine/manifest.json")["facts"]["rows"] == {"rows.jsonl": 5}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (WRITE + ROWS + "raise ValueError('no such page')\n", ("exit code 1", "ValueError: no such page")),
        (WRITE + ROWS + "print('x' * 9000)\nraise SystemExit(3)\n", ("exit code 3", "xxx")),
        (WRITE + ROWS + "import os\nos.kill(os.getpid(), 9)\n", ("signal 9", "python mine.py --output FOLDER")),
        (WRITE, ("no such file", "rows.jsonl", "--output")),
        (WRITE + ROWS.replace("rows.jsonl", "row.jsonl"), ("no such file", "rows.jsonl", "did you mean `row.jsonl`?")),
        (WRITE + ROWS.replace("rows.jsonl", "bad.parquet"), ("not a readable Parquet file", "bad.parquet")),
    ],
)
def test_a_script_that_goes_wrong_is_told_on_one_screen(tmp_path: Path, text: str, told: tuple[str, ...]) -> None:
    expected = ("bad.parquet",) if "bad.parquet" in text else ("rows.jsonl",)
    errors = fail(tmp_path, write(tmp_path, text, expected), traceback=True)
    error = errors[errors.index("error: ") :]
    assert all(part in error for part in told), error
    assert len(error.splitlines()) <= 24 and max(map(len, error.splitlines())) < 600
    assert not left(tmp_path)


def test_a_script_that_writes_nothing_is_refused_even_where_all_of_it_is_read(tmp_path: Path) -> None:
    assert "no such file" in fail(tmp_path, write(tmp_path, WRITE, ("",)))


def test_a_script_that_changed_after_the_plan_is_refused(tmp_path: Path) -> None:
    planned = write(tmp_path, WRITE + ROWS)
    (tmp_path / "mine.py").write_text(WRITE + ROWS + "# another\n")
    assert "changed after the run had been planned" in fail(tmp_path, planned)


def test_killed_in_the_middle_nothing_is_kept_and_the_next_run_starts_afresh(tmp_path: Path) -> None:
    slow = f"import os, time\nif not os.path.exists({str(tmp_path / 'go')!r}):\n    time.sleep(600)\n"
    step = write(tmp_path, WRITE + ROWS + slow)
    process = start(tmp_path, step, code="import os; os.setpgid(0, 0)")
    folder = tmp_path / "results/generated/mine"
    for _ in range(300):
        if list(folder.glob("unfinished-*/files/rows.jsonl")):
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(folder.glob("unfinished-*")) and not left(tmp_path)
    (tmp_path / "go").touch()
    run(tmp_path, step)
    assert not list(folder.glob("unfinished-*"))
    assert read_manifest(folder / "manifest.json")["facts"]["rows"] == {"rows.jsonl": 3}


def test_arguments_become_options() -> None:
    arguments = {"rows": 3, "names": ["a", "b"], "fast": True, "slow": False, "rate": 0.5, "none": []}
    assert options(arguments) == "--rows 3 --names a b --fast --rate 0.5 --none".split()
