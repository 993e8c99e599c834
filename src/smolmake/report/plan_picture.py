"""The picture of a plan: what a recipe has done and would run, stage by stage, with its price."""

from pathlib import Path

from smolmake.errors import UserError
from smolmake.files import write_atomically
from smolmake.planning.plan import make_plan
from smolmake.planning.workflow import load_workflow
from smolmake.report.artifacts import graph_of
from smolmake.report.charts.graph import draw_alone


def write_plan_picture(recipe: str, root: Path, file: Path) -> None:
    """Write the picture as an SVG file.

    Raises:
        UserError: if the recipe cannot be planned, or the file not be written.
    """
    if file.suffix != ".svg":
        raise UserError("the picture is an SVG file", file=file, remedy="give a name that ends in .svg")
    if not file.parent.is_dir():
        raise UserError("no such folder", file=file.parent, remedy="make it, or write the picture elsewhere")
    workflow = load_workflow(recipe, root)
    write_atomically(file, draw_alone(graph_of(make_plan(workflow)), workflow.recipe.name) + "\n")
