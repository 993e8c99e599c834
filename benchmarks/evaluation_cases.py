"""Made-up requests of an evaluation with lengths as real tasks have them, and what real suites hold."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance

WORDS = [f"{first}{last}" for first in "bcdfgklmnprstvz" for last in ("at", "en", "ir", "os", "um")]
ANSWER = 128  # mean tokens of a written answer, of which LIMIT is the most
LIMIT = 384


@dataclass(frozen=True)
class Case:
    """Items of a task: tokens of the question and of a choice (means), choices, and examples before the question."""

    name: str
    items: int
    question: int
    choice: int = 1
    choices: int = 4
    examples: int = 0  # tokens before the question, the same for all items
    own: int = 0  # the same, others for each item
    target: float | None = None

    def requests(self, scale: float) -> list[Instance]:
        shared = text("examples", self.examples)
        made = []
        for item in range(max(8, int(self.items * scale))):
            before = shared + text((item, "own"), self.own) + text(item, spread(item, self.question))
            for choice in range(self.choices):
                ending = text((item, choice), spread((item, choice), self.choice) if self.choice > 1 else 1)
                made.append(Instance("loglikelihood", {}, (before, ending), choice, (self.name, item, 1)))
        return made


CASES = [
    Case("CF, four choices", 800, 50, 14, target=3.0),
    Case("MCF, four choices", 1000, 110, target=4.0),
    Case("MCF, 5 shots of the task", 300, 110, examples=550, target=5.0),
    Case("CF, 5 shots of the task", 200, 50, 14, examples=320, target=5.0),
    Case("CF, 5 shots of each item", 200, 50, 14, own=320),
]


def prompts(count: int, settings: dict[str, Any]) -> list[Instance]:
    """Prompts to go on from, of 120 tokens in the mean."""
    texts = [text(("prompt", item), spread(("prompt", item), 120)) for item in range(count)]
    return [
        Instance("generate_until", {}, (each, dict(settings)), 0, ("generation", n, 1)) for n, each in enumerate(texts)
    ]


def spread(seed: Any, mean: int) -> int:
    """A length about a mean: log-normal, a quarter to four times the mean."""
    drawn = random.Random(f"length {seed}").lognormvariate(-0.125, 0.5)
    return max(1, round(mean * min(4.0, max(0.25, drawn))))


def text(seed: Any, words: int) -> str:
    return "".join(f" {word}" for word in random.Random(str(seed)).choices(WORDS, k=words))


# The base ablations of SmolLM3, in cloze form: items of the whole set, choices, and mean tokens of a question and of a
# choice, which are estimates, not counts: the data sets are not at hand. The published suite asks the first 1,000 of
# each.
SUITE = {
    "mmlu (57 subjects)": (14_042, 4, 70, 11),
    "hellaswag": (10_042, 4, 57, 24),
    "arc_easy": (2_376, 4, 28, 5),
    "arc_challenge": (1_172, 4, 32, 6),
    "piqa": (1_838, 2, 12, 22),
    "winogrande": (1_267, 2, 24, 6),
    "commonsense_qa": (1_221, 5, 19, 2),
    "openbookqa": (500, 4, 13, 4),
}
WRITTEN = {"gsm8k, 5 shots": (1_319, 750, 150)}  # items, tokens of a prompt, tokens of an answer


def projected(seconds: Callable[[int, int, int, int], float], first: int | None) -> dict[str, float]:
    """Seconds of each task by a function of its items, choices and lengths; of the `first` items, or of all."""
    return {
        name: seconds(min(items, first or items), choices, question, choice)
        for name, (items, choices, question, choice) in SUITE.items()
    }
