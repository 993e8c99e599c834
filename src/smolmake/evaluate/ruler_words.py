"""Words of RULER's questions: haystacks, what is hidden in them, and keys."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from functools import cache

from wonderwords import RandomWord

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.".split()


def haystack_from(draws: random.Random, text: Sequence[str]) -> Iterator[str]:
    """The words of a text from anywhere on, once around."""
    start = draws.randrange(len(text))
    yield from (*text[start:], *text[:start])


def hidden_within(words: list[str], sentences: list[str], depths: list[float]) -> str:
    """Words with sentences put among them at shares of their number, behind the end of a sentence where one is near."""
    parts, begun = list[str](), 0
    for depth, sentence in sorted(zip(depths, sentences, strict=True), key=lambda pair: pair[0]):
        at = max(round(depth * len(words)), begun)
        near = [place for place in range(max(begun, at - 40), at + 1) if place and words[place - 1][-1] in ".!?"]
        at = near[-1] if near else at
        parts += [*words[begun:at], sentence]
        begun = at
    return " ".join([*parts, *words[begun:]])


@cache
def known_words() -> tuple[list[str], list[str]]:
    """Adjectives and nouns of one word."""
    known = RandomWord()
    return tuple(  # type: ignore[return-value]
        sorted(set(known.filter(include_categories=[part], regex="[a-z]+"))) for part in ("adjective", "noun")
    )


def _key(draws: random.Random, kind: str) -> str:
    if kind == "uuids":
        return str(uuid.UUID(int=draws.getrandbits(128), version=4))
    if kind == "numbers":
        return str(draws.randint(10**6, 10**7 - 1))
    return "-".join(draws.choice(words) for words in known_words())


def distinct_keys(draws: random.Random, kind: str) -> Iterator[str]:
    seen = set[str]()
    while True:
        if (found := _key(draws, kind)) not in seen:
            seen.add(found)
            yield found
