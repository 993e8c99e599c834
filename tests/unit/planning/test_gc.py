"""What no recipe reaches is listed with its size, and deleted only when told to."""

import fcntl
import shutil
import time
from pathlib import Path

import pytest
from helpers.recipes import SMALL, write_recipe

from smolmake.cli import call
from smolmake.errors import UserError
from smolmake.execution.manifest import MANIFEST, REMOVED, verify_payload, write_manifest
from smolmake.execution.remote_storage import RemoteStore, write_remote
from smolmake.files import write_json
from smolmake.planning import gc
from smolmake.planning import run_events as announce
from smolmake.planning.optimizer_states import OPTIMIZER_STATE
from smolmake.planning.workflow import load_workflow


@pytest.fixture
def place(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with one recipe, one of its results, and two results that nothing reaches."""
    shutil.rmtree(tree / "examples")
    for file in (tree / "config" / "recipes").glob("*.yaml"):
        file.unlink()
    path = write_recipe(tree, SMALL)
    step = load_workflow(str(path), tree).steps.of_kind("shards")[0]
    for key, size in ((step.key, 10), ("shards/notes-0123456789", 2_000_000), ("segment/stage1-0-10-0123456789", 500)):
        folder = tree / "results" / key
        folder.mkdir(parents=True)
        (folder / "tokens.bin").write_bytes(b"1" * size)
        (folder / MANIFEST).write_text("{}")
    monkeypatch.chdir(tree)
    return tree


def run(*arguments: str) -> None:
    call(["gc", *arguments])


def folders(place: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in (place / "results").glob("[!.]*/*")}


def test_it_lists_with_sizes_and_deletes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = folders(place)
    run()
    said = capsys.readouterr().out
    assert "2.0 MB  results/shards/notes-0123456789" in said and "in 2 folders: needed by no recipe" in said
    assert folders(place) == before


def test_told_to_it_deletes_what_is_listed_and_no_more(place: Path) -> None:
    run("--delete")
    assert len(folders(place)) == 1 and not any(name.endswith("0123456789") for name in folders(place))


def test_recovery_checkpoints_beside_a_result_go_and_those_of_a_training_under_way_stay(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished, under_way = (
        step.key for step in gc.reached_by(gc.all_recipes(place), place)[0][0].of_kind("segment")[:2]
    )
    for key in (finished, under_way):
        (place / "results" / key / "recovery" / "step-000000010").mkdir(parents=True)
        (place / "results" / key / "recovery" / "step-000000010" / "model.safetensors").write_bytes(b"1" * 300_000)
    (place / "results" / finished / MANIFEST).write_text("{}")
    run("--delete")
    assert f"0.3 MB  results/{finished}/recovery  the result is whole" in capsys.readouterr().out
    assert not (place / "results" / finished / "recovery").exists()
    assert (place / "results" / finished / MANIFEST).exists()
    assert (place / "results" / under_way / "recovery" / "step-000000010").exists()


def test_what_it_takes_away_lies_in_the_trash_until_that_is_emptied(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = place / "results" / "shards" / "notes-0123456789"
    trash = place / "results" / gc.TRASH / "shards" / gone.name
    run("--delete")
    assert "2 folders: moved to the trash" in capsys.readouterr().out and (trash / "tokens.bin").stat().st_size == 2e6
    trash.rename(gone)  # back again, and thrown away once more
    run("--delete")
    assert not gone.exists() and (trash / MANIFEST).exists()
    run()
    assert f"2.0 MB in results/{gc.TRASH}: move back what you need" in capsys.readouterr().out
    run("--empty-trash")
    assert "2.0 MB freed" in capsys.readouterr().out and not trash.parents[1].exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{path: notes.txt}", "{path: notes.txt, shards: {path: PLACE, digest: DIGEST}}"),
        ("{path: notes.txt}", "{path: PLACE/tokens.bin}"),
        ("{path: notes.txt}", "{path: 'PLACE/*.bin'}"),
        ("{path: notes.txt}", "{path: linked/tokens.bin}"),
        ("vocab_size: 512", "vocab_size: 512, path: PLACE"),
        ("vocab_size: 512", "vocab_size: 512, compare_with: {other: {path: ./PLACE/}}"),
    ],
    ids=["shards", "file", "glob", "link", "tokenizer", "rival"],
)
def test_what_a_recipe_names_by_its_path_is_reached(place: Path, old: str, new: str) -> None:
    key = "shards/notes-0123456789"
    (place / "linked").symlink_to(place / "results" / key)
    (place / "results" / key / "tokenizer.json").write_text("{}")
    text = SMALL.replace(old, new, 1).replace("PLACE", f"results/{key}").replace("DIGEST", "ab" * 32)
    write_recipe(place, text)
    run("--delete")
    assert key in folders(place) and "segment/stage1-0-10-0123456789" not in folders(place)
    if "DIGEST" not in new:  # what a run that was begun names is reached too
        announce.begin(load_workflow("mine", place))
    (place / "config" / "recipes" / "mine.yaml").unlink()
    run("--delete")
    assert (key in folders(place)) == ("DIGEST" not in new)


def test_another_recipe_keeps_what_it_reaches(place: Path) -> None:
    other = SMALL.replace("vocab_size: 512", "vocab_size: 600").replace("name: small", "name: other")
    path = write_recipe(place, other, "other")
    step = load_workflow(str(path), place).steps.of_kind("shards")[0]
    (place / "results" / step.key).mkdir(parents=True)
    run("--delete")
    assert step.key in folders(place)


def test_what_a_job_holds_stays(place: Path) -> None:
    held = place / "results" / "segment" / "stage1-0-10-0123456789"
    with (held / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("--delete")
    assert held.exists() and not (place / "results" / "shards" / "notes-0123456789").exists()


def test_what_a_job_holds_or_the_last_run_of_a_recipe_elsewhere_reaches_is_not_listed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment, shards = "segment/stage1-0-10-0123456789", "shards/notes-0123456789"
    lease = place / "results" / segment / "lease.json"
    lease.write_text('{"host": "elsewhere", "job": "7", "state": "running"}')
    run()
    said = capsys.readouterr().out
    assert shards in said and segment not in said and "in 1 folder:" in said
    assert "outside config/recipes" in said and "smolmake gc path.yaml" in said
    lease.unlink()
    latest = place / "results" / "latest" / "elsewhere"
    for name in ("links-0123456789.json", "begun.json"):
        write_json(latest / name, {"shards/notes": shards})
        run("--delete")
        assert shards in folders(place) and segment not in folders(place)
        (latest / name).write_text("[")
        with pytest.raises(UserError, match="nobody knows what the run reaches"):
            run("--delete")
        (latest / name).unlink()


def test_a_run_notes_its_steps_when_it_begins(place: Path) -> None:
    workflow = load_workflow("mine", place)
    announce.begin(workflow)
    assert gc.latest(place) == set(workflow.steps.all)


def test_with_a_recipe_that_cannot_be_read_nothing_is_deleted(place: Path) -> None:
    write_recipe(place, SMALL.replace("sources:", "source:"), "broken")
    with pytest.raises(UserError, match="nobody knows what it reaches"):
        run("--delete")
    assert len(folders(place)) == 3


def finish_segments(place: Path, names: list[str]) -> dict[str, Path]:
    """Finished segments of the small recipe, with a checkpoint of two files; their folders by name."""
    steps = load_workflow("mine", place).steps
    found = {}
    for step in steps.of_kind("segment"):
        folder = found[step.name] = place / "results" / step.key
        if step.name in names:
            (folder / "checkpoint").mkdir(parents=True)
            for name in ("model", "optimizer"):
                (folder / "checkpoint" / f"{name}.safetensors").write_bytes(name.encode() * 100)
            about = {"kind": "segment", "name": step.name, "id": step.id}
            write_manifest(folder, about, {}, list((folder / "checkpoint").iterdir()), {}, time.time())
    return found


def test_optimizer_states_go_once_all_segments_that_follow_are_done(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = finish_segments(place, ["stage1-0-10", "stage1-10-20"])
    first, second = (folders[name] / OPTIMIZER_STATE for name in ("stage1-0-10", "stage1-10-20"))
    run("--states")
    said = capsys.readouterr().out
    assert (
        "in 1 optimizer state: needed by no segment" in said and first.exists() and folders["stage1-0-10"].name in said
    )
    run("--states", "--delete")
    assert not first.exists() and second.exists()  # stage2 is still to run
    verify_payload(folders["stage1-0-10"] / MANIFEST)
    (folders["stage1-0-10"] / "checkpoint" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="not what its manifest says"):
        verify_payload(folders["stage1-0-10"] / MANIFEST)
    finish_segments(place, ["stage2-20-30"])
    run("--states", "--delete")
    assert not second.exists() and (folders["stage2-20-30"] / OPTIMIZER_STATE).exists()  # a run may be made longer
    assert (place / "results/shards/notes-0123456789").exists()  # what no recipe reaches is another matter


def test_a_state_that_a_job_holds_or_another_recipe_needs_stays(place: Path) -> None:
    folders = finish_segments(place, ["stage1-0-10", "stage1-10-20"])
    state = folders["stage1-0-10"] / OPTIMIZER_STATE
    write_recipe(place, SMALL.replace("name: small", "name: other").replace("notes: 0.2", "notes: 0.3"), "other")
    with (folders["stage1-0-10"] / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("--states", "--delete")
    assert state.exists()
    finish_segments(place, ["stage2-20-30"])
    run("--states", "--delete")
    assert not state.exists()
    assert (folders["stage1-10-20"] / OPTIMIZER_STATE).exists()  # the other recipe's stage2 goes on from it


def test_a_plan_that_needs_a_removed_state_again_says_what_to_do(place: Path) -> None:
    folders = finish_segments(place, ["stage1-0-10", "stage1-10-20"])
    run("--states", "--delete")
    load_workflow("mine", place)
    (folders["stage1-10-20"] / MANIFEST).unlink()
    with pytest.raises(UserError, match="stage1-10-20 is to run") as caught:
        load_workflow("mine", place)
    first = folders["stage1-0-10"]
    trash = place / "results" / gc.TRASH / "segment" / first.name / OPTIMIZER_STATE
    assert f"mv {trash} {first / OPTIMIZER_STATE}" in caught.value.remedy
    run("--empty-trash")
    with pytest.raises(UserError) as caught:
        load_workflow("mine", place)
    assert f"delete {first / MANIFEST}" in caught.value.remedy and len(str(caught.value).splitlines()) < 6
    write_remote(first, f"file://{place}/remote", [OPTIMIZER_STATE])
    with pytest.raises(UserError) as caught:
        load_workflow("mine", place)
    assert f"delete {first / REMOVED}" in caught.value.remedy
    RemoteStore(f"file://{place}/remote").put(first / "checkpoint", "checkpoint")
    (place / "remote/checkpoint/optimizer.safetensors").write_bytes(b"optimizer" * 100)
    (first / REMOVED).unlink()
    load_workflow("mine", place)
    verify_payload(first / MANIFEST)  # as the segment that follows does
    assert (first / OPTIMIZER_STATE).exists()
