"""A change of the recipe changes the ids of exactly the steps whose result can change: the table of decision 2."""

import copy
import itertools
import json
import random
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from operator import eq
from pathlib import Path
from typing import Any

import pytest
from helpers.changes import (
    BEAR_THE_RECIPES_NAME,
    FROM_APO,
    FROM_CLEANING,
    FROM_DOCUMENTS,
    FROM_LC2,
    FROM_SFT,
    FROM_STAGE1,
    FROM_STAGE2,
    FROM_STAGE3,
    FROM_TOKENIZER,
)
from helpers.recipes import SMALL
from helpers.recipes import load as load_small
from pydantic import Field

from smolmake.errors import UserError
from smolmake.execution.step import Spec
from smolmake.graph.build import Steps, build_steps
from smolmake.recipe.load import load_recipe
from smolmake.recipe.schema import Recipe
from smolmake.yaml_files import read_yaml

Values = dict[str, Any]


def stage(values: Values, number: int) -> Values:
    return values["pretraining"]["stages"][number]


def put(*path: Any, value: Any) -> Callable[[Values, Path], None]:
    """A change that sets one key."""

    def change(values: Values, tree: Path) -> None:
        for key in path[:-1]:
            values = values[key]
        assert values.get(path[-1]) != value
        values[path[-1]] = value

    return change


def other_weights(number: int) -> Callable[[Values, Path], None]:
    def change(values: Values, tree: Path) -> None:
        stage(values, number)["mixture"]["mathematics"] *= 1.5

    return change


def longer_stage1(values: Values, tree: Path) -> None:
    stage(values, 0)["steps"] += values["pretraining"]["segment_steps"]


def decay_within_stage3(values: Values, tree: Path) -> None:
    assert values["pretraining"]["schedule"]["decay_steps"] <= stage(values, 2)["steps"]
    values["pretraining"]["schedule"]["decay_steps"] -= 20


def new_template(values: Values, tree: Path) -> None:
    template = tree / "config" / "templates" / values["sft"]["chat_template"]
    template.write_text(template.read_text() + "\n{#- another comment -#}")


def new_task(values: Values, tree: Path) -> None:
    file = tree / "examples" / "toy" / "tasks" / "facts.yaml"
    file.write_text(file.read_text().replace("metadata:", "metadata:\n  note: changed"))


CHANGES: dict[str, tuple[Callable[[Values, Path], None], tuple[str, ...]]] = {
    "title": (put("title", value="Another"), ("report/*",)),
    "an expectation": (put("expectations", "scores", "facts", "above", value=0.5), ("report/*",)),
    "another expectation": (put("expectations", "losses", "stage2", value={"text": "It falls.", "stage": "stage2"}),
                            ("report/*",)),
    "licence": (put("sources", "code", "licence", value="X"), ("report/*?",)),
    "micro-batch": (put("runtime", "micro_batch", value=3), ()),
    "threads": (put("runtime", "threads", value=7), ()),
    "threads of post-training": (put("runtime", "threads_posttraining", value=7), ()),
    "recovery": (put("runtime", "recovery_every", value="7min"), ()),
    "device": (put("runtime", "device", value="cpu"), ()),
    "measures": (put("runtime", "noise_scale_every", value=10), ()),
    "trackers": (put("runtime", "trackers", value=["tensorboard"]), ()),
    "uploads": (put("runtime", "upload", value={"url": "s3://bucket/x"}), ()),
    "roll-back": (put("pretraining", "guard", value={"roll_back": {}}), FROM_STAGE1),
    "weights of stage 2": (other_weights(1), ("mixture/stage[23]", "epochs/*", *FROM_STAGE2)),
    "weights of stage 3": (other_weights(2), ("mixture/stage3", "epochs/*", *FROM_STAGE3)),
    "a longer stable part": (longer_stage1, ("mixture/stage[23]", "epochs/*", "segment/stage1-400-*",
                                             "evaluation/stage1-400-*", *FROM_STAGE2)),
    "decay": (decay_within_stage3, FROM_STAGE3),
    "lr": (put("pretraining", "schedule", "lr", value=1.5e-3), FROM_STAGE1),
    "seed": (put("seed", value=1), ("mixture/*", "epochs/*", *FROM_STAGE1)),
    "cap": (put("sources", "code", "max_epochs", value=5.0), ("epochs/*", "report/*")),
    "packing": (put("pretraining", "packing", value="best-fit"), ("packing/*", "mixture/*", "epochs/*", *FROM_STAGE1)),
    "packing of lc2": (put("long_context", 1, "packing", value="best-fit"),
                       ("packing/*", "mixture/lc2", "epochs/*", *FROM_LC2)),
    "theta of lc2": (put("long_context", 1, "rope_theta", value=3e5), FROM_LC2),
    "learning rate of SFT": (put("sft", "learning_rate", value=5e-4), FROM_SFT),
    "beta": (put("apo", "beta", value=0.2), FROM_APO),
    "merge": (put("merge", "weights", "lc2", value=0.3), ("merge/*", "evaluation/merged", "report/*")),
    "limit": (put("evaluation", "limit", value=9), ("evaluation/*", "report/*")),
    "tasks": (new_task, ("evaluation/*", "report/*")),
    "chat template": (new_template, (*FROM_SFT, "evaluation/*")),
    "vocabulary": (put("tokenizer", "vocab_size", value=3000), ("tokenizer/bpe-3000", *FROM_TOKENIZER)),
    "a rival tokenizer": (put("tokenizer", "compare_sizes", value=[1500]),
                          ("tokenizer/bpe-1500", "tokenizer_comparison/*", "report/*")),
    "cleaning": (put("cleaning", "min_characters", value=100), FROM_CLEANING),
    "a text column": (put("sources", "code", "text", value="path"),
                      ("documents/code", *FROM_DOCUMENTS)),
}  # fmt: skip


@pytest.fixture
def values(root: Path) -> Values:
    """The toy recipe with fixed lengths, so that setting the toy's sizes does not touch this table."""
    values = read_yaml(root / "examples" / "toy" / "recipe.yaml")
    values["pretraining"]["segment_steps"] = 200
    values["pretraining"]["schedule"] = {"lr": 2e-3, "warmup_steps": 30, "decay_steps": 120}
    for number, steps in enumerate((400, 120, 120)):
        stage(values, number)["steps"] = steps
    return values


def load(values: Values, tree: Path) -> Recipe:
    path = tree / "changed.yaml"
    path.write_text(json.dumps(values))
    return load_recipe(str(path), tree)


def steps_of(values: Values, tree: Path) -> Steps:
    return build_steps(load(values, tree), tree)


def names(steps: Steps) -> dict[str, str]:
    """kind/name -> id."""
    return {f"{step.kind}/{step.name}": step.id for step in steps.all.values()}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reaches_what_depends_on_it_and_no_more(values: Values, tree: Path, name: str) -> None:
    change, patterns = CHANGES[name]
    before = names(steps_of(values, tree))
    changed = copy.deepcopy(values)
    change(changed, tree)
    after = names(steps_of(changed, tree))
    new = {key for key, identity in after.items() if before.get(key) != identity}
    sure = [pattern for pattern in patterns if not pattern.endswith("?")]
    allowed = [pattern.removesuffix("?") for pattern in patterns]
    assert {key for key in after if any(fnmatchcase(key, pattern) for pattern in sure)} <= new
    assert new <= {key for key in after if any(fnmatchcase(key, pattern) for pattern in allowed)}
    # Going back finds every earlier result again.
    if change not in (new_template, new_task):
        assert names(steps_of(values, tree)) == before


def test_key_order_and_description_do_not_matter(values: Values, tree: Path) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            random.Random(len(keys)).shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    before, after = names(steps_of(values, tree)), names(steps_of(shuffled(values), tree))
    assert after == before
    values["description"] = "Something else."
    after = names(steps_of(values, tree))
    assert {key for key in after if before[key] != after[key]} <= {"report/toy"}


def test_order_of_weights_does_not_matter_however_floats_add_up(values: Values, tree: Path) -> None:
    weights = {"code": 0.1, "english": 0.2, "mathematics": 0.3, "spanish": 0.7, "german": 0.11}
    orders = {sum(weights[name] for name in order): order for order in itertools.permutations(weights)}
    assert len(orders) > 1
    ids = set()
    for order in orders.values():
        stage(values, 0)["mixture"] = {name: weights[name] for name in order}
        recipe = load(values, tree)
        ids.add(next(step.id for step in build_steps(recipe, tree).of_kind("mixture")))
    assert len(ids) == 1


def test_weights_are_relative(values: Values, tree: Path) -> None:
    """Only the report, which prints them, is another."""
    before = names(steps_of(values, tree))
    for number in range(3):
        stage(values, number)["mixture"] = {k: w * 4 for k, w in stage(values, number)["mixture"].items()}
    after = names(steps_of(values, tree))
    assert {key for key in after if before[key] != after[key]} == {"report/toy"}
    stage(values, 0)["mixture"] |= {"notebooks": 0}
    assert names(steps_of(values, tree))["mixture/stage1"] != before["mixture/stage1"]


def test_the_recipe_name_reaches_only_what_bears_it(values: Values, tree: Path) -> None:
    before = set(steps_of(values, tree).all)
    values["name"] = "other"
    new = set(steps_of(values, tree).all) - before
    assert {key.split("/")[0] for key in new} == BEAR_THE_RECIPES_NAME


@pytest.mark.parametrize("path", ["data", "data/", "./data", "x/../data", "{tree}/data", "moved", "link"])
def test_where_data_lies_and_how_its_path_is_written_are_no_part_of_it(tree: Path, path: str) -> None:
    chat = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."}]}
    files = {"texts/a.txt": "A text.\n", "texts/deep/b.txt": "B.\n", "tokenizer/tokenizer.json": "{}"}
    for name, text in {**files, "chats/chats.jsonl": json.dumps(chat)}.items():
        (tree / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "data" / name).write_text(text)
    (tree / "x").mkdir()
    before = keys(small(tree, "data"), tree)
    if path == "moved":
        (tree / "data").rename(tree / "moved")
    (tree / "link").symlink_to(tree / "data")
    assert keys(small(tree, path.format(tree=tree)), tree) == before


def keys(recipe: Recipe, tree: Path) -> set[str]:
    """All steps but the report, which prints the paths."""
    return {step.key for step in build_steps(recipe, tree).all.values() if step.kind != "report"}


def small(tree: Path, path: str) -> Recipe:
    """A recipe that names folders of one place as its source's, its tokenizer's and its conversations'."""
    chat = "loss: all, chat_template: chatml.jinja, learning_rate: 1e-3, global_batch_size: 4, max_length: 64"
    text = SMALL.replace("{path: notes.txt}", f"{{path: '{path}/texts', template: '{{path}}: {{text}}'}}", 1)
    text = text.replace("vocab_size: 512", f"vocab_size: 512, path: '{path}/tokenizer'")
    return load_small(tree, f"{text}sft: {{{chat}, data: {{a: {{path: '{path}/chats'}}}}}}\n")


def test_a_readme_and_comments_among_the_tasks_rerun_nothing(values: Values, tree: Path) -> None:
    before, tasks = names(steps_of(values, tree)), tree / "examples" / "toy" / "tasks"
    (tasks / "README.md").write_text("What is asked.\n")
    for file in tasks.iterdir():
        if file.suffix in (".yaml", ".py"):
            file.write_text(f"# A comment.\n\n{file.read_text()}")
    assert names(steps_of(values, tree)) == before
    (tasks / "utils.py").write_text("def shout(document):\n    return 1\n")
    changed = names(steps_of(values, tree))
    (tasks / "utils.py").write_text("def shout(document):  # loud\n    return (1)\n")
    assert names(steps_of(values, tree)) == changed != before


def test_a_new_key_whose_default_changes_nothing_makes_no_other_identity() -> None:
    class Old(Spec):
        steps: int

    class New(Old):
        shuffle: bool = Field(False, exclude_if=partial(eq, False))
        scale: float = Field(1.0, exclude_if=partial(eq, 1.0))

    assert New(steps=1).values() == Old(steps=1).values()
    assert New(steps=1, shuffle=True).values() == {"steps": 1, "shuffle": True}
    assert New.model_validate(New(steps=1, scale=2.0).model_dump(mode="json")) == New(steps=1, scale=2.0)


def test_inputs_come_first_and_every_id_is_in_its_path(values: Values, tree: Path) -> None:
    seen: set[str] = set()
    for key, step in steps_of(values, tree).all.items():
        assert {other.key for other in step.inputs.values()} <= seen
        assert key == f"{step.kind}/{step.name}-{step.id}" and len(step.id) == 10
        seen.add(key)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (
            "{vocab_size: 512}",
            "{vocab_size: 512, path: mine, compare_with: {taken: {path: theirs}}}",
            "tokenizer.compare_with.taken",
        ),
        (
            "{vocab_size: 512}",
            "{vocab_size: 512, compare_with: {bpe-512: {path: theirs}}}",
            "tokenizer.compare_with.bpe-512",
        ),
        (
            "name: stage2, steps: 10, mixture: {notes: 0.2, code: 0.8}}",
            "name: stage2, steps: 10, mixture: {notes: 1}}\n"
            "    - {name: stage2-20-30.a, steps: 10, mixture: {notes: 1}}\n"
            "evaluation: {suites: {b: {tasks: [x]}, a-30-40.b: {tasks: [y]}}}",
            "evaluation.suites.b",
        ),
    ],
)
def test_two_steps_of_one_name_are_refused(tree: Path, old: str, new: str, key: str) -> None:
    for number, folder in enumerate(("mine", "theirs")):
        (tree / folder).mkdir()
        (tree / folder / "tokenizer.json").write_text(str(number))
    recipe = load_small(tree, SMALL.replace(old, new))
    with pytest.raises(UserError, match="two steps of the recipe would be called") as caught:
        build_steps(recipe, tree)
    assert caught.value.key == key
