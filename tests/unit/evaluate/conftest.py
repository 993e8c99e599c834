"""Models that requests are asked of."""

import pytest
from helpers.evaluated import FAMILIES, Loaded, model_of, words
from helpers.models import write_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, [words(seed, 20) for seed in range(20)], 300)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase) -> Loaded:
    settings = {"sliding_window": 16} if request.param == "mistral" else {}
    return model_of(request.param, len(tokenizer), **settings), tokenizer


@pytest.fixture(scope="module")
def llama(tokenizer: PreTrainedTokenizerBase) -> Loaded:
    return model_of("llama", len(tokenizer)), tokenizer
