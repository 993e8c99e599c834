"""Pack one source's documents into sequences of one length, best fit first. Usage: packing.py JOB"""

import sys
from pathlib import Path
from typing import Any

from smolmake.data.packing import join_packings, pack_window, windows
from smolmake.data.token_shards import open_shards
from smolmake.execution.job import Job, run_step
from smolmake.execution.parts import part_record
from smolmake.execution.step import Run
from smolmake.graph.specs.data import PackingSpec


def compute(job: Job[PackingSpec, Run]) -> None:
    shards = open_shards(job.input("shards"), job.facts("shards"))
    length, count = job.spec.sequence_length, windows(shards)

    def work(number: int, folder: Path) -> dict[str, Any]:
        return pack_window(shards, number, length, folder)

    if not job.parts(count, work):
        return
    records = [part_record(job.folder, number) for number in range(count)]
    facts = join_packings([record["facts"] for record in records if record is not None], length)
    said = f"{facts['sequences']:,} sequences, {facts['padding']:.3%} padding"
    print(f"{said}; {facts['cut_documents']:,} documents are longer than {length:,} tokens", file=sys.stderr)
    job.finish_parts(count, [], facts)


if __name__ == "__main__":
    run_step(compute, PackingSpec, Run, __doc__ or "")
