"""Draw what a recipe has done and would run, stage by stage, with its price. Usage: draw_plan.py RECIPE FILE.svg"""

import argparse
from pathlib import Path

from smolmake.errors import UserError, run_as_program
from smolmake.files import write_atomically
from smolmake.planning.plan import make_plan
from smolmake.planning.workflow import load_workflow
from smolmake.report.charts.graph import draw_alone
from smolmake.report.states import graph_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", help="a name in config/recipes, or a path")
    parser.add_argument("file", type=Path, help="the SVG file to write")
    arguments = parser.parse_args()
    if arguments.file.suffix != ".svg":
        raise UserError("the picture is an SVG file", file=arguments.file, remedy="give a name that ends in .svg")
    if not arguments.file.parent.is_dir():
        raise UserError(
            "there is no such folder for the picture", file=arguments.file.parent,
            remedy="make the folder, or give another: make picture FILE=plan.svg",
        )  # fmt: skip
    workflow = load_workflow(arguments.recipe, Path.cwd())
    write_atomically(arguments.file, draw_alone(graph_of(make_plan(workflow)), workflow.recipe.name) + "\n")


if __name__ == "__main__":
    run_as_program(main)
