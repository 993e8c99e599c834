"""A step that runs a user's script is identified by the script's code and by what else the recipe says it reads."""

import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from helpers.recipes import changed, load

from smolmake.errors import UserError
from smolmake.execution.content_hash import code_digests
from smolmake.execution.step import Steps
from smolmake.graph.build import build_steps
from smolmake.graph.specs.data import GeneratedRun, GeneratedSpec

SECTION = {"script": "crawl/run.py", "arguments": {"pages": 10}, "reads": ["lists/*.txt"], "packages": ["numpy"]}
FILES = {
    "crawl/run.py": "import json\nimport pages.fetch\nfrom site_map import links\n",
    "crawl/site_map.py": "links = []\n",
    "crawl/pages/__init__.py": "",
    "crawl/pages/fetch.py": "from . import parse\nfrom .parse import title\n",
    "crawl/pages/parse.py": "title = 1\n",
    "crawl/pages/unused.py": "x = 1\n",
    "crawl/json_data.json": "{}",
    "lists/a.txt": "a\n",
}


@pytest.fixture
def place(tree: Path) -> Path:
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    return tree


def steps_of(tree: Path, files: str = "crawl/pages.jsonl", **section: object) -> Steps:
    text = changed("{path: notes.txt}", f"{{generated: {files}}}")
    return build_steps(load(tree, text + yaml.safe_dump({"generated": {"crawl": {**SECTION, **section}}})), tree)


def append(name: str, text: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        with (tree / name).open("a") as file:
            file.write(text)

    return change


@pytest.mark.parametrize("name", ["run.py", "site_map.py", "pages/__init__.py", "pages/fetch.py", "pages/parse.py"])
def test_a_comment_in_the_script_or_in_a_module_of_its_own_counts(place: Path, name: str) -> None:
    before = steps_of(place)
    append(f"crawl/{name}", "# a comment\n")(place)
    after = steps_of(place)
    for kind in ("generated", "documents", "segment"):
        assert {step.id for step in before.of_kind(kind)} != {step.id for step in after.of_kind(kind)}
    other = [
        next(step.id for step in steps.all.values() if step.label == "documents/code") for steps in (before, after)
    ]
    assert other[0] == other[1]


def id_of(steps: Steps) -> str:
    (step,) = steps.of_kind("generated")
    return step.id


def test_files_that_the_script_does_not_import_do_not_count_unless_the_recipe_names_them(place: Path) -> None:
    before = id_of(steps_of(place))
    append("crawl/pages/unused.py", "y = 2\n")(place)
    append("crawl/json_data.json", " ")(place)
    assert id_of(steps_of(place)) == before
    append("lists/b.txt", "b\n")(place)
    assert id_of(steps_of(place)) != before


def test_arguments_versions_and_what_is_read_count_and_the_place_does_not(place: Path) -> None:
    before = id_of(steps_of(place))
    (place / "crawl").rename(place / "moved")
    assert id_of(steps_of(place, script="moved/run.py")) == before
    (place / "moved").rename(place / "crawl")
    assert id_of(steps_of(place, "crawl/other.jsonl")) == before
    for key, value in {"arguments": {"pages": 11}, "packages": [], "reads": [], "python": True}.items():
        assert id_of(steps_of(place, **{key: value})) != before, key


def test_the_spec_states_versions(place: Path) -> None:
    (step,) = steps_of(place, python=True).of_kind("generated")
    spec = step.spec_as(GeneratedSpec)
    assert spec.python == platform.python_version()
    assert spec.packages == {"numpy": metadata.version("numpy")}
    assert list(spec.code) == [
        "pages/__init__.py", "pages/fetch.py", "pages/parse.py", "run.py", "site_map.py",
    ]  # fmt: skip


def test_what_nobody_reads_is_not_run_and_what_is_read_must_come_of_it(place: Path) -> None:
    (step,) = steps_of(place).of_kind("generated")
    assert step.run_as(GeneratedRun).expected == ["pages.jsonl"]
    text = changed("name: small", "name: small\ngenerated: {crawl: {script: crawl/run.py}}")
    assert not build_steps(load(place, text), place).of_kind("generated")


def test_a_script_that_is_not_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("import (\n")
    with pytest.raises(UserError) as caught:
        code_digests(tmp_path / "run.py")
    assert caught.value.file == tmp_path / "run.py" and caught.value.remedy
