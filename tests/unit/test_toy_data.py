"""The toy world: deterministic, as described, and with nothing of the evaluation in the training files."""

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
import pytest

from smolmake.data.toy import planted_items, write_toy_files
from smolmake.data.toy.arithmetic import all_combinations, combinations_in, held_out
from smolmake.data.toy.world import facts

SEED = 7
Row = dict[str, Any]
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
KWARGS = pa.struct(
    [
        ("custom_instructions", pa.string()),
        ("enable_thinking", pa.bool_()),
        ("python_tools", pa.list_(pa.string())),
        ("xml_tools", pa.list_(pa.string())),
    ]
)
TEXT = {"text": pa.string()}
WITH_ID = {"text": pa.string(), "id": pa.string()}
COLUMNS = {
    "code.parquet": {"content": pa.string(), "path": pa.string(), "license": pa.string()},
    "english.jsonl": {**WITH_ID, "origin": pa.string()},
    "mathematics.parquet": TEXT,
    "spanish.jsonl": WITH_ID,
    "german.parquet": WITH_ID,
    "notebooks.jsonl": TEXT,
    "reasoning.jsonl": {"messages": MESSAGES},
    "conversations.parquet": {"messages": MESSAGES, "chat_template_kwargs": KWARGS},
    "preferences.parquet": {
        "prompt": pa.string(),
        "chosen": MESSAGES,
        "rejected": MESSAGES,
        "chat_template_kwargs": KWARGS,
    },
    "preference_prompts.jsonl": {"prompt": pa.string(), "chat_template_kwargs": None, "answer": pa.string()},
}
CHARACTERS = {  # bounds of all texts of a source together
    "code.parquet": (1_200_000, 1_700_000),
    "english.jsonl": (500_000, 1_800_000),
    "mathematics.parquet": (900_000, 1_150_000),
    "spanish.jsonl": (700_000, 900_000),
    "german.parquet": (700_000, 900_000),
    "notebooks.jsonl": (1_300_000, 1_600_000),
}
TASKS = {
    "facts": 144,
    "needle_short": 160,
    "needle_medium": 160,
    "needle_long": 160,
    "word_problems": 120,
    "chat": 120,
    "preferences": 150,
}


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy")
    counts = write_toy_files(out, SEED)
    assert {name for name in counts if "/" not in name} == set(COLUMNS)
    return out


def table(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    return pj.read_json(path, pj.ReadOptions(block_size=1 << 25))


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def task(toy: Path, name: str) -> list[Row]:
    return lines(toy / "tasks" / f"{name}.jsonl")


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def documents(toy: Path, name: str) -> list[str]:
    column = "content" if name == "code.parquet" else "text"
    return [str(text) for text in table(toy / name).column(column).to_pylist()]


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


@cache
def planted_words() -> tuple[str, ...]:
    return tuple(plain(item) for item in planted_items(SEED))


def is_planted(text: str) -> bool:
    return "answer" in text.lower() and any(words in plain(text) for words in planted_words())


def test_two_runs_are_byte_equal(toy: Path, tmp_path: Path) -> None:
    write_toy_files(tmp_path, SEED)
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
    assert all(195 <= len(text) <= 6_020 for text in english)
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


def test_every_fact_is_told_often(toy: Path) -> None:
    for language, name in (("es", "spanish.jsonl"), ("de", "german.parquet")):
        texts = documents(toy, name)
        for fact in facts(SEED):
            if fact.language == language:
                dominant = sum(fact.sentence in text for text in texts)
                other = sum(fact.other_sentence in text for text in texts)
                assert dominant >= 25 and 0 < other < dominant, fact


def test_facts(toy: Path) -> None:
    sentences = {fact.sentence for fact in facts(SEED)}
    for item in task(toy, "facts"):
        assert [f"{item['query']}{choice}." in sentences for choice in item["choices"]].count(True) == 1
        assert f"{item['query']}{item['choices'][item['gold']]}." in sentences


def test_entities_begin_differently() -> None:
    for language in ("es", "de"):
        names = {fact.entity for fact in facts(SEED) if fact.language == language}
        assert len(names) == 24 == len({name[:3] for name in names})


def test_tasks_have_their_sizes_and_four_choices(toy: Path) -> None:
    for name, count in TASKS.items():
        assert len(task(toy, name)) == count
    assert 150 <= len(task(toy, "arithmetic")) <= 220
    for name in ("facts", "arithmetic", "needle_short", "needle_medium", "needle_long", "word_problems"):
        items = task(toy, name)
        golds = Counter(item["gold"] for item in items)
        assert min(golds[place] for place in range(4)) >= len(items) * 0.15
        for item in items:
            assert len(set(item["choices"])) == 4
            assert all(choice.startswith(" ") for choice in item["choices"])


def test_arithmetic_items_are_right_and_held_out(toy: Path) -> None:
    for item in task(toy, "arithmetic"):
        (combination,) = combinations_in(item["query"])
        assert combination in held_out(SEED)
        a, op, b = combination
        right = {"+": a + b, "-": a - b, "*": a * b}[op]
        assert item["choices"][item["gold"]] == f" {right}"
        assert all(int(choice) >= 0 and abs(int(choice) - right) <= 10 for choice in item["choices"])


def test_word_problems_share_no_eight_words_with_training_unless_planted(toy: Path) -> None:
    planted = set(planted_items(SEED))
    items = task(toy, "word_problems")
    assert planted <= {item["query"] for item in items}
    trained = set()
    for name in CHARACTERS:
        for text in documents(toy, name):
            words = plain(text).split() if "Answer" in text and not is_planted(text) else []
            trained |= {" ".join(words[i : i + 8]) for i in range(len(words) - 7)}
    for item in items:
        words = plain(item["query"]).split()
        assert len(words) >= 16 and item["query"].endswith("Answer:")
        if item["query"] not in planted:
            assert trained.isdisjoint(" ".join(words[i : i + 8]) for i in range(len(words) - 7))


@pytest.mark.parametrize(
    ("name", "longest", "shortest"),
    [("needle_short", 500, 450), ("needle_medium", 1_300, 1_230), ("needle_long", 2_700, 2_630)],
)
def test_needles_are_answerable(toy: Path, name: str, longest: int, shortest: int) -> None:
    items = task(toy, name)
    for item in items:
        context, _, key = item["query"].rpartition("\nKey ")
        values = dict(re.findall(r"^Key (\w+) (\w+)\.$", context, re.MULTILINE))
        assert shortest <= len(item["query"]) <= longest
        assert len(values) >= 8 and context.count(f"Key {key} ") == 1
        assert item["choices"][item["gold"]] == f" {values[key]}"
        assert {choice.strip() for choice in item["choices"]} <= set(values.values())
    depths = Counter(int(item["depth"] * 5) for item in items)
    assert all(depths[fifth] >= len(items) // 10 for fifth in range(5))


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


def test_chat_prompts_are_kept_apart(toy: Path) -> None:
    def users(rows: list[Row]) -> set[str]:
        return {m["content"] for row in rows for m in row["messages"] if m["role"] == "user"}

    trained = users(table(toy / "conversations.parquet").to_pylist()) | users(lines(toy / "reasoning.jsonl"))
    trained |= set(table(toy / "preferences.parquet").column("prompt").to_pylist())
    pairs = {row["prompt"] for row in lines(toy / "preference_prompts.jsonl")}
    chat, preferences = users(task(toy, "chat")), users(task(toy, "preferences"))
    for first, second in ((trained, pairs), (trained, chat), (trained, preferences), (pairs, chat)):
        assert first.isdisjoint(second)
    assert chat.isdisjoint(preferences) and pairs.isdisjoint(preferences)


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


def test_chat_metric() -> None:
    path = Path(__file__).parents[2] / "config" / "tasks" / "toy" / "chat_metrics.py"
    spec = importlib.util.spec_from_file_location("chat_metrics", path)
    assert spec is not None and spec.loader is not None
    metrics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metrics)

    def scores(text: str, thinking: bool) -> tuple[float, ...]:
        found = metrics.process_results({"enable_thinking": thinking, "answer": "22"}, [text])
        return found["format"], found["switch"], found["answer"]

    good = "<think>\n17 + 5 = 22.\n</think>\nThe answer is 22."
    assert scores(good, True) == (1, 1, 1)
    assert scores(good, False) == (0, 0, 1)
    assert scores("17 + 5 = 22.", False) == (1, 1, 1)
    assert scores("17 + 5 = 22.", True) == (0, 0, 1)
    assert scores("<think>\n\n</think>\nIt is 22.", True) == (0, 0, 1)
    assert scores("<think>\n17 + 5 = 22.", True) == (0, 0, 0)
    assert scores("It is 122.", False) == (1, 1, 0)
    assert scores("22 and " * 30, False) == (0, 1, 1)
    assert scores("", False) == (0, 1, 0)


def test_preferences_differ(toy: Path) -> None:
    for row in table(toy / "preferences.parquet").to_pylist():
        assert row["chosen"][0] == row["rejected"][0] == {"role": "user", "content": row["prompt"]}
        assert row["chosen"][1]["content"] != row["rejected"][1]["content"]
    for item in task(toy, "preferences"):
        assert len(set(item["choices"])) == 2 and item["gold"] == 0
