"""The picture of a plan: well formed, every stage once with its numbers and price, nothing over anything else."""

import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from smolmake.cli import call
from smolmake.errors import UserError
from smolmake.graph.stages import GraphStage
from smolmake.planning.plan import Plan, make_plan
from smolmake.planning.workflow import load_workflow
from smolmake.report.artifacts import GraphData, GraphNode, graph_of
from smolmake.report.charts.graph import draw_alone, draw_graph, needs
from smolmake.report.charts.svg import text_width
from smolmake.report.text import amount, whole

SVG = "{http://www.w3.org/2000/svg}"
RECIPES = ("toy", "smollm3", "my-texts", "smol-135m", "baseline-1b")


def plan_of(recipe: str, tree: Path, finished: tuple[str, ...] = ()) -> Plan:
    """What lies ahead of a recipe once all steps of some stages are done, each of which took a minute on eight GPUs."""
    workflow = load_workflow(recipe, tree)
    for step in workflow.steps.all.values():
        if step.stage in finished:
            folder = tree / "results" / step.key
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text("{}")
            (folder / "provenance.json").write_text(json.dumps({"seconds": 60.0, "gpus": 8}))
    return make_plan(workflow)


def cards(svg: str) -> dict[str, ElementTree.Element]:
    found: dict[str, ElementTree.Element] = {}
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):  # noqa: S314 (our own drawing)
        if group.get("class") == "card":
            assert group.get("data-stage") not in found
            found[str(group.get("data-stage"))] = group
    return found


def words(card: ElementTree.Element) -> list[str]:
    return [str(text.text) for text in card.iter(f"{SVG}text")]


def frame(card: ElementTree.Element) -> tuple[float, float, float, float]:
    rect = next(r for r in card.iter(f"{SVG}rect") if r.get("class") == "node")
    x, y, width, height = (float(str(rect.get(name))) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


@pytest.mark.parametrize("finished", [(), ("data", "tokenizer", "stage1")], ids=["nothing done", "in part"])
@pytest.mark.parametrize("recipe", ["toy", "smollm3"])
def test_every_stage_is_there_once_with_its_numbers_and_its_price(
    tree: Path, recipe: str, finished: tuple[str, ...]
) -> None:
    plan = plan_of(recipe, tree, finished)
    drawn = cards(draw_alone(graph_of(plan), recipe))
    steps = list(plan.workflow.steps.all.values())
    assert list(drawn) == list(dict.fromkeys(step.stage for step in steps))
    for group, card in drawn.items():
        members, said = [step for step in steps if step.stage == group], words(card)
        running = [step for step in members if step.key in plan.keys]
        assert said[1] == f"{whole(len(members))} {'done' if group in finished else 'to run'}"
        for kind in {step.kind for step in members}:
            assert whole(sum(step.kind == kind for step in members)) in said
        hours = sum(plan.costs[step.key].gpu_hours for step in running)
        assert (hours > 0) == ("GPU-hours" in said) == ("USD" in said)
        assert ("GPU-h spent" in said) == (group in finished)
        if hours:
            assert said[said.index("GPU-hours") + 1] == amount(hours)
            assert said[said.index("USD") + 1] == amount(plan.money(hours) or 0.0)


def test_the_published_recipe_needs_what_its_plan_says(tree: Path) -> None:
    plan = plan_of("smollm3", tree)
    assert plan.gpu_hours > 250_000
    svg = draw_alone(graph_of(plan), "smollm3")
    for part in (f"{whole(plan.gpu_hours)} GPU-hours", f"{whole(plan.money(plan.gpu_hours) or 0)} USD"):
        assert part in svg
    assert svg.count("<title>") == 1 + len(cards(svg)) and f"<desc>{len(plan.workflow.steps.all):,} steps" in svg


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_card_lies_over_another_and_all_words_lie_in_their_card(tree: Path, recipe: str) -> None:
    svg = draw_alone(graph_of(make_plan(load_workflow(recipe, tree))), recipe)
    drawn = cards(svg)
    _, _, width, height = map(float, str(ElementTree.fromstring(svg).get("viewBox")).split())  # noqa: S314
    frames = {group: frame(card) for group, card in drawn.items()}
    for a, b in itertools.combinations(frames.values(), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for group, (left, top, right, bottom) in frames.items():
        assert left >= 0 and top >= 0 and right <= width and bottom <= height
        lines: dict[float, list[tuple[float, float]]] = {}
        for text in drawn[group].iter(f"{SVG}text"):
            x, y, length = float(str(text.get("x"))), float(str(text.get("y"))), text_width(str(text.text), 11.5)
            start = x - length if text.get("text-anchor") == "end" else x
            assert left < start and start + length < right and top < y < bottom, text.text
            lines.setdefault(y, []).append((start, start + length))
        heights = sorted(lines)
        assert all(b - a >= 14 for a, b in itertools.pairwise(heights)), group
        for spans in lines.values():
            assert all(a[1] < b[0] for a, b in itertools.pairwise(sorted(spans))), group


def test_it_stands_alone_and_the_reports_figure_does_not(tree: Path) -> None:
    graph = graph_of(plan_of("toy", tree, ("data",)))
    alone, figure = draw_alone(graph, "toy"), draw_graph(graph)
    assert "<style>" in alone and "prefers-color-scheme: dark" in alone and "{%" not in alone
    assert "http" not in alone.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "<style>" not in figure and {*cards(figure)} == {*cards(alone)}


def test_a_card_names_what_no_arrow_shows() -> None:
    first, longer, branch, merge = (GraphStage(k, "pretraining", k, k) for k in ("first", "longer", "branch", "merge"))
    nodes = [GraphNode(stage.name, "segment", stage, "missing") for stage in (first, longer, branch, merge)]
    edges = [("first", "longer"), ("first", "branch"), ("first", "merge"), ("longer", "merge"), ("branch", "merge")]
    graph = GraphData(nodes, [*edges, ("merge", "first"), ("gone", "longer")])
    assert needs(graph) == {first: [], longer: [first], branch: [first], merge: [longer, branch]}
    drawn = cards(draw_graph(graph))
    assert "after first" in words(drawn["branch"]) and "after longer" in words(drawn["merge"])
    assert not any("after" in word for word in words(drawn["longer"]))


def test_the_command_draws_and_tells_a_mistake(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    call(["plan", "toy", "--picture", "toy.svg"])
    assert len(cards((tree / "toy.svg").read_text())) == 12
    mistakes = {
        ("toyy", "a.svg"): "did you mean `toy`?",
        ("toy", "a.png"): "that ends in .svg",
        ("toy", "new/a.svg"): "no such folder",
    }
    for (recipe, file), told in mistakes.items():
        with pytest.raises(UserError) as caught:
            call(["plan", recipe, "--picture", file])
        assert told in str(caught.value)
    assert not (tree / "a.svg").exists() and not (tree / "new").exists()


@pytest.mark.parametrize("recipe", ["smollm3"])
def test_the_picture_in_the_readme_is_of_the_recipe_as_it_is(tree: Path, root: Path, recipe: str) -> None:
    file = root / "docs" / "images" / f"plan-{recipe}.svg"
    drawn = draw_alone(graph_of(plan_of(recipe, tree)), recipe) + "\n"
    assert file.read_text() == drawn, f"draw it again: smolmake plan {recipe} --picture {file.relative_to(root)}"
    assert file.name in (root / "README.md").read_text()
