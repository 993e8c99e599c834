"""The files of a dataset and their formats, told by their names: alike for the plan, the identity and the readers."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from smolmake.errors import UserError
from smolmake.listing import Listing, list_files

ENDINGS = {
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".jsonl": "jsonl", ".jsonlines": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}  # of any format but Parquet and Arrow, which compress on their own
TEXTS = ("text", "code")  # formats of which a file is one document
# What libraries write beside data about it: no data, whatever the ending says.
ABOUT = {
    "dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "croissant.json", "datapackage.json",
    "_metadata", "_common_metadata",
}  # fmt: skip
# What people write beside rows: names without endings, and endings of scripts, settings and checksums.
NOTES = {
    "readme", "license", "licence", "copying", "notice", "citation", "changelog", "authors", "contributing",
    "dataset_card", "datasheet", "requirements", "makefile", "checksums", "md5sums", "sha256sums", "_success",
}  # fmt: skip
NOTE_ENDINGS = {
    ".py", ".sh", ".ipynb", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".cff", ".bib", ".log", ".md5", ".sha256",
}  # fmt: skip
DESCRIBES, BESIDE_ROWS = "describes the data", "notes and scripts beside files of rows"


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

    Files that describe the data are passed over, and, where some files hold rows by their names, a README and the like
    beside them.

    Raises:
        UserError: if other texts lie beside files of rows, so that it is not clear what the documents are.
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
        stem, *endings = name.rpartition("/")[2].lower().split(".")
        if not ({stem, re.split("[-_ ]", stem)[0]} & NOTES or endings and "." + endings[-1] in NOTE_ENDINGS):
            raise UserError(
                f"{kept.names[0]} holds rows, but this file is text: it is not clear which of them are documents",
                file=listing.base / name, value=pattern,
                remedy="choose by a glob such as DATA/*.jsonl, in two sources if you mean both, or say `format`",
            )  # fmt: skip
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
