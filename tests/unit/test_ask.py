"""The stream's questions from the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from training import BATCH, ROOT, make_artefacts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ask")
    make_artefacts(folder)
    return folder


def ask(place: Path, *question: str) -> tuple[int, str]:
    options = ["--global-batch", str(BATCH), "--stage-start", "10", "--tokenizer", "results/tokenizer/bpe"]
    run = subprocess.run(
        [sys.executable, "-m", "smolmake.data.ask", "results/mixture/stage1", *options, *question],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def test_a_row_and_its_documents_lead_to_each_other(place: Path) -> None:
    code, said = ask(place, "row", "13", "2")
    found = re.match(r"source (\w+), draw \d+, epoch \d+, sequence \d+\ndocuments ([\d ]+)\n", said)
    assert code == 0 and found is not None, said
    for document in found[2].split():
        code, answer = ask(place, "document", found[1], document, "--until", "14")
        assert code == 0 and "step 13, row 2\n" in answer
        code, answer = ask(place, "document", found[1], document, "--until", "13")
        assert code == 0 and "step 13" not in answer


def test_text_is_shown(place: Path) -> None:
    code, said = ask(place, "document", "rhyme", "0", "--until", "11")
    assert code == 0 and "the cat number 0 sat on the mat" in said


@pytest.mark.parametrize(
    ("question", "remedy"),
    [
        (["row", "13", "9"], "rows go from 0 to 3"),
        (["row", "9", "0"], "steps begin at 10"),
        (["document", "rime", "0", "--until", "11"], "did you mean `rhyme`?"),
        (["document", "rhyme", "120", "--until", "11"], "120 documents"),
    ],
)
def test_a_wrong_question_is_told(place: Path, question: list[str], remedy: str) -> None:
    code, said = ask(place, *question)
    assert code == 1 and remedy in said and "Traceback" not in said
