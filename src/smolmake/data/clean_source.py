"""The cleaned documents of one source: filtered, without duplicates and evaluation items, some held out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from smolmake.data.clean import group_files, join_parts, write_part
from smolmake.data.decontaminate import Contamination
from smolmake.data.documents import read_documents
from smolmake.data.filters import Counts
from smolmake.data.hub import hub_parts, read_hub
from smolmake.data.readers import data_listing
from smolmake.errors import UserError
from smolmake.execution.content_hash import listing_digest
from smolmake.execution.job import Job
from smolmake.execution.step import Run
from smolmake.graph.specs.data import DocumentsSpec, HubDataset, PathDataset
from smolmake.recipe.formats import list_data

SHOWN = 5  # files that are passed over


def clean_source(job: Job[DocumentsSpec, Run], items: dict[str, list[str]]) -> None:
    files, rules = job.spec.files, job.spec.cleaning
    contamination = Contamination(items, rules.decontaminate_ngram)
    check_source_unchanged(job)
    groups: list[list[Path]] = []
    if isinstance(files, HubDataset):
        count = hub_parts(files, job.name)
    else:
        listing = data_listing(files, job.input("files") if "files" in job.inputs else None)
        for reason, names in listing.passed_over.items():
            print(f"{job.name}: {len(names)} passed over, {reason}: {', '.join(names[:SHOWN])}", file=sys.stderr)
        groups = group_files(listing.files)
        count = len(groups)

    def work(number: int, folder: Path) -> dict[str, Any]:
        counts = Counts()

        def skip(error: UserError) -> None:
            counts.drop("unreadable", f"{error.what}: {error.file}")

        trouble = skip if job.spec.rows.on_error == "skip" else None
        if isinstance(files, HubDataset):
            documents = read_hub(files, job.spec.rows, job.name, number, count)
        else:
            documents = read_documents(groups[number], files.format, job.spec.rows, job.name, trouble, listing.base)
        return write_part(folder, documents, rules, contamination.afresh(), counts)

    if not job.parts(count, work):
        return
    check_source_unchanged(job)
    others = list(job.group("duplicates_of").values())
    summary = join_parts(job.folder, count, rules, contamination.afresh(), others)
    if not summary["kept"]:
        raise UserError(
            f"no document of the source `{job.name}` is left after cleaning",
            file=files.hub if isinstance(files, HubDataset) else ", ".join(map(str, sum(groups, [])[:3])),
            key=f"sources.{job.name}", value=summary["dropped"],
            remedy=emptied(job, summary["dropped"]),
        )  # fmt: skip
    facts = {key: summary[key] for key in ("read", "kept", "heldout", "bytes")}
    job.finish_parts(count, ["duplicates.npz", "heldout.parquet", "cleaning.json"], facts)


def emptied(job: Job[DocumentsSpec, Run], dropped: dict[str, int]) -> str:
    """What helps a source of which nothing is left, by the reason that took most of its documents."""
    most = max(dropped, key=lambda reason: dropped[reason], default="")
    others = list(job.group("duplicates_of"))
    if most in ("exact_duplicate", "near_duplicate") and others:
        return (
            f"most of its documents are also in {' or '.join(f'`{name}`' for name in others)}, or several times in it:"
            f" shorten `sources.{job.name}.duplicates_of`, or take the source out"
        )
    return "check the source, or loosen `cleaning` (min_characters, for short documents)"


def check_source_unchanged(job: Job[DocumentsSpec, Run]) -> None:
    """Refuse files that are not those that the step's id was made from: they changed while the graph ran."""
    files = job.spec.files
    if not isinstance(files, PathDataset):
        return
    if listing_digest(list_data(files.path, files.format, Path.cwd()), Path.cwd()) != files.content:
        raise UserError(
            f"the files of the source `{job.name}` changed after the run had been planned",
            file=files.path, key=f"sources.{job.name}.path",
            remedy="start the run again when they change no more; it then counts as another source",
        )  # fmt: skip
