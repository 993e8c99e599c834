"""Training and comparing tokenizers: byte-level BPE with digits split one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from smolmake.errors import UserError

END_OF_TEXT = "<|end_of_text|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
ENDS_OF_TEXT = (END_OF_TEXT, "<|endoftext|>", "<|end_of_document|>", "<eos>", "</s>")
SPECIAL_TOKENS = [END_OF_TEXT, TURN_START, TURN_END]
# Llama 3's pattern (cl100k's) with single digits instead of groups of three, as in SmolLM2.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer. Every byte has a token, so any text can be encoded and comes back whole."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokenizer_config(max_length: int) -> dict[str, Any]:
    """tokenizer_config.json for transformers."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "padding_side": "right",
    }


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder with tokenizer.json.

    Raises:
        UserError: if it cannot be read.
    """
    file = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise UserError(
            f"this tokenizer cannot be read: {error}", file=file,
            remedy="if it was damaged, delete its folder and run the recipe again: the same one is made",
        ) from error  # fmt: skip


def end_of_text_id(tokenizer: Tokenizer) -> int:
    """The token that ends a document: the first that the vocabulary has of the names that are in use for it.

    Raises:
        UserError: if it has none.
    """
    for name in ENDS_OF_TEXT:
        number = tokenizer.token_to_id(name)
        if number is not None:
            return int(number)
    raise UserError(
        "the tokenizer has no token that ends a document",
        key="tokenizer",
        value="its special tokens: " + ", ".join(str(token) for token in tokenizer.get_added_tokens_decoder().values()),
        remedy=f"take a tokenizer with one of {', '.join(ENDS_OF_TEXT)}",
    )


def check_round_trip(tokenizer: Tokenizer, texts: list[str]) -> int:
    """How many of `texts` do not come back from their ids as they were.

    Some tokenizers normalise rare characters; one that changes every tenth text is not fit for pretraining.

    Raises:
        UserError: if it changes so many.
    """
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True
    plain.no_truncation()
    changed = [
        (text, back)
        for text in texts
        if (back := plain.decode(plain.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)) != text
    ]
    if len(changed) * 10 > len(texts):
        text, back = changed[0]
        first = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), min(len(text), len(back)))
        raise UserError(
            f"the tokenizer does not give back {len(changed)} of {len(texts)} texts as they were",
            key="tokenizer",
            value=f"{text[max(0, first - 20) : first + 20]!r} came back as {back[max(0, first - 20) : first + 20]!r}",
            remedy="take a tokenizer that keeps case, spaces and every byte, such as a byte-level BPE",
        )
    return len(changed)


def training_texts(documents: Iterable[Iterable[str]], characters: int) -> Iterator[str]:
    """From every source documents up to a number of characters, so that each has a like say in the vocabulary."""
    for texts in documents:
        left = characters
        for text in texts:
            if left <= 0:
                break
            yield text[:left]
            left -= len(text)


def splits_digits(tokenizer: Tokenizer) -> bool:
    """Whether every number becomes one token a digit."""
    return all(len(tokenizer.encode(number).ids) == len(number) for number in ("7", "42", "2026", "1234567890"))
