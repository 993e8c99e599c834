"""Ask a stage's stream of samples: what is at a step and row, or which steps saw a document.

Usage:
    python -m smolmake.data.ask results/mixture/stage1-ID --global-batch 8 row STEP ROW
    python -m smolmake.data.ask results/mixture/stage1-ID --global-batch 8 document SOURCE NUMBER --until STEP

--stage-start is the first step of the stage; steps are counted over the run, as in metrics.jsonl. Documents have the
numbers that they have in the shards of the source. With --tokenizer FOLDER, a beginning is shown as text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from smolmake.data.loader import BatchReader, open_mixture, open_mixture_shards
from smolmake.data.tokenizer import load_tokenizer
from smolmake.errors import UserError, did_you_mean, run_as_program

SHOWN = 60  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mixture", type=Path, help="the folder of a mixture")
    parser.add_argument("--global-batch", type=int, required=True)
    parser.add_argument("--stage-start", type=int, default=0)
    parser.add_argument("--tokenizer", type=Path)
    questions = parser.add_subparsers(dest="question", required=True)
    row = questions.add_parser("row")
    row.add_argument("step", type=int)
    row.add_argument("row", type=int)
    document = questions.add_parser("document")
    document.add_argument("source")
    document.add_argument("number", type=int)
    document.add_argument("--until", type=int, required=True, help="steps before this one are looked at")
    asked = parser.parse_args()
    mixture, description = open_mixture(asked.mixture)
    shards = open_mixture_shards(description, asked.mixture.parents[1])
    reader = BatchReader(mixture, shards, asked.global_batch, asked.stage_start)
    if asked.question == "row":
        show_row(reader, asked.step, asked.row, asked.tokenizer)
    else:
        show_document(reader, asked.source, asked.number, asked.until, asked.tokenizer)


def show_row(reader: BatchReader, step: int, row: int, tokenizer: Path | None) -> None:
    """Print where a row comes from."""
    if step < reader.stage_start or not 0 <= row < reader.global_batch:
        raise UserError(
            "the stage has no such row", key="step, row", value=f"{step}, {row}",
            remedy=f"steps begin at {reader.stage_start}, rows go from 0 to {reader.global_batch - 1}",
        )  # fmt: skip
    place, documents = reader.place(step, row)
    print(f"source {place.source}, draw {place.draw}, epoch {place.epoch}, sequence {place.sequence}")
    print("documents " + " ".join(map(str, documents)))
    if tokenizer is not None:
        print(load_tokenizer(tokenizer).decode(reader.rows(step, row, 1)[0][0][:SHOWN].tolist()))


def show_document(reader: BatchReader, source: str, number: int, until: int, tokenizer: Path | None) -> None:
    """Print the rows that held a part of a document."""
    if source not in reader.shards:
        raise UserError("the mixture has no such source", value=source, remedy=did_you_mean(source, reader.shards))
    shards = reader.shards[source]
    if not 0 <= number < shards.documents:
        raise UserError("no such document", value=number, remedy=f"the source has {shards.documents} documents")
    begin, end = shards.span(number)
    print(f"{end - begin} tokens, from token {begin} of the source")
    for step, row in reader.steps_of(source, number, until):
        print(f"step {step}, row {row}")
    if tokenizer is not None:
        tokens = np.empty(min(SHOWN, end - begin), dtype=np.int64)
        shards.read(begin, tokens)
        print(load_tokenizer(tokenizer).decode(tokens.tolist()))


if __name__ == "__main__":
    run_as_program(main)
