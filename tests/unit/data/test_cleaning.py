"""Cleaning drops what it should for the reason it says, keeps the rest, and finds evaluation items in the data."""

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from smolmake.data.clean import iterate_texts, join_parts, write_part
from smolmake.data.decontaminate import Contamination
from smolmake.data.documents import Document
from smolmake.data.filters import Counts
from smolmake.execution.parts import do_parts
from smolmake.recipe.sources import CleaningRules

SETTINGS: dict[str, Any] = {
    "min_characters": 20,
    "max_characters": 2000,
    "repeated_ngrams": None,
    "exact_duplicates": True,
    "near_duplicates": None,
    "decontaminate_ngram": 8,
    "heldout_fraction": 0.0,
}
NEAR = {"similarity": 0.8, "ngram": 5, "permutations": 64}
ITEM = "At the market Rosa has seven shells and gets five more. How many shells does Rosa have now?"


@dataclass
class Cleaned:
    """What is on disk after a source was cleaned in some parts."""

    kept: list[str]
    heldout: list[str]
    summary: dict[str, Any]

    @property
    def dropped(self) -> dict[str, int]:
        return dict(self.summary["dropped"])


def clean_into(
    folder: Path,
    texts: Iterable[str],
    settings: dict[str, Any] = SETTINGS,
    tasks: dict[str, list[str]] | None = None,
    parts: int = 1,
    others: Iterable[Path] = (),
) -> Cleaned:
    """Clean `texts` into a folder, as the step does."""
    folder.mkdir(exist_ok=True)
    rules = CleaningRules(**settings)
    documents = [Document(text) for text in texts]
    cuts = [len(documents) * number // parts for number in range(parts + 1)]

    def work(number: int, part: Path) -> dict[str, Any]:
        some = iter(documents[cuts[number] : cuts[number + 1]])
        contamination = Contamination(tasks or {}, rules.decontaminate_ngram)
        return write_part(part, some, rules, contamination, Counts())

    do_parts(folder, parts, work, helper=False)
    contamination = Contamination(tasks or {}, rules.decontaminate_ngram)
    summary = join_parts(folder, parts, rules, contamination, list(others))
    assert json.loads((folder / "cleaning.json").read_text()) == summary
    heldout = pq.read_table(folder / "heldout.parquet")["text"].to_pylist()
    kept = list(iterate_texts(folder))
    assert (len(kept), len(heldout)) == (summary["kept"], summary["heldout"])
    return Cleaned(kept, heldout, summary)


def clean(texts: Iterable[str], settings: dict[str, Any], tasks: dict[str, list[str]], parts: int = 1) -> Cleaned:
    with tempfile.TemporaryDirectory() as folder:
        return clean_into(Path(folder), texts, settings, tasks, parts)


def words(count: int, start: int = 0) -> str:
    return " ".join(f"word{number}" for number in range(start, start + count))


def reasons(texts: list[str], tasks: dict[str, list[str]] | None = None, **settings: Any) -> dict[str, int]:
    return dict(clean(texts, {**SETTINGS, **settings}, tasks or {}).dropped)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x" * 19, "too_short"), ("", "too_short"), ("x" * 2001, "too_long"), ("x" * 20, None), ("x" * 2000, None)],
)
def test_lengths(text: str, reason: str | None) -> None:
    assert reasons([text]) == ({reason: 1} if reason else {})


def test_exact_duplicates_are_dropped_but_the_first() -> None:
    cleaned = clean([words(10), words(9), words(10), words(10)], SETTINGS, {})
    assert cleaned.kept == [words(10), words(9)]
    assert cleaned.dropped == {"exact_duplicate": 2}
    assert reasons([words(10), words(10)], exact_duplicates=False) == {}


def test_near_duplicates() -> None:
    original = words(100)
    # A changed word changes five of 96 shingles: Jaccard 91 / 101 = 0.90. Half the words: 46 / 146 = 0.3.
    one_changed = original.replace("word50 ", "other ")
    half = words(50) + " " + words(50, 1000)
    assert reasons([original, one_changed, half], near_duplicates=NEAR) == {"near_duplicate": 1}
    assert reasons([original, original.upper().replace(" ", ",  ")], near_duplicates=NEAR) == {"near_duplicate": 1}
    assert reasons([original, one_changed]) == {}


def test_near_duplicates_are_found_among_many() -> None:
    originals = [words(80, 1000 * number) for number in range(200)]
    copies = [text.replace(text.split()[40], "changed", 1) for text in originals]
    cleaned = clean(originals + copies, {**SETTINGS, "near_duplicates": NEAR}, {})
    assert cleaned.kept[:200] == originals
    assert cleaned.dropped["near_duplicate"] >= 195


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (f"Before it. {ITEM} After it.", True),
        (ITEM.upper(), True),
        (ITEM.replace(" ", "\n\t"), True),
        (ITEM.replace(".", " --").replace("?", " ?!"), True),
        ("Somebody said: " + " ".join(ITEM.split()[4:12]) + ", and went.", True),
        ("Somebody said: " + " ".join(ITEM.split()[4:11]) + " and went away from there.", False),
        (ITEM.replace("e", "e\u200b").replace(" ", "\u200e \u2060"), True),
        (ITEM.replace("e", "\u00ade\ufe0f"), True),
        (ITEM.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}), True),
        (ITEM.replace("seven", "nine").replace("five more", "two more").replace("many", "few"), False),
    ],
    ids=[
        "exact",
        "capitals",
        "white space",
        "punctuation",
        "n words",
        "n - 1 words",
        "zero width",
        "soft hyphens",
        "full width",
        "other numbers",
    ],
)
def test_decontamination(document: str, found: bool) -> None:
    cleaned = clean([document, words(30)], SETTINGS, {"problems": [ITEM, "Another item of some words here."]})
    assert dict(cleaned.dropped) == ({"contaminated": 1} if found else {})
    about = cleaned.summary["overlap"]["problems"]
    assert (about["items"], about["items_found"], about["documents_dropped"]) == (2, int(found), int(found))


def test_items_too_short_to_be_found_are_counted() -> None:
    cleaned = clean([words(30)], SETTINGS, {"short": ["Only five words are here.", ITEM]})
    assert cleaned.summary["overlap"]["short"]["items_long_enough"] == 1


def test_one_document_can_hold_items_of_several_tasks() -> None:
    other = "Every good boy does fine when he plays the piano at home."
    cleaned = clean([f"{ITEM} {other}"], SETTINGS, {"a": [ITEM], "b": [other], "c": [words(20)]})
    assert {task: about["documents_dropped"] for task, about in cleaned.summary["overlap"].items()} == {
        "a": 1,
        "b": 1,
        "c": 0,
    }


def test_the_held_out_split_does_not_depend_on_neighbours() -> None:
    texts = [words(20, number) for number in range(500)]
    settings = {**SETTINGS, "heldout_fraction": 0.1}
    together = set(clean(texts, settings, {}).heldout)
    alone = {text for text in texts if clean([text], settings, {}).heldout}
    assert (
        together
        == alone
        == set(clean(texts[::-1][:400], settings, {}).heldout) | {text for text in texts[:100] if text in alone}
    )
    assert 25 <= len(together) <= 75


def test_held_out_and_kept_share_nothing() -> None:
    texts = [words(20, number % 90) for number in range(300)]
    cleaned = clean(texts, {**SETTINGS, "heldout_fraction": 0.2}, {})
    kept, heldout = set(cleaned.kept), set(cleaned.heldout)
    assert kept.isdisjoint(heldout) and len(kept) + len(heldout) == 90
    assert len(cleaned.kept + cleaned.heldout) == 90


def test_the_summary_adds_up() -> None:
    texts = ["", "x", words(10), words(10), words(400), "ä" * 30, f"{ITEM} {ITEM}"]
    cleaned = clean(texts, {**SETTINGS, "heldout_fraction": 0.3}, {"t": [ITEM]})
    summary = cleaned.summary
    assert summary["read"] == len(texts)
    assert summary["kept"] + summary["heldout"] + sum(summary["dropped"].values()) == len(texts)
    assert summary["dropped"] == {"contaminated": 1, "exact_duplicate": 1, "too_long": 1, "too_short": 2}
    assert summary["bytes"] == sum(len(text.encode()) for text in cleaned.kept)
    assert all(len(example["text"]) <= 200 for example in summary["examples"])


def test_a_lone_surrogate_does_not_stop_the_run() -> None:
    # JSON may hold one ("\\ud800"); UTF-8 cannot. The document may be dropped or mended, not crash a whole source.
    texts = [words(30) + " \ud800 " + words(30, 100), words(50, 500)]
    cleaned = clean(texts, {**SETTINGS, "near_duplicates": NEAR}, {"t": [ITEM]})
    assert cleaned.kept == [words(50, 500)] and cleaned.dropped == {"invalid_unicode": 1}
    assert cleaned.summary["read"] == 2


@pytest.mark.parametrize("parts", [2, 5, 40])
def test_parts_do_not_change_what_is_kept(parts: int) -> None:
    originals = [words(40, 1000 * number) for number in range(60)]
    texts = originals + [text.replace(text.split()[20], "changed") for text in originals[:10]] + originals[5:20]
    texts += ["short", f"{ITEM} {ITEM}"] * 2
    settings = {**SETTINGS, "near_duplicates": NEAR, "heldout_fraction": 0.2}
    whole, cut = (clean(texts, settings, {"t": [ITEM]}, number) for number in (1, parts))
    assert (cut.kept, cut.heldout) == (whole.kept, whole.heldout)
    for key in ("dropped", "bytes", "overlap", "read"):
        assert cut.summary[key] == whole.summary[key], key


def test_documents_of_another_source_are_dropped(tmp_path: Path) -> None:
    settings = {**SETTINGS, "near_duplicates": NEAR}
    first = [words(60, 1000 * number) for number in range(30)]
    clean_into(tmp_path / "first", first, settings, parts=3)
    second = [first[3], first[4].replace("word4020 ", "other "), words(60, 10**6), first[29].upper()]
    cleaned = clean_into(tmp_path / "second", second, settings, others=[tmp_path / "first"])
    assert cleaned.kept == [words(60, 10**6)]
    assert cleaned.dropped == {"exact_duplicate": 1, "near_duplicate": 2}


@pytest.mark.parametrize(
    ("text", "dropped"),
    [
        ("word " * 32, True),
        ("word " * 31 + "other", False),
        ("one two three " * 32, True),
        ("one two three " * 31, False),
        (words(13) + " " + (words(13) + " ") * 31, True),
        ((words(14) + " ") * 40, False),
        ("before it " + "ha, " * 32 + "after it", True),
        ("a rule of many signs\n" + "-" * 500 + "\nand text", False),
        (" ".join(f"{number} = {number}" for number in range(200)), False),
        ("好" * 40, True),
    ],
)
def test_texts_that_repeat_a_span(text: str, dropped: bool) -> None:
    settings = {**SETTINGS, "repeated_ngrams": {"longest": 13, "times": 32}, "max_characters": 10_000}
    cleaned = clean([text + " the end of the document is here"], settings, {})
    assert cleaned.dropped == ({"repeated_ngrams": 1} if dropped else {})


def test_a_repeated_span_is_not_seen_across_documents() -> None:
    settings = {
        **SETTINGS,
        "repeated_ngrams": {"longest": 3, "times": 4},
        "min_characters": 0,
        "exact_duplicates": False,
    }
    assert clean(["again " * 3] * 20, settings, {}).dropped == {}


def test_chinese_items_are_found_without_spaces_between_words() -> None:
    item = "小明有七个苹果，又买了五个苹果，一共有多少个苹果？"
    settings = {**SETTINGS, "decontaminate_ngram": 13, "min_characters": 5}
    cleaned = clean(
        [f"今天的问题是：{item}请回答。", "小明昨天去了图书馆，借了三本关于历史的书回家。"], settings, {"t": [item]}
    )
    assert cleaned.dropped == {"contaminated": 1}
