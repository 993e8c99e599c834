"""The table of all scores: one row each, with the identity of its checkpoint and what the data held of its items."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.report_run import make_recipe

from smolmake.errors import UserError
from smolmake.graph.stages import recipe_stages
from smolmake.report.artifacts import ReportArtefact
from smolmake.report.checkpoints import Checkpoint
from smolmake.report.score_table import SCHEMA, read_scores, score_table, write_scores
from smolmake.report.sections.evaluation import conversion_told
from smolmake.stats import wilson

STAGES = recipe_stages(make_recipe())
SCORE = {"metric": "acc", "value": 0.5, "low": 0.2, "high": 0.8, "n": 4, "chance": 0.25, "formulation": "CF"}
Rows = list[dict[str, Any]]


def artefact(root: Path, kind: str, name: str, file: str, content: Any, **more: Any) -> ReportArtefact:
    folder = root / kind / f"{name}-00"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"facts": more.pop("facts", {})}))
    (folder / file).write_text(json.dumps(content))
    return ReportArtefact(kind, name, folder, more.pop("order", 0), STAGES["main"], **more)


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Two checkpoints, the later one a milestone; a suite of the first with a group; one searched source."""
    step = "segment/main-0-8-0123456789"
    own = [SCORE | {"task": "facts", "questions": ["facts"], "items": [1, 0, 1, 0], "merged": [2]}]
    exam = [SCORE | {"task": name, "shots": 5, "filter": "strict", "length": 4096} for name in ("law", "arts")]
    exam.append(SCORE | {"task": "exam", "tasks": ["arts", "law"], "filter": "strict", "length": 4096})
    about = {"law": {"items": 10, "items_found": 3}, "arts": {"items": 5, "items_found": 0}}
    artefacts = [
        artefact(tmp_path, "suite", "main-0-8.exams", "scores.json",
                 {"checkpoint": "main-0-8", "suite": "exams", "scores": exam}, order=3),
        artefact(tmp_path, "evaluation", "main-at-4", "scores.json", {"tokens": 400, "scores": own},
                 order=1, measures=step, milestone=4),
        artefact(tmp_path, "evaluation", "main-0-8", "scores.json", {"tokens": 0, "scores": own},
                 order=2, measures=step, checkpoint="main", facts={"logits_apart": 2e-6}),
        artefact(tmp_path, "documents", "web", "cleaning.json", {"overlap": about}),
    ]  # fmt: skip
    write_scores(score_table(artefacts, "toy"), tmp_path / "scores.parquet")
    found: Rows = read_scores(tmp_path / "scores.parquet").to_pylist()
    return found


def test_a_row_stands_for_each_score_in_the_order_of_the_checkpoints(rows: Rows) -> None:
    assert [(row["checkpoint"], row["suite"], row["task"]) for row in rows] == [
        ("main-at-4", "", "facts"), ("main-0-8", "", "facts"), ("main-0-8", "exams", "law"),
        ("main-0-8", "exams", "arts"), ("main-0-8", "exams", "exam"),
    ]  # fmt: skip
    first, second, law, *_ = rows
    assert {row["checkpoint_step"] for row in rows} == {"segment/main-0-8-0123456789"}
    assert (first["milestone"], first["tokens"], first["ends"]) == (4, 400, "")
    assert (second["milestone"], second["tokens"], second["ends"]) == (None, None, "main")
    assert first["items"] == [1.0, 0.0, 1.0, 0.0] and first["merged"] == [2] and first["filter"] == "none"
    assert (law["filter"], law["length"], law["shots"], law["recipe"]) == ("strict", 4096, 5, "toy")
    assert [row["logits_apart"] for row in rows] == [None, 2e-6, None, None, None]
    assert law["file"] == "suite/main-0-8.exams-00/scores.json"


def test_what_the_data_held_stands_beside_each_score_and_groups_add_up(rows: Rows) -> None:
    held = {row["task"]: (row["items_found"], row["items_searched"]) for row in rows}
    assert held == {"facts": (None, None), "law": (3, 10), "arts": (0, 5), "exam": (3, 15)}


def test_the_score_on_clean_items_stands_beside_the_score(tmp_path: Path) -> None:
    """As long as the items that were searched for are those that were asked, or the first of them."""
    own = {"task": "facts", "questions": ["facts"], "items": [1, 0, 1, 0]}
    kinds = {"acc": {"task_items": 6}, "other": {"task_items": 9}, "mean": {"task_items": 6, "items": []}}
    scores = [SCORE | own | {"metric": metric} | more for metric, more in kinds.items()]
    held = {"a": [0, 5], "b": [0, 3]}
    artefacts = [artefact(tmp_path, "evaluation", "main-0-8", "scores.json", {"tokens": 0, "scores": scores})]
    artefacts += [
        artefact(tmp_path, "documents", source, "cleaning.json",
                 {"overlap": {"facts": {"items": 6, "items_found": len(found), "found": found}}})
        for source, found in held.items()
    ]  # fmt: skip
    table = {row["metric"]: row for row in score_table(artefacts, "toy").to_pylist()}
    assert {(row["items_found"], row["items_searched"]) for row in table.values()} == {(3, 6)}
    clean = [table["acc"][f"clean_{key}"] for key in ("n", "value", "low", "high")]
    assert clean == [2, 0.5, *wilson(1, 2)]
    assert {table[name]["clean_value"] for name in ("other", "mean")} == {None}


def test_every_column_is_described(root: Path) -> None:
    page = (root / "docs" / "reference" / "artefacts.md").read_text().split("`scores.parquet`, beside")[1]
    assert [name for name in SCHEMA.names if f"`{name}`" not in page] == []


def test_another_table_is_refused(tmp_path: Path) -> None:
    for name, table in (("none", None), ("other", pa.table({"task": ["facts"]}))):
        if table is not None:
            pq.write_table(table, tmp_path / name)
        with pytest.raises(UserError, match="no readable table of scores"):
            read_scores(tmp_path / name)


def test_the_largest_distance_from_the_trainer_s_logits_is_told() -> None:
    apart = (None, 3.14e-6, 2e-4)
    scored = [Checkpoint(str(n), "", STAGES["main"], 0, {}, [], "", logits_apart=each) for n, each in enumerate(apart)]
    told = conversion_told(scored)
    assert told.startswith(" Of 2 checkpoints transformers computes") and "0.0002 of their standard deviation" in told
    assert conversion_told(scored[:1]) == ""
