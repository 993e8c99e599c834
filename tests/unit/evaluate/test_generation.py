"""What slots write is what transformers' `generate` writes, prompt by prompt."""

from typing import Any

import pytest
import torch
from helpers.evaluated import FAMILIES, Loaded, instances, model_of, words
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedTokenizerBase

from smolmake.evaluate import slots
from smolmake.evaluate.generate import _draw
from smolmake.evaluate.harness_model import HarnessModel
from smolmake.evaluate.slots import Slots

GREEDY = {"until": [".", " the", "two one"], "max_gen_toks": 12, "do_sample": False}


def prompts(settings: dict[str, Any], count: int = 11, before: str = "") -> Any:
    return instances("generate_until", "write", [[(before + words(n, 1 + 7 * n % 23), settings)] for n in range(count)])


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_the_harness_s_own(
    family: str,
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In slots that are filled again and again, behind examples that are read once, and where prompts are too long."""
    monkeypatch.setattr(slots, "CPU_SLOTS", 3)
    monkeypatch.setattr(slots, "LEAST_SAVED", 100)
    model = model_of(family, len(tokenizer))
    asked = prompts(GREEDY, before=words("shots", 50) + " ") + prompts(GREEDY, 4)
    asked += prompts({**GREEDY, "max_gen_toks": 124, "until": []}, 2)
    expected = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1).generate_until(asked, disable_tqdm=True)
    engine = HarnessModel(model, tokenizer)
    assert engine.generate_until(asked, disable_tqdm=True) == expected
    assert len(set(expected)) > 4 and ("batch after batch" in capfd.readouterr().err) == (family == "mistral")
    noted = engine.noted["write"]
    assert len(noted.cut) == len(asked) and sum(noted.cut) and noted.truncated


def test_an_answer_ends_at_a_stop_string_and_its_slot_is_filled(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """No slot writes on behind the stop string, and the next prompt begins at once."""
    monkeypatch.setattr(slots, "CPU_SLOTS", 2)
    steps, grow = [0], Slots._grow

    def counted(self: Slots, width: int) -> None:
        steps[0] += 1
        grow(self, width)

    monkeypatch.setattr(Slots, "_grow", counted)
    free = HarnessModel(*llama).generate_until(prompts({**GREEDY, "until": []}, 6), disable_tqdm=True)
    assert steps[0] == 3 * 11
    steps[0] = 0
    stops = sorted({answer[len(answer) // 2] for answer in free})
    asked = prompts({**GREEDY, "until": stops}, 6)
    found = HarnessModel(*llama).generate_until(asked, disable_tqdm=True)
    assert found == HFLM(pretrained=llama[0], tokenizer=llama[1], batch_size=1).generate_until(asked)
    assert any(found) and 0 < steps[0] < 3 * 11


def test_a_sampled_answer_follows_its_own_seed(llama: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written beside it; another item, repetition or round has another."""
    sampled = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 0.9, "top_p": 0.95}
    asked = prompts(sampled, 6)
    torch.manual_seed(3)
    found = HarnessModel(*llama).generate_until(asked, disable_tqdm=True)
    monkeypatch.setattr(slots, "CPU_SLOTS", 2)
    torch.rand(5)
    again = HarnessModel(*llama).generate_until([*asked[3:], *asked[:3]], disable_tqdm=True)
    assert [*again[3:], *again[:3]] == found
    both = HarnessModel(*llama).generate_until([asked[0], asked[0]], disable_tqdm=True)
    torch.manual_seed(4)
    assert len({*both, HarnessModel(*llama).generate_until(asked[:1], disable_tqdm=True)[0]}) == 3


def test_settings_that_slots_do_not_follow_are_left_to_generate(
    llama: Loaded, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = prompts({**GREEDY, "repetition_penalty": 1.5}, 5)
    expected = HFLM(pretrained=llama[0], tokenizer=llama[1], batch_size=1).generate_until(asked, disable_tqdm=True)
    assert HarnessModel(*llama).generate_until(asked, disable_tqdm=True) == expected
    assert "batch after batch, of repetition_penalty" in capfd.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.6, "temperature": 2.0}, {"min_p": 0.2, "top_k": 0}],
)
def test_tokens_are_drawn_as_transformers_draws_them(llama: Loaded, settings: dict[str, Any]) -> None:
    """Over all numbers in [0, 1) a token comes as often as its probability in transformers' own sampling."""
    torch.manual_seed(0)
    logits = torch.randn(1, 20) * 2
    draws = _draw({**settings, "do_sample": True})(logits.expand(20_000, -1), torch.linspace(0, 1 - 1e-6, 20_000))
    config = llama[0].generation_config.__class__(do_sample=True, **{"top_k": 50, **settings})
    warpers = llama[0]._get_logits_processor(config, input_ids_seq_length=1, encoder_input_ids=torch.tensor([[1]]))
    expected = warpers(torch.tensor([[1]]), logits).softmax(-1)[0]
    assert draws.bincount(minlength=20) / 20_000 == pytest.approx(expected, abs=2e-4)
