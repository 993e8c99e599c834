"""The recipes of published models hold the published numbers."""

import re
from functools import cache
from pathlib import Path

import pytest

from smolmake.graph.build import build_steps
from smolmake.graph.specs.posttrain import PostTrainingRun
from smolmake.model.config import ModelConfig
from smolmake.model.counts import count_parameters, flops_per_token
from smolmake.recipe.load import load_recipe, named_recipes, read_with_overlays
from smolmake.recipe.pretraining import LongContext, Stage
from smolmake.recipe.schema import Recipe
from smolmake.yaml_files import read_yaml

ROOT = Path(__file__).parents[3]
NAMES = ["smollm3", "baseline-1b", "smol-135m"]
STAGES = ["stage1", "stage2", "stage3", "lc1", "lc2"]
H100 = 989e12  # FLOP/s, dense bfloat16

# Weights as published, by the files' own names; code by language. None: not in the stage.
PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "fineweb-edu": (0.333, 0.3, 0.2, 0.1253669, 0.1519317),
    "dclm": (0.37, 0.33, 0.3, 0.2686434, 0.2466434),
    "pes2o": (0.02, 0.016, 0.002, 0.001791, 0.001791),
    "wiki": (0.001, 0.001, 0.0002, 0.0001791, 0.0001791),
    "stackexchange": (0.004, 0.002, 0.001, 0.0008955, 0.0008955),
    "fw2-fra": (0.016, 0.016, 0.018, 0.0161186, 0.0161186),
    "fw2-spa": (0.02, 0.02, 0.022, 0.0197005, 0.0197005),
    "fw2-deu": (0.022, 0.0232, 0.023, 0.020596, 0.020596),
    "fw2-ita": (0.0105, 0.0105, 0.0125, 0.0111935, 0.0111935),
    "fw2-por": (0.01, 0.01, 0.0045, 0.0040297, 0.0040297),
    "fw2-cmn": (0.01, 0.01, 0.01, 0.0089548, 0.0089548),
    "fw2-rus": (0.01, 0.01, 0.01, 0.0089548, 0.0089548),
    "fw2-fas": (0.003, 0.002, 0.009, None, None),
    "fw2-arb": (None, None, None, 0.0080593, 0.0080593),
    "fw2-jpn": (0.00325, 0.00325, 0.0032, 0.0028655, 0.0018655),
    "fw2-kor": (0.00325, 0.00325, 0.0032, 0.0028655, 0.0018655),
    "fw2-hin": (0.00325, 0.00325, 0.0032, 0.0028655, 0.0028655),
    "fw2-tha": (0.00325, 0.00325, 0.0032, 0.0028655, 0.0028655),
    "fw2-vie": (0.00325, 0.00005, 0.00005, 0.0000448, 0.0000448),
    "fw2-ell": (0.00225, 0.00225, 0.0022, 0.0019701, 0.0009701),
    "infiwebmath-3plus": (0.01, 0.01, 0.002, 0.001791, 0.001791),
    "finemath-3plus": (0.017, 0.01, 0.002, 0.001791, 0.001791),
    "code:python": (0.025, 0.025, 0.07, 0.080593, 0.0646834),
    "code:java": (0.013, 0.01725, 0.018, 0.0161186, 0.0161186),
    "code:javascript": (0.013, 0.01625, 0.018, 0.0161186, 0.0161186),
    "code:c": (0.007, 0.007, 0.008, 0.0071638, 0.0071638),
    "code:cpp": (0.018, 0.018, 0.044, 0.039401, 0.039401),
    "code:c-sharp": (0.006, 0.006, 0.006, 0.0053729, 0.0053729),
    "code:php": (0.006, 0.004, 0.006, 0.0053729, 0.0053729),
    "code:typescript": (0.003, 0.003, 0.003, 0.0026864, 0.0026864),
    "code:swift": (0.001, 0.001, 0.002, 0.001791, 0.001791),
    "code:sql": (0.004, 0.006, 0.013, 0.0116412, 0.0116412),
    "code:ruby": (0.0008, 0.0002, 0.001, 0.0008955, 0.0008955),
    "code:markdown": (0.005, 0.00611, 0.005, 0.0044774, 0.0044774),
    "code:html": (0.006, 0.00614, 0.0102, 0.0091339, 0.0091339),
    "code:rust": (0.0008, 0.0008, 0.001, 0.0008955, 0.0008955),
    "code:go": (0.0005, 0.0005, 0.0005, 0.0004477, 0.0004477),
    "code:shell": (0.0007, 0.0001, 0.006, 0.0053729, 0.0053729),
    "pull-requests": (0.006, 0.0114, 0.005, 0.0044774, 0.0044774),
    "kaggle": (0.0005, 0.0005, 0.0006, 0.0005373, 0.0005373),
    "jupyter-scripts": (0.0055, 0.01, 0.012, 0.0107457, None),
    "github-issues": (0.0032, 0.004, 0.004, 0.0035819, 0.0015819),
    "infiwebmath-4plus": (None, 0.01, 0.02, 0.0179096, 0.0079096),
    "finemath-4plus": (None, 0.02, 0.025, 0.0223869, 0.0223869),
    "megamath-web-pro": (None, 0.02, 0.014, 0.0125367, 0.0105367),
    "megamath-qa-qwen": (None, 0.0008, 0.002, 0.001791, 0.001791),
    "megamath-text-code-block": (None, 0.02, 0.05, 0.0626834, 0.0467739),
    "mwiki": (None, None, 0.008, 0.0071638, 0.0021638),
    "cosmopedia2": (None, None, 0.004, 0.0035819, 0.0035819),
    "openmathinstruct-2": (None, None, 0.005, 0.0223869, 0.0243869),
    "openmathreasoning-4k": (None, None, 0.005, 0.0044774, 0.0124774),
    "opencodereasoning": (None, None, 0.0005, 0.0004477, 0.0004477),
    "natural_reasoning": (None, None, 0.001, 0.0008955, 0.0008955),
    "problem-solving": (None, None, 0.003, 0.0026864, 0.0026864),
    "2students": (None, None, 0.003, 0.0026864, 0.0026864),
    "dolmino_math_synth_gsm_gsm8k": (None, None, 0.0004, None, None),
    "dolmino_math_synth_basic": (None, None, 0.0002, None, None),
    "reasoning_nochatml_17m_4k_to_32k": (None, None, None, 0.09, 0.08),
    "reasoning_tulu_chatml_580k": (None, None, None, 0.01, 0.01),
    "wiki_mcq_final_14m": (None, None, None, None, 0.04),
    "code_sft_tulu_nemotron_180k": (None, None, None, None, 0.02),
}
STACK_EDU_IN_STAGE_2 = {"python", "java", "javascript", "c", "cpp", "c-sharp", "php", "sql", "markdown"}
# Known from their name alone; the rest of the recipe's stand-ins are public sets in a form that is not.
INTERNAL = {
    "mwiki", "pull-requests", "jupyter-scripts", "stack-edu-html", "reasoning_nochatml_17m_4k_to_32k",
    "reasoning_tulu_chatml_580k", "wiki_mcq_final_14m", "code_sft_tulu_nemotron_180k",
}  # fmt: skip


@cache
def recipe(name: str) -> Recipe:
    return Recipe.model_validate(read_with_overlays(ROOT / "config" / "recipes" / f"{name}.yaml", ROOT))


def stage(name: str) -> Stage:
    smollm3 = recipe("smollm3")
    assert smollm3.pretraining is not None
    return {found.name: found for found in [*smollm3.pretraining.stages, *smollm3.long_context]}[name]


def extension(name: str) -> LongContext:
    found = stage(name)
    assert isinstance(found, LongContext)
    return found


def model_config(of: Recipe) -> ModelConfig:
    assert of.model is not None and of.tokenizer is not None and of.pretraining is not None
    return ModelConfig.of(
        of.model, vocab_size=of.tokenizer.vocab_size, rope_theta=of.model.rope_theta,
        max_position_embeddings=of.pretraining.sequence_length,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name, path in named_recipes(ROOT).items() if "name" in read_yaml(path)])
def test_every_recipe_loads(name: str) -> None:
    assert load_recipe(name, ROOT).name == name


@pytest.mark.parametrize("name", STAGES)
def test_weights_are_the_published_ones(name: str) -> None:
    number = STAGES.index(name)
    expected = {}
    for key, weights in PUBLISHED.items():
        if weights[number] is None:
            continue
        language = key.removeprefix("code:")
        edu = number > 2 or (number == 2 and language != "html") or (number == 1 and language in STACK_EDU_IN_STAGE_2)
        source = f"{'stack-edu' if edu else 'stack-v2'}-{language}" if key.startswith("code:") else key
        expected[source] = weights[number]
    assert stage(name).mixture == expected


@pytest.mark.parametrize(
    ("name", "sources", "total"),
    [("stage1", 41, 1), ("stage2", 46, 1.00005), ("stage3", 56, 1.00565), ("lc1", 56, 1), ("lc2", 57, 1)],
)
def test_weights_sum_to_what_was_published(name: str, sources: int, total: float) -> None:
    mixture = stage(name).mixture
    assert len(mixture) == sources
    assert sum(mixture.values()) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("stage1", {"web": 72.4, "multilingual": 12.0, "code": 12.9, "math": 2.7}),
        ("stage2", {"web": 64.7, "multilingual": 11.7, "code": 14.5, "math": 9.1}),
    ],
)
def test_domains_have_their_shares(name: str, shares: dict[str, float]) -> None:
    mixture, found = stage(name).mixture, dict.fromkeys(shares, 0.0)
    for source, weight in mixture.items():
        found[recipe("smollm3").sources[source].domain] += 100 * weight / sum(mixture.values())
    assert found == pytest.approx(shares, abs=0.05)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("stage1", 8.140e12), ("stage2", 1.765e12), ("stage3", 1.232e12), ("lc1", 47.2e9), ("lc2", 51.9e9)],
)
def test_stages_have_their_tokens(name: str, tokens: float) -> None:
    pretraining, found = recipe("smollm3").pretraining, stage(name)
    assert pretraining is not None
    shape = found if isinstance(found, LongContext) else pretraining
    batch = shape.sequence_length * shape.global_batch_size
    assert batch == 2_359_296
    assert found.steps * batch == pytest.approx(tokens, rel=1e-3)


def test_steps_and_schedule_of_smollm3() -> None:
    pretraining = recipe("smollm3").pretraining
    assert pretraining is not None
    assert [found.steps for found in pretraining.stages] == [3_450_000, 748_000, 522_000]
    schedule, optimizer = pretraining.schedule, pretraining.optimizer
    assert (schedule.lr, schedule.warmup_steps, schedule.decay_steps) == (2e-4, 2000, 522_000)
    assert (schedule.decay_shape, schedule.min_lr) == ("linear", 0)
    assert (optimizer.beta1, optimizer.beta2, optimizer.eps) == (0.9, 0.95, 1e-8)
    assert (optimizer.weight_decay, optimizer.clip_grad_norm) == (0.1, 1.0)
    assert optimizer.no_weight_decay == ["embed_tokens"]
    lc1, lc2 = extension("lc1"), extension("lc2")
    assert (lc1.steps, lc1.sequence_length, lc1.global_batch_size) == (20_000, 32_768, 72)
    assert (lc2.steps, lc2.sequence_length, lc2.global_batch_size) == (22_000, 65_536, 36)
    assert recipe("smollm3").model.rope_theta == 5e4  # type: ignore[union-attr]
    assert (lc1.rope_theta, lc2.rope_theta) == (2e6, 5e6)
    assert (lc1.fresh_optimizer, lc2.fresh_optimizer) == (False, True)
    for found, decay in ((lc1, 19_000), (lc2, 21_000)):
        assert (found.schedule.lr, found.schedule.warmup_steps) == (2e-5, 1000)
        assert (found.schedule.decay_steps, found.schedule.decay_shape) == (decay, "cosine")


@pytest.mark.parametrize(
    ("name", "parameters"), [("smollm3", 3_075_098_624), ("baseline-1b", 1_235_814_400), ("smol-135m", 134_515_008)]
)
def test_parameter_counts(name: str, parameters: int) -> None:
    model = recipe(name).model
    assert model is not None
    assert count_parameters(model_config(recipe(name)).shape).total == parameters == model.parameters


def test_sft_has_the_published_rows() -> None:
    sft = recipe("smollm3").sft
    assert sft is not None
    used = {name: int(data.fraction * (data.rows or 0)) for name, data in sft.data.items()}
    assert len(used) == 25 and sum(used.values()) == 1_444_084
    assert len([name for name in used if name.endswith("no_think")]) == 15
    assert used["smoltalk_smollm3_smol_magpie_ultra_no_think"] == 203_421
    assert used["openthoughts3_1.2m_think"] == 22_670
    assert all(data.split.lower() == name for name, data in sft.data.items())
    assert (sft.learning_rate, sft.epochs, sft.global_batch_size, sft.max_length) == (2e-5, 5, 128, 65_536)
    assert (sft.loss, sft.packing) == ("assistant", "bfd")


def test_other_post_training_of_smollm3() -> None:
    mid, apo, merge = recipe("smollm3").mid_training, recipe("smollm3").apo, recipe("smollm3").merge
    assert mid is not None and apo is not None and merge is not None
    assert sum(data.rows or 0 for data in mid.data.values()) == 4_779_894
    assert (mid.learning_rate, mid.epochs, mid.global_batch_size, mid.max_length, mid.loss) == (
        2e-5,
        5,
        128,
        32_768,
        "all",
    )
    assert sum(int(data.fraction * (data.rows or 0)) for data in apo.data.values()) == 169_346
    assert (apo.beta, apo.learning_rate, apo.epochs, apo.global_batch_size, apo.max_length) == (
        0.05,
        1e-6,
        1,
        32,
        24_576,
    )
    assert (mid.warmup_ratio, apo.warmup_ratio) == (0.03, 0.1)
    assert merge.weights == {"apo": 0.9, "mid": 0.1}


def test_budget_lines_give_the_published_table() -> None:
    lines = recipe("smollm3").cost.budget.lines
    hours = {
        name: (line.gpus or 0) * (line.days or 0) * 24 + (line.runs or 0) * (line.gpu_hours_each or 0)
        for name, line in lines.items()
    }
    assert hours["main-run"] == 276_480
    assert (hours["ablations-before"], hours["ablations-during"]) == (69_120, 46_080)
    assert hours["reset"] + hours["debugging"] == 46_080
    evaluation = sum(value for name, value in hours.items() if name.startswith("evaluation"))
    assert sum(hours.values()) - evaluation == 437_760
    assert 9_000 < evaluation < 10_000


def test_the_main_run_takes_the_published_time() -> None:
    smollm3 = recipe("smollm3")
    assert smollm3.pretraining is not None
    tokens = sum(found.steps for found in smollm3.pretraining.stages) * 2_359_296
    seconds = tokens * flops_per_token(model_config(smollm3).shape, 4096) / (384 * H100 * smollm3.cost.mfu)
    assert 24 < seconds / 86_400 < seconds / 86_400 / smollm3.cost.goodput < 30


def test_smollm3s_sft_has_the_tokens_of_its_card() -> None:
    """1,890M an epoch; all suites have a price."""
    recipe = load_recipe("smollm3", ROOT)
    assert recipe.sft is not None and all(data.tokens for data in recipe.sft.data.values())
    used = sum((data.tokens or 0) * data.fraction for data in recipe.sft.data.values())
    assert used == pytest.approx(1.890e9, rel=1e-3)
    assert all(suite.tokens for suite in recipe.evaluation.suites.values())


def test_layouts_share_the_batches_evenly() -> None:
    for name in NAMES:
        loaded = recipe(name)
        assert loaded.pretraining is not None
        batches = {"pretraining": loaded.pretraining.global_batch_size}
        batches |= {found.name: found.global_batch_size for found in loaded.long_context}
        batches |= {
            key: section.global_batch_size
            for key, section in (("mid", loaded.mid_training), ("sft", loaded.sft), ("apo", loaded.apo))
            if section is not None
        }
        for step, batch in batches.items():
            layout = loaded.runtime.layouts[step]
            assert batch % (layout.gpus // layout.context_parallel * (layout.micro_batch or 1)) == 0, (name, step)
    gpus = {step: layout.gpus for step, layout in recipe("smollm3").runtime.layouts.items()}
    assert gpus == {"pretraining": 384, "lc1": 96, "lc2": 96, "mid": 64, "sft": 64, "apo": 16, "evaluation": 1}
    steps = build_steps(recipe("smollm3"), ROOT).all.values()
    started = {
        step.name: step.run_as(PostTrainingRun).launcher for step in steps if step.kind in ("posttraining", "alignment")
    }
    assert started.keys() == {"mid", "sft", "apo-1", "apo-2", "apo-3"}
    assert all("srun --nodes=8 --ntasks=64" in started[name] for name in ("mid", "sft"))
    assert {layout.gpus for layout in recipe("smol-135m").runtime.layouts.values()} == {1}


@pytest.mark.parametrize("name", NAMES)
def test_sources_say_where_they_come_from(name: str) -> None:
    for key, source in recipe(name).sources.items():
        assert source.hub and re.fullmatch(r"[\w.-]+/[\w.-]+", source.hub), key
        assert source.tokens and source.tokens_from and source.licence != "unknown" and source.language, key


def test_what_is_not_public_is_marked() -> None:
    marked = {name for name, source in recipe("smollm3").sources.items() if source.replaces}
    assert marked == INTERNAL | {"openmathreasoning-4k"}


def test_no_source_is_repeated_beyond_its_cap() -> None:
    for name in NAMES:
        loaded = recipe(name)
        pretraining = loaded.pretraining
        assert pretraining is not None
        used = dict.fromkeys(loaded.sources, 0.0)
        for found in pretraining.stages:
            tokens = found.steps * pretraining.global_batch_size * pretraining.sequence_length
            for source, weight in found.mixture.items():
                used[source] += tokens * weight / sum(found.mixture.values())
        for source, tokens in used.items():
            assert tokens / (loaded.sources[source].tokens or 1) <= loaded.sources[source].max_epochs, (name, source)
        mixtures = [found.mixture for found in [*pretraining.stages, *loaded.long_context]]
        assert set(loaded.sources) == set().union(*mixtures), name


def test_suites_have_the_published_shots_limits_and_answers() -> None:
    suites = recipe("smollm3").evaluation.suites
    files = {file.stem: read_yaml(file) for file in (ROOT / "config" / "suites").glob("*.yaml")}
    assert set(suites) == {suite for name, each in files.items() for suite in each if name != "base-ablation"}
    shots = {name: suites[name].shots for name in ("english", "mathematics", "mathematics-long", "translation")}
    assert shots == {"english": 0, "mathematics": 5, "mathematics-long": 4, "translation": 5}
    assert suites["long-context"].lengths == [4096, 8192, 16384, 32768, 65536]
    chat = {name: suite for name, suite in suites.items() if suite.on == "chat"}
    assert {suite.repeats for name, suite in chat.items() if "aime" in name} == {64}
    assert {suite.repeats for name, suite in chat.items() if "gpqa" in name} == {8}
    for name, suite in chat.items():
        asked = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "max_gen_toks": 32768}
        assert suite.chat and suite.shots == 0 and suite.system in ("/think", "/no_think"), name
        assert suite.generation == asked or name == "chat-multilingual"
    ablation = recipe("baseline-1b").evaluation.suites["ablation"]
    assert (ablation.shots, ablation.limit, len(ablation.tasks)) == (0, 1000, 8)


@pytest.mark.slow
def test_the_harness_knows_every_task() -> None:
    from lm_eval.tasks import TaskManager

    known = set(TaskManager().all_tasks)
    asked = {task for name in NAMES for suite in recipe(name).evaluation.suites.values() for task in suite.tasks}
    assert asked <= known, asked - known
