"""Single measurements for benchmarks/data.py, each in a process of its own. Prints one line of JSON."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

TASKS: dict[str, Callable[..., dict[str, Any]]] = {}
LENGTH, ROWS = 4096, 64
NEAR = {"similarity": 0.8, "ngram": 5, "permutations": 112}


def task(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    TASKS[function.__name__] = function
    return function


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a file; what reads them is imported now, before anything is measured."""
    from smolmake.data.readers import read_rows

    return (row["text"] for row in read_rows(path, columns=["text"]))


def items_of(path: str) -> list[str]:
    return list(texts_of(Path(path)))


def batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Texts in batches as cleaning takes them."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if sum(map(len, batch)) > 2**17:
            yield batch
            batch = []
    if batch:
        yield batch


# Tokenization


def clock() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    """Seconds by the clock and of CPU, all threads counted."""
    return {"seconds": time.perf_counter() - start[0], "cpu": time.process_time() - start[1]}


@task
def smolmake(corpus: str, tokenizer: str) -> dict[str, Any]:
    from tokenizers import Tokenizer

    from smolmake.data.encoder import make_encoder
    from smolmake.data.token_shards import write_shards

    loaded = Tokenizer.from_file(tokenizer)
    encoder, texts = make_encoder(loaded), texts_of(Path(corpus))
    with tempfile.TemporaryDirectory() as folder:
        start = clock()
        write_shards(Path(folder), texts, loaded, encoder)
        return since(start) | {"note": encoder.name + (encoder.slow_because and f" ({encoder.slow_because})")}


ODD = {  # code points from, up to; the share that is replaced by a full stop
    "words, each another": (ord("a"), ord("z") + 1, 0.12),
    "signs": (33, 127, 0.01),
    "Chinese, one run of letters": (0x4E00, 0xA000, 0.0),
    "emoji": (0x1F300, 0x1FA00, 0.0),
    "digits": (ord("0"), ord("9") + 1, 0.0),
    "any characters": (0xE000, 0x10FFFF, 0.0),
}


@task
def odd_documents(kind: str, tokenizer: str, megabytes: str, count: str) -> dict[str, Any]:
    """Some documents of one kind, each as large as asked, made one by one."""
    from tokenizers import Tokenizer

    from smolmake.data.token_shards import write_shards

    first, last, stops = ODD[kind]
    size = int(float(megabytes) * 1e6) // len(chr(first).encode())

    def documents() -> Iterator[str]:
        for seed in range(int(count)):
            rng = np.random.default_rng(seed)
            codes = rng.integers(first, last, size, dtype=np.uint32)
            codes[rng.integers(0, size, int(size * stops))] = ord(".")
            yield codes.tobytes().decode("utf-32-le")

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        facts = write_shards(Path(folder), documents(), Tokenizer.from_file(tokenizer))
        return {"seconds": time.perf_counter() - started, "note": f"{facts['tokens']:,} tokens"}


@task
def tokenizers(corpus: str, tokenizer: str) -> dict[str, Any]:
    from tokenizers import Tokenizer

    encoder, texts = Tokenizer.from_file(tokenizer), list(texts_of(Path(corpus)))
    start = clock()
    encoder.encode_batch_fast(texts, add_special_tokens=False)
    return since(start)


@task
def datatrove(corpus: str, tokenizer: str) -> dict[str, Any]:
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.tokens.tokenizer import DocumentTokenizer

    from smolmake.data.tokenizer import ENDS_OF_TEXT

    path = Path(corpus)
    readers = {"parquet": ParquetReader, "zst": JsonlReader}
    reader = readers[path.name.split(".")[-1]](str(path.parent), glob_pattern=path.name)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = json.loads(Path(tokenizer).read_text())["model"]["vocab"]
        end = next(name for name in ENDS_OF_TEXT if name in vocabulary)
        step = DocumentTokenizer(folder, tokenizer, eos_token=end, shuffle_documents=False)
        step.tokenizer.encode("loads it")
        start = clock()
        step.run(reader.run(rank=0, world_size=1), 0, 1)
        return since(start)


@task
def datasets(corpus: str, tokenizer: str) -> dict[str, Any]:
    import datasets as library
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(tokenizer)

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        return {"ids": [encoding.ids for encoding in encoder.encode_batch(batch["text"], add_special_tokens=False)]}

    with tempfile.TemporaryDirectory() as folder:
        start = clock()
        rows = library.load_dataset("parquet", data_files=corpus, split="train", cache_dir=folder)
        rows.map(encode, batched=True, remove_columns=rows.column_names)
        return since(start)


# Cleaning


def recall(kept: set[int], originals: int, all_documents: int) -> str:
    """How many of the planted copies, the documents from `originals` on, were found."""
    copies = all_documents - originals
    found = sum(number not in kept for number in range(originals, all_documents))
    return f"recall {found}/{copies}, {originals - sum(n in kept for n in range(originals))} others dropped"


@task
def smolmake_minhash(corpus: str, originals: str) -> dict[str, Any]:
    from smolmake.data.dedup import near_duplicates, signatures_of
    from smolmake.data.ngrams import words_of

    started = time.perf_counter()
    signatures = [
        signatures_of(words_of(batch), NEAR["ngram"], NEAR["permutations"]) for batch in batches(texts_of(Path(corpus)))
    ]
    all_signatures = np.concatenate(signatures)
    nothing = np.zeros(len(all_signatures), dtype=bool)
    dropped = near_duplicates(all_signatures, all_signatures[:0], NEAR["similarity"], nothing)
    seconds = time.perf_counter() - started
    kept = set(np.flatnonzero(~dropped).tolist())
    return {"seconds": seconds, "note": recall(kept, int(originals), len(dropped))}


def plain_words() -> Any:
    """A word tokenizer for datatrove: NLTK's needs a download; a regular expression is faster than NLTK."""
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Plain(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return re.findall(r"\w+", text)

        def sent_tokenize(self, text: str) -> list[str]:
            return text.split(".")

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [match.span() for match in re.finditer(r"[^.]+", text)]

    return Plain()


@task
def datatrove_minhash(corpus: str, originals: str) -> dict[str, Any]:
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader

    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    path = Path(corpus)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()

        def read() -> Any:
            return JsonlReader(str(path.parent), glob_pattern=path.name).run(rank=0, world_size=1)

        MinhashDedupSignature(f"{folder}/s", config, language=plain_words()).run(read(), 0, 1)
        for bucket in range(config.num_buckets):
            MinhashDedupBuckets(f"{folder}/s", f"{folder}/b", config=config).run(None, bucket, config.num_buckets)
        MinhashDedupCluster(f"{folder}/b", f"{folder}/r", config=config).run(None, 0, 1)
        kept = {int(document.id) for document in MinhashDedupFilter(f"{folder}/r").run(read(), 0, 1)}
        seconds = time.perf_counter() - started
        count = sum(1 for _ in read())
        return {"seconds": seconds, "note": recall(kept, int(originals), count)}


@task
def smolmake_decontaminate(corpus: str, items: str) -> dict[str, Any]:
    from smolmake.data.decontaminate import Contamination
    from smolmake.data.ngrams import words_of

    index = Contamination({"t": items_of(items)}, 13)
    started = time.perf_counter()
    found = sum(len(index.found_in(words_of(batch))) for batch in batches(texts_of(Path(corpus))))
    return {"seconds": time.perf_counter() - started, "note": f"{found} documents"}


@task
def datatrove_decontaminate(corpus: str, items: str) -> dict[str, Any]:
    from datatrove.pipeline.decont import NGramsDecontFilter
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, ngrams, simplify_text
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.utils.hashing import create_hash_func

    config = NGramsDecontConfig(n_grams=13)
    path = Path(corpus)
    with tempfile.TemporaryDirectory() as folder:
        # What its indexer writes; the indexer itself needs lighteval.
        hash_of, words = create_hash_func(config.hash_config), plain_words()
        grams = [ngrams(words.word_tokenize(simplify_text(item, config.norm_config)), 13) for item in items_of(items)]
        hashes = {hash_of(" ".join(gram)) for some in grams for gram in some}
        np.array(list(hashes), dtype=config.hash_config.np_descr).tofile(f"{folder}/t.index.hashes")
        started = time.perf_counter()
        reader = JsonlReader(str(path.parent), glob_pattern=path.name).run(rank=0, world_size=1)
        step = NGramsDecontFilter(folder, config, language=plain_words())
        read = sum(1 for _ in step.run(reader, 0, 1))
        return {"seconds": time.perf_counter() - started, "note": f"{read} documents left"}


@task
def smolmake_clean(corpus: str, items: str) -> dict[str, Any]:
    from smolmake.data.clean import join_parts, write_part
    from smolmake.data.decontaminate import Contamination
    from smolmake.data.documents import Document
    from smolmake.data.filters import Counts
    from smolmake.execution.parts import do_parts
    from smolmake.recipe.sources import CleaningRules, NearDuplicates

    rules = CleaningRules(max_characters=10**6, near_duplicates=NearDuplicates(**NEAR))
    index = {"t": items_of(items)}
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()

        def work(number: int, part: Path) -> dict[str, Any]:
            documents = map(Document, texts_of(Path(corpus)))
            return write_part(part, documents, rules, Contamination(index, 13), Counts())

        do_parts(Path(folder), 1, work, helper=False)
        summary = join_parts(Path(folder), 1, rules, Contamination(index, 13), [])
        return {"seconds": time.perf_counter() - started, "note": f"{summary['kept']} of {summary['read']} kept"}


# The loader


@task
def make_shards(folder: str, sources: str, tokens: str) -> dict[str, Any]:
    """Random tokens in 60 sources, documents of 800 tokens on average; datatrove's form of the first one beside."""
    rng, each = np.random.default_rng(0), int(tokens) // int(sources)
    started = time.perf_counter()
    for number in range(int(sources)):
        place = Path(folder) / f"s{number:02d}"
        place.mkdir(parents=True)
        rng.integers(1, 128_000, each, dtype=np.uint32).tofile(place / "tokens.bin")
        borders = np.unique(np.append(np.cumsum(rng.geometric(1 / 800, each // 400)), 0))
        np.save(place / "offsets.npy", np.append(borders[borders < each], each))
    (Path(folder) / "ds").mkdir()
    rng.integers(1, 128_000, int(tokens), dtype=np.uint32).tofile(Path(folder) / "ds" / "0.ds")
    return {"seconds": time.perf_counter() - started, "note": f"{int(tokens) // 10**6} M tokens in the page cache"}


def read_through(step: Callable[[int], Any], steps: int, start: float, index_mib: float) -> dict[str, Any]:
    """Measure the first batch, and batches in order from the middle of the run for some seconds."""
    step(0)
    start_seconds = time.perf_counter() - start
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 4:
        step((steps // 2 + count) % steps)
        count += 1
    speed = count * ROWS * LENGTH / (time.perf_counter() - began)
    return {"tokens_per_second": speed, "start_seconds": start_seconds, "index_mib": index_mib}


def random_rows(row: Callable[[int], Any], positions: int) -> float:
    """Median time of one row anywhere, in ms."""
    times = []
    for position in np.random.default_rng(1).integers(0, positions, 200).tolist():
        began = time.perf_counter()
        row(position)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1000


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def weights_of(count: int) -> dict[str, float]:
    raw = {f"s{number:02d}": 1.0 / (number + 1) for number in range(count)}
    return {name: weight / sum(raw.values()) for name, weight in raw.items()}


@task
def pack_lengths(mean: str, documents: str, length: str) -> dict[str, Any]:
    """Pack documents of exponential lengths (at least 16 tokens), window by window, in one process."""
    from smolmake.data.packing import join_packings, pack_window, windows
    from smolmake.data.token_shards import Part, Shards

    lengths = np.random.default_rng(0).exponential(float(mean), int(documents)).astype(np.int64).clip(16)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    part = Part(np.zeros(0, np.uint32), offsets)  # packing reads no tokens
    shards = Shards([Path()], [int(offsets[-1])], [len(lengths)], 0, np.dtype("<u4"), {0: part})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        facts = [pack_window(shards, number, int(length), Path(folder)) for number in range(windows(shards))]
        seconds = time.perf_counter() - started
    found = join_packings(facts, int(length))
    return {"seconds": seconds, **{key: found[key] for key in ("tokens", "padding", "sequences", "cut_documents")}}


@task
def pack_shards(folder: str) -> dict[str, Any]:
    """The packing of every source, beside its shards."""
    from smolmake.data.packing import join_packings, pack_window

    facts = []
    for place in sorted(Path(folder).glob("s*")):
        part = place / "packing" / "parts" / "00000"
        part.mkdir(parents=True)
        facts.append(pack_window(source_at(place), 0, LENGTH, part))
        (place / "packing" / "facts.json").write_text(json.dumps(join_packings(facts[-1:], LENGTH)))
    return {"note": f"{join_packings(facts, LENGTH)['padding']:.2%} padding"}


def source_at(place: Path) -> Any:
    """The shards that `make_shards` wrote."""
    from smolmake.data.token_shards import open_shards

    size = (place / "tokens.bin").stat().st_size // 4
    documents = len(np.load(place / "offsets.npy", mmap_mode="r")) - 1
    return open_shards(place, {"tokens": size, "documents": documents, "token_bits": 32, "end_of_text": 0})


@task
def smolmake_loader(folder: str, steps: str, packed: str = "") -> dict[str, Any]:
    from smolmake.data.loader import BatchReader
    from smolmake.data.mixture import build_pattern, make_mixture, period_for, slot_counts
    from smolmake.data.packing import pack_onto

    weights = weights_of(60)
    counts = slot_counts(weights, period_for(weights))
    pattern = build_pattern([counts[name] for name in weights])  # the mixture's step has done this before
    description = {"sources": {n: {"first": 0} for n in weights}, "sequence_length": LENGTH, "seed": 0, "label": "p"}
    before, start = resident(), time.perf_counter()
    mixture = make_mixture(description, pattern)
    shards = {name: source_at(Path(folder) / name) for name in weights}
    if packed:
        for name, source in shards.items():
            packing = Path(folder) / name / "packing"
            shards[name] = pack_onto(source, packing, json.loads((packing / "facts.json").read_text()))
    index = resident() - before
    reader = BatchReader(mixture, shards, ROWS, 0)
    found = read_through(reader.batch, int(steps), start, index)
    return found | {
        "random_ms": random_rows(lambda p: reader.batch(p // ROWS, range(p % ROWS, p % ROWS + 1)), int(steps) * ROWS)
    }


@task
def index_loader(folder: str, steps: str) -> dict[str, Any]:
    """As nanotron's Nanoset and Megatron's blends: an index of source and sequence for every sample of the run."""
    weights = weights_of(60)
    before, start = resident(), time.perf_counter()
    tokens = [np.memmap(Path(folder) / name / "tokens.bin", dtype=np.uint32, mode="r") for name in weights]
    available = np.array([(len(source) - 1) // LENGTH for source in tokens])
    samples = int(steps) * ROWS
    rng = np.random.default_rng(0)
    source = rng.choice(60, size=samples, p=list(weights.values())).astype(np.int64)
    sequence = np.empty(samples, dtype=np.int64)
    for number in range(60):
        places = np.flatnonzero(source == number)
        epochs = -(-len(places) // available[number])
        order = [rng.permutation(available[number]) for _ in range(epochs)]
        sequence[places] = np.concatenate([np.zeros(0, np.int64), *order])[: len(places)]
    index = resident() - before

    def row(position: int) -> Any:
        first = sequence[position] * LENGTH
        return np.asarray(tokens[source[position]][first : first + LENGTH + 1], dtype=np.int64)

    found = read_through(lambda s: np.stack([row(s * ROWS + r) for r in range(ROWS)]), int(steps), start, index)
    return found | {"random_ms": random_rows(row, samples)}


@task
def datatrove_loader(folder: str) -> dict[str, Any]:
    from datatrove.utils.dataset import DatatroveFolderDataset

    start = time.perf_counter()
    rows = DatatroveFolderDataset(str(Path(folder) / "ds"), LENGTH, token_size=4)
    found = read_through(lambda s: [rows[(s * ROWS + r) % len(rows)] for r in range(ROWS)], 10**9, start, 0.0)
    return found | {"random_ms": random_rows(lambda p: rows[p], len(rows))}


@task
def streaming_loader(folder: str, steps: str) -> dict[str, Any]:
    """MosaicML Streaming over the same sources with the same weights, shuffled, one process."""
    from streaming import MDSWriter, Stream, StreamingDataset

    weights, streams = weights_of(60), []
    for name, weight in weights.items():
        place = Path(folder) / "mds" / name
        streams.append(Stream(local=str(place), proportion=weight))
        if place.exists():
            continue
        tokens = np.fromfile(Path(folder) / name / "tokens.bin", dtype=np.uint32)
        with MDSWriter(out=str(place), columns={"tokens": f"ndarray:uint32:{LENGTH + 1}"}) as writer:
            for first in range(0, len(tokens) - LENGTH, LENGTH):
                writer.write({"tokens": tokens[first : first + LENGTH + 1]})
    before, start = resident(), time.perf_counter()
    samples = int(steps) * ROWS
    rows = StreamingDataset(streams=streams, batch_size=ROWS, shuffle=True, epoch_size=samples, num_canonical_nodes=1)
    stream = iter(rows)
    next(stream)
    index = resident() - before

    def step(number: int) -> Any:
        return np.stack([next(stream)["tokens"].astype(np.int64) for _ in range(ROWS)])

    return read_through(step, int(steps), start, index) | {
        "random_ms": random_rows(lambda p: rows[p], rows.num_samples)
    }


if __name__ == "__main__":
    result = TASKS[sys.argv[1]](*sys.argv[2:])
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss counts the parent's too
    print(json.dumps({**result, "peak_mib": int(peak[1]) / 1024 if peak else 0}))
