"""The report shows what a segment measured and what happened to it, and which tokens were not trained on."""

import json
from pathlib import Path

import pytest
from helpers.report_run import make_recipe

from smolmake.graph.stages import GraphStage
from smolmake.report.artifacts import GraphData, ReportArtefact
from smolmake.report.blocks import Chart, ReportSection, Table
from smolmake.report.page import build_page, write_report
from smolmake.report.score_table import score_table
from smolmake.report.sections.training import trained_tokens
from smolmake.report.token_axis import place_segments

TOKENS = 1000
STAGE = GraphStage("stage1", "pretraining", "stage1", "stage1")
EVENTS = [
    {"time": "2026-01-01T10:00:00Z", "kind": "dropped", "step": 9, "what": "went back to step 4"},
    {"time": "2026-01-01T10:01:00Z", "kind": "throughput_drop", "step": 13, "what": "throughput sags"},
    {"time": "2026-01-01T10:02:00Z", "kind": "dropped", "step": 19, "what": "went <back> to step 12"},
]
FACTS = {"dropped_steps": [[5, 9]], "dropped_tokens": 5 * TOKENS, "dropped_by_source": {"web": 4, "code": 1}}


@pytest.fixture
def artefacts(tmp_path: Path) -> list[ReportArtefact]:
    folder = tmp_path / "results/segment/stage1-0-40-abc"
    folder.mkdir(parents=True)
    lines = []
    for step in range(40):
        line = {"step": step, "tokens": (step + 1) * TOKENS, "loss": 5 - step / 20, "learning_rate": 1e-3}
        if 5 <= step <= 9:
            line |= {"loss": None, "dropped": "a spike"}
        elif step % 2 == 0:
            # Each measure's own ratio is far off 60; that of the averages is not.
            line |= {"gradient_square": 1.0 if step % 4 else 3.0, "gradient_variance": 120.0, "sequences": 8}
            line |= {"source_loss": {"web": 4.0, "code": 2.0}}
        lines.append(json.dumps(line))
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, EVENTS)) + '\n{"kind": "cut')
    (folder / "manifest.json").write_text(json.dumps({"facts": FACTS}))
    mixture = tmp_path / "results/mixture/stage1-abc"
    mixture.mkdir(parents=True)
    source = {"share": 0.5, "epochs_after": 0.5, "max_epochs": 4.0, "domain": "web"}
    told = {"stage": "stage1", "sequences": 40, "sequence_length": TOKENS, "sources": {"web": source, "code": source}}
    (mixture / "mixture.json").write_text(json.dumps(told))
    return [
        ReportArtefact("segment", "stage1-0-40", folder, 1, STAGE),
        ReportArtefact("mixture", "stage1", mixture, 0, STAGE),
    ]


def sections(artefacts: list[ReportArtefact]) -> dict[str, ReportSection]:
    return {
        section.id: section
        for section in build_page(artefacts, GraphData([], []), make_recipe(), score_table(artefacts, "toy"))[1]
    }


def test_events_are_listed_by_kind_in_order_of_time(artefacts: list[ReportArtefact]) -> None:
    (table,) = (block for block in sections(artefacts)["training"].blocks if block.id == "tab-events")
    assert isinstance(table, Table) and table.files == ["segment/stage1-0-40-abc/events.jsonl"]
    assert [row[1:] for row in table.rows] == [
        ["throughput", "throughput sags", "1", "13"],
        ["roll-back, steps dropped", "went <back> to step 12", "2", "19"],
    ]


def test_tokens_that_were_dropped_are_told_and_not_counted_as_trained(artefacts: list[ReportArtefact]) -> None:
    (table,) = (block for block in sections(artefacts)["mixtures"].blocks if block.id == "tab-dropped")
    assert isinstance(table, Table) and table.rows == [["code", "1"], ["web", "4"]] and "5k tokens" in table.caption
    (trained,) = trained_tokens(place_segments(artefacts))
    assert trained.value == "35k" and "segment/stage1-0-40-abc/manifest.json" in trained.files


def test_the_noise_scale_is_a_ratio_of_averages_beside_the_batch(artefacts: list[ReportArtefact]) -> None:
    charts = {block.id: block for block in sections(artefacts)["training"].blocks if isinstance(block, Chart)}
    picture = str(charts["fig-noise-scale"].pictures[0])
    assert "with batches of 8" in picture and charts["fig-noise-scale"].legend[1] == ("batch", "c2")
    at_the_end = float(picture.split("At the end ")[1].split(" ")[0])
    assert 45 < at_the_end < 80  # of averages 120 and 2; a single measure says 40 or 120
    assert "At the end: code 2, web 4." in str(charts["fig-source-loss"].pictures[0])
    assert [label for label, _ in charts["fig-source-loss"].legend] == ["code", "web"]


def test_the_page_escapes_what_happened(artefacts: list[ReportArtefact], tmp_path: Path) -> None:
    write_report(artefacts, GraphData([], []), make_recipe(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "went &lt;back&gt; to step 12" in page and "<back>" not in page


def test_without_measures_and_events_nothing_is_shown(artefacts: list[ReportArtefact]) -> None:
    folder = artefacts[0].path
    (folder / "events.jsonl").unlink()
    (folder / "manifest.json").write_text(json.dumps({"facts": {"dropped_steps": []}}))
    plain = [{key: line[key] for key in ("step", "tokens", "loss", "learning_rate")}
             for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]  # fmt: skip
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, plain)))
    found = sections(artefacts)
    assert [block.id for block in found["training"].blocks] == ["fig-loss"]
    assert "tab-dropped" not in [block.id for block in found["mixtures"].blocks]
