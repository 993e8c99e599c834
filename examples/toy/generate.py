"""Write the toy's sources and evaluation data: small real files, which are then read like a user's own.

    python examples/toy/generate.py --output FOLDER --seed 0 --packages numpy pydantic

Everything is a function of the seed, the Python installation and the packages named (code and English prose come from
them).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from generators import arithmetic, chats, harvest, notebooks, world
from generators.dirt import dirtied
from generators.tables import Row, write_table

CODE_CHARACTERS = ENGLISH_CHARACTERS = NOTEBOOK_CHARACTERS = 1_450_000
MATHEMATICS_CHARACTERS = 950_000
WORLD_CHARACTERS = 770_000  # of each language


def write_files(out: Path, seed: int, packages: Sequence[str] = ()) -> dict[str, int]:
    """Write the sources to `out` and the evaluation data to `out/tasks`; returns rows by file name.

    English prose is taken from Python and from the descriptions of the installed `packages`.
    """
    files = {**_sources(seed, list(packages)), **_chat_files(seed), **_tasks(seed)}
    return {name: write_table(out / name, rows) for name, rows in files.items()}


def _sources(seed: int, packages: list[str]) -> dict[str, list[Row]]:
    prose = harvest.english(seed, ENGLISH_CHARACTERS, packages)
    english = [
        {
            "text": text,
            "id": f"english-{number}",
            "origin": "other" if index is None else prose[index]["origin"],
        }
        for number, (text, index) in enumerate(dirtied("english", [row["text"] for row in prose], seed))
    ]
    mathematics = dirtied("mathematics", arithmetic.mathematics(seed, MATHEMATICS_CHARACTERS), seed)
    spanish = dirtied("spanish", world.documents("es", seed, WORLD_CHARACTERS), seed)
    german = world.documents("de", seed, WORLD_CHARACTERS)
    return {
        "code.parquet": harvest.code(seed, CODE_CHARACTERS),
        "english.jsonl": english,
        "mathematics.parquet": [{"text": text} for text, _ in mathematics],
        "spanish.jsonl": [{"text": text, "id": f"es-{n}"} for n, (text, _) in enumerate(spanish)],
        "german.parquet": [{"text": text, "id": f"de-{n}"} for n, text in enumerate(german)],
        "notebooks.jsonl": [{"text": text} for text in notebooks.notebooks(seed, NOTEBOOK_CHARACTERS)],
    }


def _chat_files(seed: int) -> dict[str, list[Row]]:
    return {
        "reasoning.jsonl": chats.reasoning(seed, 1_500),
        "conversations.parquet": chats.conversations(seed, 2_000),
        "preferences.parquet": chats.preferences(seed, 450),
        "preference_prompts.jsonl": chats.preference_prompts(seed, 240),
    }


def _tasks(seed: int) -> dict[str, list[Row]]:
    tasks = {
        "facts": world.tasks(seed),
        **arithmetic.tasks(seed),
        **notebooks.tasks(seed),
        "chat": chats.chat_tasks(seed),
        "preferences": chats.preference_tasks(seed),
    }
    return {f"tasks/{name}.jsonl": rows for name, rows in tasks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--packages", nargs="*", default=[], help="packages whose descriptions are read")
    arguments = parser.parse_args()
    for name, rows in write_files(arguments.output, arguments.seed, arguments.packages).items():
        print(f"{name}: {rows} rows")


if __name__ == "__main__":
    main()
