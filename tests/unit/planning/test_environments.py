"""Environments and constraints are in step with pyproject.toml and with what the code imports."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from smolmake.execution.kinds import KINDS

ROOT = Path(__file__).parents[3]


def test_environments_are_in_step() -> None:
    check = subprocess.run(
        [sys.executable, "tools/write_environments.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def test_the_encoder_is_installed_where_shards_are_made() -> None:
    script = ROOT / "envs" / f"{KINDS['shards'].environment}.post-deploy.sh"  # Snakemake looks for it by this name
    assert "python tools/install_encoder.py" in script.read_text()


def test_the_encoder_is_the_pinned_wheel() -> None:
    lines = (ROOT / "constraints-encoder.txt").read_text().split("\n")
    pin = next(line for line in lines if line.startswith("tokenizers==")).split()[0]
    place = Path(sysconfig.get_path("purelib")) / "tokenizers_next"
    assert [f"{found.name}=={found.version}" for found in metadata.distributions(path=[str(place)])] == [pin]
    assert metadata.version("tokenizers") == constraints()["tokenizers"]
    assert all(len(line.split("sha256:")[1].split()[0]) == 64 for line in lines if "--hash" in line)


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_constraints_agree_with_the_pins(requirement: Requirement) -> None:
    pinned = constraints()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), "run python tools/write_constraints.py"


def test_constraints_have_no_local_versions() -> None:
    assert not [name for name, version in constraints().items() if "+" in version]
