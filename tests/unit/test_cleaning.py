"""Cleaning drops what it should for the reason it says, keeps the rest, and finds evaluation items in the data."""

from typing import Any

import pytest

from smolmake.data.cleaning import clean

SETTINGS: dict[str, Any] = {
    "min_characters": 20,
    "max_characters": 2000,
    "exact_duplicates": True,
    "near_duplicates": None,
    "decontaminate_ngram": 8,
    "heldout_share": 0.0,
}
NEAR = {"similarity": 0.8, "ngram": 5, "permutations": 64}
ITEM = "At the market Rosa has seven shells and gets five more. How many shells does Rosa have now?"


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
    assert [text for _, text in cleaned.kept] == [words(10), words(9)]
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
    assert [text for _, text in cleaned.kept][:200] == originals
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
        (ITEM.replace("seven", "nine").replace("five more", "two more").replace("many", "few"), False),
    ],
    ids=["exact", "capitals", "white space", "punctuation", "n words", "n - 1 words", "other numbers"],
)
def test_decontamination(document: str, found: bool) -> None:
    cleaned = clean([document, words(30)], SETTINGS, {"problems": [ITEM, "Another item of some words here."]})
    assert dict(cleaned.dropped) == ({"contaminated": 1} if found else {})
    about = cleaned.overlap["problems"]
    assert (about["items"], about["items_found"], about["documents_dropped"]) == (2, int(found), int(found))


def test_items_too_short_to_be_found_are_counted() -> None:
    cleaned = clean([words(30)], SETTINGS, {"short": ["Only five words are here.", ITEM]})
    assert cleaned.overlap["short"]["items_long_enough"] == 1


def test_one_document_can_hold_items_of_several_tasks() -> None:
    other = "Every good boy does fine when he plays the piano at home."
    cleaned = clean([f"{ITEM} {other}"], SETTINGS, {"a": [ITEM], "b": [other], "c": [words(20)]})
    assert {task: about["documents_dropped"] for task, about in cleaned.overlap.items()} == {"a": 1, "b": 1, "c": 0}


def test_the_held_out_split_does_not_depend_on_neighbours() -> None:
    texts = [words(20, number) for number in range(500)]
    settings = {**SETTINGS, "heldout_share": 0.1}
    together = {text for _, text in clean(texts, settings, {}).heldout}
    alone = {text for text in texts if clean([text], settings, {}).heldout}
    assert (
        together
        == alone
        == {text for _, text in clean(texts[::-1][:400], settings, {}).heldout}
        | {text for text in texts[:100] if text in alone}
    )
    assert 25 <= len(together) <= 75


def test_held_out_and_kept_share_nothing() -> None:
    texts = [words(20, number % 90) for number in range(300)]
    cleaned = clean(texts, {**SETTINGS, "heldout_share": 0.2}, {})
    kept, heldout = ({text for _, text in part} for part in (cleaned.kept, cleaned.heldout))
    assert kept.isdisjoint(heldout) and len(kept) + len(heldout) == 90
    assert len({identity for identity, _ in cleaned.kept + cleaned.heldout}) == 90


def test_the_summary_adds_up() -> None:
    texts = ["", "x", words(10), words(10), words(400), "ä" * 30, f"{ITEM} {ITEM}"]
    cleaned = clean(texts, {**SETTINGS, "heldout_share": 0.3}, {"t": [ITEM]})
    summary = cleaned.summary()
    assert summary["read"] == len(texts)
    assert summary["kept"] + summary["heldout"] + sum(summary["dropped"].values()) == len(texts)
    assert summary["dropped"] == {"contaminated": 1, "exact_duplicate": 1, "too_long": 1, "too_short": 2}
    assert summary["bytes"] == sum(len(text.encode()) for _, text in cleaned.kept)
    assert all(len(example["text"]) <= 200 for example in summary["examples"])


def test_a_lone_surrogate_does_not_stop_the_run() -> None:
    # JSON may hold one ("\\ud800"); UTF-8 cannot. The document may be dropped or mended, not crash a whole source.
    texts = [words(30) + " \ud800 " + words(30, 100), words(50, 500)]
    cleaned = clean(texts, {**SETTINGS, "near_duplicates": NEAR}, {"t": [ITEM]})
    assert words(50, 500) in [text for _, text in cleaned.kept]
    for _, text in cleaned.kept:
        text.encode()
    assert cleaned.summary()["read"] == 2
