"""Write envs/*.yaml, the rules' conda environments, from the pins and the imports of the kinds' scripts.

Usage: python tools/write_environments.py [--check]

Each environment holds the packages that the scripts of its rules import, directly or through smolmake; that of
generated data holds all.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from smolmake.execution.kinds import KINDS

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python tools/write_environments.py"
# What a package imports only when it is used as it is here, so that its own requirements do not name it.
COMPANIONS = {"trl": ("accelerate",), "lm-eval": ("accelerate", "transformers")}
# Imported only on request (extras) or where a GPU is: Triton comes with torch there. tools/install_encoder.py installs
# the fast encoder, as the script beside the file of the environment that uses it says.
OPTIONAL = {"deepspeed", "flash_attn", "tokenizers_next", "triton", "trackio", "wandb"}


def scripts_by_environment() -> dict[str, list[str]]:
    """For each environment the scripts of the kinds of steps that have it; links are made in the report's."""
    found: dict[str, list[str]] = {"report": ["link_results.py"]}
    for kind in KINDS.values():
        found.setdefault(kind.environment, []).append(f"{kind.name}.py")
    return dict(sorted(found.items()))


def imported_modules(script: Path) -> set[str]:
    """Top-level names of what a script imports outside of smolmake and the standard library."""
    outside: set[str] = set()
    waiting, seen = [script], {script}
    while waiting:
        for module in _imports(ast.parse(waiting.pop().read_text())):
            top = module.partition(".")[0]
            if top == "smolmake":
                new = set(_files(module)) - seen
                seen |= new
                waiting += sorted(new)
            elif top not in sys.stdlib_module_names:
                outside.add(top)
    return outside


def _imports(node: ast.AST) -> set[str]:
    """Modules that are imported anywhere in a tree, except those for type checkers only."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom) and child.module:
            found |= {child.module, *(f"{child.module}.{alias.name}" for alias in child.names)}
        found |= _imports(child)
    return found


def _files(module: str) -> list[Path]:
    """The file of a module and those of the packages above it; a name that is no module has only these."""
    parts = module.split(".")
    places = [ROOT / "src" / Path(*parts[: i + 1]) / "__init__.py" for i in range(len(parts))]
    places.append(ROOT / "src" / Path(*parts[:-1]) / f"{parts[-1]}.py")
    return [place for place in places if place.is_file()]


def pins() -> dict[str, str]:
    """The direct dependencies by name, with their extras and at the versions of constraints.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    frozen = dict(line.split("==") for line in lines if "==" in line)
    found: dict[str, str] = {}
    for needed in map(Requirement, project["dependencies"]):
        name, extras = canonicalize_name(needed.name), ",".join(sorted(needed.extras))
        found[name] = f"{name}[{extras}]=={frozen[name]}" if extras else f"{name}=={frozen[name]}"
    return found


def render() -> dict[Path, str]:
    """The content of every environment file."""
    distributions, known = metadata.packages_distributions(), pins()
    files = {}
    for environment, scripts in scripts_by_environment().items():
        modules = set().union(*(imported_modules(ROOT / "workflow" / "scripts" / name) for name in scripts))
        packages: set[str] = {canonicalize_name(distributions[module][0]) for module in modules - OPTIONAL}
        if environment == "generated":  # a program of the user's may import whatever the project has
            packages |= known.keys()
        packages |= {other for name in packages for other in COMPANIONS.get(name, ())}
        if missing := packages - known.keys():
            sys.exit(f"pyproject.toml does not name what {environment} jobs import: {', '.join(sorted(missing))}")
        lines = [
            "# Written by tools/write_environments.py: what these scripts import.",
            *(f"#   {name}" for name in sorted(scripts)),
            "channels:",
            "  - conda-forge",
            "  - nodefaults",
            "dependencies:",
            "  - python=3.11",
            "  - pip",
            "  - pip:",
            *(f"      - {known[name]}" for name in sorted(packages)),
        ]
        files[ROOT / "envs" / f"{environment}.yaml"] = "\n".join(lines) + "\n"
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file is out of step")
    check = parser.parse_args().check
    for path, text in render().items():
        if not check:
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            sys.exit(f"{path.relative_to(ROOT)} is out of step with the pins or the code: run {COMMAND}")


if __name__ == "__main__":
    main()
