"""Readable links to everything of a recipe. Usage: link_results.py RECIPE LINKS_FILE

Links stand beside LINKS_FILE, under results/latest/<recipe>/: `report.html`, `scores.parquet`, and `<kind>/<name>`
for every step.
"""

import argparse
import shutil
from pathlib import Path

from smolmake.errors import run_as_program
from smolmake.files import write_json
from smolmake.planning.history import RECIPE, named_results
from smolmake.planning.workflow import check_unchanged, load_workflow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("links", type=Path)
    arguments = parser.parse_args()
    workflow = load_workflow(arguments.recipe, Path.cwd())
    check_unchanged(workflow, workflow.links, str(arguments.links))
    folder: Path = arguments.links.parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    results = Path("../..")
    linked = {}
    for key, step in workflow.steps.all.items():
        link(folder / step.kind / step.name, Path("..") / results / key)
        linked[f"{step.kind}/{step.name}"] = key
    for name, step in workflow.steps.checkpoints.items():
        link(folder / "checkpoints" / name, Path("..") / results / step.key / "checkpoint")
    for step in workflow.steps.of_kind("report"):
        for name in ("report.html", "scores.parquet"):
            link(folder / name, results / step.key / name)
    linked |= {f"named: {key}": key for key in named_results(workflow.steps.values, Path.cwd())}
    write_json(folder / RECIPE, workflow.steps.values)
    write_json(arguments.links, linked)


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


if __name__ == "__main__":
    run_as_program(main)
