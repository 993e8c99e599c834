"""Whatever stands at a key, a recipe is laid out within seconds or refused on one screen that names file and key."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers.recipes import sections_in, write_recipe
from pydantic import BaseModel, ValidationError

from smolmake.errors import UserError
from smolmake.planning.plan import make_plan
from smolmake.planning.text import plan_text
from smolmake.planning.workflow import load_workflow
from smolmake.recipe.schema import Recipe
from smolmake.recipe.validate import known_names
from smolmake.yaml_files import parse_yaml

FULL = (Path(__file__).parent / "full.yaml").read_text()
VALUES = parse_yaml(FULL)
HERE = "HERE"
SLOWER = 4  # a machine of CI
Place = tuple[Any, ...]
# Where a value of any type may stand, and a name or a number.
FREE = [
    ("generated", "crawl", "arguments", "pages"),
    ("sources", "code", "where", "lang", 0),
    ("evaluation", "suites", "reading", "generation", "temperature"),
    ("expectations", "scores", "three", "above"),
]
MINUS_ONE = {"sources.code.at_least.score: -1", "evaluation.published.card.scores.0.value: -1"}
# What no number is, as YAML says it; and numbers, of which most keys refuse some.
NO_NUMBER = [
    "true",
    "false",
    "1:30",
    ".nan",
    ".inf",
    "-.inf",
    "1e999",
    "[]",
    "[1]",
    "{}",
    "''",
    "no",
    "010",
    "2024-01-01",
]
NUMBERS = ["-1", "0", "0.5", "1e-300", "1e21", "90T", "1e999999999T", "9" * 30, "null", "1_0"]
NO_TEXT = ["true", "1", "0.5", ".nan", "[]", "[a]", "{}", "{a: b}"]
TEXTS = ["''", "'nothing of this name'", '"\\0"', f"'{'x' * 5000}'", "../../x", "Größe", "'a: b'", "null"]
MESSAGES = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
ROWS = {
    "rows": [{"text": "a", "lang": "x", "score": 5}],
    "chats": MESSAGES,
    "prompts": [{"prompt": "a"}],
    "pairs": [{"prompt": "a", "chosen": "b", "rejected": "c"}],
}


@pytest.fixture(autouse=True)
def files(tree: Path) -> None:
    for name, rows in ROWS.items():
        (tree / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tree / "make.py").write_text("print()\n")


def leaves(values: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value that is no section and no list, with its place."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else None
    if items is None:
        yield place, values
    else:
        for key, value in items:
            yield from leaves(value, (*place, key))


LEAVES = dict(leaves(VALUES))


def with_value(place: Place, yaml: str) -> str:
    """The full recipe with this YAML at a place."""
    values = json.loads(json.dumps(VALUES))
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = HERE
    return json.dumps(values).replace(f'"{HERE}"', yaml)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End what takes longer with an error."""

    def end(number: int, frame: Any) -> None:
        raise TimeoutError(f"not done within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refusal(tree: Path, text: str) -> UserError | None:
    """The error that a recipe gives before anything runs; None where it can be planned."""
    file = write_recipe(tree, text)
    try:
        with time_limit(10 * SLOWER):
            plan_text(make_plan(load_workflow(str(file), tree)))
    except UserError as error:
        assert len(str(error).splitlines()) <= 8 and len(str(error)) < 1500, str(error)
        assert error.file and error.remedy and (error.key or "not valid YAML" in error.what), str(error)
        return error
    return None


def planned(tree: Path, places: list[Place], written: list[str]) -> set[str]:
    """Of what is written at these places in turn, what can be planned, as `key: value`."""
    return {
        f"{'.'.join(map(str, place))}: {value}"
        for place in places
        for value in written
        if refusal(tree, with_value(place, value)) is None
    }


def of_type(kind: str, *types: type) -> list[Place]:
    """The places in a section whose values have this type, but for those that take any."""
    return [place for place, value in LEAVES.items() if place[0] == kind and type(value) in types and place not in FREE]


def test_the_full_recipe_is_one_and_has_every_section(tree: Path) -> None:
    assert refusal(tree, FULL) is None
    used = {model.__name__ for model in sections_in(Recipe.model_validate(VALUES))}
    assert Recipe.model_json_schema()["$defs"].keys() - used == {"BaseModelFiles", "Adopted"}


@pytest.mark.slow
@pytest.mark.parametrize("section", VALUES)
def test_what_is_no_number_is_refused_where_one_belongs(tree: Path, section: str) -> None:
    assert not planned(tree, of_type(section, int, float), NO_NUMBER)


@pytest.mark.slow
@pytest.mark.parametrize("section", VALUES)
def test_any_number_is_refused_or_laid_out(tree: Path, section: str) -> None:
    taken = planned(tree, of_type(section, int, float), NUMBERS)
    assert not {told for told in taken if told.endswith((": 1e999999999T", ": -1"))} - MINUS_ONE


@pytest.mark.slow
@pytest.mark.parametrize("section", VALUES)
def test_what_is_no_text_is_refused_where_one_belongs(tree: Path, section: str) -> None:
    assert not planned(tree, of_type(section, str), NO_TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("section", VALUES)
def test_any_text_is_refused_or_laid_out(tree: Path, section: str) -> None:
    taken = planned(tree, of_type(section, str), TEXTS)
    assert not {told for told in taken if "\\0" in told}


@pytest.mark.slow
@pytest.mark.parametrize("section", VALUES)
def test_only_true_and_false_are_truth_values(tree: Path, section: str) -> None:
    assert not planned(tree, of_type(section, bool), ["yes", "on", "'true'", "1", "0", "null", "[]"])


@pytest.mark.slow
@pytest.mark.parametrize("written", ["[]", "{}", "x", "1", "true", "null", "[{}]", "{x: {}}", "{x: null}"])
@pytest.mark.parametrize("section", VALUES)
def test_any_section_is_refused_or_laid_out(tree: Path, section: str, written: str) -> None:
    refusal(tree, with_value((section,), written))


def sections_set(values: Any, section: Any, place: Place = ()) -> Iterator[tuple[Place, list[str]]]:
    """The sections that values set, each with the keys that it has there."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    model = isinstance(section, BaseModel)
    if model:
        yield place, list(values)
    for key, inner in items:
        yield from sections_set(inner, getattr(section, key) if model else section[key], (*place, key))


@pytest.mark.parametrize("place", [place for place, _ in sections_set(VALUES, Recipe.model_validate(VALUES))])
def test_a_misspelt_key_of_any_section_is_told_with_the_right_one(tree: Path, place: Place) -> None:
    keys = dict(sections_set(VALUES, Recipe.model_validate(VALUES)))[place]
    told = refusal(tree, renamed((*place, max(keys, key=len)), f"{max(keys, key=len)}e"))
    assert told is not None and told.what == "unknown key"
    assert told.key == ".".join(map(str, (*place, f"{max(keys, key=len)}e")))
    assert f"did you mean `{max(keys, key=len)}`?" in told.remedy


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("tokenizer: {vocab_size: 512, path: nowhere}", "tokenizer.path"),
        ("tokenizer: {vocab_size: 512, compare_with: {theirs: {path: nowhere}}}", "tokenizer.compare_with.theirs.path"),
        ("base: {hub: a/b, revision: ''}", "base.revision"),
        ("base: {hub: a/b, revision: 1234567}", "base.revision"),
        ("base: {adopt: {path: '', digest: x}}", "base.adopt.path"),
        (f"base: {{adopt: {{path: nowhere, digest: {'a' * 64}}}}}", "base.adopt.path"),
    ],
)
def test_what_a_recipe_takes_over_is_there(tree: Path, section: str, key: str) -> None:
    name, _, rest = FULL.partition("pretraining:\n")
    kept = "\n".join(line for line in name.splitlines() if not line.startswith(("tokenizer:", "model:")))
    own = "" if section.startswith("base") else next(line for line in FULL.splitlines() if line.startswith("model:"))
    told = refusal(tree, f"{kept}\n{section}\n{own}\npretraining:\n{rest}")
    assert told is not None and told.key == key


def test_a_name_of_what_there_is_not_is_refused_wherever_one_stands(tree: Path) -> None:
    known = known_names(Recipe.model_validate(VALUES), tree)
    nothing = {what: [] for what in known} | {"root": tree}
    write_recipe(tree, FULL)
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(VALUES, context=nothing)
    missed = [error for error in caught.value.errors() if "there is no such" in error["msg"]]
    assert {error["msg"].partition("there is no such ")[2] for error in missed} == known.keys() - {"root"}
    for error in missed:
        place = tuple(key for key in error["loc"] if key != "[key]" and "(" not in str(key))
        text = with_value(place, "nothing") if "[key]" not in error["loc"] else renamed(place)
        told = refusal(tree, text)
        assert told is not None and "nothing" in str(told), place


def renamed(place: Place, name: str = "nothing") -> str:
    """The full recipe with another name at the key of a mapping."""
    values = json.loads(json.dumps(VALUES))
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[name] = inner.pop(place[-1])
    return json.dumps(values)


TAGS = ("int", "float", "bool", "map", "seq", "set", "binary", "timestamp", "omap")
BOMB = "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise("abcdefghij"))


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000 + "]" * 3000,
        "title: &a [*a]\n",
        "sources: &a {x: *a}\n",
        f"a: &a [x, x, x, x, x, x, x, x]\n{BOMB}title: *j\n",
        *(f"seed: !!{tag} x\n" for tag in TAGS),
        *("title: !mine x\n", "1: x\n", "true: x\n", "null: x\n", "[a]: x\n", "? {a: b}\n: x\n", "'': x\n"),
        *("a: b\n---\na: b\n", "\ta: b\n", f"seed: 0x{'F' * 5000}\n", 'title: "\\ud800"\n'),
        *("extends: 5\n", "extends: [toy]\n", "extends: config\n", "extends: {}\n", "sources: nothing\n", "model: 5\n"),
    ],
)
def test_what_is_no_recipe_is_refused(tree: Path, text: str) -> None:
    assert refusal(tree, text) is not None


CHANGES = {
    "a floor above the peak": ("min_lr: 1e-5", "min_lr: 1e-2", "pretraining.schedule.min_lr"),
    "a tail above the peak": ("[{steps: 2, lr: 1e-5}]", "[{steps: 2, lr: 1}]", "pretraining.schedule.tail.0.lr"),
    "an extension that is shorter": ("sequence_length: 128", "sequence_length: 32", "long_context.0.sequence_length"),
    "a warm-up of batches past its stage": ("[{steps: 4, ", "[{steps: 21, ", "pretraining.batch_warmup"),
    "a warm-up with larger batches": ("steps: 4, global_batch_size: 4", "steps: 4, global_batch_size: 8",
                                      "pretraining.batch_warmup.0.global_batch_size"),
    "a segment for each of many steps": ("segment_steps: 10", "segment_steps: 1", "pretraining.segment_steps"),
    "a milestone for each of many steps": ("milestone_steps: 5", "milestone_steps: 1", "pretraining.milestone_steps"),
    "weights that overflow": ("{notes: 0.5, code: 0.5}", "{notes: 1e308, code: 1e308}",
                              "pretraining.stages.0.mixture.notes"),
    "no document is kept": ("max_characters: 1000", "max_characters: 5", "cleaning"),
    "no row is kept": ("at_most: {score: 9.5}", "at_most: {score: 2}", "sources.code"),
    "a layout of no stage": ("layouts: {pretraining", "layouts: {stage3: {}, pretraining", "runtime.layouts"),
    "a task that does not exist": ("tasks: [hellaswag]", "tasks: [hellaswag, helaswag]",
                                   "evaluation.suites.reading.tasks.1"),
    "names that differ by case": ("  notes: {path", "  Code: {path: notes.txt}\n  notes: {path", "sources"),
    "a name that is not ASCII": ("name: full", "name: für", "name"),
    "a limit in money without a price": ("price_per_gpu_hour: 2.5", "price_per_gpu_hour: null", "cost.budget.money"),
    "an ambiguous text": ("lang: [x]", "lang: [12:30]", "sources.code.where.lang.0"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_contradictions_are_refused_at_their_line(tree: Path, change: str) -> None:
    old, new, key = CHANGES[change]
    assert old in FULL
    text = FULL.replace(old, new)
    if "many steps" in change:
        text = text.replace("name: stage2, steps: 10", "name: stage2, steps: 10k")
    told = refusal(tree, text)
    assert told is not None and told.key == key
    assert told.line is not None
    line = text.splitlines()[told.line - 1]
    assert new.splitlines()[0] in line or line == f"{key}:"
