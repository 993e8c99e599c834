"""Random edits of code, files and recipe: what the plan keeps is what it was when it is computed again, and an edit
that changes nothing reruns nothing. The long form, over all kinds of steps, is benchmarks/edits.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.edits.code import Text
from helpers.edits.edit import Edit
from helpers.edits.judge import Judge, Planning
from helpers.edits.runs import make_judge, random_edits

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]
SEED, COUNT, WANTED = 17, 6, ("documents/notes", "shards/notes")
LIBRARIES = "import numpy, pyarrow.parquet, pydantic, tokenizers, yaml"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    judge = make_judge(tmp_path_factory.mktemp("edits"), WANTED, LIBRARIES)
    yield judge
    judge.recomputer.close()


def test_the_plan_of_random_edits_is_what_really_differs(judge: Judge) -> None:
    verdict = judge.judge(random_edits(judge.recomputer.base, SEED, COUNT))
    assert len(verdict.accepted) > 4 * COUNT and verdict.pairs > 4 * COUNT
    assert not verdict.under and not verdict.over
    running = [edit for edit in verdict.accepted if verdict.planned[edit].running]
    assert len(running) > COUNT  # what may differ reruns steps


def test_a_plan_that_keeps_what_differs_is_found_out(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(tree: Path) -> None:
        file = tree / "src/smolmake/data/clean.py"
        text = Text(file.read_text())
        file.write_text(text.patched((text.units["iterate_texts"].body[-1], "return\n")))  # type: ignore[attr-defined]

    edit = Edit("code: a test's", "data/clean.py: iterate_texts", "data/clean.py:iterate_texts", True, apply)
    comment = Edit("code: a comment", "listing.py", "listing.py:*", True, lambda tree: None)
    assert judge.plan(edit).own >= {"shards/notes", "tokenizer/bpe-400"}
    judge.labels = ["shards/notes"]
    monkeypatch.setattr(Judge, "plan", lambda self, edit: Planning())
    verdict = judge.judge([comment, edit])
    assert [(edits, label) for edits, label, _ in verdict.under] == [([edit], "shards/notes")]
    assert not verdict.over
