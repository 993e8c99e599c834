"""Starting from what exists: token shards and a base model are used where they lie, under their digest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.workflow_runs import clone, fail, manifests, succeed, verify_all, workflow_of

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def adopt_lines(tree: Path, folder: str) -> str:
    """The digest that `smolmake adopt` prints."""
    command = [sys.executable, "-m", "smolmake.cli", "adopt", folder]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
    return done.stdout.rpartition("digest: ")[2].strip(" }\n")


@pytest.fixture
def tree(mini: Path, tmp_path: Path) -> Path:
    """The finished mini recipe's tree, its results moved aside: `old` is another project's folder."""
    tree = clone(mini, tmp_path / "tree")
    (tree / "results").rename(tree / "old")
    return tree


def one(tree: Path, kind: str, name: str) -> str:
    (folder,) = (tree / "old" / kind).glob(f"{name}-*")
    return str(folder.relative_to(tree))


def test_from_a_base_model_to_a_chat_model(tree: Path) -> None:
    base = f"{one(tree, 'segment', 'lc2-0-3')}/checkpoint"
    recipe = f"""\
name: adapted
generated: {{toy: {{script: examples/toy/generate.py}}}}
base: {{adopt: {{path: {base}, digest: {adopt_lines(tree, base)}}}}}
sft:
  data: {{chats: {{generated: toy/conversations.parquet, fraction: 0.02}}}}
  loss: assistant
  chat_template: smollm3-short.jinja
  learning_rate: 1e-3
  global_batch_size: 16
  max_length: 256
merge: {{weights: {{sft: 0.5, base: 0.5}}}}
evaluation: {{tasks: examples/toy/tasks, data: {{generated: toy/tasks}}, limit: 4}}
"""
    (tree / "adapted.yaml").write_text(recipe)
    succeed(tree, recipe="adapted.yaml")
    kinds = {path.parents[1].name for path in manifests(tree)}
    assert kinds == {"adopted", "generated", "posttraining", "merge", "evaluation", "report"}
    assert verify_all(tree) == len(manifests(tree))
    (adopted,) = (tree / "results" / "adopted").glob("base-*")
    assert (adopted / "checkpoint").is_symlink() and (adopted / "checkpoint").resolve() == (tree / base).resolve()
    assert "merged" in (tree / "results" / "latest" / "adapted" / "report.html").read_text()
    # Moved elsewhere, it is the same model: nothing runs again but the report, which prints the path.
    (tree / "old").rename(tree / "elsewhere")
    (tree / "adapted.yaml").write_text(recipe.replace("path: old/", "path: elsewhere/"))
    said = succeed(tree, "--dry-run", recipe="adapted.yaml")
    listed = said.partition("To run\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) == 1 and listed[0].strip().startswith("report adapted: base.adopt.path old/"), said
    # Changed, it is refused before anything starts.
    model = tree / base.replace("old/", "elsewhere/", 1) / "config.json"
    model.write_text(model.read_text() + " ")
    said = fail(tree, "--dry-run", recipe="adapted.yaml")
    assert "base.adopt.digest" in said and "smolmake adopt" in said


def test_adopted_shards_are_mixed_and_trained_on(tree: Path) -> None:
    shards, tokenizer = one(tree, "shards", "notebooks"), one(tree, "tokenizer", "bpe-600")
    shape = json.loads((tree / one(tree, "segment", "stage1-0-8") / "checkpoint" / "config.json").read_text())
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    recipe = f"""\
name: adopting
sources:
  notebooks: {{path: nowhere-any-more, shards: {{path: {shards}, digest: {adopt_lines(tree, shards)}}}}}
tokenizer: {{path: {tokenizer}, vocab_size: 600}}
model: {{{", ".join(f"{key}: {shape[key]}" for key in sizes)}}}
pretraining:
  sequence_length: 128
  global_batch_size: 4
  segment_steps: 4
  schedule: {{lr: 1e-3}}
  stages: [{{name: stage1, steps: 4, mixture: {{notebooks: 1}}}}]
runtime: {{micro_batch: 4}}
"""
    (tree / "adopting.yaml").write_text(recipe)
    succeed(tree, "pretrain", recipe="adopting.yaml")
    workflow = workflow_of(tree, "adopting.yaml")
    assert not workflow.steps.of_kind("documents") and not workflow.steps.of_kind("shards")
    (segment,) = workflow.steps.of_kind("segment")
    metrics = (tree / segment.manifest).with_name("metrics.jsonl").read_text().splitlines()
    assert len(metrics) == 4 and json.loads(metrics[0])["loss"] > 5
