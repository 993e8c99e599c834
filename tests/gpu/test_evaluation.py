"""On a GPU the engine answers what the harness's own backend answers there, with its steps captured as CUDA graphs."""

from pathlib import Path

import pytest
import torch
from helpers.evaluated import instances, model_of, words
from helpers.models import write_tokenizer
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

from smolmake.evaluate import slots
from smolmake.evaluate.harness_model import HarnessModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def test_scores_and_answers_are_the_harness_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slots, "GPU_SLOTS", 8)
    write_tokenizer(tmp_path, [words(seed, 20) for seed in range(20)], 300)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = model_of("llama", len(tokenizer)).to("cuda")
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    engine = HarnessModel(model, tokenizer)
    choices = [[(words(n, 3 + n), f" {words((n, c), 1 + c)}") for c in range(4)] for n in range(9)]
    after = [[(words("shots", 60) + words(n, 4), f" {words((n, c), 2)}") for c in range(2)] for n in range(60)]
    asked = instances("loglikelihood", "choices", choices) + instances("loglikelihood", "after", after)
    expected = [value for value, _ in harness.loglikelihood(asked)]
    assert [value for value, _ in engine.loglikelihood(asked)] == pytest.approx(expected, abs=1e-4, rel=1e-4)
    settings = {"until": [" the"], "max_gen_toks": 40, "do_sample": False}
    prompts = instances("generate_until", "write", [[(words(n, 1 + 7 * n % 23), settings)] for n in range(30)])
    assert engine.generate_until(prompts) == harness.generate_until(prompts)
    assert "not captured" not in capfd.readouterr().err
