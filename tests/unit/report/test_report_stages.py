"""A recipe whose stages have other names than SmolLM3's has the same report: from its graph to the page."""

import json
import re
from pathlib import Path

import pytest
from helpers.recipes import SMALL, changed, load, write_recipe

from smolmake.execution.manifest import MANIFEST, RECORD
from smolmake.graph.stages import recipe_stages
from smolmake.planning.plan import make_plan
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import Workflow, load_workflow
from smolmake.report.artifacts import artefacts_of, graph_of
from smolmake.report.page import write_report

NAMED = (
    changed("{name: stage2", "{name: stage1", changed("{name: stage1", "{name: main", SMALL))
    + "long_context: [{name: longer, steps: 10, mixture: {notes: 1}, sequence_length: 128, global_batch_size: 2,"
    " rope_theta: 1e5, schedule: {lr: 1e-3}}]\n"
    + """\
expectations:
  losses:
    main: {stage: main, text: The loss falls in main}
    longer: {stage: longer, text: The loss falls in longer}
  heldout: {longer: {at: longer, below: main, text: Longer is better}}
"""
)


@pytest.fixture
def workflow(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    """The recipe with all its segments and evaluations done, but for the last evaluation."""
    monkeypatch.chdir(tree)
    workflow = load_workflow(str(write_recipe(tree, NAMED)), tree)
    for step in [*workflow.steps.of_kind("segment"), *workflow.steps.of_kind("evaluation")[:-1]]:
        folder = tree / "results" / step.key
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"facts": {"parameters": 12_345}}))
        if step.kind == "segment":
            first, last = map(int, step.name.split("-")[1:])
            lines = [{"step": s, "tokens": 256 * (s + 1), "loss": 5 - s / 20} for s in range(first, last)]
            lines = [line | {"learning_rate": 1e-3, "tokens_per_second": 9e3} for line in lines]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        else:
            about = {"source": "notes", "domain": "web", "tokens": 9, "loss": 2.0}
            about |= {"bits_per_byte": 1.5, "low": 1.4, "high": 1.6}
            scores = {"checkpoint": step.name, "tokens": 1, "scores": [], "heldout": [about]}
            (folder / "scores.json").write_text(json.dumps(scores))
    return workflow


def test_a_stage_called_main_has_its_curve_its_tokens_and_its_expectations(workflow: Workflow, tmp_path: Path) -> None:
    graph = graph_of(make_plan(workflow), leave_out="report")
    sources = write_report(artefacts_of(workflow), graph, workflow.recipe, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert {"fig-loss", "fig-throughput", "fig-heldout", "tab-expectations"} <= set(sources)
    assert len(sources["fig-loss"]) == len(sources["fig-throughput"]) == 4
    assert "4 segments, 10.2k tokens, 40 optimizer steps" in page and "12.3k" in page.split("</header>")[0]
    for name in ("main", "stage1", "longer"):
        assert re.search(rf'class="label"[^>]*>{name}</text>', page) and f'data-stage="{name}"' in page
    verdicts = re.findall(r'<th scope="row">(The loss falls in \w+|Longer is better)</th>.*?verdict ([a-z-]+)"', page)
    assert verdicts == [
        ("The loss falls in main", "holds"),
        ("The loss falls in longer", "holds"),
        ("Longer is better", "not-measured"),
    ]


def test_checkpoints_have_the_names_of_the_recipe(workflow: Workflow) -> None:
    evaluations = {a.name: a for a in artefacts_of(workflow) if a.kind == "evaluation"}
    assert {name: a.checkpoint for name, a in evaluations.items()} == {
        "main-0-10": "",
        "main-10-20": "main",
        "stage1-20-30": "stage1",
    }
    assert evaluations["main-0-10"].stage.section == "pretraining"


def test_sections_are_told_by_the_recipe_and_not_by_names(tree: Path) -> None:
    stages = recipe_stages(load(tree, NAMED))
    order = [stage.name for stage in stages.values() if stage.pretrains]
    assert order == ["main", "stage1", "longer"] and stages["longer"].section == "long_context"
    assert [stage.title for stage in stages.values() if stage.post_trains] == ["mid-training", "SFT", "APO", "merge"]


def test_a_pin_stands_in_the_report_as_in_the_plan(workflow: Workflow, tree: Path) -> None:
    step, kept, reason = workflow.steps.of_kind("segment")[0], "0123456789", "only a <log> line changed"
    folder = tree / "results" / f"{step.label}-{kept}"
    folder.mkdir()
    (folder / MANIFEST).write_text("{}")
    (folder / RECORD).write_text(json.dumps({"config_hash": step.config_hash}))
    pins = tree / "config" / "pins" / f"{workflow.recipe.name}.yaml"
    pins.parent.mkdir(exist_ok=True)
    pins.write_text(f"- {{step: {step.label}, id: '{kept}', reason: {reason}}}\n")
    plan = make_plan(load_workflow(str(workflow.file), tree))
    sources = write_report(artefacts_of(plan.workflow), graph_of(plan, "report"), workflow.recipe, tree / "out")
    page = (tree / "out" / "report.html").read_text()
    table = page.split('id="tab-pins"')[1].split("</table>")[0]
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", table.split("<tbody>")[1])
    assert cells == ["segment", step.name, kept, "only a &lt;log&gt; line changed"]
    assert f"{step.label} stays {kept}: {reason}" in plan_text(plan)
    assert sources["tab-pins"] == [f"../config/pins/{pins.name}", f"segment/{folder.name}/{MANIFEST}"]
    assert all((tree / "results" / file).is_file() for file in sources["tab-pins"])
