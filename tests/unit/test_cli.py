"""The command `smolmake`: what it says, what it hands to Snakemake, and its page in the docs."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training import ROOT

from smolmake.cli import COMMANDS, call, command_parser
from smolmake.errors import UserError
from smolmake.snakemake_command import snakemake_options


def options_of(*words: str, passed: tuple[str, ...] = ()) -> list[str]:
    arguments = command_parser(words[0]).parse_args(words[1:])
    arguments.passed = list(passed)
    return snakemake_options(arguments)


def test_the_reference_page_is_in_step() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "write_commands.py", "--check"],
        env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_help_names_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; from smolmake.cli import call; call([]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True
    )
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert not {module for module, _ in COMMANDS.values()} & set(done.stderr.split())


def test_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="unknown command") as caught:
        call(["statsu"])
    assert "did you mean `status`?" in caught.value.remedy
    with pytest.raises(SystemExit) as stopped:
        call(["status", "--", "--cores", "1"])
    assert stopped.value.code == 2 and "unrecognized arguments: --cores 1" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="not the folder of a smolmake project"):
        call(["plan"])


def test_snakemake_gets_the_profile_the_recipe_and_what_stands_behind_the_dashes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    local = ["--workflow-profile", "profiles/local"]
    assert options_of("run") == [*local, "--config", "recipe=toy"]
    assert options_of("plan", "mine.yaml", "--json", "plan.json") == [
        *local, "--dry-run", "--logger-smolmake-json", "plan.json", "--config", "recipe=mine.yaml",
    ]  # fmt: skip
    assert options_of("run", "toy", "--consent", "12.5", passed=("preflight",)) == [
        "preflight", *local, "--config", "recipe=toy", "consent=12.5",
    ]  # fmt: skip
    assert options_of("run", "--profile", "slurm")[:2] == ["--workflow-profile", "profiles/slurm"]
    assert options_of("run", "--profile", "my-site")[:2] == ["--profile", "my-site"]
    with pytest.raises(UserError, match="number of GPU-hours"):
        options_of("run", "--consent", "much")
