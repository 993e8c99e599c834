"""Follow the data of a training run, in both directions.

    smolmake inspect code 12                 document 12 of the source `code`, and the steps and rows that read it
    smolmake trace 120 3                     the documents in row 3 of step 120
    smolmake trace 120 3 --segment results/segment/stage1-0-150-ID

`--recipe` looks at all segments of a recipe's last finished run (results/latest), `--segment` at one of any run, and
`--stage` chooses among stages. Steps are counted as in metrics.jsonl: over all stages of pretraining, and from 0 in
each long-context extension. The beginning of the row or document is shown as text.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smolmake.data.loader import BatchReader, open_mixture, open_mixture_shards
from smolmake.data.tokenizer import load_tokenizer
from smolmake.errors import UserError, did_you_mean
from smolmake.execution.manifest import RECORD
from smolmake.graph.specs.pretrain import SegmentSpec
from smolmake.recipe.schedule import BatchPiece

SHOWN = 60  # tokens
LATEST = Path("results/latest")
BEFORE = BatchPiece(
    start=-(2**62), size=1, sequences_before=0
)  # where positions go that come before the steps of the batches known


@dataclass(frozen=True)
class Stretch:
    """Steps [start, end) of a stage, and what they read."""

    stage: str
    start: int
    end: int
    reader: BatchReader
    results: Path
    shards: dict[str, str]  # source -> folder under results
    tokenizer: str  # folder under results

    def text(self, tokens: NDArray[np.int64]) -> str:
        """The beginning of some tokens as text; says so where the tokenizer has been removed."""
        folder = self.results / self.tokenizer
        if not (folder / "tokenizer.json").is_file():
            return f"(no text: results/{self.tokenizer} is not there)"
        return load_tokenizer(folder).decode(tokens[:SHOWN].tolist())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    if parser.get_default("command") == "trace":
        parser.add_argument("step", type=int, metavar="STEP", help="a step, as metrics.jsonl counts them")
        parser.add_argument("row", type=int, metavar="ROW", help="a row of its global batch, from 0")
    else:
        parser.add_argument("source", metavar="SOURCE", help="the name of a source")
        parser.add_argument("number", type=int, metavar="NUMBER", help="a document of it, from 0")
        parser.add_argument("--until", type=int, metavar="STEP", help="look only at the steps before this one")
    parser.add_argument("--recipe", default="toy", help="the name of a recipe that has run (default: toy)")
    parser.add_argument("--segment", type=Path, metavar="FOLDER", help="one segment, instead of a recipe's last run")
    parser.add_argument("--stage", help="such as stage1 or lc1")


def run(arguments: argparse.Namespace) -> None:
    stretches = open_stretches(segment_folders(arguments.recipe, arguments.segment), arguments.stage)
    if arguments.command == "trace":
        show_row(stretches, arguments.step, arguments.row)
    else:
        show_document(stretches, arguments.source, arguments.number, arguments.until)


def segment_folders(recipe: str, segment: Path | None) -> list[Path]:
    """The folder that was named, or those of the recipe's last run."""
    if segment is not None:
        return [segment]
    place = LATEST / recipe / "segment"
    if not place.is_dir():
        known = sorted(folder.name for folder in LATEST.glob("*") if (folder / "segment").is_dir())
        raise UserError(
            "no finished run of this recipe has trained here", file=place, key="--recipe", value=recipe,
            remedy=(did_you_mean(recipe, known) if known else "run it first")
            + " Or name a segment: --segment results/segment/NAME-ID",
        )  # fmt: skip
    return sorted(place.iterdir())


def open_stretches(folders: list[Path], stage: str | None) -> list[Stretch]:
    """The stages that the segments in `folders` are of, each as far as they go."""
    segments: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for folder in folders:
        try:
            record = json.loads((folder / RECORD).read_text())
            spec = SegmentSpec.model_validate(record["spec"])
            name = folder.resolve().name.split(f"-{spec.start}-{spec.end}")[0]
            read = {role: record["inputs"][role] for role in ("mixture", "tokenizer")}
            segments.setdefault(name, []).append((folder.resolve(), read | {"spec": spec}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                "this is no folder of a segment", file=folder, value=repr(error),
                remedy="name one such as results/segment/stage1-0-150-ID, which has an identity.json",
            ) from None  # fmt: skip
    if stage is not None and stage not in segments:
        raise UserError("no such stage", key="--stage", value=stage, remedy=did_you_mean(stage, segments))
    chosen = segments if stage is None else {stage: segments[stage]}
    stretches = [open_stretch(name, of_stage) for name, of_stage in chosen.items()]
    return sorted(stretches, key=lambda stretch: (stretch.reader.stage_start, stretch.start))


def open_stretch(stage: str, segments: list[tuple[Path, dict[str, Any]]]) -> Stretch:
    """The steps of one stage's segments, read with the batch sizes that the segments had."""
    segments = sorted(segments, key=lambda segment: segment[1]["spec"].start)
    folder, first = segments[0]
    results = folder.parents[1]
    try:
        mixture, description = open_mixture(results / first["mixture"])
    except OSError as error:
        raise UserError(
            "the segment's mixture cannot be read", file=results / first["mixture"], value=error,
            remedy="bring it back, or make it again: run the recipe",
        ) from None  # fmt: skip
    specs: list[SegmentSpec] = [read["spec"] for _, read in segments]
    pieces = [piece for spec in specs for piece in spec.batches or ()]
    batches = [BEFORE, *pieces] if pieces else None
    shards = open_mixture_shards(description, results)
    reader = BatchReader(mixture, shards, specs[0].global_batch_size, specs[0].stage_start, batches)
    folders = {name: about["shards"] for name, about in description["sources"].items()}
    return Stretch(stage, specs[0].start, specs[-1].end, reader, results, folders, first["tokenizer"])


def show_row(stretches: list[Stretch], step: int, row: int) -> None:
    """Print where a row comes from."""
    found = [stretch for stretch in stretches if stretch.start <= step < stretch.end]
    spans = ", ".join(f"{stretch.stage} {stretch.start} to {stretch.end - 1}" for stretch in stretches)
    if not found:
        raise UserError("there is no such step", key="step", value=step, remedy=f"the steps are: {spans}")
    if len(found) > 1:
        stages = " or ".join(f"--stage {stretch.stage}" for stretch in found)
        raise UserError("several stages have such a step", key="step", value=step, remedy=f"choose: {stages}")
    stretch, reader = found[0], found[0].reader
    size = reader.span(step)[0]
    if not 0 <= row < size:
        raise UserError("the step has no such row", key="row", value=row, remedy=f"rows go from 0 to {size - 1}")
    place, documents = reader.place(step, row)
    print(f"{stretch.stage}: source {place.source}, draw {place.draw}, epoch {place.epoch}, sequence {place.sequence}")
    print("documents " + " ".join(map(str, documents)))
    print(numbered(stretch, place.source))
    print(stretch.text(reader.batch(step, range(row, row + 1))[0][0]))


def show_document(stretches: list[Stretch], source: str, number: int, until: int | None) -> None:
    """Print the rows that held a part of a document."""
    having = [stretch for stretch in stretches if source in stretch.reader.shards]
    if not having:
        known = dict.fromkeys(name for stretch in stretches for name in stretch.reader.shards)
        raise UserError("the mixture has no such source", value=source, remedy=did_you_mean(source, known))
    shards = having[0].reader.shards[source]
    if not 0 <= number < shards.documents:
        raise UserError("no such document", value=number, remedy=f"the source has {shards.documents} documents")
    begin, end = shards.span(number)
    print(f"{end - begin} tokens, from token {begin} of the source")
    print(numbered(having[0], source))
    for stretch in having:
        last = stretch.end if until is None else min(until, stretch.end)
        seen = stretch.reader.steps_of(source, number, last) if last > stretch.start else []
        for step, row in seen:
            if step >= stretch.start:
                print(f"{stretch.stage}: step {step}, row {row}")
    tokens = np.empty(min(SHOWN, end - begin), dtype=np.int64)
    shards.read(begin, tokens)
    print(having[0].text(tokens))


def numbered(stretch: Stretch, source: str) -> str:
    """What the numbers of documents count."""
    folder = stretch.shards[source]
    try:
        documents = json.loads((stretch.results / folder / RECORD).read_text())["inputs"]["documents"]
        values = json.loads((stretch.results / documents / RECORD).read_text())["recipe_values"]
        places = [values.get(f"sources.{source}.{key}") for key in ("path", "hub", "generated")]
        origin = next(place for place in places if place)
        return f"numbers count the documents left of {origin} after cleaning (results/{documents}), from 0"
    except (OSError, ValueError, KeyError, StopIteration):
        return f"numbers count the documents of results/{folder}, from 0"
