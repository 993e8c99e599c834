"""Filter, deduplicate and decontaminate one source, and hold documents out. Usage: clean_source.py JOB"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.data.cleaning import clean
from smolmake.data.sources import data_files, read_rows
from smolmake.errors import UserError
from smolmake.evaluate.items import task_items
from smolmake.files import write_json
from smolmake.program import Job, run_step


def texts(source: str, files: list[Path], asked_format: str, column: str) -> Iterator[str]:
    for file in files:
        for row in read_rows(file, asked_format, [column]):
            if not isinstance(row[column], str):
                raise UserError(
                    f"the column `{column}` holds something else than text",
                    file=file, key=f"sources.{source}.text", value=row[column], remedy="name a column of text",
                )  # fmt: skip
            yield row[column]


def compute(job: Job) -> None:
    place = job.spec["files"]
    files = data_files(place, job.input("files") / "files" if "toy" in place else None)
    tasks = {}
    if "tasks" in job.spec:
        tasks = task_items(
            data_files(job.spec["tasks"], job.input("tasks") / "files" if "tasks" in job.inputs else None)
        )
    result = clean(texts(job.name, files, place["format"], job.spec["text"]), job.spec["cleaning"], tasks)
    if not result.kept:
        raise UserError(
            f"no document of the source `{job.name}` is left after cleaning",
            file=", ".join(map(str, files[:3])), key=f"sources.{job.name}", value=dict(result.dropped),
            remedy="check the source, or loosen `cleaning` (min_characters, for short documents)",
        )  # fmt: skip
    for name, documents in (("documents", result.kept), ("heldout", result.heldout)):
        ids, kept = [identity for identity, _ in documents], [text for _, text in documents]
        table = pa.table({"id": pa.array(ids, pa.string()), "text": pa.array(kept, pa.string())})
        pq.write_table(table, job.folder / f"{name}.parquet", compression="zstd")
    summary = result.summary()
    write_json(job.folder / "cleaning.json", summary)
    facts = {key: summary[key] for key in ("read", "kept", "heldout", "bytes")}
    job.finish(["documents.parquet", "heldout.parquet", "cleaning.json"], facts)


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
