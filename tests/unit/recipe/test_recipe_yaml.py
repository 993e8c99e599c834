"""How a recipe is read: numbers and units as people write them, YAML's traps, overlays and fragments."""

import unicodedata
from pathlib import Path

import pytest
from helpers.recipes import SMALL, changed, error_of, load, write_recipe

from smolmake.errors import UserError
from smolmake.recipe.load import find_recipe, load_recipe, named_recipes, read_with_overlays


@pytest.mark.parametrize(("written", "meant"), [("3e-4", 3e-4), ("1E0", 1.0), ("5e+0", 5.0), (".5", 0.5)])
def test_numbers_with_an_exponent_are_numbers(tree: Path, written: str, meant: float) -> None:
    assert load(tree, changed("lr: 1e-3", f"lr: {written}")).pretraining.schedule.lr == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [("8.14T", 8_140_000_000_000), ("32k", 32_000), ("1_500", 1500), ("2 M", 2_000_000), ("1e3", 1000)],
)
def test_counts(tree: Path, written: str, meant: int) -> None:
    assert load(tree, changed("vocab_size: 512", f"vocab_size: {written}")).tokenizer.vocab_size == meant


def test_on_and_no_are_words_and_true_is_not(tree: Path) -> None:
    text = changed("{path: notes.txt}", "{path: notes.txt, language: no}")
    suite = "evaluation: {suites: {s: {tasks: [piqa], on: stage_ends, chat: true}}}\n"
    loaded = load(tree, text + suite)
    assert loaded.sources["notes"].language == "no"
    assert (loaded.evaluation.suites["s"].on, loaded.evaluation.suites["s"].chat) == ("stage_ends", True)


@pytest.mark.parametrize(("written", "meant"), [("32k", 32_768), ("4096", 4096), ("0.5k", 512)])
def test_a_thousand_positions_are_1024(tree: Path, written: str, meant: int) -> None:
    assert load(tree, changed("length: 64", f"length: {written}")).pretraining.sequence_length == meant


@pytest.mark.parametrize(
    ("written", "meant"), [("2h", 7200.0), ("90s", 90.0), ("1.5d", 129_600.0), ("10min", 600.0), ("7", 7.0)]
)
def test_times(tree: Path, written: str, meant: float) -> None:
    assert load(tree, SMALL + f"runtime: {{recovery_every: {written}}}\n").runtime.recovery_every == meant


def test_a_time_with_the_unit_of_a_count_is_refused(tree: Path) -> None:
    error = error_of(tree, SMALL + "runtime: {recovery_every: 2T}\n")
    assert error.key == "runtime.recovery_every" and "min" in error.what


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SMALL + "name: other\n", "stands twice"),
        (changed("{path: notes.txt}", "{path: notes.txt, path: b.txt}"), "stands twice"),
        (SMALL + "title: !!python/object/apply:os.system [echo]\n", "tag"),
        (SMALL + "title: !!python/object:smolmake.errors.UserError {}\n", "tag"),
        (SMALL + "title: [1, 2\n", "not valid YAML"),
        (SMALL + "? [a, b]\n: 1\n", ""),
        ("- a list\n", "mapping"),
        ("", "mapping"),
        ("just text", "mapping"),
    ],
)
def test_yaml_that_is_no_recipe_is_refused(tree: Path, text: str, told: str) -> None:
    assert told in error_of(tree, text).what


def test_a_file_in_another_encoding_is_refused(tree: Path) -> None:
    path = write_recipe(tree, SMALL)
    path.write_bytes(SMALL.encode() + "title: Größe\n".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        load_recipe(str(path), tree)


def test_an_error_in_yaml_names_its_line(tree: Path) -> None:
    assert "line 2," in str(error_of(tree, "name: x\nsources: }\n").value)


def test_overlay_merges_mappings_replaces_lists_and_removes_by_null(tree: Path) -> None:
    write_recipe(tree, SMALL + "cleaning: {min_characters: 7, near_duplicates: {}}\ntitle: Base\n", "base")
    recipe = load(
        tree,
        "extends: base\nname: mine\ntitle: null\nsources: {notes: {licence: MIT}, code: null}\n"
        "cleaning: {near_duplicates: null}\n"
        "pretraining: {schedule: {lr: 5e-4}, stages: [{name: only, steps: 9, mixture: {notes: 1}}]}\n",
    )
    assert recipe.name == "mine" and recipe.title == ""
    assert list(recipe.sources) == ["notes"]
    assert (recipe.sources["notes"].path, recipe.sources["notes"].licence) == ("notes.txt", "MIT")
    assert recipe.cleaning.near_duplicates is None and recipe.cleaning.min_characters == 7
    assert recipe.pretraining.schedule.lr == 5e-4 and recipe.pretraining.schedule.warmup_steps == 2
    assert [stage.name for stage in recipe.pretraining.stages] == ["only"]


def test_overlays_of_overlays_and_a_base_by_path(tree: Path) -> None:
    write_recipe(tree, SMALL, "first")
    write_recipe(tree, "extends: first\nseed: 1\ntitle: Second\n", "second")
    recipe = load(tree, "extends: config/recipes/second.yaml\nseed: 2\n")
    assert (recipe.name, recipe.seed, recipe.title) == ("small", 2, "Second")


def test_a_circle_of_overlays_is_refused(tree: Path) -> None:
    write_recipe(tree, "extends: mine\n", "other")
    path = write_recipe(tree, "extends: other\n")
    with pytest.raises(UserError, match="circle"):
        load_recipe(str(path), tree)
    with pytest.raises(UserError, match="circle"):
        load_recipe(str(write_recipe(tree, "extends: self\n", "self")), tree)


def test_an_unknown_base_names_the_nearest(tree: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(str(write_recipe(tree, "extends: toi\n")), tree)
    assert "did you mean `toy`?" in caught.value.remedy
    assert (caught.value.key, caught.value.value, Path(str(caught.value.file)).name) == ("extends", "toi", "mine.yaml")


def test_sources_and_model_can_be_fragments_by_name(tree: Path) -> None:
    text = changed("sources:\n  notes: {path: notes.txt}\n  code: {path: notes.txt, domain: code}\n", "sources: both\n")
    (tree / "config" / "sources").mkdir(exist_ok=True)
    (tree / "config" / "sources" / "both.yaml").write_text("notes: {path: notes.txt}\ncode: {path: notes.txt}\n")
    assert list(load(tree, text).sources) == ["notes", "code"]
    error = error_of(tree, text.replace("sources: both", "sources: bot"))
    assert error.key == "sources" and "did you mean `both`?" in error.remedy
    assert error_of(tree, text.replace("sources: both", "sources: ../recipes/toy")).key == "sources"


def test_suites_are_taken_from_files_and_changed_in_place(tree: Path) -> None:
    suites = tree / "config" / "suites"
    suites.mkdir(exist_ok=True)
    (suites / "one.yaml").write_text("reading: {tasks: [hellaswag], shots: 3}\nsums: {tasks: [gsm8k]}\n")
    (suites / "two.yaml").write_text("far: {tasks: [ruler], lengths: [4k]}\n")
    own = "evaluation: {suites_from: [one, two], suites: {reading: {shots: 0}, sums: null, mine: {tasks: [piqa]}}}\n"
    found = load(tree, SMALL + own).evaluation.suites
    assert {name: suite.tasks for name, suite in found.items()} == {
        "reading": ["hellaswag"], "far": ["ruler"], "mine": ["piqa"]
    }  # fmt: skip
    assert found["reading"].shots == 0
    write_recipe(tree, SMALL + "evaluation: {suites_from: [one], limit: 7}\n", "base")
    above = load(
        tree, "extends: base\nname: above\nevaluation: {suites_from: [two], suites: {sums: null}}\n"
    ).evaluation
    assert list(above.suites) == ["reading", "far"] and above.limit == 7


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("[on]", "`one`"),
        ("one", "not a list of names"),
        ("[1]", "not a list of names"),
        ("[one, again]", "the suite sums"),
    ],
)
def test_a_wrong_file_of_suites_is_told(tree: Path, names: str, told: str) -> None:
    (tree / "config" / "suites").mkdir(exist_ok=True)
    for name in ("one", "again"):
        (tree / "config" / "suites" / f"{name}.yaml").write_text("sums: {tasks: [gsm8k]}\n")
    error = error_of(tree, f"{SMALL}evaluation: {{suites_from: {names}}}\n")
    assert error.key == "evaluation.suites_from" and told in str(error)


def test_a_mistake_in_a_file_of_suites_is_told_with_that_file(tree: Path) -> None:
    (tree / "config" / "suites").mkdir(exist_ok=True)
    file = tree / "config" / "suites" / "one.yaml"
    file.write_text("reading:\n  tasks: [hellaswag]\n  shot: 3\n")
    with pytest.raises(UserError) as caught:
        load(tree, SMALL + "evaluation: {suites_from: [one]}\n")
    assert (caught.value.file, caught.value.line, caught.value.key) == (file, 3, "evaluation.suites.reading.shot")


def test_an_overlay_may_change_one_key_of_a_fragment(tree: Path) -> None:
    model = (
        "{hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1}"
    )
    (tree / "config" / "models").mkdir(exist_ok=True)
    (tree / "config" / "models" / "tiny.yaml").write_text(model)
    write_recipe(tree, changed(f"model: {model}", "model: tiny"), "base")
    assert load(tree, "extends: base\nmodel: {num_hidden_layers: 3}\n").model.num_hidden_layers == 3


def test_the_recipes_of_the_project_can_be_read(root: Path) -> None:
    named = named_recipes(root)
    assert {"toy", "my-texts", "smollm3", "tiny"} <= set(named)
    for name, file in named.items():
        assert "pretraining" in read_with_overlays(file, root), file
        assert find_recipe(name, root) == file


def test_a_name_is_looked_for_in_config_and_then_among_the_examples(tree: Path) -> None:
    assert find_recipe("toy", tree) == tree / "examples" / "toy" / "recipe.yaml"
    mine = write_recipe(tree, SMALL, "toy")
    assert find_recipe("toy", tree) == mine
    write_recipe(tree, SMALL, "own")
    with pytest.raises(UserError) as caught:
        find_recipe("nothing-like-them", tree)
    assert all(name in caught.value.remedy for name in ("own", "my-texts", "smollm3"))


@pytest.mark.parametrize("other", ["Mine", "MINE"])
def test_recipes_whose_names_look_alike_are_refused(tree: Path, other: str) -> None:
    write_recipe(tree, SMALL, other)
    assert find_recipe(other, tree).stem == other
    write_recipe(tree, SMALL, "mine")
    with pytest.raises(UserError, match="look alike"):
        find_recipe("mine", tree)


def test_an_accent_may_be_encoded_in_two_ways(tree: Path) -> None:
    file = write_recipe(tree, SMALL, unicodedata.normalize("NFD", "größe"))
    assert find_recipe(unicodedata.normalize("NFC", "größe"), tree) == file


@pytest.mark.parametrize("name", ["TOY", "\udcff.yaml", "a\0b.yaml", "x" * 5000 + ".yaml", "", "..", "config/recipes"])
def test_a_name_of_no_recipe_is_refused(tree: Path, name: str) -> None:
    with pytest.raises(UserError, match="no such recipe") as caught:
        find_recipe(name, tree)
    assert len(str(caught.value)) < 1000 and ("`toy`" in caught.value.remedy) == (name == "TOY")
