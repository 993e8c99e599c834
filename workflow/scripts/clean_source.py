"""Filter, deduplicate and decontaminate one source, and hold documents out. Usage: clean_source.py JOB"""

from pathlib import Path

from smolmake.data.cleaning import Counts
from smolmake.data.contamination import Contamination
from smolmake.data.documents import group_files, join_parts, write_part
from smolmake.data.hub import hub_parts, read_hub
from smolmake.data.rows import read_documents
from smolmake.data.sources import data_files
from smolmake.errors import UserError
from smolmake.evaluate.items import task_items
from smolmake.identity.content import content_digest
from smolmake.program import Job, run_step


def compute(job: Job) -> None:
    place, cleaning = job.spec["files"], job.spec["cleaning"]
    tasks = {}
    if "tasks" in job.spec:
        tasks = task_items(
            data_files(job.spec["tasks"], job.input("tasks") / "files" if "tasks" in job.inputs else None)
        )
    check_unchanged(job)
    groups, count = [], 0
    if "hub" in place:
        count = hub_parts(place, job.name)
    else:
        groups = group_files(data_files(place, job.input("files") / "files" if "toy" in place else None))
        count = len(groups)

    def work(number: int, folder: Path) -> dict:
        counts = Counts()

        def skip(error: UserError) -> None:
            counts.drop("unreadable", f"{error.what}: {error.file}")

        trouble = skip if job.spec["on_error"] == "skip" else None
        if groups:
            documents = read_documents(groups[number], job.spec, job.name, trouble)
        else:
            documents = read_hub(job.spec, job.name, number, count)
        contamination = Contamination(tasks, cleaning["decontaminate_ngram"])
        return write_part(folder, documents, cleaning, contamination, counts)

    if not job.parts(count, work):
        return
    check_unchanged(job)
    others = list(job.group("duplicates_of").values())
    contamination = Contamination(tasks, cleaning["decontaminate_ngram"])
    summary = join_parts(job.folder, count, cleaning, contamination, others)
    if not summary["kept"]:
        raise UserError(
            f"no document of the source `{job.name}` is left after cleaning",
            file=", ".join(map(str, [file for group in groups for file in group][:3])) or place.get("hub"),
            key=f"sources.{job.name}", value=summary["dropped"],
            remedy="check the source, or loosen `cleaning` (min_characters, for short documents)",
        )  # fmt: skip
    facts = {key: summary[key] for key in ("read", "kept", "heldout", "bytes")}
    job.finish_parts(count, ["duplicates.npz", "heldout.parquet", "cleaning.json"], facts)


def check_unchanged(job: Job) -> None:
    """Refuse files that are not those that the step's id was made from: they changed while the graph ran."""
    place = job.spec["files"]
    if "path" in place and content_digest(place["path"], Path.cwd()) != place["content"]:
        raise UserError(
            f"the files of the source `{job.name}` changed after the run had been planned",
            file=place["path"], key=f"sources.{job.name}.path",
            remedy="start the run again when they change no more; it then counts as another source",
        )  # fmt: skip


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
