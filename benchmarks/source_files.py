"""What it takes to see whether a source of very many files has changed, as every plan and every job of it asks.

    python benchmarks/source_files.py [--files 1000000] [--check]

Writes small files into a temporary folder (4 KiB of disk each), hashes them once, and asks again. Seconds are
wall-clock of one call. With --check the exit code is 1 if asking again takes longer than the target.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from smolmake.execution.content_hash import content_digest  # noqa: E402
from smolmake.listing import list_files  # noqa: E402

FOLDER_FILES = 1000
MOST_AGAIN = 20.0  # seconds for a million files that were hashed before


def write_files(folder: Path, count: int) -> None:
    for number in range(count):
        place = folder / f"{number // FOLDER_FILES:05d}"
        if number % FOLDER_FILES == 0:
            place.mkdir(parents=True)
        (place / f"{number % FOLDER_FILES:03d}.txt").write_text(f"The text of file {number}.\n")


def timed(what: str, root: Path) -> float:
    start = time.perf_counter()
    list_files("texts", root) if what == "list" else content_digest("texts", root)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smolmake-files-") as scratch:
        root = Path(scratch)
        write_files(root / "texts", arguments.files)
        first, listed, again = timed("hash", root), timed("list", root), timed("hash", root)
    print("| files | hashed for the first time | listed | asked again |\n|---:|---:|---:|---:|")
    print(f"| {arguments.files:,} | {first:.1f} s | {listed:.1f} s | {again:.1f} s |")
    if arguments.check and again > MOST_AGAIN * arguments.files / 1_000_000:
        sys.exit(f"asking again takes longer than {MOST_AGAIN:g} s for a million files")


if __name__ == "__main__":
    main()
