"""The toy world's training files: deterministic, as described, and with nothing of the evaluation in them."""

import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.toy_files import CHARACTERS, COLUMNS, SEED, documents, is_planted, lines, plain, strings, table

from generate import write_files
from generators.arithmetic import LARGEST, all_combinations, combinations_in, held_out
from generators.dirt import planted_items
from generators.notebooks import record
from generators.words import VALUES
from generators.world import facts


def test_two_runs_are_byte_equal(toy: Path, tmp_path: Path) -> None:
    write_files(tmp_path, SEED)
    files = sorted(path.relative_to(toy) for path in toy.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for path in files:
        assert (toy / path).read_bytes() == (tmp_path / path).read_bytes(), path


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_columns_and_types(toy: Path, name: str) -> None:
    schema = table(toy / name).schema
    assert schema.names == list(COLUMNS[name])
    for column, kind in COLUMNS[name].items():
        if kind is not None and name != "reasoning.jsonl":
            assert schema.field(column).type.equals(kind), column


@pytest.mark.parametrize("name", sorted(CHARACTERS))
def test_sizes(toy: Path, name: str) -> None:
    low, high = CHARACTERS[name]
    assert low <= sum(map(len, documents(toy, name))) <= high


def test_document_lengths(toy: Path) -> None:
    assert all(500 <= len(text) <= 6_000 for text in documents(toy, "code.parquet"))
    assert all(150 <= len(text) <= 900 for text in documents(toy, "german.parquet"))
    english = [text for text in documents(toy, "english.jsonl") if len(text) > 20]
    assert all(195 <= len(text) <= 6_200 for text in english)
    notebooks = [len(text) for text in documents(toy, "notebooks.jsonl")]
    assert min(notebooks) >= 200 and max(notebooks) <= 12_000
    assert 0.28 <= sum(n for n in notebooks if n > 3_500) / sum(notebooks) <= 0.4


def test_about_an_eighth_of_the_combinations_is_held_out() -> None:
    assert 0.09 <= len(held_out(SEED)) / len(all_combinations()) <= 0.15


def test_combinations_are_recognised() -> None:
    assert combinations_in("17 + 5 = 22, 2*3, 9 − 4") == {(17, "+", 5), (2, "*", 3), (9, "-", 4)}
    assert combinations_in("Twenty-one plus five. 3 times 4") == {(21, "+", 5), (3, "*", 4)}
    assert combinations_in("Twenty-one is odd, thirty-seven too") == set()
    assert combinations_in("x + 5 = 22") == {(17, "+", 5)}
    assert combinations_in("1 + 2 + 3") == {(1, "+", 2), (2, "+", 3)}


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_held_out_combinations_are_in_no_training_file(toy: Path, name: str) -> None:
    hidden = held_out(SEED)
    problem = re.compile(r"(\d+) \w+ and \w+ (gets|brings|gives|takes)?.*?(\d+) (more|away)|(\d+) \w+ of (\d+) each")
    for text in strings(table(toy / name).to_pylist()):
        assert hidden.isdisjoint(combinations_in(text)), text
        if is_planted(text):
            continue
        for found in problem.finditer(text):
            if found[5]:
                assert (int(found[5]), "*", int(found[6])) not in hidden, text
            else:
                op = "+" if found[4] == "more" else "-"
                assert (int(found[1]), op, int(found[3])) not in hidden, text


def test_operands_stay_small() -> None:
    numbers = {n for a, op, b in all_combinations() for n in (a, b) if op != "*"}
    assert numbers == set(range(LARGEST + 1))
    assert len(set(all_combinations())) == len(all_combinations())


def test_a_notebook_has_one_key_and_says_it_again(toy: Path) -> None:
    told = Counter()
    for text in documents(toy, "notebooks.jsonl"):
        keys = re.findall(r"^Key (\w+)\.$", text, re.MULTILINE)
        assert len(set(keys)) <= 1 and text.count("Key") == len(keys)
        if keys:
            told[keys[0]] += 1
            assert record(keys[0]) in text
            rest = set(re.findall(r"\w+", text.lower().replace(record(keys[0]).lower(), "")))
            assert rest.isdisjoint(VALUES)
    assert set(told) == set(VALUES)
    assert sum(told.values()) >= 0.95 * len(documents(toy, "notebooks.jsonl"))


def test_every_fact_is_told_often(toy: Path) -> None:
    for language, name in (("es", "spanish.jsonl"), ("de", "german.parquet")):
        texts = documents(toy, name)
        for fact in facts(SEED):
            if fact.language == language:
                dominant = sum(fact.sentence in text for text in texts)
                other = sum(fact.other_sentence in text for text in texts)
                assert dominant >= 25 and 0 < other < dominant, fact


def test_planted_items_are_in_the_training_files(toy: Path) -> None:
    texts = [plain(text) for name in ("mathematics.parquet", "english.jsonl") for text in documents(toy, name)]
    items = planted_items(SEED)
    assert len(set(items)) == 8
    assert all(any(plain(item) in text for text in texts) for item in items)


@pytest.mark.parametrize("name", ["english.jsonl", "mathematics.parquet", "spanish.jsonl"])
def test_there_is_something_to_clean(toy: Path, name: str) -> None:
    texts = documents(toy, name)
    counts = Counter(text for text in texts if len(text) > 20)
    repeated = sum(count - 1 for count in counts.values())
    assert 0.02 <= repeated / len(texts) <= 0.05
    assert "" in texts and sum(0 < len(text) < 20 for text in texts) >= 5


def test_conversations_think_iff_asked(toy: Path) -> None:
    rows = table(toy / "conversations.parquet").to_pylist()
    thinking = sum(row["chat_template_kwargs"]["enable_thinking"] for row in rows)
    assert 0.45 <= thinking / len(rows) <= 0.55
    for row in rows:
        for message in row["messages"]:
            if message["role"] == "assistant":
                thinks = re.fullmatch(r"<think>\n.+\n</think>\n.+", message["content"], re.DOTALL) is not None
                assert thinks == row["chat_template_kwargs"]["enable_thinking"]


def test_reasoning_lengths(toy: Path) -> None:
    lengths = [sum(len(m["content"]) for m in row["messages"]) for row in lines(toy / "reasoning.jsonl")]
    assert min(lengths) >= 100 and max(lengths) <= 420
