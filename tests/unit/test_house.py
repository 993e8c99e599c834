"""The house: imports run one way, files stay small, and a public name has one meaning."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "smolmake"
# Each package uses those before it, never one behind it.
ORDER = (
    "errors files listing yaml_files stats execution recipe graph model hardware monitoring cluster data train "
    "preflight evaluate posttrain planning report snakemake_command cli"
).split()
LINES = 320
COMMANDS = {"main", "add_arguments", "run"}  # what each command of `smolmake` defines


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package(path: Path) -> str:
    inside = path.relative_to(SOURCE)
    return inside.parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """First-party packages or modules at the top that a module imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module] if node.module != "smolmake" else [f"smolmake.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("smolmake."))


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_one_way(name: str) -> None:
    upward = {
        f"{path.relative_to(SOURCE)} -> {other}"
        for path in modules()
        if package(path) == name
        for other in imported(path)
        if other != name and ORDER.index(other) > ORDER.index(name)
    }
    assert not upward


def test_every_package_has_its_place() -> None:
    assert {package(path) for path in modules()} - {"__init__"} <= set(ORDER)


def test_files_stay_small() -> None:
    assert {str(path.relative_to(SOURCE)) for path in modules() if len(path.read_text().splitlines()) > LINES} == set()


def test_a_public_name_is_defined_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.parse(path.read_text()).body:
            named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if named and not node.name.startswith("_") and node.name not in COMMANDS:
                places[node.name].append(str(path.relative_to(SOURCE)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
