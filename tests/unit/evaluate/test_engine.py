"""What the engine answers is what the harness's own hf backend answers, on the same model."""

import random
from typing import Any

import pytest
import torch
from helpers.evaluated import WORDS, Loaded, instances, model_of, words
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedTokenizerBase

from smolmake.errors import UserError
from smolmake.evaluate.engine import Engine
from smolmake.evaluate.harness_model import HarnessModel
from smolmake.evaluate.shared_prefixes import Scored, make_batches, make_rows, shared_runs


def questions() -> list[Instance]:
    """Choices of many and of one token, without a context, after shots, in other contexts, and too long to be read."""
    shots = words("shots", 40)
    tasks = {
        "choices": [[(words(n, 3 + n), f" {words((n, c), 1 + c)}") for c in range(4)] for n in range(7)],
        "letters": [[(f"{words(n, 5 + n)} Answer:", f" {letter}") for letter in "ABCD"] for n in range(5)],
        "alone": [[("", words((n, c), 2 + c)) for c in range(2)] for n in range(2)],
        "shots": [[(f"{shots} {words(n, 2 + n)}", f" {words((n, c), 3)}") for c in range(3)] for n in range(9)],
        "contexts": [[(f"{words(n, 6)} {noun}", " is by the river") for noun in WORDS[:2]] for n in range(3)],
        "long": [[(words(n, 100), f" {words((n, c), 2 + 6 * c)}") for c in range(4)] for n in range(3)],
        "spaces": [[("the cat  ", "is one"), ("the cat  ", "two")]],
    }
    return [each for name, items in tasks.items() for each in instances("loglikelihood", name, items)]


@pytest.mark.parametrize(("budget", "least"), [(None, 1), (100, 10**9)])
def test_log_likelihoods_are_the_harness_s_own(
    loaded: Loaded, budget: int | None, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without shared prefixes, in batches of any size."""
    asked = questions()
    expected = HFLM(pretrained=loaded[0], tokenizer=loaded[1], batch_size=4).loglikelihood(asked, disable_tqdm=True)
    monkeypatch.setattr(Engine.score, "__defaults__", (lambda _: None, least))
    found = HarnessModel(*loaded, budget).loglikelihood(asked, disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-5, rel=1e-5)
    assert [likeliest for _, likeliest in found] == [likeliest for _, likeliest in expected]


def test_the_likeliest_is_known(loaded: Loaded) -> None:
    prompt = [5, 6, 7]
    greedy = loaded[0].generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False, pad_token_id=0)[0].tolist()
    off = [*greedy[:-1], greedy[-1] ^ 1]
    requests = [Scored(tokens, 4, 0) for tokens in (greedy, off)] + [Scored(off, 4, 1), Scored(greedy[:-1], 3, 0)]
    assert [likeliest for _, likeliest in Engine(loaded[0], 128).score(requests)] == [True, False, False, True]


def test_texts_longer_than_the_model_reads_are_the_harness_s_own(loaded: Loaded) -> None:
    texts = [[(words(length, length),)] for length in (1, 7, 60, 90, 300)]
    asked = instances("loglikelihood_rolling", "read", texts)
    expected = HFLM(pretrained=loaded[0], tokenizer=loaded[1], batch_size=3).loglikelihood_rolling(asked)
    assert HarnessModel(*loaded).loglikelihood_rolling(asked) == pytest.approx(expected, abs=1e-5, rel=1e-5)


def test_a_long_prompt_is_counted_and_a_longer_choice_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    asked = HarnessModel(model_of("llama", len(tokenizer)), tokenizer)
    asked.loglikelihood(questions(), disable_tqdm=True)
    assert {name: sorted(noted.truncated) for name, noted in asked.noted.items() if noted.truncated} == {
        "long": [0, 1, 2]
    }
    with pytest.raises(UserError, match="item 0 of the task huge is longer"):
        asked.loglikelihood(instances("loglikelihood", "huge", [[("the", f" {words(1, 300)}")]]), disable_tqdm=True)


def test_what_cannot_share_is_told(tokenizer: PreTrainedTokenizerBase, capfd: pytest.CaptureFixture[str]) -> None:
    for settings, told in (({"sliding_window": 16}, "sliding"), ({"sliding_window": None}, "")):
        Engine(model_of("mistral", len(tokenizer), **settings), 128)
        said = capfd.readouterr().err
        assert told in said and bool(told) == bool(said)


def test_short_memory_halves_the_batches(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No answer is lost, the log says so, and one row that is too large is an error."""
    engine, predict = Engine(model_of("llama", len(tokenizer)), 128, 400), Engine._predict
    requests = [Scored([5, 6, number, 7], 2, number) for number in range(20)]
    expected = engine.score(requests)

    def short(self: Engine, batch: Any, *rest: Any) -> Any:
        if len(batch.rows) > limit:
            raise torch.OutOfMemoryError("full")
        return predict(self, batch, *rest)

    monkeypatch.setattr(Engine, "_predict", short)
    limit = 6
    assert [value for value, _ in engine.score(requests)] == pytest.approx([value for value, _ in expected], abs=1e-5)
    assert engine.budget < 400 and "memory is short" in capfd.readouterr().err
    limit = 0
    with pytest.raises(torch.OutOfMemoryError):
        engine.score(requests)


def test_what_is_shared_is_read_once() -> None:
    """Choices of one token add nothing to their question, and a task's examples are read once."""
    shots = list(range(100, 150))
    letters = [Scored([*shots, 7, item, 8, 9, choice], 1, item) for item in range(20) for choice in (1, 2, 3, 4)]
    rows = make_rows(letters, 1000)
    assert [(row.width, row.forks) for row in rows] == [(54, False)] * 20
    ((prefix, run),) = shared_runs(rows, 100)
    assert prefix == 51 and len(run) == 20
    (batch,) = make_batches([(prefix, run)], 1000, 1)
    assert batch.width == 3 and make_batches([(prefix, run)], 1000, 8).__next__().prefix == 48
    assert shared_runs(rows, 10**6) == [(0, rows)]
    words_of = [Scored([1, 2, 3, 10 * choice, 5, 6], 3, 0) for choice in range(3)]
    (row,) = make_rows(words_of, 1000)
    assert row.stem == [1, 2, 3] and row.width == 3 + 3 * 2 and row.forks and row.first == 2
    assert len(make_rows(words_of, 7)) == 2 and len(make_rows(words_of, 1000, shared=False)) == 3


@pytest.mark.parametrize("seed", range(5))
def test_prefixes_are_cut_where_most_is_saved(seed: int) -> None:
    """Against all ways of cutting a small list."""
    chance = random.Random(seed)
    requests = [Scored([chance.randrange(2) for _ in range(chance.randrange(3, 9))] + [9, 9], 1, n) for n in range(9)]
    rows = make_rows(requests, 100)
    keys = sorted(row.stem[: row.first] for row in rows)

    def saved(part: list[list[int]]) -> int:
        shared = next(
            n for n in range(100) if n >= len(part[0]) or any(key[: n + 1] != part[0][: n + 1] for key in part)
        )
        return shared * (len(part) - 1)

    best = [0]
    for end in range(1, len(keys) + 1):
        best.append(max(best[start] + saved(keys[start:end]) for start in range(end)))
    runs = shared_runs(rows, 1)
    assert sum(prefix * (len(run) - 1) for prefix, run in runs) == best[-1]
    assert sorted(id(row) for _, run in runs for row in run) == sorted(map(id, rows))
