"""Notebooks: documents that can be predicted only from what they said before, and the needle items.

A record is `Key Bob lamp.`: the value follows its name at once, and a restatement repeats the record exactly.
That is the plainest case for an induction head: a head that looks back one token marks `lamp` with `Bob`, and
a later `Bob` finds that mark and copies. `The key of Bob is lamp.` or `Bob: lamp.` put a token between, the
same for all records, so that the model would have to look back two tokens on both sides. The word `Key`
announces a record. The evaluation's prompt ends in `Key Bob`, exactly as a restatement begins.
"""

import random

from smolmake.data.toy.tables import Row
from smolmake.data.toy.words import (
    FILLER_ADJECTIVES,
    FILLER_ADVERBS,
    FILLER_NOUNS,
    FILLER_VERBS,
    KEYS,
    VALUES,
)

LINE_CHARACTERS = 24  # about the mean of a line, for planning how many records a document gets
# Lengths in characters and their share of all characters: about 60 to 300, 300 to 1000 and over 1000 tokens.
LENGTHS = ((200, 900, 0.32), (900, 3_500, 0.34), (3_500, 12_000, 0.34))
# Name of the task, longest query in characters, records in it: at most 250, 500 and 1000 tokens.
NEEDLES = (("needle_short", 500, 8), ("needle_medium", 1_300, 14), ("needle_long", 2_700, 24))
NEEDLE_ITEMS = 160


def record(key: str, value: str) -> str:
    """The one surface form of a record."""
    return f"Key {key} {value}."


def pairs(count: int, rng: random.Random) -> list[tuple[str, str]]:
    """A fresh pairing of distinct keys with distinct values."""
    return list(zip(rng.sample(KEYS, count), rng.sample(VALUES, count), strict=True))


def filler(rng: random.Random) -> str:
    """A sentence such as "Old dogs sleep quietly."."""
    words = (FILLER_ADJECTIVES, FILLER_NOUNS, FILLER_VERBS, FILLER_ADVERBS)
    return " ".join(rng.choice(kind) for kind in words).capitalize() + "."


def notebook(length: int, rng: random.Random) -> str:
    """A training document of about `length` characters: filler, new records, restatements near and far."""
    waiting = pairs(min(len(KEYS), len(VALUES), 4 + length // 150), rng)
    new = min(0.4, len(waiting) * LINE_CHARACTERS / length)
    lines: list[str] = []
    seen: list[str] = []
    characters = 0
    while characters < length:
        draw = rng.random()
        if waiting and (draw < new or not seen):
            seen.append(record(*waiting.pop()))
            lines.append(seen[-1])
        elif draw < new + 0.4:
            lines.append(rng.choice(seen))
        else:
            lines.append(filler(rng))
        characters += len(lines[-1]) + 1
    return "\n".join(lines)


def notebooks(seed: int, size: int) -> list[str]:
    """Training documents of `size` characters in all."""
    rng = random.Random(f"{seed}:notebooks")
    texts = []
    for shortest, longest, share in LENGTHS:
        remaining = size * share
        while remaining > 0:
            texts.append(notebook(rng.randint(shortest + 10, longest - 50), rng))
            remaining -= len(texts[-1])
    rng.shuffle(texts)
    return texts


def needle(longest: int, records: int, gold: int, rng: random.Random) -> Row:
    """One item: a notebook without restatements whose `gold`-th record is asked for at the end."""
    known = pairs(records, rng)
    lines = [record(*pair) for pair in known]
    question = f"Key {known[gold][0]}"
    space = longest - len(question) - sum(len(line) + 1 for line in lines)
    body = [filler(rng)]
    while sum(len(line) + 1 for line in body) <= space:
        body.append(filler(rng))
    body.pop()
    # Each record falls at random into its own of equally long stretches, the last one first.
    sentences = len(body)
    for index in reversed(range(records)):
        body.insert(round((index + rng.random()) * sentences / records), lines[index])
    text = "\n".join([*body, question])
    depth = text.index(lines[gold]) / len(text)
    others = rng.sample([value for _, value in known if value != known[gold][1]], 3)
    place = rng.randrange(4)
    choices = [f" {value}" for value in [*others[:place], known[gold][1], *others[place:]]]
    return {"query": text, "choices": choices, "gold": place, "depth": round(depth, 4)}


def tasks(seed: int) -> dict[str, list[Row]]:
    """The items of the three needle tasks; the gold record's depth goes through all depths in turn."""
    made = {}
    for name, longest, records in NEEDLES:
        rng = random.Random(f"{seed}:{name}")
        made[name] = [needle(longest, records, item % records, rng) for item in range(NEEDLE_ITEMS)]
    return made
