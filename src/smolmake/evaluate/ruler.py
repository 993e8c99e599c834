"""RULER's 13 kinds of questions (Hsieh et al. 2024, https://arxiv.org/abs/2404.06654), made to an exact length from any
text, for any tokenizer.

Kinds, templates, counts and room for answers are those of https://github.com/NVIDIA/RULER, but for the two of question
answering: they ask facts that are hidden in documents of the text, since SQuAD and HotpotQA would have to be fetched.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from string import ascii_lowercase, ascii_uppercase
from typing import Literal

from smolmake.errors import UserError
from smolmake.evaluate.ruler_answers import right_answers
from smolmake.evaluate.ruler_words import NOISE, distinct_keys, haystack_from, hidden_within, known_words

DEPTHS = 10  # in which a single needle lies, one after another over the items
CLOSE = 1  # tokens under the length that need no further look
ZETA_2 = 1.6449340668482264  # sum of 1 / k**2
DOCUMENT = 60  # words


@dataclass(frozen=True)
class Needles:
    """Needles `value`s under `keys`: how many keys, values of each, and keys that are asked."""

    haystack: Literal["noise", "text", "needles"]
    key: Literal["words", "uuids"] = "words"
    value: Literal["numbers", "uuids"] = "numbers"
    keys: int = 1
    values: int = 1
    asked: int = 1


NEEDLES = {
    "niah_single_1": Needles("noise"),
    "niah_single_2": Needles("text"),
    "niah_single_3": Needles("text", value="uuids"),
    "niah_multikey_1": Needles("text", keys=4),
    "niah_multikey_2": Needles("needles"),
    "niah_multikey_3": Needles("needles", key="uuids", value="uuids"),
    "niah_multivalue": Needles("text", values=4),
    "niah_multiquery": Needles("text", keys=4, asked=4),
}
ROOM = dict.fromkeys(NEEDLES, 128) | {"vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}  # tokens of an answer


@dataclass(frozen=True)
class Draft:
    """A question of any length: its text with a number of units of haystack, at least `least` and at most `most`."""

    text: Callable[[int], str]
    prefix: str
    answers: list[str]
    least: int
    most: int = 2**40
    depth: float | None = None


@dataclass(frozen=True)
class RulerItem:
    """A question: `tokens` of it with the answer's beginning and room for the answer, at most `length`."""

    kind: str
    length: int
    prompt: str
    prefix: str
    answers: list[str]
    tokens: int
    depth: float | None


def ruler_items(
    kind: str, length: int, number: int, text: Sequence[str], count: Callable[[str], int], seed: int = 0
) -> Iterator[RulerItem]:
    """Questions of a kind, the same for the same words of `text` and `count`, the tokens of a prompt.

    Raises:
        UserError: if no question of the kind is as short as `length`.
    """
    for index in range(number):
        draws = random.Random(f"{seed} {kind} {length} {index}")
        room = length - ROOM[kind]
        drafts = _drafts(kind, length, index, draws, text)
        draft = next((each for each in drafts if count(f"{each.text(each.least)} {each.prefix}") <= room), None)
        if draft is None:
            raise UserError(
                f"a question of RULER's {kind} is longer than that with this tokenizer",
                key="evaluation.suites.*.lengths", value=length, remedy="ask for a greater length, or leave it out",
            )  # fmt: skip
        padding = list(haystack_from(draws, text))

        def prompt(units: int, pad: int = 0, draft: Draft = draft, padding: list[str] = padding) -> str:
            before = " ".join(islice(cycle(padding), pad))
            return f"{before}\n\n{draft.text(units)}" if pad else draft.text(units)

        def measure(units: int, pad: int = 0, prompt: Callable[..., str] = prompt, end: str = draft.prefix) -> int:
            return count(f"{prompt(units, pad)} {end}")

        units, _ = _fit(measure, room, draft.least, draft.most)
        pad, tokens = _fit(partial(measure, units), room, 0, 2**40)
        found = prompt(units, pad)
        if right_answers(kind, found) != set(draft.answers):
            raise UserError(
                f"a question of RULER's {kind} has no single answer in {length} tokens of this text",
                key="evaluation.suites.*.ruler.text", value=", ".join(draft.answers),
                remedy="give another text, or a greater length",
            )  # fmt: skip
        yield RulerItem(kind, length, found, draft.prefix, draft.answers, tokens + ROOM[kind], draft.depth)


def _fit(measure: Callable[[int], int], room: int, least: int, most: int) -> tuple[int, int]:
    """The units that fill `room` tokens, and the tokens; `least` of them fit. Few texts are measured, each whole."""
    fits, step = (least, measure(least)), 64
    beyond: tuple[int, int] | None = None
    while room - fits[1] > CLOSE and fits[0] < most and (beyond is None or beyond[0] - fits[0] > 1):
        if beyond is None:
            units = min(fits[0] + step, most)
        else:
            share = (room - fits[1]) / (beyond[1] - fits[1])
            units = min(max(fits[0] + int((beyond[0] - fits[0]) * share), fits[0] + 1), beyond[0] - 1)
        tokens = measure(units)
        if tokens <= room:
            each = max((tokens - fits[1]) / (units - fits[0]), 0.01)
            fits, step = (units, tokens), max(int((room - tokens) / each * 1.02), 1)
        else:
            beyond = units, tokens
    return fits


def _drafts(kind: str, length: int, index: int, draws: random.Random, text: Sequence[str]) -> Iterator[Draft]:
    """A question, the rather the first one."""
    if kind in NEEDLES:
        yield _needles(NEEDLES[kind], index, draws, text)
    elif kind == "vt":
        yield _variables(draws)
    elif kind == "fwe":
        yield _frequent_words(draws, length)
    elif kind == "cwe":
        if length >= 4096:
            yield _common_words(draws, 40, (30, 3), (10, 3))
        yield _common_words(draws, 20, (6, 1), (3, 1))
    else:
        yield _facts(draws, text, hops=int(kind[-1]))


def _needles(asks: Needles, index: int, draws: random.Random, text: Sequence[str]) -> Draft:
    keys, values = distinct_keys(draws, asks.key), distinct_keys(draws, asks.value)
    held = {key: list(islice(values, asks.values)) for key in islice(keys, asks.keys)}
    needles = [_needle(asks.value, key, value) for key, those in held.items() for value in those]
    draws.shuffle(needles)
    single = len(needles) == 1
    depths = [(index % DEPTHS + 0.5) / DEPTHS] if single else [draws.random() for _ in needles]
    others = list[str]()
    around = NOISE if asks.haystack == "noise" else list(haystack_from(draws, text))

    def context(units: int) -> str:
        if asks.haystack != "needles":
            return hidden_within(list(islice(cycle(around), units)), needles, depths)
        while len(others) < units:
            others.append(_needle(asks.value, next(keys), next(values)))
        lines = others[:units]
        lines.insert(round(depths[0] * units), needles[0])
        return "\n".join(lines)

    queries = draws.sample(list(held), asks.asked)
    query = ", ".join(queries[:-1]) + (", and " if len(queries) > 1 else "") + queries[-1]
    answers = [value for key in queries for value in held[key]]
    what, some, verb = (asks.value[:-1], "A", "is") if len(answers) == 1 else (asks.value, "Some", "are")
    all_of = f"What {'is' if len(answers) == 1 else 'are all'} the"
    return Draft(
        lambda units: (
            f"{some} special magic {what} {verb} hidden within the following text. Make sure to memorize it. I will "
            f"quiz you about the {what} afterwards.\n{context(units)}\n{all_of} special magic {what} for {query} "
            "mentioned in the provided text?"
        ),
        f"The special magic {what} for {query} mentioned in the provided text {verb}",
        answers, 0, depth=depths[0] if single else None,
    )  # fmt: skip


def _needle(what: str, key: str, value: str) -> str:
    return f"One of the special magic {what} for {key} is: {value}."


def _variables(draws: random.Random) -> Draft:
    """Who has the value of a chain of five variables; an example stands before it."""
    names = list(dict.fromkeys("".join(draws.choices(ascii_uppercase, k=5)) for _ in range(30)))
    example, asked = _chain(draws, names[:5]), _chain(draws, names[5:10])
    shown = f"{example[0](60)} {example[1]} {' '.join(names[:5])}\n\n"
    return Draft(lambda units: shown + asked[0](units), asked[1], names[5:10], 0)


def _chain(draws: random.Random, names: list[str]) -> tuple[Callable[[int], str], str]:
    value = draws.randint(10000, 99998)
    steps = [f"VAR {names[0]} = {value}", *(f"VAR {b} = VAR {a}" for a, b in zip(names, names[1:], strict=False))]
    depths = sorted(draws.random() for _ in steps)

    def text(units: int) -> str:
        return (
            "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
            f"{hidden_within(list(islice(cycle(NOISE), units)), steps, depths)}\nQuestion: Find all variables that are "
            f"assigned the value {value} in the text above."
        )

    return text, (
        "Answer: According to the chain(s) of variable assignment in the text above, "
        f"{len(names)} variables are assigned the value {value}, they are:"
    )


def _common_words(
    draws: random.Random, shown_words: int, repeats: tuple[int, int], shown_repeats: tuple[int, int]
) -> Draft:
    """Which ten words of a list are the common ones; an example stands before it."""
    words = sorted({word for those in known_words() for word in those})
    draws.shuffle(words)
    shown, rest = words[:shown_words], words[shown_words:]
    order, prefix = draws.random(), "Answer: The top 10 words that appear most often in the list are:"

    def listed(those: list[str], often: int, seldom: int) -> str:
        entries = those[:10] * often + those[10:] * seldom
        random.Random(order).shuffle(entries)
        numbered = " ".join(f"{number}. {word}" for number, word in enumerate(entries, 1))
        return (
            "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones "
            f"that appear most often.\n{numbered}\nQuestion: What are the 10 most common words in the above list?"
        )

    answer = " ".join(f"{number}. {word}" for number, word in enumerate(shown[:10], 1))
    example = f"{listed(shown, *shown_repeats)} {prefix} {answer}\n"
    return Draft(lambda units: example + listed(rest[:units], *repeats), prefix, rest[:10], 11, len(rest))


def _frequent_words(draws: random.Random, length: int) -> Draft:
    """Which three coded words are the most frequent; their frequencies fall as 1 / rank**2, and the first is noise."""
    words = list(dict.fromkeys("".join(draws.choices(ascii_lowercase, k=6)) for _ in range(max(length // 50, 8))))
    words[0], order = "...", draws.random()

    def text(units: int) -> str:
        coded = [word for rank, word in enumerate(words, 1) for _ in range(int(units / rank**2 / ZETA_2))]
        random.Random(order).shuffle(coded)
        return (
            "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
            f"appeared coded words. {' '.join(coded)}\nQuestion: Do not provide any explanation. Please ignore the "
            "dots '....'. What are the three most frequently appeared words in the above coded text?"
        )

    prefix = "Answer: According to the coded text above, the three most frequently appeared words are:"
    return Draft(text, prefix, words[1:4], 64)


def _facts(draws: random.Random, text: Sequence[str], hops: int) -> Draft:
    """Who keeps a thing, or, over two documents, where its keeper lives; each document holds a fact like these."""
    things, names = distinct_keys(draws, "words"), (name.title() for name in distinct_keys(draws, "words"))
    thing, keeper, place = next(things), next(names), next(names)
    asked = [f"The {thing} is kept by {keeper}.", f"{keeper} lives in {place}."][:hops]
    facts, around, order = list(asked), cycle(haystack_from(draws, text)), draws.random()
    documents = [list(islice(around, DOCUMENT)) for _ in asked]
    question = f"Who keeps the {thing}?" if hops == 1 else f"Where does the keeper of the {thing} live?"
    ask = "Answer the question based on the given documents. Only give me the answer and do not output any other words."

    def body(units: int) -> str:
        while len(facts) < units:
            other = f"The {next(things)} is kept by {next(names)}."
            facts.append(other if hops == 1 or len(facts) % 2 else f"{next(names)} lives in {next(names)}.")
            documents.append(list(islice(around, DOCUMENT)))
        put = random.Random(order)
        parts = zip(documents[:units], facts[:units], strict=True)
        texts = [hidden_within(words, [fact], [put.random()]) for words, fact in parts]
        put.shuffle(texts)
        shown = "\n\n".join(f"Document {number}:\n{each}" for number, each in enumerate(texts, 1))
        return f"{ask}\n\nThe following are given documents.\n\n{shown}\n\n{ask}\n\nQuestion: {question}"

    return Draft(body, "Answer:", [keeper if hops == 1 else place], hops)
