"""Write constraints.txt: every package that smolmake and its dev extra pull in, at the installed version.

Usage: python tools/write_constraints.py [--check]

To move to newer versions: change the pins in pyproject.toml, install without constraints into a fresh
environment (`pip install torch==VERSION`, then `pip install -e .[dev]`), run this program with its Python,
then the tests.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints.txt"
HEADER = """\
# Every package that `pip install -e .[dev]` brings along. Written by tools/write_constraints.py.
# `make setup` installs with it. The extra `cluster` and torch's GPU libraries are not in it.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file is out of step")
    if not parser.parse_args().check:
        FILE.write_text(render())
    elif FILE.read_text() != render():
        sys.exit("constraints.txt is out of step with this environment: run python tools/write_constraints.py")


if __name__ == "__main__":
    main()
