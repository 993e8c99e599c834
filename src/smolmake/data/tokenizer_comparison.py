"""Comparing tokenizers: the playbook's measures, over words as each language has them."""

from __future__ import annotations

import re
from itertools import islice

import pyarrow.parquet as pq
from icu4py.breakers import WordBreaker
from tokenizers import Tokenizer

from smolmake.data.clean import iterate_texts
from smolmake.data.tokenizer import load_tokenizer
from smolmake.execution.job import Job
from smolmake.execution.step import Run
from smolmake.files import write_json
from smolmake.graph.specs.data import TokenizerComparisonSpec

DOCUMENTS = 60  # of each source

# Languages that put no spaces between words: ICU finds their words with its dictionaries.
LANGUAGES_WITHOUT_SPACES = {"zh", "cmn", "yue", "ja", "jpn", "th", "tha", "lo", "lao", "km", "khm", "my", "mya"}
NUMBERS = ["7", "42", "123", "2026", "65536", "1234567890", "3.14159", "1,000,000"]


def words_in(text: str, language: str) -> list[str]:
    """The words of a text, each with the white space before it, if that is how the language writes.

    Words are runs of letters and digits; in Chinese, Japanese, Thai, Lao, Khmer and Burmese what ICU takes as a word.
    """
    if language.lower().replace("_", "-").split("-")[0] not in LANGUAGES_WITHOUT_SPACES:
        return re.findall(r"\s?\w+", text)
    return [piece for piece in map(str, WordBreaker(text, language.split("_")[0])) if any(map(str.isalnum, piece))]


def analyse(tokenizer: Tokenizer, texts: list[str], language: str = "en") -> dict[str, float | int]:
    """Fertility (tokens a word), share of words that are split (continued words), bytes a token, digits a token."""
    words = continued = word_tokens = tokens = size = 0
    for text in texts:
        tokens += len(tokenizer.encode(text, add_special_tokens=False).ids)
        size += len(text.encode("utf-8", "replace"))
        for encoding in tokenizer.encode_batch(words_in(text, language), add_special_tokens=False):
            words += 1
            word_tokens += len(encoding.ids)
            continued += len(encoding.ids) > 1
    return {
        "documents": len(texts),
        "words": words,
        "tokens": tokens,
        "bytes": size,
        "fertility": word_tokens / max(words, 1),
        "continued_words": continued / max(words, 1),
        "bytes_per_token": size / max(tokens, 1),
        "digits_per_token": digits_per_token(tokenizer),
    }


def digits_per_token(tokenizer: Tokenizer) -> int:
    """The most digits that stand in one token of some numbers: 1 where digits are split, 3 in Llama 3's way."""
    most = 0
    for number in NUMBERS:
        encoding = tokenizer.encode(number, add_special_tokens=False)
        most = max(most, *(sum(map(str.isdigit, number[begin:end])) for begin, end in encoding.offsets))
    return most


def compare_tokenizers(job: Job[TokenizerComparisonSpec, Run]) -> None:
    """Measure every tokenizer on held-out text of every source."""
    rows = []
    tokenizers = {name: load_tokenizer(folder) for name, folder in sorted(job.group("tokenizer").items())}
    for source, folder in sorted(job.group("documents").items()):
        texts = pq.read_table(folder / "heldout.parquet")["text"].to_pylist()[:DOCUMENTS]
        texts = texts or list(islice(iterate_texts(folder), DOCUMENTS))
        for name, tokenizer in tokenizers.items():
            labels = job.spec.sources[source]
            measured = analyse(tokenizer, texts, labels.language)
            rows.append({"tokenizer": name, "source": source, **labels.model_dump(), **measured})
    write_json(job.folder / "analysis.json", {"chosen": job.spec.chosen, "rows": rows})
    job.finish(["analysis.json"], {"tokenizers": sorted(tokenizers)})
