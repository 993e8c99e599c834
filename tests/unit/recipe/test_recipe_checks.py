"""Contradictions inside a recipe and data that is not there are found before anything runs."""

from pathlib import Path

import pytest
from helpers.recipes import SMALL, changed, error_of, load, write_recipe

from smolmake.execution.fingerprint import code_definitions
from smolmake.execution.kinds import KINDS, script_of
from smolmake.graph.stages import recipe_stages
from smolmake.recipe.load import load_recipe
from smolmake.recipe.validate import RESERVED

ROOT = Path(__file__).parents[3]
CHAT = "loss: all, chat_template: chatml.jinja, learning_rate: 1e-3, global_batch_size: 4, max_length: 64"
SFT = f"sft: {{{CHAT}, data: {{chats: {{path: notes.txt}}}}}}\n"
APO = "apo: {learning_rate: 1e-4, global_batch_size: 4, max_length: 64, data: {pairs: {path: notes.txt}}}\n"
LONG = (
    "long_context: [{name: NAME, steps: 5, mixture: {notes: 1}, sequence_length: 128, global_batch_size: 2,"
    " rope_theta: 1e5, schedule: {lr: 1e-3}}]\n"
)
MODEL = "evaluation: {models: {NAME: {hub: a/b, revision: c0ffee}}}\n"
CARD = "evaluation: {published: {card: {source: a card, at: stage2, scores: [{task: a, metric: acc, value: 1}]}}}\n"
CRAWL = "generated: {crawl: {script: notes.txt}}\n"


def generated(name: str) -> str:
    """A recipe whose notes are what a script generates."""
    return changed("{path: notes.txt}", f"{{generated: {name}}}")


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        (changed("{notes: 0.5, code: 0.5}", "{notes: 0, code: 0.0}"), "pretraining.stages.0.mixture", "sum to nothing"),
        (changed("{notes: 0.5, code: 0.5}", "{}"), "pretraining.stages.0.mixture", "sum to nothing"),
        (changed("global_batch_size: 4", "global_batch_size: 4\n  packing: tight"), "pretraining.packing", "best-fit"),
        (changed("{notes: 0.5, code", "{note: 0.5, code"), "pretraining.stages.0.mixture", "`notes`"),
        (changed("name: stage2", "name: stage1"), "pretraining.stages.1.name", "another stage"),
        (SMALL + LONG.replace("NAME", "stage2"), "long_context.0.name", "another stage"),
        (SMALL + SFT + LONG.replace("NAME", "sft"), "long_context.0.name", "another part of the run"),
        (SMALL + LONG.replace("NAME", "evaluation"), "long_context.0.name", "another part of the run"),
        (changed("decay_steps: 5", "decay_steps: 29"), "pretraining.schedule", "30 steps"),
        (
            SMALL + LONG.replace("NAME", "lc").replace("1e-3", "1e-3, warmup_steps: 6"),
            "long_context.0.schedule",
            "5 steps",
        ),
        (changed("{path: notes.txt}", "{path: nothing.txt}"), "sources.notes.path", "no such file"),
        (changed("{path: notes.txt}", "{path: 'no*thing/*.txt'}"), "sources.notes.path", "no such file"),
        (SMALL + SFT.replace("notes.txt", "lost.jsonl"), "sft.data.chats.path", "no such file"),
        (SMALL + SFT.replace("chatml.jinja", "chatlm.jinja"), "sft.chat_template", "chatml.jinja"),
        (SMALL + "evaluation: {tasks: examples/toy/tasks}\n", "evaluation.data", "without data"),
        (
            SMALL + "evaluation: {tasks: examples/toy/tasks, data: {path: notes.txt, format: jsonl}}\n",
            "evaluation",
            "leave `format` out",
        ),
        (SMALL + "evaluation: {tasks: config, data: {path: notes.txt}}\n", "evaluation.tasks", "no folder of task"),
        (SMALL + "evaluation: {tasks: nowhere, data: {path: notes.txt}}\n", "evaluation.tasks", "no folder of task"),
        (generated("crawl/a"), "sources.notes.generated", "no such generated data"),
        (generated("crwl/a") + CRAWL, "sources.notes.generated", "`crawl`"),
        (generated("crawl/../a") + CRAWL, "sources.notes.generated", "outside"),
        (generated("crawl//a") + CRAWL, "sources.notes.generated", "outside"),
        (generated("crawl") + CRAWL.replace("notes.txt", "lost.py"), "generated.crawl.script", "no such script"),
        (generated("crawl") + CRAWL.replace("}}", ", reads: [lost]}}"), "generated.crawl.reads", "no such file"),
        (
            generated("crawl") + CRAWL.replace("}}", ", packages: [numpi]}}"),
            "generated.crawl.packages",
            "not installed",
        ),
        (generated("crawl") + CRAWL.replace("}}", ", arguments: {output: a}}}"), "generated.crawl.arguments", "option"),
        (generated("crawl") + CRAWL.replace("}}", ", arguments: {a b: 1}}}"), "generated.crawl.arguments", "option"),
        (SMALL + SFT + "preferences: {prompts: {path: notes.txt}, weak: stage3}\n", "preferences.weak", "`stage2`"),
        (SMALL + SFT + "preferences: {prompts: {path: notes.txt}}\n", "preferences.weak", "no such checkpoint"),
        (SMALL + SFT + APO + "preferences: {prompts: {path: notes.txt}, weak: apo}\n", "preferences.weak", "before"),
        (SMALL + "merge: {weights: {stage1: 1, sft: 1}}\n", "merge.weights", "no such checkpoint"),
        (SMALL + "merge: {weights: {stage1: 0, stage2: 0}}\n", "merge.weights", "sum to nothing"),
        (SMALL + APO, "apo", "SFT"),
        (SMALL + MODEL.replace("NAME", "sft"), "evaluation.models.sft", "another part of the run"),
        (SMALL + MODEL.replace("NAME", "stage2"), "evaluation.models.stage2", "another part of the run"),
        (SMALL + MODEL.replace("NAME", "notes"), "evaluation.models.notes", "another part of the run"),
        (SMALL + MODEL.replace("NAME", "a").replace(", revision: c0ffee", ""), "evaluation.models.a", "revision"),
        (SMALL + CARD.replace("stage2", "stage9"), "evaluation.published.card.at", "`stage2`"),
        (
            SMALL + CARD.replace("value: 1", "suite: exams, value: 1"),
            "evaluation.published.card.scores.0.suite",
            "suite",
        ),
        ("name: mine\nevaluation: {prompts: [A]}\n", "pretraining", "`evaluation.models`"),
        (f"name: mine\n{MODEL.replace('NAME', 'llama')}{SFT}", "pretraining", "`base`"),
        (SMALL + SFT + APO.replace("{pairs: {path: notes.txt}}", "{}"), "apo", "pairs"),
    ],
)
def test_contradictions_are_refused(tree: Path, text: str, key: str, told: str) -> None:
    error = error_of(tree, text)
    assert error.key == key
    assert told in str(error)


@pytest.mark.parametrize("place", ["empty.txt", "folder", "folder/*.txt"])
def test_a_source_without_content_is_refused(tree: Path, place: str) -> None:
    (tree / "folder").mkdir()
    (tree / "empty.txt").touch()
    (tree / "folder" / "a.txt").touch()
    error = error_of(tree, changed("{path: notes.txt}", f"{{path: {place}}}"))
    assert error.key == "sources.notes.path" and "empty" in error.what


def test_an_empty_folder_is_refused(tree: Path) -> None:
    (tree / "folder").mkdir()
    assert "no file in this folder" in error_of(tree, changed("{path: notes.txt}", "{path: folder}")).what


def test_the_whole_run_may_be_warm_up_and_decay(tree: Path) -> None:
    assert load(tree, changed("decay_steps: 5", "decay_steps: 28")).pretraining.schedule.decay_steps == 28


def test_an_absolute_path_is_taken_as_it_is(tree: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("text")
    path = write_recipe(tree, changed("{path: notes.txt}", f"{{path: {elsewhere}}}"))
    assert load_recipe(str(path), tree).sources["notes"].path == str(elsewhere)


SCORE = "text: It rises, at: stage2, task: facts, above: stage1"
TASKS = (
    "evaluation: {tasks: examples/toy/tasks, data: {path: notes.txt}, suites: {chat: {tasks: [ifeval], chat: true}}}\n"
)


def expecting(section: str, values: str) -> str:
    return f"{SMALL}{SFT}{TASKS}expectations: {{{section}: {{mine: {{{values}}}}}}}\n"


@pytest.mark.parametrize(
    ("section", "values", "key", "told"),
    [
        ("scores", SCORE.replace("at: stage2", "at: stage3"), "scores.mine.at", "`stage2`"),
        ("scores", SCORE.replace("above: stage1", "above: chances"), "scores.mine.above", "`chance`"),
        ("scores", SCORE.replace("above: stage1", "not_below: merged"), "scores.mine.not_below", "no such checkpoint"),
        ("scores", SCORE.replace("facts", "fact"), "scores.mine.task", "`facts`"),
        ("scores", SCORE.replace("task: facts", "task: facts, suite: chats"), "scores.mine.suite", "`chat`"),
        ("scores", SCORE.replace("task: facts", "task: eval, suite: chat"), "scores.mine.task", "`ifeval`"),
        ("scores", SCORE.replace("task: facts", "task: ifeval, suite: chat"), "scores.mine.at", "does not measure"),
        ("scores", SCORE.replace(", above: stage1", ""), "scores.mine", "exactly one"),
        ("scores", SCORE + ", not_below: stage1", "scores.mine", "exactly one"),
        ("scores", SCORE.replace("task: facts, ", ""), "scores.mine", "`task`, or `suite` and `metric`"),
        ("scores", SCORE.replace("text: It rises, ", ""), "scores.mine.text", "missing"),
        ("scores", SCORE + ", tasks: facts", "scores.mine.tasks", "`task`"),
        ("heldout", "text: x, at: stage2, below: sftt", "heldout.mine.below", "`sft`"),
        ("heldout", "text: x, at: stage2, below: stage1, domain: cod", "heldout.mine.domain", "`code`"),
        ("heldout", "text: x, at: stage2, below: stage1, sources: [note]", "heldout.mine.sources.0", "`notes`"),
        ("losses", "text: x, stage: stage", "losses.mine.stage", "`stage"),
        ("losses", "text: x, stage: merged", "losses.mine.stage", "no such stage"),
        ("cleaning", "text: x, source: note, reason: too_short, at_least: 1", "cleaning.mine.source", "`notes`"),
        ("cleaning", "text: x, source: notes, reason: short, at_least: 1", "cleaning.mine.reason", "too_short"),
    ],
)
def test_expectations_of_what_there_is_not_are_refused(
    tree: Path, section: str, values: str, key: str, told: str
) -> None:
    error = error_of(tree, expecting(section, values))
    assert error.key == f"expectations.{key}"
    assert told in str(error)


def test_expectations_name_checkpoints_numbers_and_chance(tree: Path) -> None:
    for above in ("stage1", "chance", "0.5", "1"):
        recipe = load(tree, expecting("scores", SCORE.replace("above: stage1", f"above: {above}")))
        value = recipe.expectations.scores["mine"].above
        assert value == (above if above[0] in "sc" else float(above)) and str(value)[0] == above[0]
    chat = expecting("scores", "text: x, suite: chat, task: ifeval, at: sft, above: 0.1")
    assert load(tree, chat).expectations.scores["mine"].suite == "chat"
    assert load(tree, SMALL).expectations.scores == {}


def test_no_stage_of_the_graph_can_be_taken_for_a_stage_of_the_recipe(tree: Path) -> None:
    assert set(recipe_stages(load(tree, SMALL))) - {"stage1", "stage2"} <= set(RESERVED)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"report"}))
def test_how_a_recipe_is_checked_is_no_part_of_the_code_of_a_step(kind: str) -> None:
    told = code_definitions(script_of(kind, ROOT))
    assert set(told.get("recipe/types.py", {})) <= {"Section", "Written", "Written.__get_pydantic_json_schema__()"}
    assert not {"Files", "check_files()"} & set(told.get("recipe/sources.py", {})) and "yaml_files.py" not in told
