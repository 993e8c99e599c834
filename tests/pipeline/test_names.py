"""A renamed recipe and stage: what was trained under the old names is evaluated under the new ones, and back again."""

from pathlib import Path

import pytest
from helpers.workflow_runs import SMALL, manifests, stamps, succeed, verify_all, workflow_of

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def test_what_was_trained_under_another_name_is_used(small_clone: Path) -> None:
    recipe, trained = small_clone / SMALL, stamps(small_clone, "segment", "shards", "mixture", "epochs")
    before = recipe.read_text()
    recipe.write_text(before.replace("name: small", "name: other").replace("name: stage1", "name: first"))
    said = succeed(small_clone, "evaluate", recipe=SMALL)
    assert "training segment" not in said and "mixing" not in said
    assert stamps(small_clone, "segment", "shards", "mixture", "epochs") == trained
    (evaluation,) = manifests(small_clone, "evaluation")
    assert evaluation.parent.name.startswith("first-0-6-") and verify_all(small_clone, "evaluation") == 1
    (segment,) = manifests(small_clone, "segment")
    (step,) = workflow_of(small_clone, SMALL).steps.of_kind("segment")
    assert step.name == "first-0-6" and small_clone / step.manifest == segment
    recipe.write_text(before)
    assert "evaluating" not in succeed(small_clone, "evaluate", recipe=SMALL)
    assert manifests(small_clone, "evaluation") == [evaluation]
