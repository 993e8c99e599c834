"""The stream's questions from the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training import BATCH, ROOT, make_artefacts
from helpers.training import segment as segment_values

from smolmake.files import write_json

# A warm-up with a batch of 2 up to step 12.
WARMUP = [
    {"start": 8, "size": 2, "sequences_before": 16},
    {"start": 12, "size": BATCH, "sequences_before": 24},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the recipe `mine`: two segments of stage1, a packed extension, and `warm`, with a warm-up."""
    folder = tmp_path_factory.mktemp("ask")
    make_artefacts(folder)
    segment(folder, "mine", "stage1", 10, 15, 10)
    segment(folder, "mine", "stage1", 15, 20, 10)
    segment(folder, "mine", "packed", 0, 14, 0)
    segment(folder, "warm", "stage1", 8, 20, 0, batches=WARMUP)
    write_json(folder / "results/shards/rhyme/identity.json", {"inputs": {"documents": "documents/rhyme"}})
    write_json(folder / "results/documents/rhyme/identity.json", {"recipe_values": {"sources.rhyme.path": "my/rhymes"}})
    return folder


def segment(place: Path, recipe: str, stage: str, start: int, end: int, stage_start: int, **more: object) -> None:
    name = f"{stage}-{start}-{end}"
    spec = segment_values(0, end - start)["spec"] | {"start": start, "end": end, "stage_start": stage_start, **more}
    tokenizer = "tokenizer/removed" if recipe == "warm" else "tokenizer/bpe"
    record = {"spec": spec, "inputs": {"mixture": f"mixture/{stage}", "tokenizer": tokenizer}}
    folder = place / "results" / "segment" / f"{name}-{recipe}"
    write_json(folder / "identity.json", record)
    links = place / "results" / "latest" / recipe / "segment"
    links.mkdir(parents=True, exist_ok=True)
    (links / name).symlink_to(folder)


def ask(place: Path, *question: str, recipe: str = "mine") -> tuple[int, str]:
    where = ["--recipe", recipe] if recipe else []
    run = subprocess.run(
        [sys.executable, "-m", "smolmake.cli", *question, *where],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True,
    )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def test_a_damaged_tokenizer_is_told(place: Path) -> None:
    file = place / "results/tokenizer/bpe/tokenizer.json"
    content = file.read_text()
    try:
        file.write_text(content[:100])
        code, said = ask(place, "trace", "13", "2", "--stage", "stage1")
    finally:
        file.write_text(content)
    assert code == 1 and "tokenizer.json" in said and "remedy" in said and "Traceback" not in said, said


@pytest.mark.parametrize(
    ("recipe", "stage", "row"), [("mine", "stage1", "2"), ("mine", "packed", "2"), ("warm", "stage1", "1")]
)
def test_a_row_and_its_documents_lead_to_each_other(place: Path, recipe: str, stage: str, row: str) -> None:
    step = "11" if recipe == "warm" else "13"
    code, said = ask(place, "trace", step, row, "--stage", stage, recipe=recipe)
    found = re.match(rf"{stage}: source (\w+), draw \d+, epoch \d+, sequence \d+\ndocuments (\d+)", said)
    assert code == 0 and found is not None, said
    assert ("no text: results/tokenizer/removed is not there" in said) == (recipe == "warm")
    code, answer = ask(place, "inspect", found[1], found[2], "--stage", stage, recipe=recipe)
    assert code == 0 and f"{stage}: step {step}, row {row}\n" in answer
    code, answer = ask(place, "inspect", found[1], found[2], "--stage", stage, "--until", step, recipe=recipe)
    assert code == 0 and f"step {step}," not in answer


def test_a_document_is_found_in_all_stages_and_shown(place: Path) -> None:
    code, said = ask(place, "inspect", "rhyme", "0")
    assert code == 0 and "the cat number 0 sat on the mat" in said
    assert "left of my/rhymes after cleaning (results/documents/rhyme)" in said


def test_a_segment_alone_answers_for_its_own_steps(place: Path) -> None:
    where = ["--segment", "results/segment/stage1-15-20-mine"]
    whole = ask(place, "trace", "16", "1", "--stage", "stage1")
    part = ask(place, "trace", "16", "1", *where, recipe="")
    assert whole == part and whole[0] == 0
    code, said = ask(place, "trace", "14", "1", *where, recipe="")
    assert code == 1 and "stage1 15 to 19" in said


@pytest.mark.parametrize(
    ("question", "remedy"),
    [
        (["trace", "16", "9"], "rows go from 0 to 3"),
        (["trace", "20", "0"], "packed 0 to 13, stage1 10 to 19"),
        (["trace", "13", "0"], "--stage packed or --stage stage1"),
        (["trace", "13", "0", "--stage", "stage2"], "did you mean `stage1`?"),
        (["inspect", "rime", "0"], "did you mean `rhyme`?"),
        (["inspect", "rhyme", "120"], "120 documents"),
    ],
)
def test_a_wrong_question_is_told(place: Path, question: list[str], remedy: str) -> None:
    code, said = ask(place, *question)
    assert code == 1 and remedy in said and "Traceback" not in said


@pytest.mark.parametrize("where", [["--recipe", "mime"], ["--segment", "results/mixture/stage1"]])
def test_a_wrong_folder_is_told(place: Path, where: list[str]) -> None:
    code, said = ask(place, "trace", "1", "0", *where, recipe="")
    assert code == 1 and "remedy" in said and "Traceback" not in said
