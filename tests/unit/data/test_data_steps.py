"""The scripts that clean and tokenize a source: in parts, by several processes, killed and resumed, on bad input."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard
from helpers.data_jobs import (
    PARTS,
    SMALL_PARTS,
    clean_job,
    fail,
    job,
    make_place,
    run,
    same_artefact,
    start,
    text_of,
    tokenize_job,
    write_rows,
)
from helpers.shards import cut
from helpers.training import ROOT, finish

from smolmake.data.clean import group_files, iterate_texts
from smolmake.data.encoder import REFERENCE
from smolmake.data.texts import batches
from smolmake.data.token_shards import open_shards
from smolmake.data.tokenizer import load_tokenizer
from smolmake.evaluate.items import ITEMS, write_items
from smolmake.execution.manifest import read_manifest
from smolmake.execution.parts import do_parts, part_record
from smolmake.graph.specs.data import OverlapSpec


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with six input files, each a part of its own, and a tokenizer."""
    monkeypatch.chdir(tmp_path)
    make_place(tmp_path)
    return tmp_path


def slow(seconds: float = 0.15) -> str:
    """Code that makes every part take some time."""
    return f"{SMALL_PARTS}\nimport time, smolmake.execution.parts as p; w = p.write_json\n" + (
        f"def slowly(path, value): time.sleep({seconds}); w(path, value)\np.write_json = slowly"
    )


def stamps(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("parts/*/part.json")}


def kill_after_parts(place: Path, job: dict[str, Any], count: int) -> dict[str, int]:
    """Kill a job when it has done some of its parts; returns when they were done."""
    process = start(place, job, code=slow())
    folder, limit = place / job["folder"], time.monotonic() + 60
    while len(stamps(folder)) < count:
        assert process.poll() is None and time.monotonic() < limit, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = stamps(folder)
    assert count <= len(done) < PARTS and not (folder / "manifest.json").exists()
    return done


def test_killed_and_started_again_it_does_what_is_missing(place: Path) -> None:
    for undisturbed, killed in ((clean_job(place, "web"), clean_job(place, "killed")),):
        run(place, undisturbed)
        done = kill_after_parts(place, killed, 2)
        done |= kill_after_parts(place, killed, 4)
        (place / killed["folder"] / "parts" / "00005").mkdir(exist_ok=True)
        (place / killed["folder"] / "parts" / "00005" / "documents.parquet").write_bytes(b"half")
        run(place, killed)
        after = stamps(place / killed["folder"])
        assert len(after) == PARTS and {part: after[part] for part in done} == done
        same_artefact(place / undisturbed["folder"], place / killed["folder"])


def test_shards_killed_and_made_by_several_processes_are_the_same(place: Path) -> None:
    run(place, clean_job(place))
    jobs = {name: {**tokenize_job(), "folder": f"results/shards/{name}"} for name in ("one", "killed", "three")}
    run(place, jobs["one"])
    done = kill_after_parts(place, jobs["killed"], 3)
    run(place, jobs["killed"])
    after = stamps(place / "results/shards/killed")
    assert {part: after[part] for part in done} == done
    # With --workers, the script starts itself as helpers, which know nothing of the code above: parts are large again.
    run(place, jobs["three"], "--workers", "3", code="")
    for name in ("killed", "three"):
        same_artefact(place / "results/shards/one", place / f"results/shards/{name}")


def test_a_part_whose_file_was_cut_is_done_again(place: Path) -> None:
    run(place, clean_job(place))
    shards = tokenize_job()
    kill_after_parts(place, shards, 2)
    tokens = place / shards["folder"] / "parts/00000/tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    run(place, shards)


def test_the_stream_is_that_of_the_documents(place: Path) -> None:
    run(place, clean_job(place))
    run(place, tokenize_job())
    texts = list(iterate_texts(place / "results/documents/web"))
    shards = open_shards(
        place / "results/shards/web", read_manifest(place / "results/shards/web/manifest.json")["facts"]
    )
    assert shards.documents == len(texts) and len(shards.sizes) == PARTS
    tokenizer = load_tokenizer(place / "results/tokenizer/bpe")
    for number in (0, 39, 40, len(texts) - 1):
        begin, end = shards.span(number)
        part = cut(shards, 0, shards.size - 1)[0][begin:end].tolist()
        assert tokenizer.decode(part[:-1]) == texts[number] and part[-1] == shards.end_of_text
    summary = json.loads((place / "results/documents/web/cleaning.json").read_text())
    assert summary["dropped"] == {"exact_duplicate": 1} and summary["read"] == PARTS * 40


def test_a_difference_found_on_the_way_makes_the_reference_do_it_all(place: Path) -> None:
    run(place, clean_job(place))
    run(place, {**tokenize_job(), "folder": "results/shards/right"})
    wrong = (
        "import functools, smolmake.data.encoder as e\n"
        "e.CheckedEncoder = functools.partial(e.CheckedEncoder, every=1)\n"
        "right = e.FastEncoder.encode; calls = []\n"
        "def encode(self, texts):\n"
        "    ids = right(self, texts); calls.append(1)\n"
        "    return [each + 1 for each in ids] if len(calls) > 5 else ids\n"
        "e.FastEncoder.encode = encode"
    )
    said = run(place, tokenize_job(), code=wrong)
    assert "gives other ids on" in said and (place / "results/shards/web/reference-only").exists()
    used = json.loads((place / "results/shards/web/provenance.json").read_text())["encoders"]
    assert [(each["encoder"], each["parts"]) for each in used] == [(REFERENCE, PARTS)]
    assert "gives other ids on" in used[0]["slow_because"]
    used = json.loads((place / "results/shards/right/provenance.json").read_text())["encoders"]
    assert [(each["slow_because"], each["parts"]) for each in used] == [("", PARTS)]
    for number in range(PARTS):
        record = part_record(place / "results/shards/web", number)
        assert record is not None and record["facts"]["encoder"] == REFERENCE
    same_artefact(place / "results/shards/right", place / "results/shards/web")


def test_what_stands_beside_the_rows_is_told_and_no_document(place: Path) -> None:
    run(place, clean_job(place))
    (place / "data" / "README.md").write_text("What these rows are, in many words of some length.")
    (place / "data" / "dataset_infos.json").write_text('{"default": {"description": "of some length, as well"}}')
    said = run(place, clean_job(place, "beside"))
    assert "README.md" in said and "dataset_infos.json" in said
    same_artefact(place / "results/documents/web", place / "results/documents/beside")


@pytest.mark.parametrize("skip", [False, True])
def test_damaged_input(place: Path, skip: bool) -> None:
    content = (place / "data/3.parquet").read_bytes()
    (place / "data/3.parquet").write_bytes(content[:-60])
    lines = zstandard.compress(b"".join(b'{"text": "%d a line of some words to keep"}\n' % n for n in range(9000)))
    (place / "data/7.jsonl.zst").write_bytes(lines[: len(lines) // 2])
    if not skip:
        assert "data/3.parquet" in fail(place, clean_job(place))
        return
    run(place, clean_job(place, on_error="skip"))
    summary = json.loads((place / "results/documents/web/cleaning.json").read_text())
    assert summary["dropped"]["unreadable"] == 2
    told = [example["text"] for example in summary["examples"] if example["reason"] == "unreadable"]
    assert any("3.parquet" in text for text in told) and any("7.jsonl.zst" in text for text in told)


def test_a_source_that_another_has_whole_names_it(place: Path) -> None:
    run(place, clean_job(place, "first"))
    again = clean_job(place, "again") | {"inputs": {"duplicates_of:first": "results/documents/first/manifest.json"}}
    told = fail(place, again)
    assert "`first`" in told and "shorten `sources.again.duplicates_of`" in told and "min_characters" not in told


def test_a_source_that_changes_under_the_run(place: Path) -> None:
    asked = clean_job(place)
    write_rows(place / "data" / "4.parquet", [text_of(random.Random(9)) for _ in range(40)])
    assert "changed after the run had been planned" in fail(place, asked)
    asked = clean_job(place)
    change = "import pathlib\np = pathlib.Path('data/5.parquet'); b = p.read_bytes()"
    during = f"{slow()}\n{change}\nimport threading\nthreading.Timer(0.5, lambda: p.write_bytes(b + b'x')).start()"
    assert "data" in fail(place, asked, code=during)


def test_a_hub_that_cannot_be_reached(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(place)}.items():
        monkeypatch.setenv(name, value)
    asked = clean_job(place)
    asked["spec"]["files"] = {"hub": "some/set", "config": None, "split": "train", "files": [], "revision": None}
    said = fail(place, asked, code="import time; time.sleep = lambda seconds: None")  # between the library's tries
    assert "cannot read the dataset some/set of the hub" in said and "check the name" in said


def test_long_documents_are_written_and_read_a_few_at_a_time() -> None:
    texts = ["x" * size + str(size) for size in (990, 5, 5, 3000, 3000, 1, 2)]
    groups = list(batches(texts, str, 512, 1000))
    assert sum(groups, []) == texts and [len(group) for group in groups] == [3, 1, 1, 2]


def test_a_tokenizer_that_does_not_bring_the_text_back(place: Path) -> None:
    run(place, clean_job(place))
    file = place / "results/tokenizer/bpe/tokenizer.json"
    described = json.loads(file.read_text())
    described["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(described))
    finish(file.parent, ["tokenizer.json", "tokenizer_config.json"], {})
    write_rows(place / "data/0.parquet", [f"Capital Letters {text_of(random.Random(n))}" for n in range(40)])
    run(place, clean_job(place, "capitals"))
    assert "does not give back" in fail(place, tokenize_job("capitals"))


def test_the_overlap_of_documents_and_of_adopted_shards(place: Path) -> None:
    run(place, clean_job(place))
    run(place, tokenize_job())
    texts = list(iterate_texts(place / "results/documents/web"))
    items = {"held": [" ".join(texts[i].split()[3:20]) for i in (0, 50, 60)], "other": ["not a word of it " * 5]}
    folder = place / "results/suite_items/measured"
    folder.mkdir(parents=True)
    write_items(folder / ITEMS, items)
    finish(folder, [ITEMS], {})
    searched = {"suite_items:measured": "results/suite_items/measured/manifest.json"}
    shards = {"shards": "results/shards/web/manifest.json", "tokenizer": "results/tokenizer/bpe/manifest.json"}
    for name, inputs in (("documents", {"documents": "results/documents/web/manifest.json"}), ("adopted", shards)):
        run(place, job("overlap", name, OverlapSpec(ngram=13), inputs | searched))
        about = json.loads((place / "results/overlap" / name / "overlap.json").read_text())
        assert about["read"] == len(texts) and about["contaminated"] == 3
        assert about["overlap"]["held"] == {
            "items": 3, "items_long_enough": 3, "items_found": 3, "documents_found": 3, "found": [0, 1, 2]
        }  # fmt: skip
        assert about["overlap"]["other"]["items_found"] == 0
    before = read_manifest(place / "results/documents/web/manifest.json")["facts"]
    filtering = clean_job(place, "filtered")
    filtering["inputs"] = searched
    run(place, filtering)
    summary = json.loads((place / "results/documents/filtered/cleaning.json").read_text())
    assert summary["dropped"]["contaminated"] == 3 == before["kept"] - summary["kept"]
    assert summary["overlap"]["held"]["items_found"] == 3


def test_files_are_grouped_in_their_order(tmp_path: Path) -> None:
    sizes = [30, 30, 40, 1, 250, 99, 2, 98]
    files = [tmp_path / f"{number}" for number in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(b"x" * size)
    assert [[int(file.name) for file in group] for group in group_files(files, limit=100)] == [
        [0, 1, 2],
        [3],
        [4],
        [5],
        [6, 7],
    ]


def test_a_helper_leaves_what_others_work_on(tmp_path: Path) -> None:
    """Two processes share the parts; who is not a helper waits for the other's."""
    script = (
        "import sys, time; from pathlib import Path; from smolmake.execution.parts import do_parts\n"
        "def work(number, folder):\n"
        "    (folder / 'who').write_text(sys.argv[1]); time.sleep(0.1); return {}\n"
        "do_parts(Path('.'), 8, work, helper=sys.argv[1] == 'helper', first=4 if sys.argv[1] == 'helper' else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    started = [
        subprocess.Popen([sys.executable, "-c", script, who], cwd=tmp_path, env=environment)
        for who in ("helper", "main")
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    who = [(tmp_path / f"parts/{number:05d}/who").read_text() for number in range(8)]
    assert set(who) == {"helper", "main"} and all(part_record(tmp_path, number) for number in range(8))


def test_a_part_that_fails_leaves_the_others(tmp_path: Path) -> None:
    def work(number: int, folder: Path) -> dict[str, Any]:
        if number == 2 and not (tmp_path / "mended").exists():
            raise ValueError("broken")
        return {"number": number}

    with pytest.raises(ValueError, match="broken"):
        do_parts(tmp_path, 4, work, helper=False)
    done = stamps(tmp_path)
    assert set(done) == {"00000", "00001"}
    (tmp_path / "mended").touch()
    do_parts(tmp_path, 4, work, helper=False)
    assert {part: stamp for part, stamp in stamps(tmp_path).items() if part in done} == done and len(
        stamps(tmp_path)
    ) == 4
