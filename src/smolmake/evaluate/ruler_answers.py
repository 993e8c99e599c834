"""The answers to RULER's questions, read from the questions themselves: each has one there."""

from __future__ import annotations

import re
from collections import Counter

NEEDLE = re.compile(r"special magic (?:numbers|uuids) for (\S+) is: (\S+?)\.(?=\s|$)")
QUERY = re.compile(r"special magic (?:numbers?|uuids?) for ([^\n]+) mentioned in the provided text\?$")
VARIABLE = re.compile(r"VAR ([A-Z]+) = (?:VAR ([A-Z]+)|(\d+))")
KEPT = re.compile(r"The (\S+) is kept by (\S+)\.")
LIVES = re.compile(r"(\S+) lives in (\S+)\.")


def right_answers(kind: str, prompt: str) -> set[str]:
    """All right answers to a question of a kind; none where it has no single one."""
    if kind.startswith("niah"):
        return _needle_values(prompt)
    return {"vt": _variables_of, "cwe": _common, "fwe": _frequent, "qa_1": _kept, "qa_2": _kept}[kind](prompt)


def _needle_values(prompt: str) -> set[str]:
    query = QUERY.search(prompt)
    keys = re.split(r", and |, ", query[1]) if query else []
    found = NEEDLE.findall(prompt)
    values = [value for key, value in found if key in keys]
    return set(values) if len(set(values)) == len(values) and {key for key, _ in found} >= set(keys) else set()


def _variables_of(prompt: str) -> set[str]:
    asked = re.findall(r"assigned the value (\d+) in the text above", prompt)
    values = dict[str, str]()
    for name, other, number in VARIABLE.findall(prompt):
        values[name] = number or values.get(other, "")
    return {name for name, value in values.items() if asked and value == asked[-1]}


def _top(counts: Counter[str], number: int) -> set[str]:
    """The most frequent words, where they are more frequent than all others."""
    ranked = counts.most_common(number + 1)
    if len(ranked) < number or (len(ranked) > number and ranked[number - 1][1] == ranked[number][1]):
        return set()
    return {word for word, _ in ranked[:number]}


def _common(prompt: str) -> set[str]:
    listed = prompt.rpartition("appear most often.\n")[2].partition("\nQuestion:")[0]
    return _top(Counter(re.findall(r"\d+\. (\S+)", listed)), 10)


def _frequent(prompt: str) -> set[str]:
    coded = prompt.partition("frequently appeared coded words. ")[2].partition("\nQuestion:")[0]
    return _top(Counter(word for word in coded.split() if word != "..."), 3)


def _kept(prompt: str) -> set[str]:
    documents, _, question = prompt.rpartition("Question: ")
    thing = question.split("the ")[-1].removesuffix(" live?").removesuffix("?")
    keepers = {keeper for kept, keeper in KEPT.findall(documents) if kept == thing}
    if question.startswith("Who"):
        return keepers
    return {place for name, place in LIVES.findall(documents) if name in keepers}
