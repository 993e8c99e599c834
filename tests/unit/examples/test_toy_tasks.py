"""The toy's evaluation items have one right answer each, which can be known, and no training file gives it away."""

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest
from helpers.toy_files import CHARACTERS, SEED, Row, documents, is_planted, lines, plain, table, task

from generators.arithmetic import ITEMS, combinations_in, held_out, trained
from generators.dirt import planted_items
from generators.notebooks import DEPTHS, NEEDLE_ITEMS, NEEDLES
from generators.words import VALUES
from generators.world import facts

NEEDLE_NAMES = tuple(name for name, _ in NEEDLES)
TASKS = {"facts": 144, "arithmetic": ITEMS, "word_problems": ITEMS, "chat": 120, "preferences": 150}
TASKS |= dict.fromkeys(NEEDLE_NAMES, NEEDLE_ITEMS)


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
        assert len(task(toy, name)) == count, name
    assert len(task(toy, "arithmetic_new")) == min(ITEMS, len(held_out(SEED)))
    assert {path.stem for path in (toy / "tasks").iterdir()} == {*TASKS, "arithmetic_new"}
    for name in ("facts", "arithmetic", "arithmetic_new", "word_problems", *NEEDLE_NAMES):
        items = task(toy, name)
        golds = Counter(item["gold"] for item in items)
        assert min(golds[place] for place in range(4)) >= len(items) * 0.12, name
        for item in items:
            assert len(set(item["choices"])) == 4
            assert all(choice.startswith(" ") for choice in item["choices"])


@pytest.mark.parametrize("name", ["arithmetic", "arithmetic_new"])
def test_sums_are_right_and_known_or_new_as_named(toy: Path, name: str) -> None:
    seen = Counter(item["query"] for item in task(toy, name))
    assert max(seen.values()) == 1
    for item in task(toy, name):
        (combination,) = combinations_in(item["query"])
        assert combination in (held_out(SEED) if name == "arithmetic_new" else trained(SEED))
        a, op, b = combination
        right = {"+": a + b, "-": a - b, "*": a * b}[op]
        assert item["choices"][item["gold"]] == f" {right}"
        assert all(int(choice) >= 0 and abs(int(choice) - right) <= 10 for choice in item["choices"])


def test_word_problems_are_about_held_out_sums(toy: Path) -> None:
    for item in task(toy, "word_problems"):
        a, b = (int(number) for number in re.findall(r"\d+", item["query"]))
        rights = {op: right for op, right in (("+", a + b), ("-", a - b), ("*", a * b)) if (a, op, b) in held_out(SEED)}
        assert int(item["choices"][item["gold"]]) in rights.values()


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


@pytest.mark.parametrize(("name", "longest"), NEEDLES)
def test_needles_are_answerable(toy: Path, name: str, longest: int) -> None:
    items = task(toy, name)
    for item in items:
        assert longest - 70 <= len(item["query"]) <= longest
        (value,) = re.findall(r"^Key (\w+)\.$", item["query"], re.MULTILINE)
        assert item["query"].count("Key") == 2 and item["query"].endswith("\nKey")
        assert item["choices"][item["gold"]] == f" {value}"
        assert {choice.strip() for choice in item["choices"]} <= set(VALUES)
        # The other choices are nowhere in the text: only the record answers.
        assert not {c.strip() for c in item["choices"]} - {value} & set(re.findall(r"\w+", item["query"].lower()))
    depths = Counter(int(item["depth"] * DEPTHS) for item in items)
    assert all(depths[depth] >= len(items) // (2 * DEPTHS) for depth in range(DEPTHS))


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


def test_chat_metric() -> None:
    path = Path(__file__).parents[3] / "examples" / "toy" / "tasks" / "chat_metrics.py"
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
