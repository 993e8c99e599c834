"""Artefacts of an invented run, from raw text to merged chat model, for the tests of the report."""

import json
import math
import random
from pathlib import Path
from typing import Any

from smolmake.files import write_json
from smolmake.graph.stages import recipe_stages
from smolmake.recipe.schema import Recipe
from smolmake.report.artifacts import GraphData, GraphNode, ReportArtefact
from smolmake.stats import wilson

SOURCES = {
    "python-code": ("code", "python", "MIT and Apache-2.0", 0.55),
    "english": ("web", "en", "ODC-BY 1.0", 0.9),
    "mathematics": ("math", "en", "CC-BY-SA 4.0", 0.6),
    "spanish": ("web", "es", "ODC-BY 1.0", 1.1),
    "german": ("web", "de", "ODC-BY 1.0", 1.2),
    "notebooks": ("code", "python", "Apache-2.0", 0.7),
    "word-problems": ("math", "en", "MIT", 0.5),
}
# Names that a rule such as "stage and a number" would not find, or would put in another order.
MIXTURES = {
    "main": (0.16, 0.46, 0.08, 0.12, 0.12, 0.04, 0.02),
    "stage10": (0.20, 0.36, 0.14, 0.10, 0.10, 0.06, 0.04),
    "stage2": (0.24, 0.26, 0.18, 0.08, 0.08, 0.08, 0.08),
    "longer": (0.24, 0.26, 0.18, 0.08, 0.08, 0.08, 0.08),
    "lc2": (0.24, 0.26, 0.18, 0.08, 0.08, 0.08, 0.08),
}
LENGTHS = {"longer": 1024, "lc2": 2048}  # of the extensions
SEGMENTS = {
    "main": [(0, 150), (150, 300)],
    "stage10": [(300, 350), (350, 400)],
    "stage2": [(400, 430), (430, 460)],
    "longer": [(0, 30), (30, 60)],
    "lc2": [(0, 30), (30, 60)],
}
FAST_ENCODER = {"encoder": "tokenizers 1.0.0-rc.3", "slow_because": "", "parts": 2}
SLOW_ENCODER = {"encoder": "tokenizers 0.23.3", "slow_because": "it gives other ids on 'xyzzy'", "parts": 2}
TASKS = {
    "facts": ("acc", 0.25, "CF"),
    "arithmetic": ("acc", 0.0, "FG"),
    "needle_short": ("acc", 0.0, "FG"),
    "needle_medium": ("acc", 0.0, "FG"),
    "needle_long": ("acc", 0.0, "FG"),
    "word_problems": ("acc", 0.25, "MCF"),
}
SCHEDULE = {"lr": 1e-3}
TRAINING = {"learning_rate": 1e-4, "global_batch_size": 8, "max_length": 256}
SUPERVISED = TRAINING | {"loss": "all", "chat_template": "chatml.jinja", "data": {"chats": {"path": "chats.jsonl"}}}
EXPECTATIONS = {
    "cleaning": {
        "copies": {"text": "Copies are found", "source": "english", "reason": "exact_duplicate", "at_least": 30},
    },
    "losses": {"main": {"text": "The training loss falls in main", "stage": "main"}},
    "heldout": {
        "stage10": {"text": "The held-out loss falls in stage10", "at": "stage10", "below": "main"},
        "math": {"text": "stage2 has more mathematics", "at": "stage2", "below": "stage10", "domain": "math"},
    },
    "scores": {
        "facts": {"text": "Facts above chance", "at": "stage2", "task": "facts", "above": "chance"},
        "needle": {"text": "The long needle is found", "at": "lc2", "task": "needle_long", "above": "stage2"},
        "chat": {"text": "SFT teaches the format", "at": "sft", "task": "chat", "metric": "format", "above": "mid"},
        "lost": {"text": "What nobody measured", "at": "merged", "task": "nothing", "not_below": "apo"},
    },
}
EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\""


class Maker:
    """Writes artefacts below `root` and keeps the list of them and of the graph's nodes."""

    def __init__(self, root: Path) -> None:
        self.root, self.random = root, random.Random(7)
        self.stages = recipe_stages(make_recipe())
        self.artefacts: list[ReportArtefact] = []
        self.nodes: list[GraphNode] = []
        self.edges: list[tuple[str, str]] = []

    def add(
        self,
        kind: str,
        name: str,
        stage: str,
        needs: list[str],
        files: dict[str, Any],
        seconds: float,
        checkpoint: str = "",
        facts: dict[str, Any] | None = None,
        about: dict[str, Any] | None = None,
    ) -> str:
        id_ = f"{len(self.nodes):02x}" + "3f9c0a12"
        path = self.root / kind / f"{name}-{id_}"
        path.mkdir(parents=True)
        for file, content in files.items():
            if isinstance(content, str):
                (path / file).write_text(content, encoding="utf-8")
            else:
                write_json(path / file, content)  # as steps do: it sorts keys
        manifest = {"kind": kind, "name": name, "id": id_, "inputs": {}, "payload": {}, "facts": facts or {}}
        (path / "manifest.json").write_text(json.dumps(manifest))
        (path / "provenance.json").write_text(json.dumps({"seconds": seconds} | (about or {})))
        order = len(self.artefacts)
        self.artefacts.append(ReportArtefact(kind, name, path, order, self.stages[stage], checkpoint))
        key = f"{kind}/{name}"
        self.nodes.append(GraphNode(key, kind, self.stages[stage], "done", seconds))
        self.edges += [(n, key) for n in needs]
        return key

    def metrics(self, first: int, last: int, batch: int, level: float, rate: float, speed: float, total: int) -> str:
        lines = []
        for step in range(first, last):
            loss = level + 4.9 * math.exp(-step / 42) + 0.5 * math.exp(-step / 260) + self.random.gauss(0, 0.05)
            warm, left = min(1.0, step / 20), min(1.0, (total - step) / (0.3 * total))
            lines.append(
                json.dumps(
                    {
                        "step": step,
                        "tokens": (step + 1) * batch,
                        "loss": round(loss, 4),
                        "learning_rate": rate * warm * max(left, 0.02),
                        "grad_norm": 0.9,
                        "tokens_per_second": speed * self.random.uniform(0.93, 1.05),
                        "seconds": 0.4,
                    }
                )
            )
        return "\n".join(lines) + "\n"


def make_recipe() -> Recipe:
    """The recipe of the run."""
    sources = {
        name: {"path": f"{name}.jsonl", "domain": domain, "language": language, "licence": licence}
        for name, (domain, language, licence, _) in SOURCES.items()
    }
    stages = {
        name: {
            "name": name,
            "steps": sum(last - first for first, last in SEGMENTS[name]),
            "mixture": dict(zip(SOURCES, weights, strict=True)),
        }
        for name, weights in MIXTURES.items()
    }
    extensions = [
        stages[name] | {"sequence_length": length, "global_batch_size": 4, "rope_theta": 1e5, "schedule": SCHEDULE}
        for name, length in LENGTHS.items()
    ]
    return Recipe.model_validate(
        {
            "name": "toy",
            "title": "A <title>",
            "description": "What it is.",
            "sources": sources,
            "pretraining": {
                "sequence_length": 256,
                "global_batch_size": 16,
                "segment_steps": 150,
                "schedule": SCHEDULE,
                "stages": [stage for name, stage in stages.items() if name not in LENGTHS],
            },
            "long_context": extensions,
            "mid_training": SUPERVISED,
            "sft": SUPERVISED,
            "apo": TRAINING | {"data": {"pairs": {"path": "pairs.jsonl"}}},
            "merge": {"weights": {"apo": 0.9, "mid": 0.1}},
            "expectations": EXPECTATIONS,
        }
    )


def make_data(maker: Maker) -> list[str]:
    """Documents, tokenizers, shards; returns the keys of the shards."""
    raw = maker.add("generated", "toy", "data", [], {}, 1.2)
    documents, cells = [], []
    for k, (name, (domain, language, _, fertility)) in enumerate(SOURCES.items()):
        read = 900 + 160 * k
        dropped = {
            "too_short": 20 + k,
            "too_long": k % 3,
            "exact_duplicate": 31 + 3 * k,
            "near_duplicate": 18 + 2 * k,
            "contaminated": 5 if domain == "math" else 0,
        }
        examples = [
            {
                "reason": "near_duplicate",
                "text": f"A second copy of a text of {name}, changed a little. " * 3,
            },
            {"reason": "contaminated", "text": f"Ana has 3 apples and buys 4. {EVIL}"},
        ]
        overlap = {
            task: {
                "items": 120,
                "items_found": 4 if domain == "math" else 0,
                "documents_dropped": 5 if domain == "math" else 0,
            }
            for task in ("word_problems", "facts")
        }
        documents.append(
            maker.add(
                "documents",
                name,
                "data",
                [raw],
                {
                    "cleaning.json": {
                        "read": read,
                        "kept": read - 24 - sum(dropped.values()),
                        "heldout": 24,
                        "bytes": 1_500_000,
                        "dropped": dropped,
                        "examples": examples,
                        "overlap": overlap,
                    }
                },
                2.5 + k,
            )
        )
        for size, factor in (("bpe-1024", 1.25), ("bpe-2048", 1.0), ("bpe-4096", 0.9)):
            cells.append(
                {
                    "tokenizer": size,
                    "source": name,
                    "language": language,
                    "domain": domain,
                    "documents": 50,
                    "words": 9000,
                    "tokens": round(9000 * (0.9 + fertility) * factor),
                    "bytes": 52000,
                    "fertility": (0.9 + fertility) * factor,
                    "continued_words": 0.32 * fertility * factor,
                    "bytes_per_token": 3.9 / factor,
                }
            )
    tokenizers = [
        maker.add("tokenizer", name, "tokenizer", documents, {}, 4.0) for name in ("bpe-1024", "bpe-2048", "bpe-4096")
    ]
    maker.add(
        "tokenizer_comparison",
        "analysis",
        "tokenizer",
        documents + tokenizers,
        {"analysis.json": {"chosen": "bpe-2048", "rows": cells}},
        3.3,
    )
    return [
        maker.add(
            "shards",
            name,
            "data",
            [document, tokenizers[1]],
            {},
            1.9,
            facts={"tokens": 380_000 + 41_000 * k, "documents": 900},
            about={"encoders": [SLOW_ENCODER if name == "german" else FAST_ENCODER]},
        )
        for k, (name, document) in enumerate(zip(SOURCES, documents, strict=True))
    ]


def make_pretraining(maker: Maker, shards: list[str]) -> list[tuple[str, str, int]]:
    """Mixtures and segments; returns (key, name, tokens) of the segments."""
    drawn = dict.fromkeys(SOURCES, 0.0)
    trunk: list[tuple[str, str, int]] = []
    for k, (stage, weights) in enumerate(MIXTURES.items()):
        length = LENGTHS.get(stage, 256)
        steps = sum(b - a for a, b in SEGMENTS[stage])
        sequences = steps * 4096 // length
        entries = {}
        for (name, (domain, language, _, _)), weight in zip(SOURCES.items(), weights, strict=True):
            before = drawn[name]
            drawn[name] += weight * steps * 4096 / (95_000 if name != "english" else 260_000)
            entries[name] = {
                "asked": weight,
                "share": weight,
                "first": 0,
                "drawn": round(weight * sequences),
                "available": 1500,
                "epochs_before": before,
                "epochs_after": drawn[name],
                "max_epochs": 4.0,
                "domain": domain,
                "language": language,
            }
        mixture = maker.add(
            "mixture",
            stage,
            stage,
            shards,
            {
                "mixture.json": {
                    "stage": stage,
                    "sequence_length": length,
                    "sequences": sequences,
                    "period": 8192,
                    "sources": entries,
                }
            },
            0.4,
        )
        for first, last in SEGMENTS[stage]:
            total = 60 if stage in LENGTHS else 460
            level = 2.35 - 0.16 * k - (0.9 if stage in LENGTHS else 0)
            file = maker.metrics(
                first + (400 if stage in LENGTHS else 0),
                last + (400 if stage in LENGTHS else 0),
                4096,
                level + 0.3,
                3e-3,
                11800 - 900 * k,
                total,
            )
            if stage in LENGTHS:
                file = shift(file, 400, 4096, total)
            name = f"{stage}-{first}-{last}"
            key = maker.add(
                "segment",
                name,
                stage,
                [mixture] + [t[0] for t in trunk[-1:]],
                {"metrics.jsonl": file},
                41.0 + 6 * k,
                facts={"parameters": 1_843_200},
            )
            trunk.append((key, name, last * 4096))
    return trunk


def shift(file: str, steps: int, batch: int, total: int) -> str:
    """Lets the lines of an extension count from the start of its own run."""
    lines = []
    for text in file.splitlines():
        line = json.loads(text)
        line["step"] -= steps
        line["tokens"] -= steps * batch
        line["learning_rate"] = 5e-4 * max(0.0, 1 - line["step"] / total)
        lines.append(json.dumps(line))
    return "\n".join(lines) + "\n"


def scores_at(maker: Maker, order: int, stage: str) -> list[dict[str, Any]]:
    """Scores that grow with training, with the noise of their sample size."""
    chat = {"mid": 0.35, "sft": 0.93, "apo": 0.95, "merge": 0.94}.get(stage)
    long = {"longer": 0.35, "lc2": 0.7, "mid": 0.6, "sft": 0.45, "apo": 0.42, "merge": 0.63}.get(stage, 0.04)
    reach = {
        "needle_short": 0.3 + 0.05 * order,
        "needle_medium": 0.75 if stage not in MIXTURES or stage in LENGTHS else 0.1,
        "needle_long": long,
        "facts": 0.26 + 0.03 * order,
        "arithmetic": 0.04 * order,
        "word_problems": 0.24 + 0.012 * order,
    }
    wanted = [(task, *TASKS[task], min(value, 0.97)) for task, value in reach.items()]
    if chat is not None:
        wanted += [
            ("chat", "format", 0.0, "FG", chat),
            ("chat", "switch", 0.0, "FG", 0.9 * chat),
            ("chat", "answer", 0.0, "FG", 0.4 * chat),
            ("preferences", "acc", 0.5, "CF", {"apo": 0.81, "merge": 0.77}.get(stage, 0.54)),
        ]
    rows = []
    for task, metric, chance, formulation, value in wanted:
        n = 240 if task in ("facts", "arithmetic") else 120
        value = round(min(1.0, max(0.0, value + maker.random.gauss(0, 0.02))) * n) / n
        low, high = wilson(value * n, n)
        rows.append(
            {
                "task": task,
                "metric": metric,
                "value": value,
                "low": low,
                "high": high,
                "n": n,
                "chance": chance,
                "formulation": formulation,
            }
        )
    return rows


def make_evaluation(maker: Maker, key: str, name: str, order: int, stage: str, tokens: int, checkpoint: str) -> str:
    heldout = []
    for source, (domain, language, _, base) in SOURCES.items():
        bits = 1.0 + 0.5 * base + 1.6 * math.exp(-order / 2.4) + (0.04 * (order - 9) if order > 9 else 0)
        heldout.append(
            {
                "source": source,
                "domain": domain,
                "language": language,
                "documents": 40,
                "tokens": 9000,
                "loss": 2.1 * bits,
                "bits_per_byte": bits,
                "low": bits - 0.05,
                "high": bits + 0.05,
            }
        )
    samples = [{"kind": "continuation", "mode": "", "prompt": "The capital of Spain is", "text": " Madrid. " * 3}]
    if stage in ("sft", "apo", "merge"):
        samples.append(
            {
                "kind": "chat",
                "mode": "think",
                "prompt": "What is 3 + 4?",
                "text": "<think>\n3 + 4 = 7\n</think>\nThe answer is 7." + (EVIL if stage == "sft" else ""),
            }
        )
    return maker.add(
        "evaluation",
        name,
        stage,
        [key],
        {
            "scores.json": {
                "checkpoint": name,
                "tokens": tokens,
                "scores": scores_at(maker, order, stage),
                "heldout": heldout,
            },
            "samples.json": {"checkpoint": name, "samples": samples},
        },
        12.0,
        checkpoint,
    )


def make_run(root: Path) -> tuple[list[ReportArtefact], GraphData, Recipe]:
    """The whole run: artefacts below `root`, graph and recipe."""
    maker = Maker(root)
    trunk = make_pretraining(maker, make_data(maker))
    checkpoints = []
    for key, name, tokens in trunk:
        stage, _, last = name.split("-")
        checkpoints.append((key, name, stage, tokens, stage if int(last) == SEGMENTS[stage][-1][1] else ""))
    pairs = maker.add("preferences", "pairs", "apo", ["generated/toy"], {}, 0.8)
    key = trunk[-1][0]
    for name, needs, level in (("mid", [], 1.2), ("sft", [], 0.9), ("apo", [pairs], 0.1)):
        file = shift(maker.metrics(60, 160, 2048, level - 0.2, 1e-4, 6000, 200), 60, 2048, 100)
        kind = "alignment" if name == "apo" else "posttraining"
        key = maker.add(kind, name, name, [key, *needs], {"metrics.jsonl": file}, 30.0)
        checkpoints.append((key, name, name, 0, name))
    key = maker.add("merge", "merged", "merge", [key, "posttraining/mid"], {}, 2.0)
    checkpoints.append((key, "merged", "merge", 0, "merged"))
    evaluations = [
        make_evaluation(maker, key, name, order, stage, tokens, checkpoint)
        for order, (key, name, stage, tokens, checkpoint) in enumerate(checkpoints)
    ]
    maker.nodes.append(GraphNode("report", "report", maker.stages["report"], "missing"))
    maker.edges += [(e, "report") for e in [*evaluations, "tokenizer_comparison/comparison"]]
    return maker.artefacts, GraphData(maker.nodes, maker.edges), make_recipe()
