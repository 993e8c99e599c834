"""The files of a user's that the recipe tests/pipeline/edits.yaml reads: small, of every kind, alike each time."""

import json
import random
from pathlib import Path
from typing import Any

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "")]
PROGRAM = '''\
"""Rows of some words."""

import argparse
import json
import random
from pathlib import Path

from shape import LENGTH

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path)
parser.add_argument("--rows", type=int)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
rng = random.Random(arguments.seed)
words = Path(__file__).with_name("words.txt").read_text().split()
rows = [{"text": " ".join(rng.choices(words, k=LENGTH))} for _ in range(arguments.rows)]
(arguments.output / "rows.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
'''
TASK = """\
task: NAME
dataset_path: json
dataset_kwargs:
  data_files:
    test: "{data}/NAME.jsonl"
output_type: multiple_choice
test_split: test
doc_to_text: "{{query}}"
doc_to_target: gold
doc_to_choice: choices
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_data(tree: Path) -> None:
    """Sources, a program, chats, prompts, tasks and their questions."""
    rng = random.Random(5)

    def text(words: int) -> str:
        return " ".join(rng.choices(WORDS, k=words))

    for number in range(3):
        write_rows(tree / "texts/notes" / f"part-{number}.jsonl", [{"text": text(40)} for _ in range(20)])
    (tree / "texts/pages").mkdir(parents=True)
    for number in range(30):
        (tree / "texts/pages" / f"page-{number}.txt").write_text(f"{text(30)}\n\n{text(30)}\n")
    (tree / "program").mkdir()
    (tree / "program/make.py").write_text(PROGRAM)
    (tree / "program/shape.py").write_text("LENGTH = 40  # words\n")
    (tree / "program/words.txt").write_text(" ".join(WORDS) + "\n")
    chats = []
    for number in range(24):
        answer = {"role": "assistant", "content": f"It is {number + 2}."}
        chats.append({"messages": [{"role": "user", "content": f"What is {number} + 2?"}, answer]})
    write_rows(tree / "chats.jsonl", chats)
    write_rows(tree / "prompts.jsonl", [{"prompt": f"What is {number} + 3?"} for number in range(12)])
    (tree / "tasks").mkdir()
    for name in ("facts", "sums"):
        (tree / "tasks" / f"{name}.yaml").write_text(TASK.replace("NAME", name))
        questions = [{"query": text(8), "choices": [text(1), text(1)], "gold": at % 2} for at in range(8)]
        write_rows(tree / "questions" / f"{name}.jsonl", questions)
