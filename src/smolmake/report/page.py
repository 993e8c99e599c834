"""The page: sections in order, the headline, and where every figure comes from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from smolmake.execution.kinds import KINDS
from smolmake.report.artifacts import (
    GraphData,
    ReportArtefact,
    count_parameters,
    of_kind,
    read_checkpoints,
)
from smolmake.report.blocks import Section, unique
from smolmake.report.sections.data import data_section, tokenizer_section
from smolmake.report.sections.effects import all_claims, claims_section, effect_section
from smolmake.report.sections.evaluation import (
    evaluation_section,
    extreme_scores,
    final_loss,
    samples_section,
)
from smolmake.report.sections.mixtures import mixture_section
from smolmake.report.sections.training import graph_section, trained_tokens, training_section, wall_seconds
from smolmake.report.text import compact, duration

COMMAND = ".venv/bin/snakemake --workflow-profile profiles/local --config recipe={recipe} --forcerun report"
NUMBERED = {"chart": "Figure", "table": "Table", "folds": "Listing"}


@dataclass(frozen=True)
class Fact:
    """One number of the headline."""

    label: str
    value: str
    note: str
    files: list[str]


def headline(artefacts: list[ReportArtefact]) -> list[Fact]:
    """Parameters, tokens, time, loss, and best and weakest score; what is not known is left out."""
    facts = []
    models = of_kind(artefacts, *(kind for kind in KINDS if KINDS[kind].model))
    counted = next((c for a in reversed(models) if (c := count_parameters(a))), None)
    if counted:
        facts.append(Fact("Parameters", compact(counted[0]), "", [counted[1]]))
    tokens, token_files = trained_tokens(artefacts)
    if tokens:
        facts.append(Fact("Tokens trained", compact(tokens), "pretraining and long context", token_files))
    seconds, second_files = wall_seconds(artefacts)
    if seconds:
        facts.append(Fact("Time", duration(seconds), "all steps summed", second_files))
    if loss := final_loss(artefacts):
        facts.append(Fact("Held-out loss", f"{loss[0]:.3f}", "bits per byte, base model", loss[1]))
    if claims := all_claims(artefacts, read_checkpoints(artefacts)):
        facts.append(
            Fact(
                "Claims that hold",
                f"{sum(c.verdict == 'holds' for c in claims)} of {len(claims)}",
                "what each step should do",
                [f for c in claims for f in c.files],
            )
        )
    if extremes := extreme_scores(artefacts):
        facts.append(Fact(*extremes))
    return facts


def build_sections(artefacts: list[ReportArtefact], graph: GraphData, recipe: dict[str, Any]) -> list[Section]:
    """The sections that this run has something to say in."""
    sections = [
        graph_section(graph, artefacts),
        data_section(artefacts, recipe),
        tokenizer_section(artefacts),
        mixture_section(artefacts),
        training_section(artefacts),
        evaluation_section(artefacts),
        effect_section(artefacts),
        claims_section(artefacts),
        samples_section(artefacts),
    ]
    return [section for section in sections if section]


def write_report(
    title: str,
    description: str,
    artefacts: list[ReportArtefact],
    graph: GraphData,
    recipe: dict[str, Any],
    out: Path,
) -> dict[str, list[str]]:
    """Write report.html into `out` and sources.json (figure id -> files it comes from); return the latter.

    The files are named relative to the results root. The same input gives the same bytes.
    """
    sections = build_sections(artefacts, graph, recipe)
    facts = headline(artefacts)
    sources = {"headline": unique([file for fact in facts for file in fact.files])} if facts else {}
    numbers: dict[str, str] = {"headline": "Headline"}
    counts = dict.fromkeys(NUMBERED, 0)
    for block in (b for section in sections for b in section.blocks):
        counts[block.kind] += 1
        numbers[block.id] = f"{NUMBERED[block.kind]} {counts[block.kind]}"
        sources[block.id] = unique(block.files)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smolmake.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("template.html.j2").render(
        title=title,
        description=description,
        facts=facts,
        sections=sections,
        sources=sources,
        numbers=numbers,
        command=COMMAND.format(recipe=recipe.get("name", "NAME")),
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True) if recipe else "",
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.html").write_text(page, encoding="utf-8")
    (out / "sources.json").write_text(json.dumps(sources, indent=1) + "\n", encoding="utf-8")
    return sources
