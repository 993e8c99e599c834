"""Gather held-out documents of all sources, for the loss of every checkpoint. Usage: heldout.py JOB"""

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.execution.job import Job, run_step
from smolmake.execution.step import Run
from smolmake.files import write_json
from smolmake.graph.specs.data import HeldoutSpec


def compute(job: Job[HeldoutSpec, Run]) -> None:
    count = job.spec.documents
    tables, about = [], {}
    for source, folder in sorted(job.group("documents").items()):
        table = pq.read_table(folder / "heldout.parquet").slice(0, count)
        if table.num_rows:
            tables.append(table.append_column("source", pa.array([source] * table.num_rows, pa.string())))
            about[source] = job.spec.sources[source].model_dump()
    empty = pa.table({name: pa.array([], pa.string()) for name in ("id", "text", "source")})
    pq.write_table(pa.concat_tables(tables) if tables else empty, job.folder / "heldout.parquet", compression="zstd")
    write_json(job.folder / "sources.json", about)
    job.finish(["heldout.parquet", "sources.json"], {"documents": sum(table.num_rows for table in tables)})


if __name__ == "__main__":
    run_step(compute, HeldoutSpec, Run, __doc__ or "")
