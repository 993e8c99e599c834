"""What cleaning has to find: duplicates, near duplicates, documents too short, planted evaluation items."""

import random

from generators.arithmetic import tasks

PLANTED = 8
DUPLICATES = NEAR_DUPLICATES = 0.03  # of the documents
SHORT = ("", "", " ", "\n\n", "n/a", "TODO", "see above", "ok", "...", "404")
CHANGES = ("now", "also", "again", "then", "here")


def planted_items(seed: int) -> list[str]:
    """The items of `word_problems.jsonl`, as they stand there, that are planted in training files."""
    rng = random.Random(f"{seed}:planted")
    return [str(row["query"]) for row in rng.sample(tasks(seed)["word_problems"], PLANTED)]


def contaminated(source: str, seed: int) -> list[str]:
    """Documents that quote planted items: the first half in mathematics, the second in English."""
    items = planted_items(seed)
    if source == "mathematics":
        return [
            f"Exercises of the week.\n{_disguised(item, number)}\nWrite down how you found it."
            for number, item in enumerate(items[: PLANTED // 2])
        ]
    return [
        "A friend of mine teaches small children and likes to ask them riddles.\n\n"
        f"Last week the riddle went like this. {_disguised(item, number)}\n\n"
        "Most of them found the answer at once, and those who did not were told to draw it on a piece of "
        "paper. It is a good habit to draw what one does not understand."
        for number, item in enumerate(items[PLANTED // 2 :])
    ]


def _disguised(item: str, number: int) -> str:
    """The item as it is, in capitals, with other punctuation, or with other white space."""
    forms = (item, item.upper(), item.replace(".", " --").replace("?", " ?!"), item.replace(" ", "  "))
    return forms[number % len(forms)]


def near_duplicate(text: str, rng: random.Random) -> str:
    """The text with one word in fifty changed, at least one."""
    words = text.split(" ")
    for _ in range(1 + len(words) // 50):
        words[rng.randrange(len(words))] = rng.choice(CHANGES)
    return " ".join(words)


def dirtied(source: str, texts: list[str], seed: int) -> list[tuple[str, int | None]]:
    """The texts, shuffled, with what cleaning has to find; each with the index of the text it comes from."""
    rng = random.Random(f"{seed}:dirt:{source}")
    made: list[tuple[str, int | None]] = [(text, index) for index, text in enumerate(texts)]
    made += [(texts[i], i) for i in rng.sample(range(len(texts)), round(DUPLICATES * len(texts)))]
    # A change in a long text is a near duplicate; in a short one it would be another text.
    long_enough = [index for index, text in enumerate(texts) if len(text) >= 250]
    changed = rng.sample(long_enough, min(len(long_enough), round(NEAR_DUPLICATES * len(texts))))
    made += [(near_duplicate(texts[i], rng), i) for i in changed]
    made += [(text, None) for text in SHORT]
    if source != "spanish":
        made += [(text, None) for text in contaminated(source, seed)]
    rng.shuffle(made)
    return made
