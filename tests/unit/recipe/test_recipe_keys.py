"""Every misspelt, missing or mistyped key of a recipe is refused with file, dotted key and the nearest valid key."""

from pathlib import Path

import pytest
from helpers.recipes import SMALL, changed, error_of, load


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        (SMALL + "sede: 1\n", "sede", "seed"),
        (changed("vocab_size: 512", "vocab_size: 512, compare_size: []"), "tokenizer.compare_size", "compare_sizes"),
        (changed("warmup_steps: 2", "warmup_step: 2"), "pretraining.schedule.warmup_step", "warmup_steps"),
        (SMALL + "cleaning: {near_duplicates: {ngrams: 5}}\n", "cleaning.near_duplicates.ngrams", "ngram"),
        (changed("steps: 10, mixture", "setps: 10, mixture"), "pretraining.stages.1.setps", "steps"),
        (changed("domain: code", "domian: code"), "sources.code.domian", "domain"),
        (
            changed("  code: {path: notes.txt, domain: code}", "  text: {path: notes.txt, domian: code}"),
            "sources.text.domian",
            "domain",
        ),
        (
            SMALL
            + "sft: {loss: all, chat_template: chatml.jinja, learning_rate: 1, global_batch_size: 1, max_length: 8,"
            + " data: {chats: {path: notes.txt, fractoin: 0.5}}}\n",
            "sft.data.chats.fractoin",
            "fraction",
        ),
    ],
)
def test_unknown_key_names_the_nearest_valid_one(tree: Path, text: str, key: str, nearest: str) -> None:
    error = error_of(tree, text)
    assert "unknown key" in error.what or "required" in error.what
    told = f"{error.key} {error.remedy}"
    assert key in told, "all problems are told, or the first and the names of the others"
    if error.key == key:
        assert f"did you mean `{nearest}`?" in error.remedy


def test_unknown_key_like_no_other_lists_all_valid_ones(tree: Path) -> None:
    error = error_of(tree, changed("segment_steps: 10", "segment_steps: 10\n  zzzzzz: 1"))
    assert error.key == "pretraining.zzzzzz"
    assert "sequence_length" in error.remedy and "stages" in error.remedy


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("  global_batch_size: 4\n", "", "pretraining.global_batch_size"),
        ("{path: notes.txt}", "{domain: web}", "sources.notes"),
        ("{path: notes.txt}", "{path: notes.txt, generated: x}", "sources.notes"),
        ("{path: notes.txt}", "{path: notes.txt, files: ['*.parquet']}", "sources.notes"),
        ("{path: notes.txt}", "{hub: a/b, config: c, files: ['*.parquet']}", "sources.notes"),
        ("name: small", "name: small\ncost: {budget: {lines: {run: {gpus: 8}}}}", "cost.budget.lines.run"),
        ("name: small", "name: small\nevaluation: {data: {hub: a/b}}", "evaluation"),
        ("hidden_size: 32", "hidden_size: 33", "model"),
        ("num_key_value_heads: 1", "num_key_value_heads: 3", "model"),
        ("vocab_size: 512", "vocab_size: many", "tokenizer.vocab_size"),
        ("vocab_size: 512", "vocab_size: 5 parsecs", "tokenizer.vocab_size"),
        ("vocab_size: 512", "vocab_size: 512.5", "tokenizer.vocab_size"),
        ("vocab_size: 512", "vocab_size: -4", "tokenizer.vocab_size"),
        ("vocab_size: 512", "vocab_size: .inf", "tokenizer.vocab_size"),
        ("vocab_size: 512", "vocab_size: .nan", "tokenizer.vocab_size"),
        ("vocab_size: 512", "vocab_size: 1e999", "tokenizer.vocab_size"),
        ("lr: 1e-3", "lr: .nan", "pretraining.schedule.lr"),
        (SMALL[SMALL.index("stages:") :], "stages: []\n", "pretraining.stages"),
        ("sequence_length: 64", "sequence_length: 1kk", "pretraining.sequence_length"),
        ("notes: 0.5, code", "notes: -0.5, code", "pretraining.stages.0.mixture.notes"),
    ],
)
def test_values_out_of_range_are_refused(tree: Path, old: str, new: str, key: str) -> None:
    assert error_of(tree, changed(old, new)).key == key


def test_a_bad_name_of_a_source_is_the_value_of_sources(tree: Path) -> None:
    error = error_of(tree, changed("  notes: {path", "  ../notes: {path"))
    assert (error.key, error.value) == ("sources", "../notes")
    assert "see `sources` in docs/reference/recipe.md" in error.remedy


def test_of_a_section_only_the_numbers_that_do_not_fit_are_told(tree: Path) -> None:
    error = error_of(tree, changed("num_key_value_heads: 1", "num_key_value_heads: 3"))
    assert set(error.value.split(", ")) == {"num_attention_heads: 2", "num_key_value_heads: 3"}


@pytest.mark.parametrize("name", ["../x", "a;b", "a b", "/etc", "..", "x/../y", "$(id)", "Ä", "a" * 65, "-rf"])
def test_names_that_a_path_or_a_shell_could_take_wrongly_are_refused(tree: Path, name: str) -> None:
    quoted = f"'{name}'"
    for text in (
        changed("name: small", f"name: {quoted}"),
        changed("name: stage1", f"name: {quoted}"),
        changed("  notes: {path", f"  {quoted}: {{path"),
    ):
        error = error_of(tree, text)
        assert name in f"{error.key} {error.value}"


@pytest.mark.parametrize("template", ["../templates/chatml.jinja", "/etc/passwd", "chatml"])
def test_templates_come_from_their_folder_only(tree: Path, template: str) -> None:
    section = "loss: all, learning_rate: 1, global_batch_size: 1, max_length: 8, data: {chats: {path: notes.txt}}"
    error = error_of(tree, SMALL + f"sft: {{chat_template: {template}, {section}}}\n")
    assert error.key == "sft.chat_template" and "chatml.jinja" in error.remedy


def test_long_and_many_lined_values_are_cut(tree: Path) -> None:
    lines = "".join(f"  line {number}\n" for number in range(40))
    error = error_of(tree, changed("name: small\n", f"name: |\n{lines}"))
    assert error.key == "name"
    error = error_of(tree, SMALL + f"seed: {'x' * 5000}\n")
    assert len(str(error)) < 1000


def test_the_small_recipe_itself_is_fine(tree: Path) -> None:
    assert load(tree, SMALL).pretraining.stages[1].mixture == {"notes": 0.2, "code": 0.8}


def test_an_address_with_credentials_is_refused(tree: Path) -> None:
    error = error_of(tree, SMALL + "runtime: {upload: {url: 's3://key:secret@bucket/runs'}}\n")
    assert error.key == "runtime.upload.url"
    assert load(tree, SMALL + "runtime: {upload: {url: 's3://bucket/runs'}}\n").runtime.upload is not None


@pytest.mark.parametrize(
    ("text", "key", "now"),
    [
        (SMALL + "run: {threads: 2}\n", "run", "runtime"),
        (SMALL + "compute: {mfu: 0.3}\n", "compute", "cost"),
        (changed("lr: 1e-3", "peak: 1e-3, lr: 1e-3"), "pretraining.schedule.peak", "lr"),
        (changed("lr: 1e-3", "floor: 0, lr: 1e-3"), "pretraining.schedule.floor", "min_lr"),
        (changed("sequence_length: 64", "sequence_length: 64\n  global_batch: 4"), "pretraining.global_batch",
         "global_batch_size"),
        (changed("path: notes.txt", "path: notes.txt, stands_in_for: x"), "sources.notes.stands_in_for", "replaces"),
        (changed("{path: notes.txt}", "{path: notes.txt, toy: x}"), "sources.notes.toy", "generated"),
        (SMALL + "cleaning: {heldout_share: 0.1}\n", "cleaning.heldout_share", "heldout_fraction"),
        (changed("vocab_size: 512", "vocab_size: 512, rivals: {}"), "tokenizer.rivals", "compare_with"),
    ],
)  # fmt: skip
def test_a_key_of_an_older_recipe_is_told_by_its_new_name(tree: Path, text: str, key: str, now: str) -> None:
    error = error_of(tree, text)
    assert (error.key, error.what) == (key, "unknown key") and f"called `{now}` now" in error.remedy
