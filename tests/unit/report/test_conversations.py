"""The report's table of conversations: rows and tokens by source, from the steps' manifests."""

import json
from pathlib import Path

from smolmake.graph.stages import GraphStage
from smolmake.report.artifacts import ReportArtefact
from smolmake.report.blocks import Table
from smolmake.report.sections.conversations import conversation_table

COUNTS = {
    "rows": 1200, "skipped": 2, "used": 1198, "truncated": 7, "without_targets": 3, "trained": 1195, "tokens": 23900,
    "targets": 11950, "lost": {"reasoning": 4}, "first_skipped": "row 5: message 1 has no known role",
    "checks": {"empty_answers": {"rows": 2, "first": [5, 9]}}, "chosen_longer": 0,
}  # fmt: skip


def test_rows_of_each_source(tmp_path: Path) -> None:
    other = COUNTS | {"tokens": 0, "targets": 0, "trained": 0, "lost": {}, "first_skipped": "", "checks": {}}
    artefacts = []
    for kind, name, facts in (
        ("posttraining", "sft", {"sources": {"chats": COUNTS, "others": other}}),
        ("alignment", "apo", {"rows": 4}),  # of a run before there were counts
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps({"facts": facts}))
        artefacts.append(ReportArtefact(kind, name, tmp_path / name, 0, GraphStage(name, name, name, name)))
    table, checks = conversation_table(artefacts)
    assert isinstance(checks, Table) and checks.rows == [["sft", "chats", "2 rows (5, 9): an answer is empty"]]
    assert isinstance(table, Table) and len(table.rows) == 2 and len(table.files) == 1
    found = dict(zip(table.columns, table.rows[0], strict=True))
    assert (found["Step"], found["Source"], found["Skipped"], found["Trained"]) == ("sft", "chats", "2", "1,195")
    assert found["Of the step"] == "100.0%" and found["Targets"] == "50.0%" and found["Tokens a row"] == "20"
    assert found["Skipped first"] == COUNTS["first_skipped"] and table.rows[1][-1] == "–"
    assert "reasoning of 4 rows of chats in sft" in table.caption
    assert conversation_table(artefacts[1:]) == []
