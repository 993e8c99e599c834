"""The files of a dataset and their formats, told by their names: alike for the plan, the identity and the readers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from smolmake.listing import Listing, list_files

ENDINGS = {
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".jsonl": "jsonl", ".jsonlines": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}  # of any format but Parquet and Arrow, which compress on their own
TEXTS = ("text", "code")  # formats of which a file is one document
# What libraries write beside data about it: no rows, whatever the ending says.
ABOUT = {
    "dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "croissant.json", "datapackage.json",
    "_metadata", "_common_metadata",
}  # fmt: skip
DESCRIBES, BESIDE_ROWS = "describes the data", "text beside files of rows"


def file_format(path: Path | str, asked: str = "auto") -> str:
    """parquet, arrow, jsonl, json, csv, tsv, text or code: as asked, or by the file's name."""
    return asked if asked != "auto" else ENDINGS.get(_endings(str(path))[0], "text")


def compression(path: Path) -> str | None:
    """gzip or zstd, if the file's name says so."""
    return COMPRESSIONS.get(_endings(path.name)[1])


def without_ending(path: Path) -> str:
    """The file's name without the ending of its format."""
    ending = "".join(_endings(path.name))
    return path.name[: -len(ending)] if ending else path.name


def list_data(pattern: str, asked: str, root: Path) -> Listing:
    """The files of a dataset that are read, as `list_files` finds them.

    Files that describe the data are passed over, and, where some files hold rows by their names, texts beside them,
    such as a README: each of those is a reading of its own, for a path of its own.
    """
    listing = list_files(pattern, root)
    if asked in TEXTS or (root / pattern).is_file():
        return listing
    kept = Listing(listing.base, [], dict(listing.passed_over))
    texts = []
    for name in listing.names:
        if name.rpartition("/")[2].lower() in ABOUT:
            kept.pass_over(name, DESCRIBES)
        elif file_format(name, asked) == "text":
            texts.append(name)
        else:
            kept.names.append(name)
    if not kept.names:
        kept.names.extend(texts)
        return kept
    for name in texts:
        kept.pass_over(name, BESIDE_ROWS)
    return kept


def count_formats(listing: Listing, asked: str) -> dict[str, int]:
    """How many files are read in each format."""
    return dict(sorted(Counter(file_format(name, asked) for name in listing.names).items()))


def _endings(name: str) -> tuple[str, str]:
    """The ending that says the format, in lower case, and the one that says the compression; empty where none is."""
    stem, dot, last = name.lower().rpartition(".")
    compressed = dot + last if dot + last in COMPRESSIONS else ""
    if compressed:
        _, dot, last = stem.rpartition(".")
    return (dot + last if dot + last in ENDINGS else ""), compressed
