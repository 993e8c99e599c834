"""Notebooks: documents that can be predicted only from what they said before, and the needle items.

A notebook has one record, `Key lamp.`, among filler that never uses such words, and says it again and again. The
value follows `Key` at once, so one attention head that finds the notebook's value and copies it is enough: the plainest
retrieval there is (RULER's single needle), since a model of a million parameters trained for minutes learns that and,
as tried, not the many-key kind. The evaluation's prompt ends in `Key`, exactly as a restatement begins.
"""

import random

from generators.tables import Row
from generators.words import FILLER_ADJECTIVES, FILLER_ADVERBS, FILLER_NOUNS, FILLER_VERBS, VALUES

# Lengths in characters, their share of all characters, and the share of lines that are the record. Short notebooks
# are dense, which is what teaches retrieval; in long ones the record is rare, which is what makes it reach far.
LENGTHS = ((200, 900, 0.5, 0.5), (900, 3_500, 0.2, 0.25), (3_500, 12_000, 0.3, 0.06))
# Name of the task and longest query in characters: about 230, 470 and 960 tokens, in windows of 256, 512 and 1024.
NEEDLES = (("needle_short", 1_150), ("needle_medium", 2_350), ("needle_long", 4_800))
NEEDLE_ITEMS = 100
DEPTHS = 10


def record(value: str) -> str:
    """The one surface form of a record."""
    return f"Key {value}."


def filler(rng: random.Random) -> str:
    """A sentence such as "Old dogs sleep quietly."."""
    words = (FILLER_ADJECTIVES, FILLER_NOUNS, FILLER_VERBS, FILLER_ADVERBS)
    return " ".join(rng.choice(kind) for kind in words).capitalize() + "."


def notebook(length: int, density: float, rng: random.Random) -> str:
    """A training document of about `length` characters: filler, and the record at a share `density` of the lines."""
    line = record(rng.choice(VALUES))
    lines: list[str] = []
    characters = 0
    while characters < length:
        lines.append(line if rng.random() < density else filler(rng))
        characters += len(lines[-1]) + 1
    return "\n".join(lines)


def notebooks(seed: int, size: int) -> list[str]:
    """Training documents of `size` characters in all."""
    rng = random.Random(f"{seed}:notebooks")
    texts = []
    for shortest, longest, share, density in LENGTHS:
        remaining = size * share
        while remaining > 0:
            texts.append(notebook(rng.randint(shortest + 10, longest - 50), density, rng))
            remaining -= len(texts[-1])
    rng.shuffle(texts)
    return texts


def needle(longest: int, depth: float, rng: random.Random) -> Row:
    """One item: filler with the record once, at `depth` (0 is the beginning); the question stands at the end."""
    gold, *others = rng.sample(VALUES, 4)
    line, question = record(gold), "Key"
    body: list[str] = []
    while sum(len(text) + 1 for text in body) <= longest - len(line) - len(question) - 1:
        body.append(filler(rng))
    body.pop()
    body.insert(round(depth * len(body)), line)
    text = "\n".join([*body, question])
    place = rng.randrange(4)
    choices = [f" {value}" for value in [*others[:place], gold, *others[place:]]]
    return {"query": text, "choices": choices, "gold": place, "depth": round(text.index(line) / len(text), 4)}


def tasks(seed: int) -> dict[str, list[Row]]:
    """The items of the three needle tasks; the record's depth goes through all depths in turn."""
    made = {}
    for name, longest in NEEDLES:
        rng = random.Random(f"{seed}:{name}")
        made[name] = [needle(longest, (item % DEPTHS + 0.5) / DEPTHS, rng) for item in range(NEEDLE_ITEMS)]
    return made
