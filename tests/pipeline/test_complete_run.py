"""The whole graph, run once: every artefact whole, every link right, and nothing to do a second time."""

import json
import os
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from helpers.workflow_runs import MINI, clone, manifests, stamps, succeed, verify_all, workflow_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from smolmake.execution.kinds import KINDS
from smolmake.planning.workflow import Workflow

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]
NOTHING, NOTHING_DRY = "Nothing to be done", "Nothing would run"
# tests/pipeline/test_adopt.py, tests/unit/evaluate/test_suites.py,
# tests/unit/data/test_data_steps.py and tests/unit/train/test_parallel.py have these.
NOT_IN_MINI = {"adopted", "suite", "suite_items", "overlap", "preflight", "check_tasks"}


@pytest.fixture(scope="module")
def workflow(mini: Path) -> Workflow:
    return workflow_of(mini, MINI)


def test_every_step_left_a_whole_artefact_and_no_other_is_there(mini: Path, workflow: Workflow) -> None:
    assert {str(path.relative_to(mini)) for path in manifests(mini)} == {
        s.manifest for s in workflow.steps.all.values()
    }
    assert verify_all(mini) == len(workflow.steps.all)
    assert {path.parents[1].name for path in manifests(mini)} == set(KINDS) - NOT_IN_MINI


def test_manifests_name_their_inputs_and_no_time_host_or_place(mini: Path, workflow: Workflow) -> None:
    from smolmake.files import file_digest

    for step in workflow.steps.all.values():
        text = (mini / step.manifest).read_text()
        manifest = json.loads(text)
        assert str(mini) not in text and os.uname().nodename not in text
        for role, digest in manifest["inputs"].items():
            assert digest == file_digest(mini / step.inputs[role].manifest), (step.key, role)
        assert (manifest["kind"], manifest["name"], manifest["id"]) == (step.kind, step.name, step.id)


def test_nothing_half_done_is_left(mini: Path) -> None:
    left = [path for path in (mini / "results").rglob("*") if path.name.endswith(".tmp") or path.name == "recovery"]
    assert not left


def test_links_lead_to_everything(mini: Path, workflow: Workflow) -> None:
    latest = mini / "results" / "latest" / "mini"
    for step in workflow.steps.all.values():
        assert (latest / step.kind / step.name / "manifest.json").samefile(mini / step.manifest), step.key
    for name in ("stage1", "stage2", "stage3", "lc1", "lc2", "mid", "sft", "apo", "merged"):
        assert (latest / "checkpoints" / name / "config.json").is_file(), name
    links = [path for path in latest.rglob("*") if path.is_symlink()]
    assert links and all(path.exists() and not os.readlink(path).startswith("/") for path in links)


def test_the_report_is_one_whole_page(mini: Path, workflow: Workflow) -> None:
    page = (mini / "results/latest/mini/report.html").read_text()
    assert page.rstrip().endswith("</html>") and "The toy in a few steps" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", page)
    sources = json.loads((mini / "results/latest/mini/report/mini/sources.json").read_text())
    for figure, files in sources.items():
        for file in files:
            assert (mini / file).exists() or (mini / "results" / file).exists(), (figure, file)


def test_the_table_beside_the_report_has_every_score_of_every_checkpoint(mini: Path, workflow: Workflow) -> None:
    table = pq.read_table(mini / "results/latest/mini/scores.parquet").to_pylist()
    asked = {step.name: step for step in workflow.steps.of_kind("evaluation")}
    for name, step in asked.items():
        scores = json.loads((mini / step.manifest).with_name("scores.json").read_text())["scores"]
        rows = [row for row in table if row["checkpoint"] == name]
        assert [(row["task"], row["metric"], row["value"]) for row in rows] == [
            (score["task"], score["metric"], score["value"]) for score in scores
        ]
        assert {row["checkpoint_step"] for row in rows} == {step.inputs["checkpoint"].key}
    assert {row["checkpoint"] for row in table} == set(asked)


@pytest.mark.parametrize("name", ["stage1", "lc2", "mid", "sft", "apo", "merged"])
def test_checkpoints_load_without_remote_code_and_answer(mini: Path, name: str) -> None:
    folder = mini / "results/latest/mini/checkpoints" / name
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "SmolLM3ForCausalLM"
    assert model.config.vocab_size == len(tokenizer) and all(torch.isfinite(p).all() for p in model.parameters())
    length = {"stage1": 128}.get(name, 512)
    assert model.config.max_position_embeddings == length
    if name in ("sft", "apo", "merged"):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
        )
        assert text.endswith("<|im_start|>assistant\n")
        assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_the_merge_is_the_mean_of_its_parts(mini: Path, workflow: Workflow) -> None:
    from safetensors.torch import load_file

    place = mini / "results/latest/mini/checkpoints"
    assert workflow.recipe.merge is not None
    total = sum(workflow.recipe.merge.weights.values())
    parts = {name: load_file(place / name / "model.safetensors") for name in workflow.recipe.merge.weights}
    for key, tensor in load_file(place / "merged" / "model.safetensors").items():
        mean = sum(weight / total * parts[name][key] for name, weight in workflow.recipe.merge.weights.items())
        torch.testing.assert_close(tensor, mean, rtol=0, atol=1e-7)


def test_every_checkpoint_has_all_scores(mini: Path, workflow: Workflow) -> None:
    tasks = {path.stem for path in (mini / "examples/toy/tasks").glob("*.yaml")}
    for step in workflow.steps.of_kind("evaluation"):
        scores = json.loads((mini / step.manifest).with_name("scores.json").read_text())
        assert {score["task"] for score in scores["scores"]} == tasks, step.name
        assert {score["metric"] for score in scores["scores"] if score["task"] == "chat"} == {
            "format",
            "switch",
            "answer",
        }
        for score in scores["scores"]:
            assert 0 <= score["low"] <= score["value"] <= score["high"] and score["n"] == 8
            assert score["high"] <= 1 or score["metric"] == "bits_per_byte"
        assert {row["source"] for row in scores["heldout"]} == set(workflow.recipe.sources)
        assert all(row["low"] <= row["bits_per_byte"] <= row["high"] for row in scores["heldout"])


def test_cleaning_found_what_the_toy_planted(mini: Path, workflow: Workflow) -> None:
    dropped = {
        s.name: json.loads((mini / s.manifest).with_name("cleaning.json").read_text())
        for s in workflow.steps.of_kind("documents")
    }
    assert dropped["mathematics"]["overlap"]["word_problems"]["items_found"] >= 4
    assert dropped["english"]["overlap"]["word_problems"]["items_found"] >= 4
    for name in ("english", "mathematics", "spanish"):
        assert all(
            dropped[name]["dropped"][reason] > 5 for reason in ("exact_duplicate", "near_duplicate", "too_short")
        )


def test_a_second_run_has_nothing_to_do(mini: Path) -> None:
    before = stamps(mini, "*")
    assert NOTHING in succeed(mini, recipe=MINI)
    assert stamps(mini, "*") == before


def test_without_snakemakes_memory_times_do_not_matter(mini: Path, tmp_path: Path) -> None:
    # As after a git clone or a cp -r elsewhere: inputs may be newer than what was made from them.
    tree = clone(mini, tmp_path / "copy")
    shutil.rmtree(tree / ".snakemake")
    shutil.rmtree(tree / ".smolmake", ignore_errors=True)
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    for newest_first in (False, True):
        for number, path in enumerate(sorted(files, reverse=newest_first)):
            os.utime(path, (1_000_000 + number, 1_000_000 + number))
        assert NOTHING_DRY in succeed(tree, "--dry-run", recipe=MINI)


def test_a_lost_or_remade_input_does_not_train_again_what_was_made_from_it(mini: Path, tmp_path: Path) -> None:
    tree = clone(mini, tmp_path / "copy")
    for folder in (tree / "results" / "shards").glob("english-*"):
        shutil.rmtree(folder)
    said = succeed(tree, "--dry-run", recipe=MINI)
    assert "shards english" in said and "segment" not in said and "evaluation" not in said
