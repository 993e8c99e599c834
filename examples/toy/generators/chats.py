"""Chat data: reasoning for mid-training, conversations for SFT, preferences, and their evaluation items."""

import random
from itertools import cycle, islice

from generators.arithmetic import combinations_in, held_out, problem, result, trained
from generators.notebooks import filler, record
from generators.prompts import Prompt, greeting_prompt, prompt_maker, with_thought
from generators.tables import Row
from generators.words import OPERATOR_IDEAS, THINGS, VALUES
from generators.world import facts

KINDS = ("fact", "sum", "fact", "repeat")
CAPITALS, THANKS = "Answer in capitals.", "End with thanks."


def message(role: str, content: str) -> Row:
    """One message of a conversation."""
    return {"role": role, "content": content}


def template_kwargs(thinking: bool, instructions: str = "") -> Row:
    """What the chat template is told, in SmolTalk2's layout."""
    return {
        "custom_instructions": instructions,
        "enable_thinking": thinking,
        "python_tools": [],
        "xml_tools": [],
    }


def reasoning(seed: int, count: int) -> list[Row]:
    """Mid-training rows: sums by steps, word problems, facts recalled, notebooks looked up."""
    rng = random.Random(f"{seed}:reasoning")
    make = prompt_maker("training", seed, rng)
    rows = []
    for kind in islice(cycle(("sum", "problem", "fact", "notebook")), count):
        if kind == "notebook":
            question, answer = _notebook(rng)
        elif kind == "problem":
            question, answer = _solved_problem(seed, rng)
        else:
            prompt = make(kind)
            question = prompt.text
            thought = _sum_steps(prompt, seed) if kind == "sum" else _recalled(prompt, seed)
            answer = with_thought(thought, prompt.reply)
        rows.append({"messages": [message("user", question), message("assistant", answer)]})
    rng.shuffle(rows)
    return rows


def _sum_steps(prompt: Prompt, seed: int) -> str:
    """The sum, its idea in words and, if that needs nothing held out, the way over the first one's tens."""
    ((a, op, b),) = combinations_in(prompt.thought)
    steps = [f"We need {a} {op} {b}. {OPERATOR_IDEAS[op].format(a=a, b=b)}"]
    tens, ones = a // 10 * 10, a % 10
    parts = [(tens, "+", ones), (ones, "+", b), (tens, "+", ones + b)]
    if op == "+" and tens and ones and not held_out(seed).intersection(parts):
        steps += [f"{x} {o} {y} = {result((x, o, y))}." for x, o, y in parts]
    return " ".join([*steps, prompt.thought])


def _recalled(prompt: Prompt, seed: int) -> str:
    """Both wordings of the fact that answers the prompt."""
    (fact,) = (fact for fact in facts(seed) if fact.sentence == prompt.thought)
    start = "Pienso en lo que sé de" if fact.language == "es" else "Ich denke an alles über"
    return f"{start} {fact.entity}. {fact.other_sentence} {fact.sentence}"


def _solved_problem(seed: int, rng: random.Random) -> tuple[str, str]:
    combination = rng.choice(trained(seed))
    a, op, b = combination
    text = problem(combination, THINGS, rng).removesuffix(" Answer:")
    thought = f"{OPERATOR_IDEAS[op].format(a=a, b=b)} {a} {op} {b} = {result(combination)}."
    return text, with_thought(thought, f"The answer is {result(combination)}.")


def _notebook(rng: random.Random) -> tuple[str, str]:
    value = rng.choice(VALUES)
    lines = [record(value), *(filler(rng) for _ in range(rng.randint(2, 5)))]
    rng.shuffle(lines)
    question = "\n".join([*lines, "What is the key of the notebook?"])
    return question, with_thought(f"I look for the key. {record(value)}", f"The value is {value}.")


def conversations(seed: int, count: int) -> list[Row]:
    """SFT rows, half with thinking: questions, greetings, two-turn dialogues, custom instructions."""
    rng = random.Random(f"{seed}:conversations")
    make = prompt_maker("training", seed, rng)
    shapes = (*KINDS, *KINDS, *KINDS, "greeting", "dialogue", "dialogue", CAPITALS, THANKS)
    rows = []
    for index, shape in enumerate(islice(cycle(shapes), count)):
        thinking = bool((index + index // len(shapes)) % 2)
        instructions = shape if shape in (CAPITALS, THANKS) else ""
        if shape == "greeting":
            prompts = [greeting_prompt(rng)]
        elif shape == "dialogue":
            first = rng.choice([greeting_prompt(rng), make(rng.choice(KINDS))])
            prompts = [first, make(rng.choice(KINDS))]
        else:
            prompts = [make(rng.choice(KINDS) if instructions else shape)]
        messages = []
        for prompt in prompts:
            text = _instructed(prompt, thinking, instructions)
            messages += [message("user", prompt.text), message("assistant", text)]
        rows.append({"messages": messages, "chat_template_kwargs": template_kwargs(thinking, instructions)})
    rng.shuffle(rows)
    return rows


def _instructed(prompt: Prompt, thinking: bool, instructions: str) -> str:
    reply = prompt.reply if thinking else prompt.plain
    if instructions == CAPITALS:
        reply = reply.upper()
    elif instructions == THANKS:
        reply = f"{reply} Thanks."
    return with_thought(prompt.thought, reply) if thinking else reply


def rejected(prompt: Prompt, thinking: bool, rng: random.Random) -> str:
    """A response that is wrong (two in three), badly formed or rambling."""
    fault = rng.choice(("wrong", "wrong", "wrong", "wrong", "format", "rambling"))
    if fault == "wrong":
        return prompt.mistaken().response(thinking)
    if fault == "format" and thinking:
        return rng.choice((prompt.plain, f"<think>\n{prompt.thought} {prompt.reply}"))
    if fault == "format":
        return with_thought(prompt.thought, prompt.reply)
    rambling = " ".join([prompt.text, *rng.choices((prompt.text, "I think so.", "Let us see."), k=4)])
    return with_thought(prompt.thought, rambling) if thinking else rambling


def _pairs(use: str, seed: int, count: int, rng: random.Random) -> list[tuple[Prompt, bool, str]]:
    """Prompts, whether to think, and a rejected response; no prompt twice in an evaluation."""
    make = prompt_maker(use, seed, rng)
    made: dict[tuple[str, bool], tuple[Prompt, bool, str]] = {}
    for index, kind in enumerate(cycle(KINDS)):
        if len(made) == count:
            break
        prompt, thinking = make(kind), bool((index // len(KINDS)) % 2)
        made.setdefault((prompt.text, thinking), (prompt, thinking, rejected(prompt, thinking, rng)))
    return list(made.values())


def preferences(seed: int, count: int) -> list[Row]:
    """Preference pairs in SmolTalk2's layout."""
    rng = random.Random(f"{seed}:preferences")
    return [
        {
            "prompt": prompt.text,
            "chosen": [message("user", prompt.text), message("assistant", prompt.response(thinking))],
            "rejected": [message("user", prompt.text), message("assistant", wrong)],
            "chat_template_kwargs": template_kwargs(thinking),
        }
        for prompt, thinking, wrong in _pairs("training", seed, count, rng)
    ]


def preference_prompts(seed: int, count: int) -> list[Row]:
    """Prompts for pairs whose two sides are generated by checkpoints."""
    rng = random.Random(f"{seed}:preference_prompts")
    return [
        {"prompt": prompt.text, "chat_template_kwargs": template_kwargs(thinking), "answer": prompt.answer}
        for prompt, thinking, _ in _pairs("pairs", seed, count, rng)
    ]


def chat_tasks(seed: int, count: int = 120) -> list[Row]:
    """The items of `chat.jsonl`."""
    rng = random.Random(f"{seed}:chat")
    return [
        {"messages": [message("user", prompt.text)], "enable_thinking": thinking, "answer": prompt.answer}
        for prompt, thinking, _ in _pairs("chat", seed, count, rng)
    ]


def preference_tasks(seed: int, count: int = 150) -> list[Row]:
    """The items of `preferences.jsonl`."""
    rng = random.Random(f"{seed}:preference_tasks")
    return [
        {
            "messages": [message("user", prompt.text)],
            "enable_thinking": thinking,
            "choices": [prompt.response(thinking), wrong],
            "gold": 0,
        }
        for prompt, thinking, wrong in _pairs("preferences", seed, count, rng)
    ]
