"""Write constraints.txt: every package that smolmake and its dev extra pull in, at the installed version.

Usage: python tools/write_constraints.py [--check] [--extras]

To move to newer versions: change the pins in pyproject.toml, install without constraints into a fresh
environment (`pip install torch==VERSION`, then `pip install -e .[dev]`), run this program with its Python,
then the tests.

With --extras, run with the Python of .venv-extras: writes constraints-extras.txt, all that stands in that environment
itself: the extras cluster, trackio and wandb, over the packages of .venv.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FILE, EXTRAS_FILE = ROOT / "constraints.txt", ROOT / "constraints-extras.txt"
HEADER = """\
# Every package that `pip install -e .[dev]` brings along. Written by tools/write_constraints.py.
# `make setup` installs with it. The extra `cluster` and torch's GPU libraries are not in it.
"""
EXTRAS_HEADER = """\
# What `make extras-test` adds to the packages of .venv in an environment of its own, because versions clash or imports
# get slower: the extras cluster, trackio and wandb. Written by tools/write_constraints.py --extras.
"""


def direct_requirements() -> list[Requirement]:
    """What pyproject.toml asks for, the dev extra included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of the installed packages that the requirements lead to on this machine."""
    found: set[str] = set()
    visited: set[tuple[str, str]] = set()
    waiting = [(requirement, extra) for requirement in requirements for extra in ("", *requirement.extras)]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in visited:
            continue
        visited.add((name, extra))
        found.add(name)
        for text in metadata.requires(name) or []:
            inner = Requirement(text)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                waiting += [(inner, inner_extra) for inner_extra in ("", *inner.extras)]
    return found


def render() -> str:
    """The content of constraints.txt for this environment, versions without a local part such as +cpu."""
    lines = [f"{name}=={Version(metadata.version(name)).public}\n" for name in sorted(closure(direct_requirements()))]
    return HEADER + "".join(lines)


def render_extras() -> str:
    """The content of constraints-extras.txt: what is installed in this environment itself, and Snakemake's command."""
    own = metadata.distributions(path=[sysconfig.get_path("purelib")])
    found = {canonicalize_name(each.metadata["Name"]): Version(each.version).public for each in own}
    return EXTRAS_HEADER + "".join(f"{name}=={found[name]}\n" for name in sorted(found.keys() - {"pip", "setuptools"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file is out of step")
    parser.add_argument("--extras", action="store_true", help="constraints-extras.txt instead")
    arguments = parser.parse_args()
    file, content = (EXTRAS_FILE, render_extras()) if arguments.extras else (FILE, render())
    if not arguments.check:
        file.write_text(content)
    elif file.read_text() != content:
        sys.exit(f"{file.name} is out of step with this environment: run python {' '.join(sys.argv)} without --check")


if __name__ == "__main__":
    main()
