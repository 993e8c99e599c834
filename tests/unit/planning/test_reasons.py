"""The plan's reasons name what really changed: the key, the name, the input; `missing` is what was lost."""

import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_results import pretend_done
from helpers.recipes import SMALL

from smolmake.planning.plan import Plan, make_plan
from smolmake.planning.reasons import NEW, code_changes, content_changes, renamed_sections
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import load_workflow
from smolmake.yaml_files import parse_yaml

Values = dict[str, Any]
Change = Callable[[Values], None]
CHAT = """\
long_context:
  - name: lc1
    steps: 10
    sequence_length: 128
    global_batch_size: 2
    rope_theta: 1e5
    schedule: {lr: 1e-4}
    mixture: {code: 1.0}
sft: &chat
  loss: all
  chat_template: chatml.jinja
  learning_rate: 1e-3
  global_batch_size: 4
  max_length: 64
  data: {a: {path: chats.jsonl}}
mid_training: *chat
preferences: {strong: sft, weak: mid, prompts: {path: chats.jsonl}}
apo: {learning_rate: 1e-3, global_batch_size: 4, max_length: 64, beta: 0.1}
merge: {weights: {apo: 0.9, lc1: 0.1}}
evaluation: {suites: {reading: {tasks: [hellaswag], on: stage_ends}}}
"""


def put(key: str, value: Any) -> Change:
    def change(values: Values) -> None:
        *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        inner: Any = values
        for part in path:
            inner = inner[part] if isinstance(part, int) else inner.setdefault(part, {})
        inner[last] = value

    return change


def rename(values: Any, old: str, new: str) -> Any:
    """Values with another name for something, wherever it stands."""
    if isinstance(values, dict):
        return {new if key == old else key: rename(value, old, new) for key, value in values.items()}
    if isinstance(values, list):
        return [rename(value, old, new) for value in values]
    return new if values == old else values


@pytest.fixture
def values(tree: Path) -> Values:
    (tree / "notes.txt").write_text("Some text.\n")
    chat = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."}]}
    (tree / "chats.jsonl").write_text(json.dumps(chat | {"prompt": "Hello"}) + "\n")
    values: Values = parse_yaml((SMALL + CHAT).encode(), tree / "recipe.yaml")
    pretend_done(load_workflow(write(values, tree), tree))
    return values


def write(values: Values, tree: Path) -> str:
    (tree / "recipe.yaml").write_text(json.dumps(values))
    return str(tree / "recipe.yaml")


def plan_of(values: Values, tree: Path) -> Plan:
    return make_plan(load_workflow(write(values, tree), tree))


TEMPLATE = "the text of the chat template changed"
# name: change, and for each step, or all that match, what changed in it itself
CASES: dict[str, tuple[Change, dict[str, set[str]]]] = {
    "inherited packing": (
        put("pretraining.packing", "best-fit"),
        {"packing/*": {"pretraining.packing concatenate → best-fit"}, "mixture/*": set()},
    ),
    "an extension's own packing": (
        put("long_context.0.packing", "best-fit"),
        {"packing/code-128": {"long_context.lc1.packing nothing → best-fit"}},
    ),
    "inherited segments": (
        put("pretraining.segment_steps", 5),
        {"segment/stage1-0-5": {"pretraining.segment_steps 10 → 5"},
         "segment/lc1-0-5": {"pretraining.segment_steps 10 → 5"}},
    ),
    "an extension's own segments": (
        put("long_context.0.segment_steps", 5), {"segment/lc1-*": {"long_context.lc1.segment_steps nothing → 5"}},
    ),
    "an extension's sequences": (
        put("long_context.0.sequence_length", 256),
        {"mixture/lc1": {"long_context.lc1.sequence_length 128 → 256"},
         "segment/lc1-0-10": {"long_context.lc1.sequence_length 128 → 256"}, "epochs/*": set()},
    ),
    "who answers better": (
        put("preferences.strong", "mid"), {"preferences/pairs": {"preferences.strong sft → mid"}, "alignment/*": set()},
    ),
    "who answers worse": (put("preferences.weak", "lc1"), {"preferences/pairs": {"preferences.weak mid → lc1"}}),
    "a chat template": (
        put("sft.chat_template", "smollm3-short.jinja"),
        {"evaluation/*": {"sft.chat_template chatml.jinja → smollm3-short.jinja", TEMPLATE}},
    ),
    "no suite any more": (
        put("evaluation.suites", {}),
        {"documents/*": {"evaluation.suites.reading.tasks ['hellaswag'] → nothing"}, "shards/*": set()},
    ),
    "another model in the merge": (
        put("merge.weights", {"apo": 0.9, "mid": 0.1}),
        {"merge/*": {"merge.weights.lc1 0.1 → nothing", "merge.weights.mid nothing → 0.1"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_key_that_changed_is_named(tree: Path, values: Values, name: str) -> None:
    change, expected = CASES[name]
    change(values)
    plan = plan_of(values, tree)
    for pattern, reasons in expected.items():
        own = {step.label: set(plan.own[step.key]) for step in plan.running if fnmatchcase(step.label, pattern)}
        assert own and all(told == reasons for told in own.values()), own
    assert all(plan.reasons[step.key] != (NEW,) for step in plan.running)


# what is renamed, its new name, what runs again, and why
NAMES: dict[str, tuple[str, str, dict[str, set[str]]]] = {
    "the recipe": ("small", "other", {"report/other": {"name small → other"}}),
    "a stage": (
        "stage1", "first",
        {label: {"pretraining.stages.stage1 is called first now"} for label in ("epochs/small", "report/small")},
    ),
    "a suite": ("reading", "stories", {"report/small": {"evaluation.suites.reading is called stories now"}}),
    "a source": (
        "code", "programs",
        {"tokenizer/bpe-512": {"sources.code is called programs now"}, "shards/programs": {NEW}},  # and much more
    ),
    "an extension": (
        "lc1", "longer",
        {"epochs/small": {"long_context.lc1 is called longer now"},  # and a merge says which models it was made of
         "merge/merged": {"merge.weights.lc1 0.1 → nothing", "merge.weights.longer nothing → 0.1"},
         "evaluation/merged": set(), "suite/merged.reading": set(),
         "report/small": {"long_context.lc1 is called longer now", "merge.weights.lc1 0.1 → nothing",
                          "merge.weights.longer nothing → 0.1"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_another_name_runs_what_shows_it_and_the_rest_is_found(tree: Path, values: Values, name: str) -> None:
    old, new, expected = NAMES[name]
    plan = plan_of(rename(values, old, new), tree)
    own = {step.label: set(plan.own[step.key]) for step in plan.running}
    assert {label: own[label] for label in expected} == expected
    assert name == "a source" or set(own) == set(expected)
    kept = [step for step in plan.workflow.steps.all.values() if step.kept_as]
    text = plan_text(plan)
    assert kept and "Kept under an earlier name" in text and f"  {kept[0].label} is results/{kept[0].key}" in text
    for step in kept:
        assert old in step.key and old not in step.label and (tree / step.manifest).is_file()
    # Once there, nothing runs again, and the old name finds its own.
    pretend_done(plan.workflow)
    assert not plan_of(rename(values, old, new), tree).running
    assert not (before := plan_of(values, tree)).running
    assert not any(step.kept_as for step in before.workflow.steps.all.values())


def test_another_name_and_another_value_are_told_apart(tree: Path, values: Values) -> None:
    changed = rename(values, "stage1", "first") | {"name": "other"}
    changed["pretraining"]["schedule"]["lr"] = 2e-3
    plan = plan_of(changed, tree)
    own = {step.label: set(plan.own[step.key]) for step in plan.running}
    assert own["segment/first-0-10"] == own["segment/stage2-20-30"] == {"pretraining.schedule.lr 0.001 → 0.002"}
    assert own["epochs/other"] == {"pretraining.stages.stage1 is called first now"}
    assert own["report/other"] == {
        "name small → other", "pretraining.schedule.lr 0.001 → 0.002", "pretraining.stages.stage1 is called first now"
    }  # fmt: skip


def test_what_was_begun_under_another_name_goes_on_there(tree: Path, values: Values) -> None:
    step = next(step for step in plan_of(values, tree).workflow.steps.all.values() if step.name == "stage1-10-20")
    (tree / step.manifest).unlink()
    plan = plan_of(rename(values, "stage1", "first"), tree)
    found = next(other for other in plan.running if other.name == "first-10-20" and other.kind == "segment")
    assert found.key == step.key and "begun" in plan.own[found.key][0]
    shutil.rmtree(tree / "results" / step.key)
    plan = plan_of(rename(values, "stage1", "first"), tree)
    assert f"segment/first-10-20-{step.id}" in {other.key for other in plan.running}


def test_a_runs_jobs_keep_to_the_folders_that_it_began_with(
    tree: Path, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run may finish the same step under another name meanwhile."""
    other = rename(values, "small", "other")
    step = plan_of(values, tree).workflow.steps.of_kind("heldout")[0]
    assert plan_of(other, tree).workflow.steps.of_kind("heldout")[0].key == step.key
    own = f"heldout/other-{step.id}"
    begun = tree / "results" / "latest" / "other" / "begun.json"
    begun.parent.mkdir(parents=True)
    begun.write_text(json.dumps({"heldout/other": own}))
    assert plan_of(other, tree).workflow.steps.of_kind("heldout")[0].key == step.key  # no run goes on
    monkeypatch.setenv("SMOLMAKE_RUN", "other")
    assert plan_of(other, tree).workflow.steps.of_kind("heldout")[0].key == own


def test_a_step_that_reads_another_finished_one_says_so(tree: Path, values: Values) -> None:
    """Nothing of its own has changed: a source came, whose documents another recipe has cleaned already."""
    more = json.loads(json.dumps(values)) | {"name": "other"}
    more["sources"]["extra"] = {"path": "chats.jsonl", "text": "prompt"}
    pretend_done(plan_of(more, tree).workflow)
    for tokenizer in (tree / "results" / "tokenizer").iterdir():
        if json.loads((tokenizer / "provenance.json").read_text())["recipe"] == "other":
            shutil.rmtree(tokenizer)
    plan = plan_of(more | {"name": "small"}, tree)
    (tokenizer_step,) = plan.workflow.steps.of_kind("tokenizer")
    assert "documents/extra" not in {step.label for step in plan.running}
    assert "sources.extra.path nothing → chats.jsonl" in plan.own[tokenizer_step.key]


def test_two_sources_that_say_the_same_keep_a_result_each(tree: Path, values: Values) -> None:
    values["sources"]["code"].pop("domain")
    pretend_done(plan_of(values, tree).workflow)
    documents = plan_of(values, tree).workflow.steps.of_kind("documents")
    assert len(documents) == 2 and len({step.id for step in documents}) == 1
    shutil.rmtree(tree / "results" / documents[1].key)
    plan = plan_of(values, tree)
    assert [step.key for step in plan.running] == [documents[1].key]
    assert plan.own[documents[1].key] == (NEW,)


def test_a_copied_recipe_that_shares_little_has_no_reasons_of_another(tree: Path, values: Values) -> None:
    other = {**parse_yaml(SMALL.encode(), tree / "x.yaml"), "name": "other", "seed": 5, "runtime": {"threads": 3}}
    for key in ("hidden_size", "intermediate_size"):
        other["model"][key] *= 2
    plan = plan_of(other, tree)
    assert {reason for reasons in plan.reasons.values() for reason in reasons} == {NEW}


def test_sections_are_renamed_only_as_a_whole() -> None:
    before = {"a.x.p": 1, "a.x.q": "x", "a.y.p": 2, "b.x": 3}
    assert renamed_sections(before, {"a.z.p": 1, "a.z.q": "z", "a.y.p": 2, "b.z": 3}) == {"a.x": "a.z"}
    assert renamed_sections(before, {"a.z.p": 1, "a.z.q": "other", "a.y.p": 2, "b.x": 3}) == {}
    assert renamed_sections(before, before | {"a.z.p": 1, "a.z.q": "z"}) == {}
    assert renamed_sections({"a.x.p": 1, "a.y.p": 1}, {"a.v.p": 1, "a.w.p": 1}) == {"a.x": "a.v", "a.y": "a.w"}


def test_code_that_only_moved_is_no_reason_and_another_use_of_it_is() -> None:
    before = {"": {"": "1"}, "a.py": {"f()": "x", "g()": "y"}}
    moved = {"": {"": "2"}, "b.py": {"f()": "x"}, "a.py": {"g()": "y"}}
    assert code_changes(before, moved) == ["which of its definitions its code uses where, or their order, changed"]
    assert code_changes(before, moved | {"": {"": "1"}}) == []
    assert code_changes(before, moved | {"a.py": {"g()": "z"}}) == ["a.py: g() changed"]


def test_versions_and_files_behind_a_program_are_named() -> None:
    before = {
        "packages": {"numpy": "2.4.5"},
        "python": "3.11.6",
        "code": {"run.py": "a"},
        "reads": {"lists/a.txt": "x"},
    }
    now = {"packages": {"numpy": "2.4.6"}, "python": "3.11.7", "code": {"run.py": "b"}, "reads": {"lists/b.txt": "x"}}
    assert content_changes(before, now) == [
        "run.py changed", "numpy 2.4.5 → 2.4.6", "python 3.11.6 → 3.11.7", "lists/a.txt is gone",
        "lists/b.txt is new",
    ]  # fmt: skip
