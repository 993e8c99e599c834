"""Arithmetic: held-out combinations, mathematics documents, word problems, and their evaluation items.

A combination is an ordered triple (a, op, b): a, b from 0 to 12 for + and - (no negative results), single
digits for *. A keyed hash holds out about an eighth of them. 5 + 17 may be trained when 17 + 5 is held out:
that much the model may work out.
"""

import random
import re
from collections.abc import Callable
from functools import cache

from generators.tables import Row, keyed_fraction
from generators.words import (
    EVALUATION_THINGS,
    NUMBER_WORDS,
    PLACES,
    PROBLEM_PEOPLE,
    THINGS,
    number_words,
)

Combination = tuple[int, str, int]
HELD_OUT_SHARE = 0.12
LARGEST = 12
ITEMS = 120
OPERATOR_NAMES = {"+": "plus", "-": "minus", "*": "times"}
SYMBOLS = {name: symbol for symbol, name in OPERATOR_NAMES.items()} | {"−": "-", "×": "*"}

_WORD_VALUES = {word: value for value, word in enumerate(NUMBER_WORDS)}
_WORDS = "|".join(sorted(NUMBER_WORDS, key=len, reverse=True))
# The second number is a lookahead, so that a chain such as 2 + 3 + 4 gives both pairs. A sign stands between
# digits only: thirty-seven is no subtraction.
_EXPRESSION = re.compile(
    r"(?<![\d.,\w-])(\d+) *([-+*−×]) *(?=(\d+)(?!\w))"
    rf"|\b(\d+|{_WORDS}) (plus|minus|times) (?=(\d+|{_WORDS})(?![\w-]))",
    re.IGNORECASE,
)


def result(combination: Combination) -> int:
    """The value of a combination."""
    a, op, b = combination
    return a + b if op == "+" else a - b if op == "-" else a * b


def all_combinations() -> list[Combination]:
    """Every combination of the toy world."""
    numbers = range(LARGEST + 1)
    sums = [(a, op, b) for op in "+-" for a in numbers for b in numbers if op == "+" or b <= a]
    return [*sums, *((a, "*", b) for a in range(10) for b in range(10))]


@cache
def held_out(seed: int) -> frozenset[Combination]:
    """The combinations that no training file may show."""
    kept = [c for c in all_combinations() if keyed_fraction(seed, "combination", *c) < HELD_OUT_SHARE]
    return frozenset(kept)


@cache
def trained(seed: int) -> tuple[Combination, ...]:
    """The combinations that training files show."""
    return tuple(c for c in all_combinations() if c not in held_out(seed))


def combinations_in(text: str) -> set[Combination]:
    """The combinations that a text states, in digits or words; `x + 5 = 22` counts as 17 + 5."""
    found = set()
    for match in _EXPRESSION.finditer(text):
        a, symbol, b = (group for group in match.groups() if group is not None)
        first, second = (int(n) if n.isdigit() else _WORD_VALUES[n.lower()] for n in (a, b))
        found.add((first, SYMBOLS.get(symbol.lower(), symbol), second))
    for op, b, total in re.findall(r"\bx ([+-]) (\d+) = (\d+)", text):
        found.add((int(total) - int(b) if op == "+" else int(total) + int(b), op, int(b)))
    return found


def shows_held_out(text: str, seed: int) -> bool:
    """Whether a text states a held-out combination."""
    return not held_out(seed).isdisjoint(combinations_in(text))


# Problems have 16 to 20 words, and every eight in a row hold the thing {t} or both numbers: no run of eight
# words of an evaluation problem can occur in a trained one.
PROBLEMS = {
    "+": (
        "At the {l} {n} has {a} {t} and gets {b} more. How many {t} does {n} have now? Answer:",
        "In the {l} there are {a} {t} and {n} brings {b} more. How many {t} are there now? Answer:",
    ),
    "-": (
        "At the {l} {n} has {a} {t} and gives {b} away. How many {t} does {n} have now? Answer:",
        "In the {l} there are {a} {t} and {n} takes {b} away. How many {t} are there now? Answer:",
    ),
    "*": (
        "The {t} of {n} are in {a} bags of {b} each. How many {t} does {n} have in all? Answer:",
        "So {n} puts {t} in {a} rows of {b} each. How many {t} are there in all? Answer:",
    ),
}


def problem(combination: Combination, things: list[str], rng: random.Random) -> str:
    """An English word problem that ends in "Answer:"."""
    a, op, b = combination
    template = rng.choice(PROBLEMS[op])
    return template.format(a=a, b=b, n=rng.choice(PROBLEM_PEOPLE), t=rng.choice(things), l=rng.choice(PLACES))


def _statement(combination: Combination, rng: random.Random) -> str:
    a, op, b = combination
    return f"{a} {op} {b} = {result(combination)}"


def _statement_in_words(combination: Combination, rng: random.Random) -> str:
    a, op, b = combination
    number = f"{number_words(a)} {OPERATOR_NAMES[op]} {number_words(b)} is {number_words(result(combination))}."
    return number[0].upper() + number[1:]


def _solved_problem(combination: Combination, rng: random.Random) -> str:
    return f"{problem(combination, THINGS, rng)} {result(combination)}\n{_statement(combination, rng)}"


def _equation(combination: Combination, rng: random.Random) -> str:
    a, op, b = combination
    total, inverse, _ = _inverse(combination)
    return f"x {op} {b} = {total}, x = {total} {inverse} {b}, x = {a}"


def _inverse(combination: Combination) -> Combination:
    return result(combination), "-" if combination[1] == "+" else "+", combination[2]


def _fact(combination: Combination, rng: random.Random) -> str:
    a, b = combination[0], combination[2]
    order = "less than" if a < b else "greater than" if a > b else "the same as"
    return rng.choice(
        (
            f"The number {number_words(a)} is written {a}.",
            f"The number {a} is {'odd' if a % 2 else 'even'}.",
            f"The number {a} is {order} {b}.",
            f"The number {a} comes after {a - 1}." if a else f"The number {b} comes before {b + 1}.",
        )
    )


def mathematics(seed: int, size: int) -> list[str]:
    """Documents of one kind of line each, `size` characters in all, without held-out combinations."""
    rng = random.Random(f"{seed}:mathematics")
    every = trained(seed)
    additive = tuple(c for c in every if c[1] != "*")
    # An equation shows the inverse too, which may be held out although the combination itself is not.
    solvable = tuple(c for c in additive if _inverse(c) not in held_out(seed))
    kinds: list[tuple[Callable[[Combination, random.Random], str], tuple[Combination, ...], int, int]] = [
        (_statement, every, 56, 30),
        (_solved_problem, every, 22, 5),
        (_statement_in_words, every, 10, 10),
        (_equation, solvable, 6, 12),
        (_fact, additive, 6, 12),
    ]
    texts = []
    remaining = {line: size * share // 100 for line, _, share, _ in kinds}
    for line, combinations, _, lines in kinds:
        while remaining[line] > 0:
            made = [line(rng.choice(combinations), rng) for _ in range(rng.randint(lines // 2 + 1, lines * 2))]
            text = "\n".join(made)
            texts.append(text)
            remaining[line] -= len(text)
    rng.shuffle(texts)
    return texts


def numeric_choices(combination: Combination, rng: random.Random) -> Row:
    """Four choices, the right one at a uniform place; the others are within 10 of it, never below zero."""
    gold_value = result(combination)
    near = [value for value in range(max(0, gold_value - 10), gold_value + 11) if value != gold_value]
    wrong = rng.sample(near, 3)
    gold = rng.randrange(4)
    return {"choices": [f" {v}" for v in [*wrong[:gold], gold_value, *wrong[gold:]]], "gold": gold}


def tasks(seed: int) -> dict[str, list[Row]]:
    """The items of `arithmetic` (combinations that training shows), `arithmetic_new` (held out) and `word_problems`."""
    rng = random.Random(f"{seed}:arithmetic")
    known = rng.sample(trained(seed), ITEMS)
    new = rng.sample(sorted(held_out(seed)), min(ITEMS, len(held_out(seed))))
    problems = rng.choices(sorted(held_out(seed)), k=ITEMS)
    return {
        "arithmetic": [_sum_item(combination, rng) for combination in known],
        "arithmetic_new": [_sum_item(combination, rng) for combination in new],
        "word_problems": [{"query": problem(c, EVALUATION_THINGS, rng), **numeric_choices(c, rng)} for c in problems],
    }


def _sum_item(combination: Combination, rng: random.Random) -> Row:
    a, op, b = combination
    return {"query": f"{a} {op} {b} =", **numeric_choices(combination, rng)}
