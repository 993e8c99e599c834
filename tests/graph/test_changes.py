"""The table of changes: for each, exactly the steps that would run again, and the reason that the plan gives.

Recipes are changed as a user would, by editing the file; the results on disk are a finished run of the mini recipe, and
for SmolLM3 written down as finished.
"""

import json
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from helpers.changes import (
    EVALUATIONS,
    FROM_APO,
    FROM_CLEANING,
    FROM_LC1,
    FROM_LC2,
    FROM_MID,
    FROM_SFT,
    FROM_STAGE1,
    FROM_STAGE2,
    FROM_STAGE3,
    FROM_TOKENIZER,
    NOTHING,
)
from helpers.fake_results import pretend_done
from helpers.workflow_runs import MINI, ROOT, copy_tree

from smolmake.planning.plan import Plan, make_plan
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import load_workflow
from smolmake.recipe.load import read_with_overlays

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]
Values = dict[str, Any]
Change = Callable[[Values], None]


def put(key: str, value: Any) -> Change:
    """Set the value at a dotted key; numbers are places in lists."""

    def change(values: Values) -> None:
        *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        inner: Any = values
        for part in path:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else inner[part]
        assert isinstance(inner, list) or inner.get(last) != value
        inner[last] = value

    return change


def rename(old: str, new: str) -> Change:
    """Call something otherwise, wherever the recipe names it."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {new if key == old else key: renamed(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [renamed(inner) for inner in value]
        return new if value == old else value

    def change(values: Values) -> None:
        values |= renamed(values)
        values.pop(old, None)

    return change


def reorder(values: Values) -> None:
    for key in list(values)[::-1]:
        values[key] = values.pop(key)


# name: change, the steps that run again, what the plan says
CASES: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "nothing": (lambda values: None, NOTHING, ""),
    "key order": (reorder, NOTHING, ""),
    "title": (put("title", "Another"), ("report/*",), "title The toy in a few steps → Another"),
    "another name of the recipe": (put("name", "other"), ("report/*",), "name mini → other"),
    "another name of a stage": (
        rename("stage2", "second"), ("epochs/*", "report/*"), "pretraining.stages.stage2 is called second now"
    ),
    "another name of an extension": (
        rename("lc1", "longer"), ("epochs/*", "report/*"), "long_context.lc1 is called longer now"
    ),
    "a library that counts": (
        put("library_versions", {"merge": ["torch"]}), ("merge/*", "evaluation/merged", "report/*"),
        "library_versions.merge nothing → ['torch']",
    ),
    "an expectation": (
        put("expectations.losses.decay", {"stage": "stage3", "by": 0.1, "text": "It falls."}), ("report/*",),
        "expectations.losses.decay.by nothing → 0.1",
    ),
    "weight in stage 1": (
        put("pretraining.stages.0.mixture.code", 0.25), ("mixture/stage*", "epochs/*", *FROM_STAGE1),
        "pretraining.stages.stage1.mixture.code 0.2 → 0.25",
    ),
    "weight in stage 2": (
        put("pretraining.stages.1.mixture.english", 0.4), ("mixture/stage[23]", "epochs/*", *FROM_STAGE2),
        "pretraining.stages.stage2.mixture.english 0.3 → 0.4",
    ),
    "weight in stage 3": (
        put("pretraining.stages.2.mixture.notebooks", 0.5), ("mixture/stage3", "epochs/*", *FROM_STAGE3),
        "pretraining.stages.stage3.mixture.notebooks 0.4 → 0.5",
    ),
    "weight in the first extension": (
        put("long_context.0.mixture.code", 0.5), ("mixture/lc1", "epochs/*", *FROM_LC1),
        "long_context.lc1.mixture.code nothing → 0.5",
    ),
    "weight in the second extension": (
        put("long_context.1.mixture.code", 0.4), ("mixture/lc2", "epochs/*", *FROM_LC2),
        "long_context.lc2.mixture.code 0.3 → 0.4",
    ),
    "filter threshold": (
        put("cleaning.min_characters", 130), FROM_CLEANING, "cleaning.min_characters 120 → 130"
    ),
    "tokenizer": (
        put("tokenizer.vocab_size", 640), ("tokenizer/bpe-640", *FROM_TOKENIZER), "tokenizer.vocab_size 600 → 640"
    ),
    "a rival tokenizer": (
        put("tokenizer.compare_sizes", [420]), ("tokenizer/bpe-420", "tokenizer_comparison/*", "report/*"),
        "tokenizer.compare_sizes [400] → [420]"
    ),
    "items of each task": (put("evaluation.limit", 9), EVALUATIONS, "evaluation.limit 8 → 9"),
    "prompts of the samples": (
        put("evaluation.prompts", ["A "]), EVALUATIONS, "evaluation.prompts ['The '] → ['A ']"
    ),
    "held-out documents": (
        put("evaluation.heldout_documents", 4), ("heldout/*", *EVALUATIONS), "evaluation.heldout_documents 3 → 4"
    ),
    "seed": (put("seed", 1), ("mixture/*", "epochs/*", *FROM_STAGE1), "seed 0 → 1"),
    "a longer stable phase": (
        put("pretraining.stages.0.steps", 24),
        ("mixture/stage[23]", "epochs/*", "segment/stage1-16-24", "evaluation/stage1-16-24", *FROM_STAGE2),
        "pretraining.stages.stage1.steps 16 → 24",
    ),
    "decay start": (
        put("pretraining.schedule.decay_steps", 4), FROM_STAGE3, "pretraining.schedule.decay_steps 3 → 4"
    ),
    "decay shape": (
        put("pretraining.schedule.decay_shape", "cosine"), FROM_STAGE3,
        "pretraining.schedule.decay_shape linear → cosine",
    ),
    "peak": (put("pretraining.schedule.lr", 2e-3), FROM_STAGE1, "pretraining.schedule.lr 0.001 → 0.002"),
    "optimizer": (
        put("pretraining.optimizer.beta2", 0.98), FROM_STAGE1, "pretraining.optimizer.beta2 0.95 → 0.98"
    ),
    "width": (put("model.intermediate_size", 72), FROM_STAGE1, "model.intermediate_size 64 → 72"),
    "theta of the first extension": (
        put("long_context.0.rope_theta", 60000), FROM_LC1, "long_context.lc1.rope_theta 50000 → 60000"
    ),
    "theta of the second extension": (
        put("long_context.1.rope_theta", 300000), FROM_LC2, "long_context.lc2.rope_theta 200000 → 300000"
    ),
    "mid-training's rate": (
        put("mid_training.learning_rate", 5e-4), FROM_MID, "mid_training.learning_rate 0.001 → 0.0005"
    ),
    "SFT's rate": (put("sft.learning_rate", 5e-4), FROM_SFT, "sft.learning_rate 0.001 → 0.0005"),
    "SFT's packing": (put("sft.packing", "bfd"), FROM_SFT, "sft.packing none → bfd"),
    "the pairs' temperature": (
        put("preferences.temperature", 0.9), ("preferences/*", *FROM_APO), "preferences.temperature 0.7 → 0.9"
    ),
    "APO's beta": (put("apo.beta", 0.2), FROM_APO, "apo.beta 0.1 → 0.2"),
    "a soup": (
        put("apo.soup", 2),
        # The first of its runs is the one that was there, and so is its evaluation.
        ("alignment/apo-2", "merge/*", "evaluation/apo", "evaluation/apo-2", "evaluation/merged", "report/*"),
        "apo.soup 1 → 2",
    ),
    "merge": (
        put("merge.weights.mid", 0.2), ("merge/*", "evaluation/merged", "report/*"), "merge.weights.mid 0.1 → 0.2"
    ),
    "repeat cap": (put("sources.code.max_epochs", 5), ("epochs/*", "report/*"), "sources.code.max_epochs 4 → 5"),
    "licence": (put("sources.code.licence", "MIT"), ("report/*",), "sources.code.licence PSF-2.0 → MIT"),
    "known tokens": (put("sources.code.tokens", 1000), ("report/*",), "sources.code.tokens nothing → 1000"),
    "micro-batch": (put("runtime.micro_batch", 2), NOTHING, ""),
    "threads": (put("runtime.threads", 2), NOTHING, ""),
    "device": (put("runtime.device", "cpu"), NOTHING, ""),
    "recovery": (put("runtime.recovery_every", "7min"), NOTHING, ""),
    "nodes": (put("runtime.layouts", {"pretraining": {"nodes": 2, "gpus_per_node": 0}}), NOTHING, ""),
    "price and budget": (
        put("cost", {"price_per_gpu_hour": 9.0, "budget": {"gpu_hours": 5}}), ("report/*",),
        "cost.price_per_gpu_hour nothing → 9",
    ),
    "milestones": (
        put("pretraining.milestone_steps", 4),
        ("segment/stage1-0-8", "segment/stage1-8-16", "evaluation/stage1-at-4", "evaluation/stage1-at-12", "report/*"),
        "milestones that were not kept when their segments were trained",
    ),
    "a suite": (
        put("evaluation.suites", {"reading": {"tasks": ["hellaswag"], "on": "stage_ends"}}),
        ("suite_items/filtered", "suite/*", *FROM_CLEANING), "evaluation.suites.reading.tasks nothing → ['hellaswag']",
    ),
    "a suite that is measured": (
        put("evaluation.suites.reading", {"tasks": ["hellaswag"], "on": "stage_ends", "decontamination": "measure"}),
        ("suite_items/measured", "overlap/*", "suite/*", "report/*"),
        "evaluation.suites.reading.tasks nothing → ['hellaswag']",
    ),
    "a suite that is made to a length": (
        put("evaluation.suites", {"far": {"tasks": ["niah_single_1"], "lengths": [512], "on": "stage_ends"}}),
        ("suite/*", "report/*"), "evaluation.suites.far.tasks nothing → ['niah_single_1']",
    ),
}  # fmt: skip

SMOLLM3: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "nothing": (lambda values: None, NOTHING, ""),
    "finemath-4plus in stage 2": (
        put("pretraining.stages.1.mixture.finemath-4plus", 0.03),
        ("mixture/stage[23]", "epochs/*", "segment/stage[23]-*", "evaluation/stage[23]-*", "suite/stage[23]-*",
         "*/lc[12]-*", "posttraining/*", "alignment/*", "merge/*", "*/mid", "*/sft", "*/apo*", "*/merged",
         "suite/mid.*", "suite/sft.*", "suite/merged.*", "report/*"),
        "pretraining.stages.stage2.mixture.finemath-4plus 0.02 → 0.03",
    ),
    "another name of a stage": (
        rename("stage2", "second"), ("epochs/*", "report/*"), "pretraining.stages.stage2 is called second now"
    ),
    "another name of the recipe": (put("name", "other"), ("report/*",), "name smollm3 → other"),
    "shots of one suite": (
        put("evaluation.suites.mathematics.shots", 4), ("suite/*.mathematics", "check_tasks/*", "report/*"),
        "evaluation.suites.mathematics.shots 5 → 4",
    ),
    "a suite that is measured": (
        put("evaluation.suites.drop", {"tasks": ["drop", "gsm8k"], "on": "stage_ends", "decontamination": "measure"}),
        ("suite_items/measured", "overlap/*", "suite/*.drop", "check_tasks/*", "report/*"),
        "evaluation.suites.drop.tasks nothing → ['drop', 'gsm8k']",
    ),
    "nodes": (
        put("runtime.layouts.pretraining.nodes", 24), ("preflight/pretraining",),
        "runtime.layouts.pretraining.nodes 48 → 24",
    ),
    "goodput": (put("cost.goodput", 0.9), ("report/*",), "cost.goodput 0.84 → 0.9"),
    "theta of the second extension": (
        put("long_context.1.rope_theta", 6e6),
        ("*/lc2-*", "posttraining/*", "alignment/*", "merge/*", "evaluation/mid", "evaluation/sft", "evaluation/apo*",
         "evaluation/merged", "suite/mid.*", "suite/sft.*", "suite/apo*", "suite/merged.*", "report/*"),
        "long_context.lc2.rope_theta 5e+06 → 6e+06",
    ),
    "a longer stable phase": (
        put("pretraining.stages.0.steps", 3_480_000),
        ("mixture/stage[23]", "epochs/*", "*/stage1-3440000-3480000*", "*/stage1-at-34[4-7][0-9][0-9][0-9][0-9]*",
         "*/stage[23]-*", "*/lc[12]-*", "posttraining/*", "alignment/*", "merge/*", "evaluation/mid", "evaluation/sft",
         "evaluation/apo*", "evaluation/merged", "suite/mid.*", "suite/sft.*", "suite/apo*", "suite/merged.*",
         "report/*"),
        "pretraining.stages.stage1.steps 3450000 → 3480000",
    ),
    "APO's beta": (
        put("apo.beta", 0.1),
        ("alignment/*", "merge/*", "evaluation/apo*", "evaluation/merged", "suite/apo*", "suite/merged.*", "report/*"),
        "apo.beta 0.05 → 0.1",
    ),
    "a revision of one source": (
        put("sources.pes2o.revision", "abc123"),
        ("documents/pes2o", "shards/pes2o", "heldout/*", "mixture/*", "epochs/*", "segment/*", "evaluation/*",
         "suite/*", "posttraining/*", "alignment/*", "merge/*", "tokenizer_comparison/*", "report/*"),
        "sources.pes2o.revision nothing → abc123",
    ),
}  # fmt: skip


def write(values: Values, tree: Path, name: str) -> str:
    path = tree / f"{name}.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML; a number such as 3_000 is a text there
    return str(path)


def plan_of(values: Values, tree: Path) -> Plan:
    return make_plan(load_workflow(write(values, tree, "changed"), tree))


def check(plan: Plan, patterns: Iterable[str], reason: str) -> None:
    """The steps that would run are exactly those that match, each pattern means some, and the plan gives the reason."""
    labels = {step.label for step in plan.workflow.steps.all.values()}
    asked = {label for label in labels if any(fnmatchcase(label, pattern) for pattern in patterns)}
    running = {step.label for step in plan.running}
    wrong = sorted(running ^ asked)
    assert not wrong, f"{len(wrong)} steps, such as {wrong[:12]}"
    for pattern in patterns:
        assert any(fnmatchcase(label, pattern) for label in running), pattern
    text = plan_text(plan)
    if running:
        assert f"  {reason}: " in text, text
        others = [step.label for step in plan.running if reason not in plan.reasons[step.key]]
        assert not others, f"{len(others)} steps for another reason, such as {others[:12]}"
    else:
        assert "Nothing would run" in text


@pytest.fixture
def mini_tree(mini: Path, tmp_path: Path) -> Path:
    """The tree with the finished mini recipe's results, which a dry run only reads."""
    tree = copy_tree(tmp_path / "tree")
    (tree / "results").symlink_to(mini / "results")
    return tree


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_the_recipe(mini_tree: Path, name: str) -> None:
    change, patterns, reason = CASES[name]
    values = read_with_overlays(mini_tree / MINI, mini_tree)
    change(values)
    check(plan_of(values, mini_tree), patterns, reason)


@pytest.fixture(scope="module")
def smollm3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = copy_tree(tmp_path_factory.mktemp("smollm3") / "tree")
    pretend_done(load_workflow("smollm3", tree))
    return tree


@pytest.mark.parametrize("name", SMOLLM3)
def test_a_change_of_smollm3(smollm3: Path, name: str) -> None:
    change, patterns, reason = SMOLLM3[name]
    values = read_with_overlays(ROOT / "config" / "recipes" / "smollm3.yaml", smollm3)
    change(values)
    check(plan_of(values, smollm3), patterns, reason)
