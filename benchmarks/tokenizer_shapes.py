"""Tokenizers of the shapes of open models, trained on texts at hand: no vocabulary of theirs is needed.

Usage: python benchmarks/tokenizer_shapes.py CORPUS.parquet FOLDER [--megabytes 60] [SHAPE ...]

Writes FOLDER/SHAPE/tokenizer.json with a vocabulary of the real size. A shape is what decides which ids a text gets
and how fast: normaliser, pre-tokenizer, kind of model, special tokens. The patterns are those of the models' files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

END = "<|end_of_text|>"
CHAT = (END, "<|im_start|>", "<|im_end|>")
SENTENCEPIECE = ("<unk>", "<s>", "</s>", END)
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{LETTERS}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{REST}"
QWEN = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
TEKKEN = rf"{CASED[0]}|{CASED[1]}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{REST}"
O200K = rf"{CASED[0]}{SUFFIX}|{CASED[1]}{SUFFIX}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{REST}"
DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{REST}",
)


def split(*patterns: str) -> Any:
    """Patterns one after the other, then bytes."""
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@dataclass(frozen=True)
class Shape:
    """`trained_as` is the pre-tokenizer for training, where the model's own would make words of whole documents."""

    size: int
    pre_tokenizer: Any
    normalizer: Any = None
    special: tuple[str, ...] = CHAT
    model: dict[str, Any] = field(default_factory=dict)
    trained_as: Any = None
    decoder: Any = field(default_factory=decoders.ByteLevel)


BYTES = pre_tokenizers.ByteLevel.alphabet()
WORDS = pre_tokenizers.Split(Regex("▁+|\n+"), "merged_with_next")
FALLBACK = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
PIECES = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
SHAPES = {
    "gpt2": Shape(50_257, pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "smollm2": Shape(
        49_152,
        pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    ),
    "llama3": Shape(128_256, split(CL100K), model={"ignore_merges": True}),  # SmolLM3 has it too
    "qwen": Shape(151_643, split(QWEN), normalizers.NFC()),  # Qwen 2, 2.5 and 3
    "olmo2": Shape(100_278, split(CL100K)),
    "smolmake": Shape(128_000, split(QWEN)),  # what a recipe trains
    "tekken": Shape(131_072, split(TEKKEN), model={"ignore_merges": True}),  # Mistral NeMo and later
    "gpt-oss": Shape(199_998, split(O200K)),
    "deepseek3": Shape(128_000, split(*DEEPSEEK)),
    "llama2": Shape(  # Mistral 7B too
        32_000, None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        SENTENCEPIECE, FALLBACK, WORDS, decoders.Sequence([*PIECES, decoders.Strip(" ", 1, 0)]),
    ),
    "mistral": Shape(  # version 0.3
        32_768, pre_tokenizers.Metaspace("▁", "first", False), None,
        SENTENCEPIECE, FALLBACK, WORDS, decoders.Sequence([*PIECES, decoders.Strip(" ", 1, 0)]),
    ),
    "gemma": Shape(
        256_000, pre_tokenizers.Split(" ", "merged_with_previous"), normalizers.Replace(" ", "▁"),
        SENTENCEPIECE, FALLBACK, WORDS, decoders.Sequence(PIECES),
    ),
}  # fmt: skip


def train(shape: Shape, texts: Iterable[str], size: int | None = None) -> Tokenizer:
    """A tokenizer of a shape, of its real size or a smaller one."""
    tokenizer = Tokenizer(models.BPE(**{key: value for key, value in shape.model.items() if key == "unk_token"}))
    pieces = shape.trained_as is not None  # as SentencePiece: a byte is a token of its own where no other has it
    if pieces:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    elif shape.normalizer is not None:
        tokenizer.normalizer = shape.normalizer
    tokenizer.pre_tokenizer = shape.trained_as or shape.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=size or shape.size,
        special_tokens=[*shape.special, *(f"<0x{byte:02X}>" for byte in range(256 if pieces else 0))],
        show_progress=False,
        **({"limit_alphabet": 6000, "max_token_length": 16} if pieces else {"initial_alphabet": BYTES}),
    )
    tokenizer.train_from_iterator(texts, trainer)
    described = json.loads(tokenizer.to_str())
    described["model"] |= shape.model
    described["added_tokens"] = [token for token in described["added_tokens"] if token["content"] in shape.special]
    described |= {"normalizer": None, "pre_tokenizer": None}
    made = Tokenizer.from_str(json.dumps(described))
    if shape.normalizer is not None:
        made.normalizer = shape.normalizer
    if shape.pre_tokenizer is not None:
        made.pre_tokenizer = shape.pre_tokenizer
    made.decoder = shape.decoder
    return made


def texts_of(corpus: Path, megabytes: float) -> Iterator[str]:
    left = megabytes * 1e6
    for batch in pq.ParquetFile(corpus).iter_batches(256, columns=["text"]):
        for text in batch["text"].to_pylist():
            if left <= 0:
                return
            left -= len(text.encode())
            yield text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shapes", nargs="*", help=", ".join(SHAPES))
    parser.add_argument("--megabytes", type=float, default=60)
    arguments = parser.parse_args()
    for name in arguments.shapes or SHAPES:
        started = time.time()
        tokenizer = train(SHAPES[name], texts_of(arguments.corpus, arguments.megabytes))
        (arguments.folder / name).mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(arguments.folder / name / "tokenizer.json"))
        print(f"{name}: {tokenizer.get_vocab_size():,} tokens in {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
