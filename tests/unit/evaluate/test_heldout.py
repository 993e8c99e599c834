"""Bits per byte count the document's own bytes, wherever a window cuts it."""

import math

import pytest
import torch
from helpers.models import decoder, save_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from smolmake.evaluate.heldout import encode_with_bytes, heldout_loss

TEXTS = {
    "english": "The  quick brown fox.\n\n\tIt jumps – naïvely.",
    "chinese": "你好,世界。 今天天气很好",
    "japanese": "日本語の文章です。 かな、カナ",
    "emoji": "🦉🦉 owls 👩‍👩‍👧 and 🏴󠁧󠁢󠁥󠁮󠁧󠁿!",
    "special": "<|end_of_text|> 你 <0xE4>▁ <unk>",
}
LEARNED = ["The quick brown fox jumps. 你好 世界 日本語 です"] * 4  # some signs of each text are in the vocabulary


def byte_level(split_digits: bool) -> Tokenizer:
    """As of GPT-2 or, with digits split first, of SmolLM2."""
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    both = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level])
    tokenizer.pre_tokenizer = both if split_digits else level
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end_of_text|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(LEARNED, trainer)
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As SentencePiece's, of Llama 2, Mistral and Gemma: a space becomes ▁, and what is unknown its bytes."""
    special = ["<unk>", *(f"<0x{number:02X}>" for number in range(256))]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fuse = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(fuse)
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(LEARNED, trainer)
    return tokenizer


TOKENIZERS = {
    "byte-level": lambda: byte_level(False),
    "byte-level, digits split": lambda: byte_level(True),
    "byte fallback": byte_fallback,
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return PreTrainedTokenizerFast(tokenizer_object=TOKENIZERS[request.param]())


@pytest.mark.parametrize("name", TEXTS)
def test_each_token_has_its_bytes(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Their sum over windows is the document's; where a window ends between signs, it is that of the signs before."""
    text = TEXTS[name]
    ids, sizes = encode_with_bytes(tokenizer, text)
    assert ids == tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert sum(sizes) == len(text.encode()) and min(sizes) >= 0
    for window in (1, 2, 3, 7):
        windows = [sum(sizes[first : first + window]) for first in range(0, len(ids), window)]
        assert sum(windows) == len(text.encode())
    for cut in range(1, len(ids)):
        decoded = str(tokenizer.decode(ids[:cut]))
        if text.startswith(decoded):
            assert sum(sizes[:cut]) == len(decoded.encode()), (cut, decoded)


def test_bytes_within_a_sign_are_those_of_its_pieces(tokenizer: PreTrainedTokenizerBase) -> None:
    ids, sizes = encode_with_bytes(tokenizer, "🦉")
    owl = [size for size in sizes if size]
    assert owl == [1, 1, 1, 1]
    assert len(ids) - len(owl) in (0, 1)  # the ▁ that SentencePiece puts first stands for nothing


@pytest.fixture(scope="module")
def uniform(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    """A model that gives every token the same probability."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(folder / "tokenizer")
    save_model(decoder(vocab_size=len(tokenizer), num_hidden_layers=1), folder / "model", folder / "tokenizer", 0)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    return model


@pytest.mark.parametrize("window", [3, 5, 1000])
@pytest.mark.parametrize("name", TEXTS)
def test_bits_per_byte_are_those_of_the_bytes_scored(
    uniform: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, window: int
) -> None:
    ids, sizes = encode_with_bytes(tokenizer, TEXTS[name])
    if not sum(sizes[1:window]):
        pytest.skip("the window holds no byte")
    measured = heldout_loss(uniform, tokenizer, [TEXTS[name]], window)
    scored = len(ids[:window]) - 1
    assert measured["tokens"] == scored and measured["sizes"] == [sum(sizes[1:window])]
    bits = scored * math.log2(len(tokenizer)) / sum(sizes[1:window])
    assert measured["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
