"""What the likelihoods of choices tell beside the harness's accuracy: where most of a small model's signal lies."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from lm_eval.api.task import Task

BITS, PROBABILITY, PER_TOKEN = "bits_per_byte", "choice_prob_norm", "acc_tokens"
CONTINUED = ("multiple_choice", "loglikelihood")


Samples = list[dict[str, Any]]  # of the harness, one an item


def choice_scores(task: Task, samples: Samples, added: dict[tuple[int, int], int]) -> dict[str, list[float]]:
    """Scores of each item, by metric; none for a task whose answers are written.

    `bits_per_byte` is of the right answer, without the blanks before it. `choice_prob_norm` is the right choice's share
    of the probability of all choices, and `acc_tokens` tells whether it is the likeliest one a token; `added` has
    the tokens that a choice adds, by the number of its item and its own. Where several choices are right, their shares
    are added, and the bits are the likeliest one's. An item without a right choice has none of these.
    """
    if task.OUTPUT_TYPE not in CONTINUED:
        return {}
    scores: dict[str, list[float]] = {BITS: []}
    for sample in samples:
        arguments = [tuple(argument) for argument in sample["arguments"]]
        likelihoods = [float(response[0][0]) for response in sample["resps"]]
        gold, count = _gold(task, sample["doc"], len(arguments))
        if not gold:  # the harness says that no choice is the right one
            continue
        bits = [-likelihoods[n] / math.log(2) / _bytes(arguments[n][1]) for n in gold]
        scores[BITS].append(min(bits))
        if count > 1:
            weights = np.exp(np.array(likelihoods[:count]) - max(likelihoods[:count]))
            scores.setdefault(PROBABILITY, []).append(float(weights[gold].sum() / weights.sum()))
            means = [likelihoods[n] / added[sample["doc_id"], n] for n in range(count)]
            scores.setdefault(PER_TOKEN, []).append(float(int(np.argmax(means)) in gold))
    return {metric: values for metric, values in scores.items() if values}


def formulation_of(task: Task, samples: Samples) -> str:
    """How a task is really scored, told from its requests.

    FG: what the model writes. MCF: the labels of the choices that the prompt shows, or letters. hybrid: the texts of
    choices that the prompt shows after labels. CF: the texts of choices that it does not show.
    """
    if task.OUTPUT_TYPE != "multiple_choice":
        return {"generate_until": "FG", "loglikelihood": "CF"}.get(task.OUTPUT_TYPE, "")
    requests = [(str(argument[0]), argument[1].strip()) for sample in samples for argument in sample["arguments"]]
    asked = [(context, choice) for context, choice in requests if context]  # not those of mutual information
    bare = [choice.strip("().: ") for _, choice in asked]
    if all(len(choice) == 1 and choice.isalpha() for choice in bare):
        return "MCF"
    if all(len(choice) == 1 and _shows(context, choice, "") for (context, _), choice in zip(asked, bare, strict=True)):
        return "MCF"
    return "hybrid" if all(_shows(context, "[A-Za-z0-9]", choice) for context, choice in asked) else "CF"


def _shows(context: str, label: str, text: str) -> bool:
    """Whether a prompt has a text after a label, such as `B. blue`."""
    label = label if label.startswith("[") else re.escape(label)
    return re.search(rf"(?:^|[\s(]){label}[.):]\s*{re.escape(text)}", context) is not None


def _gold(task: Task, doc: dict[str, Any], requests: int) -> tuple[list[int], int]:
    """The numbers of the right choices, and how many choices there are: mutual information doubles the requests."""
    if task.OUTPUT_TYPE == "loglikelihood":
        return [0], 1
    choices = task.doc_to_choice(doc)
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    found = [choices.index(each) if each in choices else -1 for each in [gold]] if isinstance(gold, str) else gold
    numbers = found if isinstance(found, list) else [found]
    count = min(len(choices), requests)
    return [int(number) for number in numbers if 0 <= int(number) < count], count


def _bytes(continuation: str) -> int:
    return len((continuation.lstrip() or continuation).encode())
