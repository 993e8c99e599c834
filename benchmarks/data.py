"""Speed of the data path beside what users have, in one run on one machine. Prints tables.

Usage: python benchmarks/data.py CORPUS.parquet TOKENIZER_FOLDER [--only packing] [--megabytes 60]

CORPUS has a column `text`; TOKENIZER_FOLDER a tokenizer.json of about 128,000 entries, or SHAPE/tokenizer.json as
tokenizer_shapes.py writes them: each is measured then. datatrove and MosaicML Streaming
are taken where they are installed, each through a Python of its own: --datatrove VENV/bin/python, --streaming. Runs of
rivals take turns, and medians are printed: the machine may be busy with other things.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from data_tasks import ODD

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--only", choices=["tokenization", "memory", "packing", "loader", "cleaning"])
    parser.add_argument("--megabytes", type=float, default=60, help="text for smolmake; rivals get --slow-megabytes")
    parser.add_argument("--slow-megabytes", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--datatrove", help="a Python that has datatrove")
    parser.add_argument("--streaming", help="a Python that has mosaicml-streaming")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        benches = {
            "tokenization": tokenization, "memory": memory, "packing": packing, "loader": loader, "cleaning": cleaning
        }  # fmt: skip
        for name, bench in benches.items():
            if arguments.only in (None, name):
                bench(arguments, Path(folder))


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def corpus_of(path: Path, megabytes: float) -> list[str]:
    """Texts of a corpus up to a size."""
    texts: list[str] = []
    size = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=256, columns=["text"]):
        for text in batch["text"].to_pylist():
            texts.append(text)
            size += len(text.encode())
            if size >= megabytes * 1e6:
                return texts
    return texts


def megabytes_of(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def write_corpus(texts: list[str], folder: Path) -> tuple[Path, Path]:
    """The texts as Parquet and as zstd JSONL."""
    folder.mkdir(parents=True, exist_ok=True)
    parquet, jsonl = folder / "corpus.parquet", folder / "corpus.jsonl.zst"
    pq.write_table(pa.table({"text": texts}), parquet, compression="zstd", row_group_size=1024)
    with zstandard.open(jsonl, "wb") as file:
        for number, text in enumerate(texts):
            file.write((json.dumps({"text": text, "id": str(number)}, ensure_ascii=False) + "\n").encode())
    return parquet, jsonl


def child(python: str, task: str, *values: Any) -> dict[str, Any]:
    """Run a task of data_tasks.py in a process of its own; gives its seconds, peak memory and what else it says."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "RAYON_NUM_THREADS": "1" if task == "smolmake" else str(os.cpu_count()),
        "TOKENIZERS_PARALLELISM": "true",
        "HF_HUB_OFFLINE": "1",
    }
    run = subprocess.run(
        [python, str(HERE / "data_tasks.py"), task, *map(str, values)], env=environment, capture_output=True, text=True
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode or not lines:
        return {"error": (run.stderr.strip().splitlines() or ["nothing said"])[-1][:160]}
    said: dict[str, Any] = json.loads(lines[-1])
    return said


def compare(rounds: int, runs: dict[str, Callable[[], dict[str, Any]]], sizes: dict[str, float]) -> list[list[str]]:
    """Rows of a table: each run's median speed in MB/s, its spread, its memory, and its ratio to the first."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            results[name].append(run())
    rows, first = [], 0.0
    for name, found in results.items():
        good = [result for result in found if "error" not in result]
        if not good:
            rows.append([name, f"not run: {found[0]['error']}", *[""] * 5])
            continue
        speeds = [sizes[name] / result["seconds"] for result in good]
        median = statistics.median(speeds)
        first = first or median
        memory = max(result["peak_mib"] for result in good)
        note = str(good[-1].get("note", ""))
        cpu = [sizes[name] / result["cpu"] for result in good if "cpu" in result]
        spread = f"{min(speeds):.1f}–{max(speeds):.1f}"
        by_cpu = f"{statistics.median(cpu):.1f}" if cpu else ""
        rows.append([name, f"{median:.2f}", spread, by_cpu, f"{first / median:.1f}", f"{memory:.0f}", note])
    return rows


COLUMNS = [
    "what", "MB/s (median)", "least–most", "MB per s of CPU", "times slower than the first", "peak MiB", "note"
]  # fmt: skip
PROCESSES = 2  # of smolmake; its rivals use all cores in one
RIVALLED = ("gpt2", "smollm2", "llama3", "qwen")  # the shapes that the rivals run too


def tokenization(arguments: argparse.Namespace, folder: Path) -> None:
    """Each shape by smolmake, as a step with a process for each of two files; the first ones by its rivals too."""
    texts, few = corpus_of(arguments.corpus, arguments.megabytes), corpus_of(arguments.corpus, arguments.slow_megabytes)
    large, small = megabytes_of(texts), megabytes_of(few)
    files = [write_corpus(texts[number::PROCESSES], folder / f"part{number}")[0] for number in range(PROCESSES)]
    small_file, _ = write_corpus(few, folder / "small")
    found = {path.parent.name: path for path in sorted(arguments.tokenizer.glob("*/tokenizer.json"))}
    named = {name: found[name] for name in dict.fromkeys([*RIVALLED, *found]) if name in found}
    rows = []
    for shape, tokenizer in (named or {"": arguments.tokenizer / "tokenizer.json"}).items():
        runs = {"smolmake": partial(together, files, tokenizer)}
        if shape in ("", *RIVALLED):
            rival = arguments.datatrove or sys.executable
            runs["datatrove DocumentTokenizer"] = partial(child, rival, "datatrove", small_file, tokenizer)
            runs["datasets.map"] = partial(child, sys.executable, "datasets", small_file, tokenizer)
            runs["tokenizers, in memory"] = partial(child, sys.executable, "tokenizers", small_file, tokenizer)
        sizes = {name: large if name == "smolmake" else small for name in runs}
        rows += [[shape, *row] for row in compare(arguments.rounds, runs, sizes)]
    title = f"Parquet to shards, {large:.0f} MB (rivals {small:.0f} MB), {os.cpu_count()} cores"
    table(title, ["shape", *COLUMNS], rows)


def together(files: list[Path], tokenizer: Path) -> dict[str, Any]:
    """A process for each file, as a step with so many workers has; seconds of the slowest, memory of the largest."""
    with ThreadPoolExecutor(len(files)) as pool:
        found = list(pool.map(lambda file: child(sys.executable, "smolmake", file, tokenizer), files))
    if wrong := [each for each in found if "error" in each]:
        return wrong[0]
    largest = {key: max(each[key] for each in found) for key in ("seconds", "peak_mib")}
    return {**found[0], **largest, "cpu": sum(each["cpu"] for each in found)}


def memory(arguments: argparse.Namespace, folder: Path) -> None:
    """The peak over several documents of 50 MB that strain the encoder, of each kind."""
    rows = []
    for kind in ODD:
        tokenizer = next(iter(sorted(arguments.tokenizer.rglob("tokenizer.json"))))
        result = child(sys.executable, "odd_documents", kind, tokenizer, 50, 4)
        said = result.get("error") or f"{result['peak_mib']:.0f}"
        rows.append([kind, said, str(result.get("note", "")), f"{200 / result.get('seconds', 1e9):.1f}"])
    table("Four documents of 50 MB each to shards", ["what", "peak MiB", "note", "MB/s"], rows)


def cleaning(arguments: argparse.Namespace, folder: Path) -> None:
    texts, few = (
        corpus_of(arguments.corpus, arguments.megabytes / 2),
        corpus_of(arguments.corpus, arguments.slow_megabytes),
    )
    planted, few_planted = plant(texts), plant(few)
    parquet, _ = write_corpus(planted, folder / "planted")
    _, small_jsonl = write_corpus(few_planted, folder / "few_planted")
    large, small = megabytes_of(planted), megabytes_of(few_planted)
    items = folder / "items.jsonl"
    items.write_text("".join(json.dumps({"text": " ".join(text.split()[50:90])}) + "\n" for text in few[:200]))
    python, rival = sys.executable, arguments.datatrove or sys.executable
    originals, few_originals = len(texts), len(few)
    runs: dict[str, tuple[float, Callable[[], dict[str, Any]]]] = {
        "smolmake MinHash": (large, lambda: child(python, "smolmake_minhash", parquet, originals)),
        "datatrove MinHash": (small, lambda: child(rival, "datatrove_minhash", small_jsonl, few_originals)),
        "smolmake decontamination, 13-grams": (large, lambda: child(python, "smolmake_decontaminate", parquet, items)),
        "datatrove NGramsDecontFilter, 13-grams": (
            small,
            lambda: child(rival, "datatrove_decontaminate", small_jsonl, items),
        ),
        "smolmake, all of cleaning": (large, lambda: child(python, "smolmake_clean", parquet, items)),
    }
    rows = compare(
        arguments.rounds, {name: run for name, (_, run) in runs.items()}, {n: s for n, (s, _) in runs.items()}
    )
    table(f"Cleaning, {large:.0f} MB (rivals {small:.0f} MB), one process", COLUMNS, rows)


def plant(texts: list[str]) -> list[str]:
    """The texts, then copies of every fifth with some words changed: those that are at least 0.88 similar, exactly."""
    copies = []
    for text in texts[::5]:
        words = text.split(" ")
        if len(words) > 100:
            words[::150] = ["changed"] * len(words[::150])
            copy = " ".join(words)
            one, other = (five_grams(version) for version in (text, copy))
            if 0.88 <= len(one & other) / len(one | other) < 1:
                copies.append(copy)
    return texts + copies


def five_grams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(*(words[i:] for i in range(5)), strict=False))


def packing(arguments: argparse.Namespace, folder: Path) -> None:
    rows = []
    for length in (2048, 4096, 32_768):
        results = [child(sys.executable, "pack_lengths", 900, 1_000_000, length) for _ in range(arguments.rounds)]
        seconds = statistics.median(result["seconds"] for result in results)
        found = results[0]
        cut, speed = found["cut_documents"] / 1e6, f"{1 / seconds:.2f}"
        rows.append(
            [f"{length:,}", speed, f"{found['tokens'] / seconds / 1e6:.0f}", f"{found['padding']:.4%}", f"{cut:.1%}"]
        )
    columns = ["sequence length", "M documents/s", "M tokens/s", "padding", "documents longer than a sequence"]
    table("Best-fit packing, a million documents of exponential lengths, mean 900, one process", columns, rows)


def loader(arguments: argparse.Namespace, folder: Path) -> None:
    python = sys.executable
    shards = folder / "shards"
    made = child(python, "make_shards", shards, 60, 20_000_000)
    packed = child(python, "pack_shards", shards)
    rows = []
    for steps in (32_000, 3_200_000):
        runs: list[tuple[str, str, str, list[str]]] = [
            ("smolmake", "smolmake_loader", python, []),
            (f"smolmake, packed, {packed.get('note', packed)}", "smolmake_loader", python, ["packed"]),
            ("prebuilt index, as nanotron's", "index_loader", python, []),
        ]
        if arguments.streaming:
            runs.append(("MosaicML Streaming", "streaming_loader", arguments.streaming, []))
        for name, task, interpreter, more in runs:
            results = [child(interpreter, task, shards, steps, *more) for _ in range(arguments.rounds)]
            good = [result for result in results if "error" not in result]
            if not good:
                rows.append([name, f"{steps:,}", f"not run: {results[0]['error']}", "", "", "", ""])
                continue
            middle = {key: statistics.median(result[key] for result in good) for key in good[0] if key != "note"}
            rows.append(
                [
                    name,
                    f"{steps:,}",
                    f"{middle['tokens_per_second'] / 1e6:.0f}",
                    f"{middle['start_seconds']:.2f}",
                    f"{middle['index_mib']:.0f}",
                    f"{middle['random_ms']:.2f}",
                    f"{middle['peak_mib']:.0f}",
                ]
            )
    if arguments.datatrove:
        result = child(arguments.datatrove, "datatrove_loader", shards)
        if "error" in result:
            said = [f"not run: {result['error']}", "", "", "", ""]
        else:
            numbers = {key: f"{value:.2f}" for key, value in result.items()}
            speed = f"{result['tokens_per_second'] / 1e6:.0f}"
            said = [speed, numbers["start_seconds"], "", numbers["random_ms"], f"{result['peak_mib']:.0f}"]
        rows.append(["datatrove DatatroveFolderDataset, one source, in order", "any", *said])
    columns = ["what", "steps", "M tokens/s", "start, s", "memory of the index, MiB", "a random row, ms", "peak MiB"]
    table(f"Loader: 60 sources, sequences of 4,096, {made.get('note', made)}", columns, rows)


if __name__ == "__main__":
    main()
