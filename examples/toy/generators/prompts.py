"""Prompts of the chat data, each with its thought, its reply and a plausible wrong answer.

Which prompt serves which file is decided by a hash of its text, so that no two files that must not share a
prompt can: `chat` and `preferences` are the evaluation's, `pairs` is for preference pairs made by
checkpoints, the rest trains.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from generators.arithmetic import result, trained
from generators.tables import keyed_fraction
from generators.words import VALUES
from generators.world import Fact, facts

OPENINGS = {
    "en": ("", "Hello. ", "I have a question. ", "Please help me. "),
    "es": ("", "Hola. ", "Tengo una pregunta. ", "Por favor, ayúdame. "),
    "de": ("", "Hallo. ", "Ich habe eine Frage. ", "Bitte hilf mir. "),
}
SUM_QUESTIONS = ("What is {a} {op} {b}?", "How much is {a} {op} {b}?", "Calculate {a} {op} {b}.")
REPEAT_QUESTIONS = ("Repeat the word {w}.", "Say the word {w} once.", "Write the word {w}.")
GREETINGS = (
    ("Hello!", "The user says hello.", "Hello! How can I help you today?"),
    ("Good morning!", "The user says good morning.", "Good morning! How can I help you today?"),
    ("¡Hola!", "El usuario saluda.", "¡Hola! ¿En qué puedo ayudarte hoy?"),
    ("¡Buenos días!", "El usuario saluda.", "¡Buenos días! ¿En qué puedo ayudarte hoy?"),
    ("Hallo!", "Der Nutzer grüßt.", "Hallo! Wie kann ich dir heute helfen?"),
    ("Guten Tag!", "Der Nutzer grüßt.", "Guten Tag! Wie kann ich dir heute helfen?"),
)


@dataclass(frozen=True)
class Prompt:
    """A user's prompt; `reply` answers it after `thought`, `plain` without; `answer` occurs in both.

    `wrong` stands in for `answer` in a wrong reply.
    """

    kind: str
    text: str
    thought: str
    reply: str
    plain: str
    answer: str
    wrong: str

    def response(self, thinking: bool) -> str:
        """The right and well-formed assistant message."""
        return with_thought(self.thought, self.reply) if thinking else self.plain

    def mistaken(self) -> "Prompt":
        """The same prompt with a wrong answer."""

        def changed(text: str) -> str:
            head, _, tail = text.rpartition(self.answer)
            return f"{head}{self.wrong}{tail}"

        thought, reply, plain = changed(self.thought), changed(self.reply), changed(self.plain)
        return Prompt(self.kind, self.text, thought, reply, plain, self.wrong, self.answer)


def with_thought(thought: str, reply: str) -> str:
    """An assistant message that thinks first."""
    return f"<think>\n{thought}\n</think>\n{reply}"


def fact_prompt(fact: Fact, rng: random.Random) -> Prompt:
    """A question about the world; the thought is the dominant wording of the fact."""
    opening = rng.choice(OPENINGS[fact.language])
    verb, start = (" es", "Es") if fact.language == "es" else (" ist", "Es ist")
    reply = f"{start}{fact.query.partition(verb)[2]} {fact.value}."
    wrong = rng.choice([value for value in fact.attribute.values if value != fact.value])
    text = opening + rng.choice(fact.questions)
    return Prompt("fact", text, fact.sentence, reply, fact.sentence, fact.value, wrong)


def sum_prompt(seed: int, rng: random.Random) -> Prompt:
    """A question for a trained combination."""
    combination = rng.choice(trained(seed))
    a, op, b = combination
    total = result(combination)
    line = f"{a} {op} {b} = {total}."
    wrong = str(rng.choice([n for n in range(max(0, total - 10), total + 11) if n != total]))
    text = rng.choice(OPENINGS["en"]) + rng.choice(SUM_QUESTIONS).format(a=a, op=op, b=b)
    return Prompt("sum", text, line, f"The answer is {total}.", line, str(total), wrong)


def repeat_prompt(rng: random.Random) -> Prompt:
    """A word to repeat."""
    word, wrong = rng.sample(VALUES, 2)
    text = rng.choice(OPENINGS["en"]) + rng.choice(REPEAT_QUESTIONS).format(w=word)
    line = f"The word is {word}."
    return Prompt("repeat", text, line, line, line, word, wrong)


def greeting_prompt(rng: random.Random) -> Prompt:
    """A greeting; training only, as there are few."""
    text, thought, reply = rng.choice(GREETINGS)
    return Prompt("greeting", text, thought, reply, reply, reply, "404.")


def use_of(text: str, seed: int) -> str:
    """Which file a prompt may serve: "chat", "preferences", "pairs" or "training"."""
    place = keyed_fraction(seed, "prompt", text)
    return "chat" if place < 0.1 else "preferences" if place < 0.2 else "pairs" if place < 0.35 else "training"


def prompt_maker(use: str, seed: int, rng: random.Random) -> Callable[[str], Prompt]:
    """A function that makes a fresh prompt of the kind asked for ("fact", "sum", "repeat") for one use."""
    known = facts(seed)

    def make(kind: str) -> Prompt:
        while True:
            if kind == "fact":
                prompt = fact_prompt(rng.choice(known), rng)
            else:
                prompt = sum_prompt(seed, rng) if kind == "sum" else repeat_prompt(rng)
            if use_of(prompt.text, seed) == use:
                return prompt

    return make
