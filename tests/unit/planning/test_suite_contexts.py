"""A suite that asks for more than its checkpoints read at once is told by the plan."""

from pathlib import Path

import pytest
from helpers.recipes import SMALL, write_recipe

from smolmake.errors import UserError
from smolmake.planning.suite_contexts import check_contexts, context_warnings, measured_contexts
from smolmake.recipe.load import load_recipe
from smolmake.recipe.schema import Recipe

EXTENDED = SMALL + (
    "long_context: [{name: lc1, steps: 4, mixture: {notes: 1}, sequence_length: 256, global_batch_size: 2,"
    " rope_theta: 1e5, schedule: {lr: 1e-3, warmup_steps: 1, decay_steps: 1}}]\n"
    "sft: {data: {talks: {path: notes.txt}}, loss: all, chat_template: chatml.jinja, learning_rate: 1e-3,"
    " global_batch_size: 4, max_length: 64}\n"
)


def recipe(tree: Path, suite: str) -> Recipe:
    path = write_recipe(tree, EXTENDED + f"evaluation: {{suites: {{far: {{{suite}}}}}}}\n")
    return load_recipe(str(path), tree)


def test_every_checkpoint_reads_as_much_as_it_was_trained_on(tree: Path) -> None:
    read = recipe(tree, "tasks: [ruler], lengths: [256]")
    found = measured_contexts(read, read.evaluation.suites["far"])
    assert found == {"stage1": 64, "stage2": 64, "lc1": 256, "sft": 256}
    chat = recipe(tree, "tasks: [gsm8k], on: chat")
    assert measured_contexts(chat, chat.evaluation.suites["far"]) == {"sft": 256}


def test_lengths_that_only_some_checkpoints_read_are_told(tree: Path) -> None:
    read = recipe(tree, "tasks: [ruler], lengths: [64, 256]")
    check_contexts(read, tree / "mine.yaml")
    (told,) = context_warnings(read)
    assert "256 tokens" in told and "stage1 (64), stage2 (64)." in told and "evaluation.suites.far.lengths" in told
    assert context_warnings(recipe(tree, "tasks: [ruler], lengths: [64]")) == []


@pytest.mark.parametrize(
    ("suite", "key", "value", "remedy"),
    [
        ("tasks: [ruler], lengths: [64, 512]", "lengths", 512, "above 256"),
        ("tasks: [gsm8k], generation: {max_gen_toks: 64}", "generation.max_gen_toks", 64, "less than 64"),
        ("tasks: [gsm8k], on: chat, generation: {max_gen_toks: 256}", "generation.max_gen_toks", 256, "less than 256"),
    ],
)
def test_what_no_checkpoint_can_read_is_refused(tree: Path, suite: str, key: str, value: int, remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        check_contexts(recipe(tree, suite), tree / "mine.yaml")
    assert caught.value.key == f"evaluation.suites.far.{key}" and caught.value.value == value
    assert remedy in caught.value.remedy
