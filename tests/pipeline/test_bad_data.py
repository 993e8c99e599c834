"""Damaged or missing data ends a job with an error that names it, before anything is trained on it."""

from pathlib import Path

import pytest
from helpers.workflow_runs import SMALL, fail, manifests, succeed, workflow_of

from smolmake.files import file_digest

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def edit(tree: Path, old: str, new: str) -> None:
    text = (tree / SMALL).read_text()
    assert old in text
    (tree / SMALL).write_text(text.replace(old, new, 1))


def test_a_truncated_shard_is_caught_when_it_is_used(small_clone: Path) -> None:
    (shard,) = small_clone.glob("results/shards/*/parts/00000/tokens.bin")
    (segment,) = manifests(small_clone, "segment")
    segment.unlink()
    (segment.parent / "metrics.jsonl").unlink()
    shard.write_bytes(shard.read_bytes()[:-10])
    said = fail(small_clone, "pretrain", recipe=SMALL)
    assert str(shard.relative_to(small_clone)) in said and "remedy" in said
    assert not segment.exists() and not (segment.parent / "metrics.jsonl").exists()


def test_a_lost_checkpoint_is_made_again_for_what_uses_it(small_clone: Path) -> None:
    (model,) = small_clone.glob("results/segment/*/checkpoint/model.safetensors")
    weights = file_digest(model)
    model.unlink()
    succeed(small_clone, "evaluate", recipe=SMALL)
    assert file_digest(model) == weights and manifests(small_clone, "evaluation")


def test_too_many_epochs_are_told_before_any_training(fresh: Path) -> None:
    edit(fresh, "steps: 6, mixture", "steps: 6_000, mixture")
    said = fail(fresh, "pretrain", recipe=SMALL)
    assert "`notes` would be seen" in said and "sources.notes.max_epochs" in said and "repeat cap of 4" in said
    assert manifests(fresh, "mixture") and not (fresh / "results/segment").exists()


def test_a_missing_text_column_is_named(fresh: Path) -> None:
    edit(fresh, "path: texts/notes.jsonl", "path: texts/notes.jsonl, text: txt")
    said = fail(fresh, "data", recipe=SMALL)
    assert "`txt`" in said and "texts/notes.jsonl" in said and "did you mean `text`?" in said
    assert not manifests(fresh)


def test_a_source_of_which_nothing_is_left_is_named(fresh: Path) -> None:
    edit(fresh, "min_characters: 50", "min_characters: 50_000")
    said = fail(fresh, "data", recipe=SMALL)
    assert "no document of the source `notes` is left" in said and "min_characters" in said


def test_a_broken_file_in_a_folder_is_named(fresh: Path) -> None:
    (fresh / "texts" / "zz.jsonl.gz").write_bytes(b"not gzip")
    edit(fresh, "path: texts/notes.jsonl", "path: texts")
    said = fail(fresh, "data", recipe=SMALL)
    assert "zz.jsonl.gz" in said
    (fresh / "texts" / "zz.jsonl.gz").unlink()
    succeed(fresh, *documents(fresh), recipe=SMALL)


def documents(tree: Path) -> list[str]:

    return [step.manifest for step in workflow_of(tree, SMALL).steps.of_kind("documents")]
