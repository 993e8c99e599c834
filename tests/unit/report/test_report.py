"""The report page: one file, offline, every figure with its source, nothing left unescaped."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.report_run import EVIL, SOURCES, make_recipe, make_run

from smolmake.graph.stages import GraphStage, recipe_stages
from smolmake.recipe.expectations import Expectations
from smolmake.recipe.schema import Recipe
from smolmake.report.artifacts import GraphData, GraphNode, ReportArtefact
from smolmake.report.blocks import Chart, Details, ReportSection, Table
from smolmake.report.charts.graph import draw_graph
from smolmake.report.checkpoints import Checkpoint, HeldOut, Score, read_checkpoints
from smolmake.report.page import build_page, write_report
from smolmake.report.score_table import score_table
from smolmake.report.sections.evaluation import (
    extreme_scores,
    formulations,
    groups_of,
    heldout_figures,
    samples_section,
    score_figures,
)
from smolmake.report.sections.training import graph_section, versions_table
from smolmake.report.token_axis import place_segments

Run = tuple[Path, list[ReportArtefact], str, dict[str, list[str]]]
STAGES = recipe_stages(make_recipe())


def silent() -> Recipe:
    """The recipe without expectations."""
    return make_recipe().model_copy(update={"expectations": Expectations()})


def build_sections(artefacts: list[ReportArtefact], recipe: Recipe | None = None) -> list[ReportSection]:
    return build_page(artefacts, GraphData([], []), recipe or make_recipe(), score_table(artefacts, "toy"))[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("results")
    artefacts, graph, recipe = make_run(root)
    out = root / "report" / "toy-00"
    sources = write_report(artefacts, graph, recipe, out)
    return root, artefacts, (out / "report.html").read_text(encoding="utf-8"), sources


def test_page_loads_nothing_from_elsewhere(run: Run) -> None:
    page = run[2]
    assert not re.search(r"<(link|script|img|iframe|object|embed)\b", page)
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page)
    assert not re.search(r"@import|url\(", page)


def test_every_figure_names_files_that_exist(run: Run) -> None:
    root, _, page, sources = run
    figures = re.findall(r'<figure id="([^"]+)"', page)
    assert len(figures) == len(set(figures)) >= 15
    assert set(figures) | {"headline"} == set(sources)
    for figure, files in sources.items():
        assert files, figure
        assert [f for f in files if not (root / f).is_file()] == [], figure
    assert json.loads((root / "report" / "toy-00" / "sources.json").read_text()) == sources


def test_links_within_the_page_lead_somewhere(run: Run) -> None:
    page = run[2]
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_text_from_the_run_is_escaped(run: Run) -> None:
    page = run[2]
    assert EVIL not in page and "<script" not in page and "<img" not in page
    assert "&lt;script&gt;alert" in page and "<h1>A &lt;title&gt;</h1>" in page
    assert "&lt;think&gt;" in page


def test_a_slow_encoder_is_named_with_its_reason(run: Run) -> None:
    table = next(block for section in build_sections(run[1]) for block in section.blocks if block.id == "tab-encoders")
    assert isinstance(table, Table) and len(table.files) == len(SOURCES)
    fast, slow = ([str(cell) for cell in row] for row in table.rows)
    assert fast == ["tokenizers 1.0.0-rc.3", "6 sources: python-code, english, mathematics, spanish and 2 more", "–"]
    assert slow == ["tokenizers 0.23.3", "1 source: german", "it gives other ids on 'xyzzy'"]


def test_headings_are_in_order_and_drawings_have_words(run: Run) -> None:
    page = run[2]
    assert page.count("<h1") == 1 and "<h3" not in page
    for drawing in re.findall(r"<svg\b.*?</svg>", page, re.DOTALL):
        assert re.match(r"<svg[^>]*role=\"img\"[^>]*><title>[^<]+</title><desc>[^<]+</desc>", drawing), drawing[:200]
        assert "nan" not in drawing.lower() and "inf" not in re.sub(r"<(title|desc)>.*?<", "", drawing)


def test_same_input_same_bytes(run: Run, tmp_path: Path) -> None:
    artefacts, graph, recipe = make_run(tmp_path)
    write_report(artefacts, graph, recipe, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8") == run[2]


def test_order_of_the_artefacts_in_the_list_does_not_matter(run: Run, tmp_path: Path) -> None:
    artefacts, graph, recipe = make_run(tmp_path)
    write_report(artefacts[::-1], graph, recipe, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.split('id="source-headline"')[0] == run[2].split('id="source-headline"')[0]


@pytest.mark.parametrize(
    "kinds, expected",
    [
        (set(), ["expectations"]),
        ({"documents"}, ["data", "expectations"]),
        ({"tokenizer_comparison"}, ["tokenizer", "expectations"]),
        ({"mixture"}, ["mixtures", "expectations"]),
        ({"segment"}, ["training", "expectations"]),
        ({"posttraining"}, ["training", "expectations"]),
        ({"evaluation"}, ["evaluation", "effect", "expectations", "samples"]),
        (
            {"documents", "shards", "segment", "evaluation"},
            ["data", "training", "evaluation", "effect", "expectations", "samples"],
        ),
    ],
)
def test_what_is_missing_is_left_out(run: Run, tmp_path: Path, kinds: set[str], expected: list[str]) -> None:
    some = [a for a in run[1] if a.kind in kinds]
    assert [s.id for s in build_sections(some)] == expected
    sources = write_report(some, GraphData([], []), make_recipe(), tmp_path)
    assert ("headline" in sources) == ("headline" in (tmp_path / "report.html").read_text().split("</header>")[0])


def test_run_without_post_training(run: Run, tmp_path: Path) -> None:
    some = [a for a in run[1] if not a.stage.post_trains]
    sections = {s.id: s for s in build_sections(some)}
    assert "effect" not in sections and [b.id for b in sections["training"].blocks] == [
        "fig-loss",
        "fig-throughput",
    ]


def test_metrics_of_a_run_that_was_killed_and_resumed(tmp_path: Path) -> None:
    lines = [{"step": s, "tokens": s, "loss": loss} for s, loss in ((1, 5.0), (2, 4.0), (3, 9.0), (3, 3.0))]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"step": 4, "tok'
    (tmp_path / "metrics.jsonl").write_text(text)
    read = ReportArtefact("segment", "s", tmp_path, 0, STAGES["main"]).metrics
    assert [(m.step, m.loss) for m in read] == [(1, 5.0), (2, 4.0), (3, 3.0)]


def test_the_headline_has_the_parameters_that_a_manifest_states(run: Run) -> None:
    segment = [a for a in run[1] if a.kind == "segment"][-1]
    assert "1.84M" in run[2].split("</header>")[0] and segment.file("manifest.json") in run[3]["headline"]


def test_extensions_continue_the_token_axis(run: Run) -> None:
    assert f"{460 * 4096 + 2 * 60 * 4096:,}" == "2,375,680" and "2.38M tokens" in run[2]


def test_stages_are_taken_from_the_graph_whatever_their_names(run: Run) -> None:
    segments = place_segments(run[1])
    assert [s.label for s in segments][:3] == ["main, 0–150", "main, 150–300", "stage10, 300–350"]
    assert list(dict.fromkeys(s.stage.name for s in segments)) == ["main", "stage10", "stage2", "longer", "lc2"]
    assert [s.offset // 4096 for s in segments] == [0] * 6 + [460] * 2 + [520] * 2
    training = next(s for s in build_sections(run[1]) if s.id == "training")
    loss, throughput = (str(block.pictures[0]) for block in training.blocks[:2] if isinstance(block, Chart))
    for name in ("main", "stage10", "stage2", "longer", "lc2"):
        assert f">{name}</text>" in loss and f">{name}, " in throughput
    assert "10 segments, 2.38M tokens, 580 optimizer steps" in training.lead
    effect = next(s for s in build_sections(run[1]) if s.id == "effect")
    assert isinstance(effect.blocks[1], Table)
    headings = [row[0] for row in effect.blocks[1].rows if len(row) == 1]
    assert headings[0] == "mid-training: lc2-30-60 → mid" and headings[-1] == "merge: apo → merged"


def test_what_is_expected_of_post_training_comes_first_and_the_rest_is_folded(run: Run) -> None:
    effect = next(s for s in build_sections(run[1]) if s.id == "effect")
    first, rest = effect.blocks
    assert isinstance(first, Table) and isinstance(rest, Table) and rest.folded and not first.folded
    measures = [{row[0] for row in table.rows if len(row) > 1} for table in (first, rest)]
    assert measures[0] == {"Chat, format", "Chat, switch", "Chat, answer"}
    assert {"Facts", "Needle long", "Preferences"} < measures[1]  # of facts and needles something is expected before
    (all_open,) = (
        s for s in build_page(run[1], GraphData([], []), silent(), score_table(run[1], "toy"))[1] if s.id == "effect"
    )
    assert [block.id for block in all_open.blocks] == ["tab-effect"]


def test_counts_of_epochs_stand_for_the_mixtures(run: Run, tmp_path: Path) -> None:
    stages = []
    for a in run[1]:
        if a.kind == "mixture":
            capped = a.stage.section == "pretraining"
            stages.append(json.loads((a.path / "mixture.json").read_text()) | {"capped": capped})
    for source in stages[1]["sources"].values():
        source["padding"] = 0.02
    folder = tmp_path / "epochs" / "toy-00"
    folder.mkdir(parents=True)
    (folder / "epochs.json").write_text(json.dumps({"stages": stages}))
    section, _ = build_sections([ReportArtefact("epochs", "toy", folder, 0, STAGES["data"])])
    assert section.id == "mixtures" and set(section.blocks[0].files) == {"epochs/toy-00/epochs.json"}
    table = section.blocks[1]
    assert isinstance(table, Table) and "of 4" in table.rows[0][2] and "of 4" not in table.rows[0][5]
    assert table.rows[-1][:5] == ["padding", "", "–", "2.00%", "–"]


def test_the_overlap_with_the_data_stands_beside_the_scores() -> None:
    counts = {"facts": (7, 4), "another": (None, None)}
    scores = [Score(task, "acc", 0.5, 0.4, 0.6, 10, 0.25, "CF", items_searched=items, items_found=found)
              for task, (items, found) in counts.items()]  # fmt: skip
    file, by_key = "evaluation/x/scores.json", {score.key: score for score in scores}
    checkpoint = Checkpoint("main-0-8", "main", STAGES["main"], 1000, by_key, [], file)
    searched = ["documents/a/cleaning.json", "overlap/b/overlap.json"]
    table = next(block for block in score_figures([checkpoint], searched) if isinstance(block, Table))
    assert sorted(map(str, table.rows[-1])) == sorted(["Items found in the data", "", "4 of 7", "not looked for"])
    clean = {"clean_n": 6, "clean_value": 0.25, "clean_low": 0.1, "clean_high": 0.5}
    by_key = {key: replace(score, **clean) for key, score in by_key.items()}
    table = next(b for b in score_figures([replace(checkpoint, scores=by_key)], searched) if isinstance(b, Table))
    assert "25.0<small" in str(table.rows[-1][2]) and "10–50" in str(table.rows[-1][2]) and table.rows[-1][3] == "–"
    assert set(searched) < set(table.files)


def test_texts_of_white_space_are_told_in_words(run: Run, tmp_path: Path) -> None:
    evaluation = next(a for a in run[1] if a.kind == "evaluation")
    samples = [{"kind": "chat", "text": text} for text in ("", " \n\n", "words")]
    (tmp_path / "samples.json").write_text(json.dumps({"samples": samples}))
    alone = ReportArtefact("evaluation", "x", tmp_path, 0, evaluation.stage)
    write_report([alone], GraphData([], []), silent(), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text().split('id="txt-samples"')[1].split("</figure>")[0]
    assert re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL) == ["nothing", "only white space", "words"]


def test_many_sources_stay_readable() -> None:
    names = [f"source-number-{k}" for k in range(40)]
    heldout = [HeldOut(name, "code", 100, 1.0, 1.0, 0.9, 1.1) for name in names]
    chart, table = heldout_figures([Checkpoint("a", "", STAGES["main"], 10, {}, heldout, "evaluation/x/scores.json")])
    assert isinstance(chart, Chart) and isinstance(table, Table)
    shown = [re.findall(r'<tspan class="name c\d"[^>]*>(.*?)</tspan>', str(picture)) for picture in chart.pictures]
    assert [name for group in shown for name in group] == names and {len(group) for group in shown} == {2}
    assert "code, 1 of 20" in chart.pictures[0] and [*table.columns] == ["Source", "a"]
    assert [row[0] for row in table.rows] == ["Tokens", *names]
    assert groups_of(list("abcdefgh")) == [list("abcdef"), list("gh")]


def test_other_versions_of_libraries_are_told_with_their_stages(run: Run, tmp_path: Path) -> None:
    artefacts = []
    for name, stage, version in (("a", "main", "2.12"), ("b", "sft", "2.13"), ("c", "main", "2.12")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(json.dumps({"python": "3.11", "versions": {"torch": version}}))
        artefacts.append(ReportArtefact("segment", name, tmp_path / name, len(artefacts), STAGES[stage]))
    (table,) = versions_table(artefacts)
    assert isinstance(table, Table) and len(table.files) == 3 and versions_table([]) == []
    assert table.rows == [["Python", "3.11", "–"], ["torch", "2.12", "2.13 (1 step: SFT)"]]


def test_names_that_are_longer_than_their_card_are_cut() -> None:
    stage = GraphStage("a", "pretraining", "a-stage-with-a-name-that-no-card-holds", "a")
    others = [GraphStage(k, "pretraining", f"another-stage-{k}", k) for k in "bcdefghijkl"]
    nodes = [GraphNode(s.name, "segment", s, "missing") for s in [*others, stage]]
    drawn = str(draw_graph(GraphData(nodes, [("b", "a"), ("c", "a")])))
    title, after = re.findall(r">([^<]+)…</text>", drawn)
    assert stage.title.startswith(title) and "after another-stage-b and".startswith(after)
    assert f"<title>{stage.title}: 1 to run, after another-stage-b and another-stage-c</title>" in drawn


def test_every_score_stands_by_task_metric_filter_and_length() -> None:
    """In percent where it is a share; how answers came out stands beside it."""
    scores = [
        Score(
            "gsm8k", "exact_match", 0.5, 0.4, 0.6, 10, 0.0, "FG", (), "maths", "strict-match", thoughts=0.75, cut=0.1
        ),
        Score("gsm8k", "exact_match", 0.7, 0.6, 0.8, 10, 0.0, "FG", (), "maths", "flexible-extract", thoughts=0.75),
        Score("niah", "8192", 1.0, 0.8, 1.0, 12, 0.0, "FG", (), "long", length=8192),
        Score("wmt", "bleu", 23.4567, 20.04, 27.0, 50, 0.0, "FG", (), "translation", share=False),
        Score("exam", "acc", 0.3, 0.2, 0.4, 9, 0.25, "CF", merged=(3, 4), items_searched=8, items_found=2),
    ]
    checkpoint = Checkpoint(
        "sft", "sft", STAGES["sft"], 1000, {s.key: s for s in scores}, [], "evaluation/x/scores.json"
    )
    chart, table, answers = score_figures([checkpoint], ["documents/a/cleaning.json"])
    assert isinstance(chart, Chart) and isinstance(table, Table) and isinstance(answers, Table)
    cells = {str(row[0]): [*map(str, row[1:])] for row in table.rows}
    titles = ["Gsm8k, exact match, strict-match (maths)", "Gsm8k, exact match, flexible-extract (maths)",
              "Niah, 8,192 tokens (long)", "Wmt, bleu (translation)", "Exam"]  # fmt: skip
    assert list(cells)[1:] == titles
    assert [cells[title][1] for title in titles] == ["10", "10", "12", "50", "9"]
    assert "23.46" in cells[titles[3]][0] and "20–27" in cells[titles[3]][0] and cells["Exam"][2] == "2 of 8"
    assert "50.0" in cells[titles[0]][0] and "70.0" in cells[titles[1]][0]
    assert answers.rows == [["sft", "gsm8k (maths)", "75.0%", "0.0%", "10.0%", "0", "0"],
                            ["sft", "exam", "–", "–", "–", "0", "2"]]  # fmt: skip


def test_documents_add_up(run: Run) -> None:
    (data,) = (s for s in build_sections(run[1]) if s.id == "data")
    table = data.blocks[0]
    assert isinstance(table, Table) and [*table.columns][4:7] == ["Documents read", "Kept", "Held out"]
    for row in table.rows:
        read, kept, *rest = (int(str(cell).split("<")[0].replace(",", "")) for cell in row[4:])
        assert read == kept + sum(rest) and rest[0] > 0
    assert f"{table.rows[-1][6]} are held out for evaluation" in data.lead


def test_each_piece_of_a_mixture_can_be_told(run: Run) -> None:
    (section,) = (s for s in build_sections(run[1]) if s.id == "mixtures")
    chart = section.blocks[0]
    assert isinstance(chart, Chart) and len(chart.legend) == len(SOURCES)
    number = next(text.split()[0] for text, _ in chart.legend if text.endswith(" word-problems (math)"))
    piece = re.search(r"<title>main: word-problems \(math\) 2.0%</title>.*?</g>", str(chart.pictures[0]))
    assert piece and f">{number}</text>" in piece[0]


def test_the_formulations_that_occur_are_explained(run: Run) -> None:
    caption = run[2].split('id="fig-tasks"')[1].split("</figcaption>")[0]
    assert "CF: cloze" in caption and "FG: free generation" in caption and "chance 25%" in caption
    score = Score("facts", "acc", 0.5, 0.4, 0.6, 10, 0.25, "CF")
    only = formulations([Checkpoint("a", "a", STAGES["main"], 0, {score.key: score}, [], "f")])
    assert "CF" in only and "FG" not in only and formulations([]) == ""


def test_the_headline_has_the_weakest_score_too(run: Run) -> None:
    (found,) = extreme_scores(read_checkpoints(run[1], score_table(run[1], "toy")))
    assert found.label == "Best and weakest of 10 measures" and found.note == "checkpoint merged"
    assert re.fullmatch(r"[A-Z].* \d+%( \(chance \d+%\))?, [A-Z].* \d+% \(chance \d+%\)", found.value)
    assert extreme_scores([]) == []


@pytest.mark.parametrize("after, said", [(1.5, True), (1.02, False), (0.5, False)])
def test_a_held_out_loss_that_gets_worse_is_told(after: float, said: bool) -> None:
    def checkpoint(name: str, stage: str, bits: float) -> Checkpoint:
        heldout = [HeldOut("english", "web", 100, bits, bits, bits - 0.05, bits + 0.05)]
        return Checkpoint(name, name, STAGES[stage], 0, {}, heldout, "evaluation/x/scores.json")

    run = [checkpoint("longer", "longer", 1.0), checkpoint("sft", "sft", 1.7), checkpoint("merged", "merge", after)]
    captions = [heldout_figures(found)[0].caption for found in (run, run[:1], run[2:])]
    assert ("worse: over all sources 1.000 at longer and 1.500 at merged, a change of +0.500" in captions[0]) == said
    assert ("worse" in captions[0]) == said and "worse" not in captions[1] + captions[2]


def test_the_graphs_caption_and_legend_have_only_what_occurs() -> None:
    def figure(*nodes: GraphNode, **about: Any) -> tuple[str, list[str]]:
        section = graph_section(GraphData(list(nodes), [], waits={"report": 9.0, "a": 9.0 * len(about)}, **about), [])
        assert section and isinstance(section.blocks[0], Chart)
        return section.blocks[0].caption, [label for label, _ in section.blocks[0].legend]

    stage = GraphStage("a", "pretraining", "a", "a")
    done, left = GraphNode("x", "segment", stage, "done", 5.0), GraphNode("y", "segment", stage, "missing", None, 2.0)
    assert figure(done) == (
        "The steps of the run by stage: how many are done and the time they took, summed.",
        ["done"],
    )
    caption, legend = figure(done, left, price=2.0)
    assert (
        legend == ["in part"] and "GPU-hours and price and the stage's share" in caption and "nobody knows" in caption
    )
    caption, legend = figure(left)
    assert legend == ["to run"] and "GPU-hours" in caption and "price" not in caption and "took" not in caption
    assert figure(left, uncertain={"a guess": 2.0})[0].endswith(" 2 of the GPU-hours are uncertain: a guess.")


def test_the_samples_of_the_last_checkpoint_are_first_and_open(run: Run) -> None:
    section = samples_section(run[1])
    assert section and isinstance(section.blocks[0], Details)
    labels = [summary for summary, _ in section.blocks[0].groups]
    assert labels[0] == "merged: 2 samples" and labels[-1].startswith("main-0-150")
    assert run[2].count("<details open>") == 1 and "<details open><summary>merged: 2 samples" in run[2]


def test_contents_and_command(run: Run, tmp_path: Path) -> None:
    assert run[2].count("Where every figure comes from") == 2
    assert ".venv/bin/smolmake run toy -- --forcerun report" in run[2]
    write_report(run[1], GraphData([], []), silent(), tmp_path, "my recipes/a.yaml")
    assert "smolmake run &#39;my recipes/a.yaml&#39; -- --forcerun" in (tmp_path / "report.html").read_text()
