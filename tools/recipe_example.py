"""The example of docs/reference/recipe.md: a recipe that sets every key, each with its meaning as a comment.

It shows every section, also those that no recipe has together (`base` beside `model`).
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from smolmake.recipe.schema import Recipe

# What has no default, and enough of the rest that every section stands in the example once.
EXAMPLE: dict[str, Any] = {
    "name": "example",
    "title": "An example",
    "description": "Every key of a recipe.",
    "base": {"adopt": {"path": "models/base", "digest": "0" * 64}},
    "generated": {"crawl": {"script": "my-crawler/crawl.py", "arguments": {"pages": 100}}},
    "sources": {"notes": {"path": "data/notes/*.jsonl", "shards": {"path": "shards/notes", "digest": "0" * 64}}},
    "cleaning": {"near_duplicates": {}},
    "tokenizer": {"vocab_size": 8192, "compare_sizes": [4096], "compare_with": {"theirs": {"path": "models/theirs"}}},
    "model": {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    },
    "pretraining": {
        "sequence_length": 512,
        "global_batch_size": 32,
        "segment_steps": 500,
        "schedule": {
            "lr": 1e-3,
            "warmup_steps": 100,
            "decay_steps": 300,
            "min_lr": 1e-4,
            "tail": [{"steps": 100, "lr": 1e-4}],
        },
        "batch_warmup": [{"steps": 50, "global_batch_size": 16}],
        "guard": {"roll_back": {}},
        "stages": [{"name": "stage1", "steps": 2000, "mixture": {"notes": 1.0}}],
    },
    "long_context": [
        {
            "name": "lc1",
            "steps": 100,
            "mixture": {"notes": 1.0},
            "sequence_length": 2048,
            "global_batch_size": 8,
            "rope_theta": 200_000.0,
            "schedule": {"lr": 2e-4, "warmup_steps": 10, "decay_shape": "cosine"},
        }
    ],
    "mid_training": {
        "data": {"reasoning": {"path": "data/reasoning.jsonl"}},
        "loss": "all",
        "chat_template": "chatml.jinja",
        "learning_rate": 2e-4,
        "global_batch_size": 32,
        "max_length": 2048,
    },
    "sft": {
        "data": {"chats": {"path": "data/chats.parquet"}},
        "loss": "assistant",
        "chat_template": "smollm3-short.jinja",
        "learning_rate": 2e-4,
        "global_batch_size": 32,
        "max_length": 2048,
    },
    "preferences": {"prompts": {"path": "data/prompts.jsonl"}},
    "apo": {
        "data": {"written": {"path": "data/pairs.parquet"}},
        "learning_rate": 1e-5,
        "global_batch_size": 32,
        "max_length": 2048,
    },
    "merge": {"weights": {"apo": 0.9, "lc1": 0.1}},
    "evaluation": {
        "tasks": "my-tasks",
        "data": {"path": "data/tasks"},
        "suites": {
            "reading": {"tasks": ["hellaswag"], "shots": 0},
            "mine": {"questions": {"path": "data/questions.jsonl", "ask": ["cf", "mcf"]}},
            "long": {"ruler": {"text": "data/novels/*.txt"}, "lengths": ["4k"], "on": "stage_ends"},
        },
        "models": {"theirs": {"hub": "owner/model", "revision": "COMMIT"}},
        "published": {
            "model-card": {
                "source": "the model card, July 2025",
                "at": "theirs",
                "scores": [{"suite": "reading", "task": "hellaswag", "metric": "acc_norm", "value": 51.5}],
            }
        },
    },
    "expectations": {
        "cleaning": {
            "duplicates": {
                "text": "Cleaning finds the ten copies that the notes are known to hold",
                "source": "notes",
                "reason": "exact_duplicate",
                "at_least": 10,
            }
        },
        "losses": {"stage1": {"text": "The training loss falls in stage1", "stage": "stage1"}},
        "heldout": {"notes": {"text": "Long context keeps the notes", "at": "lc1", "not_above": "stage1"}},
        "scores": {
            "reading": {
                "text": "HellaSwag above chance after stage1",
                "at": "stage1",
                "task": "hellaswag",
                "suite": "reading",
                "metric": "acc",
                "above": "chance",
            }
        },
    },
    "runtime": {
        "scratch": "$TMPDIR",
        "layouts": {"pretraining": {"nodes": 2, "gpus_per_node": 8}},
        "upload": {"url": "s3://bucket/runs"},
        "alerts": {"webhook_env": "SMOLMAKE_WEBHOOK"},
    },
    "cost": {"budget": {"lines": {"main": {"gpus": 16, "days": 3.0}}}},
}


def commented_example() -> str:
    """The example as YAML with comments."""
    return "".join(f"{line}\n" for line in _section(Recipe.model_validate(EXAMPLE), ""))


def _section(section: BaseModel, indent: str) -> list[str]:
    lines = []
    for key, field in type(section).model_fields.items():
        lines += _entry(key, getattr(section, key), indent, f"  # {field.description}")
    return lines


def _entry(key: str, value: Any, indent: str, comment: str = "") -> list[str]:
    """One key: sections, and mappings and lists of them, take lines of their own; all else stands in the line."""
    head, inner = f"{indent}{key}:{comment}", indent + "  "
    if isinstance(value, BaseModel):
        return [head, *_section(value, inner)]
    if isinstance(value, dict) and any(isinstance(item, BaseModel) for item in value.values()):
        return [head, *(line for name, item in value.items() for line in _entry(name, item, inner))]
    if isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
        lines = [head]
        for item in value:
            first, *others = _section(item, inner + "  ")
            lines += [f"{inner}- {first.strip()}", *others]
        return lines
    return [f"{indent}{key}: {scalar(value)}{comment}"]


def scalar(value: Any) -> str:
    """A value in YAML's flow style, which JSON is a part of; numbers are written as a recipe reads them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and value.replace("-", "").replace(" ", "").isalnum() and value[0].isalpha():
        return value
    return json.dumps(value, ensure_ascii=False)
