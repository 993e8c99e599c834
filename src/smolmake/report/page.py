"""The page: sections in order, the headline, and where every figure comes from."""

import json
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import jinja2
import pyarrow as pa
import yaml

from smolmake.execution.kinds import KINDS
from smolmake.recipe.schema import Recipe
from smolmake.report.artifacts import GraphData, ReportArtefact, of_kind
from smolmake.report.blocks import Fact, ReportSection
from smolmake.report.checkpoints import Checkpoint, own_checkpoints, read_checkpoints
from smolmake.report.expectations import Outcome, check_all
from smolmake.report.score_table import SCORES, score_table, write_scores
from smolmake.report.sections.comparison import comparison_section
from smolmake.report.sections.data import data_section, tokenizer_section
from smolmake.report.sections.effects import effect_section, expectations_section
from smolmake.report.sections.evaluation import evaluation_section, extreme_scores, final_loss, samples_section
from smolmake.report.sections.mixtures import mixture_section
from smolmake.report.sections.questions import score_folders
from smolmake.report.sections.training import graph_section, time_of_all, trained_tokens, training_section
from smolmake.report.text import compact
from smolmake.report.token_axis import PlacedSegment, place_segments

COMMAND = ".venv/bin/smolmake run {recipe} -- --forcerun report"


def unique(files: Iterable[str]) -> list[str]:
    """Each file once, in the order given."""
    return list(dict.fromkeys(files))


def headline(
    artefacts: list[ReportArtefact], segments: list[PlacedSegment], scored: list[Checkpoint], outcomes: list[Outcome]
) -> list[Fact]:
    """Parameters, tokens, time, loss, and best and weakest score; what is not known is left out."""
    facts = []
    models = of_kind(artefacts, *(name for name, kind in KINDS.items() if kind.model))
    if counted := [a for a in models if "parameters" in a.facts]:
        parameters = compact(counted[-1].facts["parameters"])
        facts.append(Fact("Parameters", parameters, "", [counted[-1].file("manifest.json")]))
    facts += [*trained_tokens(segments), *time_of_all(artefacts), *final_loss(scored)]
    if outcomes:
        holding = f"{sum(o.verdict == 'holds' for o in outcomes)} of {len(outcomes)}"
        files = [f for o in outcomes for f in o.files]
        facts.append(Fact("Expectations that hold", holding, "what each step should do", files))
    return facts + extreme_scores(scored)


def build_page(
    artefacts: list[ReportArtefact], graph: GraphData, recipe: Recipe, scores: pa.Table
) -> tuple[list[Fact], list[ReportSection]]:
    """The headline, and the sections that this run has something to say in; `scores` is the table of all scores."""
    checkpoints, segments = read_checkpoints(artefacts, scores), place_segments(artefacts)
    own, folders = own_checkpoints(checkpoints), score_folders(artefacts)
    outcomes = check_all(recipe.expectations, artefacts, checkpoints)
    sections = [
        graph_section(graph, artefacts),
        data_section(artefacts, recipe),
        tokenizer_section(artefacts),
        mixture_section(artefacts),
        training_section(artefacts, segments),
        evaluation_section(artefacts, checkpoints),
        effect_section(own, list(recipe.expectations.scores.values()), folders),
        comparison_section(checkpoints, recipe.evaluation.published, folders),
        expectations_section(outcomes),
        samples_section(artefacts),
    ]
    return headline(artefacts, segments, own or checkpoints[:1], outcomes), [section for section in sections if section]


def write_report(
    artefacts: list[ReportArtefact], graph: GraphData, recipe: Recipe, out: Path, file: str = ""
) -> dict[str, list[str]]:
    """Write report.html, the table of all scores and sources.json (figure id -> files it comes from) into `out`;
    return the last.

    The files are named relative to the results root. `file` is the recipe's, for the command that makes the report
    again. The same input gives the same bytes.
    """
    scores = score_table(artefacts, recipe.name)
    write_scores(scores, out / SCORES)
    facts, sections = build_page(artefacts, graph, recipe, scores)
    sources = {"headline": unique(file for fact in facts for file in fact.files)} if facts else {}
    numbers, counts = {"headline": "Headline"}, Counter[str]()
    for block in (b for section in sections for b in section.blocks):
        counts[block.kind] += 1
        numbers[block.id] = f"{block.kind} {counts[block.kind]}"
        sources[block.id] = unique(block.files)
    loader, strict = jinja2.PackageLoader("smolmake.report", "."), jinja2.StrictUndefined
    jinja = jinja2.Environment(loader=loader, undefined=strict, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = jinja.get_template("template.html.j2").render(
        title=recipe.title or recipe.name,
        description=recipe.description,
        facts=facts,
        sections=sections,
        sources=sources,
        numbers=numbers,
        command=COMMAND.format(recipe=shlex.quote(file or recipe.name)),
        recipe=yaml.safe_dump(recipe.printed(), sort_keys=False, allow_unicode=True),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.html").write_text(page, encoding="utf-8")
    (out / "sources.json").write_text(json.dumps(sources, indent=1) + "\n", encoding="utf-8")
    return sources
