"""A recipe that trains nothing: models that exist are measured on questions of one's own, and compared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from helpers.models import write_tokenizer
from helpers.workflow_runs import copy_tree, fail, manifests, succeed
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]
SHAPE = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.3}  # fmt: skip
TASK = """\
task: facts
dataset_path: json
dataset_kwargs: {data_files: {test: "{data}/facts.jsonl"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""
RECIPE = """\
name: measured
evaluation:
  models:
    llama: {{adopt: {{path: models/llama, digest: {llama}}}}}
    qwen: {{adopt: {{path: models/qwen, digest: {qwen}}}}}
  tasks: mine/tasks
  data: {{path: mine/data}}
  published:
    card: {{source: a model card, at: llama, scores: [{{task: facts, metric: acc, value: 100}}]}}
"""


def smolmake(tree: Path, *words: str) -> str:
    command = [sys.executable, "-m", "smolmake.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with a Llama, a Qwen3 and a task."""
    tree = copy_tree(tmp_path)
    rows = [{"question": f"{n} and {n + 1} make", "choices": [f"{2 * n}", f"{2 * n + 1}"], "answer": 1}
            for n in range(20)]  # fmt: skip
    (tree / "mine" / "data").mkdir(parents=True)
    (tree / "mine" / "data" / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tree / "mine" / "tasks").mkdir()
    (tree / "mine" / "tasks" / "facts.yaml").write_text(TASK)
    for seed, (name, family) in enumerate((("llama", LlamaConfig), ("qwen", Qwen3Config))):
        size = write_tokenizer(tree / "models" / name, [str(row) for row in rows], 300)
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(family(vocab_size=size, **SHAPE)).save_pretrained(tree / "models" / name)
    return tree


def test_two_models_are_measured_compared_and_set_beside_published_numbers(tree: Path) -> None:
    digests = {
        n: smolmake(tree, "adopt", f"models/{n}").rpartition("digest: ")[2].strip(" }\n") for n in ("llama", "qwen")
    }
    (tree / "measured.yaml").write_text(RECIPE.format(**digests))
    succeed(tree, recipe="measured.yaml")
    assert {path.parents[1].name for path in manifests(tree)} == {"adopted", "evaluation", "report"}
    latest = tree / "results" / "latest" / "measured"
    table = pq.read_table(latest / "scores.parquet").to_pylist()
    scores = {row["ends"]: row for row in table if row["metric"] == "acc"}
    assert set(scores) == {"llama", "qwen"} and {row["n"] for row in scores.values()} == {20}
    assert scores["qwen"]["checkpoint_step"].startswith("adopted/qwen-")
    page = (latest / "report.html").read_text()
    assert "llama → qwen" in page and "card, of llama: a model card" in page and "above the interval" in page
    changed = [a != b for a, b in zip(scores["llama"]["items"], scores["qwen"]["items"], strict=True)]
    said = smolmake(tree, "compare", "llama", "qwen", "--recipe", "measured", "--task", "facts", "--questions", "20")
    assert said.count("target: ") == sum(changed) > 0 and f"{changed.index(True) * 2 + 1}" in said
    # Pickled weights and a model's own code are never loaded.
    config = tree / "models" / "llama" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "theirs.Model"}}))
    digest = smolmake(tree, "adopt", "models/llama").rpartition("digest: ")[2].strip(" }\n")
    (tree / "measured.yaml").write_text(RECIPE.format(**digests | {"llama": digest}))
    said = fail(tree, recipe="measured.yaml")
    assert "code of its own" in said and "evaluation.models.llama.adopt.path" in said
