"""The cleaned documents of a source on disk: written in parts, joined by finding duplicates, and read again.

A part is a group of input files. Its texts are written once; duplicates, which only the whole source can tell, are
listed beside them, so joining 10,000 parts rewrites none of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smolmake.data.decontaminate import Contamination
from smolmake.data.dedup import exact_duplicates, fingerprints_of, near_duplicates
from smolmake.data.documents import Document
from smolmake.data.filters import Counts, clean
from smolmake.data.texts import batches, size_in_bytes
from smolmake.execution.parts import part_folder, part_record
from smolmake.files import write_json
from smolmake.recipe.sources import CleaningRules

PART_BYTES = 2**28
PART_FILES = 5000
WRITE_ROWS, WRITE_CHARACTERS = 512, 2**24  # of a row group, the unit in which documents are written and read
DOCUMENT_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.large_string())])
DOCUMENTS, HELDOUT = "documents.parquet", "heldout.parquet"


def group_files(files: list[Path], limit: int = PART_BYTES) -> list[list[Path]]:
    """Files in groups that are worked on together: a large one, or small ones up to `limit` bytes, in their order."""
    groups: list[list[Path]] = []
    size = 0
    for file in files:
        more = file.stat().st_size
        if not groups or size + more > limit or len(groups[-1]) == PART_FILES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += more
    return groups


def write_part(
    folder: Path, documents: Iterator[Document], rules: CleaningRules, contamination: Contamination, counts: Counts
) -> dict[str, Any]:
    """Clean a part's documents and write them, with what finding duplicates needs; returns the part's facts."""
    near = rules.near_duplicates
    rows = {DOCUMENTS: 0, HELDOUT: 0}
    prints: list[bytes] = []
    heldout: list[bool] = []
    signatures = []
    writers = {name: pq.ParquetWriter(folder / name, DOCUMENT_SCHEMA, compression="zstd") for name in rows}
    kept = clean(documents, rules, contamination, counts)
    size = 0
    try:
        for batch in batches(kept, attrgetter("text"), WRITE_ROWS, WRITE_CHARACTERS):
            for name in rows:
                part = [document for document in batch if document.heldout == (name == HELDOUT)]
                if part:
                    ids, texts = [document.id for document in part], [document.text for document in part]
                    writers[name].write_table(pa.table([ids, texts], schema=DOCUMENT_SCHEMA))
                    rows[name] += len(part)
            prints += [document.fingerprint for document in batch]
            heldout += [document.heldout for document in batch]
            size += sum(size_in_bytes(document.text) for document in batch if not document.heldout)
            if near is not None:
                signatures += [document.signature for document in batch]
    finally:
        for writer in writers.values():
            writer.close()
    columns = near.permutations if near is not None else 0
    np.savez(
        folder / "signatures.npz",
        text=fingerprints_of(prints),
        heldout=np.array(heldout, dtype=bool),
        minhash=np.array(signatures, dtype=np.uint32).reshape(len(signatures) or len(prints), columns),
    )
    found = {"items": contamination.found_items(), "documents": dict(sorted(contamination.documents.items()))}
    write_json(folder / "cleaning.json", counts.summary() | {"bytes": size, "found": found})
    return {"kept": rows[DOCUMENTS], "heldout": rows[HELDOUT]}


def _texts(file: Path) -> Iterator[list[str]]:
    """The texts of a part's file, row group by row group."""
    opened = pq.ParquetFile(file)
    for number in range(opened.num_row_groups):
        yield opened.read_row_group(number, columns=["text"])["text"].to_pylist()


def join_parts(
    folder: Path, count: int, rules: CleaningRules, contamination: Contamination, others: list[Path]
) -> dict[str, Any]:
    """Find duplicates over all parts and against `others` (folders of other sources); write what comes of the source.

    Writes duplicates.npz (for every part, the rows of documents.parquet that are dropped), heldout.parquet and
    cleaning.json; returns the content of the last.
    """
    near = rules.near_duplicates
    loaded = [_signatures(part_folder(folder, number)) for number in range(count)]
    theirs = [_signatures(part) for other in others for part in document_parts(other)]
    prints, minhash, heldout = (
        np.concatenate([part[key] for part in loaded]) for key in ("text", "minhash", "heldout")
    )
    nothing = np.zeros((0, 2), np.uint64)
    dropped = np.zeros(len(prints), dtype=np.uint8)  # 1: exact, 2: near
    if rules.exact_duplicates:
        other_prints = np.concatenate([nothing, *(part["text"] for part in theirs)])
        dropped[exact_duplicates(prints, other_prints)] = 1
    if near is not None:
        other_hashes = np.concatenate([minhash[:0], *(part["minhash"] for part in theirs)])
        dropped[near_duplicates(minhash, other_hashes, near.similarity, dropped > 0)] = 2

    total, size, first = Counts(), 0, 0
    lists: dict[str, Any] = {}
    heldout_texts: list[pa.Table] = []
    for number in range(count):
        part = part_folder(folder, number)
        rows = len(loaded[number]["text"])
        flags, out = dropped[first : first + rows], heldout[first : first + rows]
        first += rows
        about = json.loads((part / "cleaning.json").read_text())
        total.add(about)
        contamination.add(about["found"]["items"], about["found"]["documents"])
        size += about["bytes"]
        lists[f"{number:05d}"] = np.flatnonzero(flags[~out]).astype(np.int64)
        size -= _count_dropped(part, flags, out, total)
        if out.any():
            heldout_texts.append(pq.read_table(part / HELDOUT).filter(pa.array(flags[out] == 0)))
    np.savez(folder / "duplicates.npz", **lists)
    pq.write_table(
        pa.concat_tables([DOCUMENT_SCHEMA.empty_table(), *heldout_texts]), folder / HELDOUT, compression="zstd"
    )
    summary = total.summary() | {
        "kept": int(((dropped == 0) & ~heldout).sum()),
        "heldout": int(((dropped == 0) & heldout).sum()),
        "bytes": size,
        "overlap": contamination.summary(),
    }
    write_json(folder / "cleaning.json", summary)
    return summary


def _count_dropped(part: Path, flags: Any, heldout: Any, counts: Counts) -> int:
    """Count a part's duplicates, with examples; returns the bytes of those that were not held out."""
    size = 0
    for name, mask in ((DOCUMENTS, ~heldout), (HELDOUT, heldout)):
        rows = flags[mask]
        if not rows.any():
            continue
        first = 0
        for texts in _texts(part / name):
            some = rows[first : first + len(texts)]
            first += len(texts)
            for i in np.flatnonzero(some).tolist():
                counts.drop("exact_duplicate" if some[i] == 1 else "near_duplicate", texts[i])
                size += size_in_bytes(texts[i]) if name == DOCUMENTS else 0
    return size


def _signatures(part: Path) -> dict[str, Any]:
    with np.load(part / "signatures.npz") as loaded:
        return {name: loaded[name] for name in loaded.files}


def document_parts(folder: Path) -> list[Path]:
    """The parts of a source's documents, in order."""
    return sorted(path for path in (folder / "parts").iterdir() if path.is_dir())


def iterate_texts(folder: Path, number: int | None = None) -> Iterator[str]:
    """The texts of a source's documents, or of one of its parts, without duplicates, in order."""
    parts = document_parts(folder)
    with np.load(folder / "duplicates.npz") as duplicates:
        for part in parts if number is None else [parts[number]]:
            dropped, first = set(duplicates[part.name].tolist()), 0
            for texts in _texts(part / DOCUMENTS):
                yield from (text for i, text in enumerate(texts, first) if i not in dropped) if dropped else texts
                first += len(texts)


def documents_in_part(folder: Path, number: int) -> int:
    """How many documents a part has, before duplicates are taken out."""
    record = part_record(folder, number)
    return 0 if record is None else int(record["facts"]["kept"])
