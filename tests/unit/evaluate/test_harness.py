"""What the lm-evaluation-harness says is what the table says, but where its own way of scoring is mended."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from helpers.models import write_tokenizer
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from smolmake.errors import UserError
from smolmake.evaluate.answers import write_answers
from smolmake.evaluate.endings import without_thought
from smolmake.evaluate.harness import run_harness
from smolmake.evaluate.harness_tasks import Tasks
from smolmake.evaluate.tasks import prepare_tasks
from smolmake.recipe.evaluation import HarnessTasks
from smolmake.report.samples import join_samples

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]
NOUNS = "cat dog owl shell button pear table river".split()
QUESTIONS = [
    {"query": f"The {noun} has", "choices": [" one", " two", " thirteen"], "gold": number % 3, "answer": " two"}
    for number, noun in enumerate(NOUNS)
]
SHAPE = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
TEXTS = [{"query": f"The {noun} is by the river. Ünïcode 🦉.", "answer": noun} for noun in NOUNS[:5]]
RULER = """
from lm_eval.tasks.ruler.common_utils import aggregate_metrics, process_results
"""


def metrics(*names: str) -> list[dict[str, str]]:
    return [{"metric": name} for name in names]


def regex(name: str, pattern: str) -> dict[str, Any]:
    return {
        "name": name,
        "filter": [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}],
    }


def task(name: str, output: str, file: str = "questions.jsonl", **settings: Any) -> dict[str, Any]:
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": f"{{data}}/{file}"}}}
    about = {"task": name, "test_split": "test", "output_type": output, "doc_to_text": "{{query}}"}
    return {**about, **data, "doc_to_target": "answer", **settings}


def choices(name: str, file: str = "questions.jsonl", **settings: Any) -> dict[str, Any]:
    asked = {"doc_to_choice": "choices", "doc_to_target": "gold", "target_delimiter": ""}
    return task(name, "multiple_choice", file, **asked | settings)


WRITES = {"generation_kwargs": {"until": ["."], "max_gen_toks": 6, "do_sample": False}}
TASKS: list[dict[str, Any]] = [
    choices("choose", metric_list=metrics("acc", "acc_norm", "mcc", "brier_score")),
    choices("few", "few.jsonl", metric_list=metrics("acc", "acc_norm")),
    task("continue", "loglikelihood", metric_list=metrics("perplexity", "acc"), target_delimiter=""),
    task("read", "loglikelihood_rolling", "texts.jsonl", doc_to_text="", doc_to_target="{{query}}",
         metric_list=metrics("word_perplexity", "byte_perplexity", "bits_per_byte")),
    task("write", "generate_until", metric_list=metrics("exact_match"), **WRITES,
         filter_list=[regex("strict", "^ ?([a-z]+)"), regex("flexible", "([a-z])")]),
    task("translate", "generate_until", "texts.jsonl", metric_list=metrics("bleu", "chrf", "ter"), **WRITES),
    {"group": "by_size", "task": ["choose", "few"],
     "aggregate_metric_list": [{"metric": each, "weight_by_size": True} for each in ("acc", "acc_norm")]},
    {"group": "equally", "task": ["by_size", "continue"],
     "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}]},
]  # fmt: skip


def lay_out(folder: Path, tasks: list[dict[str, Any]], **files: list[dict[str, Any]]) -> list[str]:
    """Task files and their questions as a job lays them out; gives what is asked."""
    questions = {}
    (folder / "given").mkdir(parents=True)
    for name, rows in files.items():
        questions[name] = folder / "given" / f"{name}.jsonl"
        questions[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = []
    for each in tasks:
        paths.append(folder / "given" / f"{each.get('task') if 'group' not in each else each['group']}.yaml")
        paths[-1].write_text(json.dumps(each))
    return prepare_tasks(paths, questions, folder / "tasks", None, None)


def known(folder: Path) -> Tasks:
    return Tasks(include_path=str(folder / "tasks"), include_defaults=False)


@pytest.fixture(scope="module", params=[LlamaConfig, Qwen3Config], ids=["llama", "qwen3"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """An untrained model of a family, that does not say the same of everything."""
    folder = tmp_path_factory.mktemp("tokenizer")
    size = write_tokenizer(folder, [str(row) for row in QUESTIONS + TEXTS], 400)
    torch.manual_seed(0)
    config = request.param(vocab_size=size, num_hidden_layers=2, initializer_range=0.3, **SHAPE)
    return AutoModelForCausalLM.from_config(config).eval(), AutoTokenizer.from_pretrained(folder)


def test_every_number_is_the_harness_s_own(loaded: Loaded, tmp_path: Path) -> None:
    """Of each output type, filter, metric over items or over texts, and group."""
    names = lay_out(tmp_path, TASKS, questions=QUESTIONS, few=QUESTIONS[:3], texts=TEXTS)
    assert names == ["equally", "read", "translate", "write"]
    harness = simple_evaluate(
        model=HFLM(pretrained=loaded[0], tokenizer=loaded[1], batch_size=4), tasks=names, bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
    )  # fmt: skip
    says = {
        (name, key): value
        for name, numbers in json.loads(json.dumps(harness["results"], default=float)).items()
        for key, value in numbers.items()
        if "," in key and "_stderr" not in key
    }
    assert len(says) == 19 and ("write", "exact_match,flexible") in says and ("by_size", "acc_norm,none") in says
    found = run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path))
    rows = [row for row in found if not row.get("beside")]
    table = {(row["task"], f"{row['metric']},{row['filter']}"): row for row in rows}
    assert {key: row["value"] for key, row in table.items()} == pytest.approx(says, rel=1e-6, abs=1e-9)
    assert len(rows) == len(table)
    for row in rows:
        assert row["low"] <= row["value"] + 1e-9 and row["value"] <= row["high"] + 1e-9, row
        assert not row["share"] or 0 <= row["low"] <= row["high"] <= 1
    beside = {(row["task"], row["metric"]): row for row in found if row.get("beside")}
    shares = [beside[name, "choice_prob_norm"] for name in ("choose", "few")]
    mean_share = sum(row["value"] * row["n"] for row in shares) / 11
    assert beside["by_size", "choice_prob_norm"]["value"] == pytest.approx(mean_share)
    assert ("write", "bits_per_byte") not in beside and beside["continue", "bits_per_byte"]["value"] > 0
    sizes = {"choose": 8, "few": 3, "continue": 8, "read": 5, "write": 8, "translate": 5, "by_size": 11, "equally": 19}
    assert {row["task"]: row["n"] for row in rows} == sizes
    assert table["by_size", "acc,none"]["tasks"] == ["choose", "few"]
    assert table["choose", "acc,none"]["chance"] == pytest.approx(1 / 3) == table["by_size", "acc,none"]["chance"]
    assert table["translate", "chrf,none"]["low"] < table["translate", "chrf,none"]["high"]
    assert (
        not table["read", "bits_per_byte,none"]["higher_is_better"] and not table["read", "bits_per_byte,none"]["share"]
    )
    assert table["write", "exact_match,strict"]["formulation"] == "FG"
    assert [table["write", "exact_match,strict"][how] for how in ("shots", "repeats", "dtype")] == [0, 1, "float32"]


def test_each_length_has_its_own_score(loaded: Loaded, tmp_path: Path) -> None:
    """RULER marks items of other lengths with -1, and names lengths that nobody asked for."""
    right = [
        {"query": "The cat", "outputs": [""], "max_length": 2**number} for number in (12, 13, 14) for _ in range(4)
    ]
    lengths = [str(2**number) for number in range(12, 18)]
    asked = task("needle", "generate_until", "right.jsonl", doc_to_target="{{outputs}}", **WRITES)
    names = lay_out(tmp_path, [asked], right=right)
    text = json.dumps({**asked, "metric_list": [{"metric": each, "aggregation": "A"} for each in lengths]})
    text = text.replace("{data}", str(tmp_path / "tasks" / "data")).replace('"A"', "!function ruler.aggregate_metrics")
    (tmp_path / "tasks" / "needle.yaml").write_text(text[:-1] + ", process_results: !function ruler.process_results}")
    (tmp_path / "tasks" / "ruler.py").write_text(RULER)
    rows = run_harness(*loaded, HarnessTasks(tasks=names, lengths=[4096, 8192, 16384]), known(tmp_path))
    found = {row["length"]: (row["metric"], row["value"], row["n"], len(row["items"])) for row in rows}
    assert found == {length: (str(length), 1.0, 4, 4) for length in (4096, 8192, 16384)}
    with pytest.raises(UserError, match="no score for 32768"):
        run_harness(*loaded, HarnessTasks(tasks=names, lengths=[4096, 32768]), known(tmp_path))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"metric_list": metrics("acc", "acc_nrm")}, "`acc_norm`"),
        ({"metric_list": metrics("acc", "bleu")}, "no score for bleu"),
        ({"metric_list": []}, "any metric"),
    ],
)
def test_a_metric_that_gives_nothing_is_an_error(
    loaded: Loaded, tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as caught:
        names = lay_out(tmp_path, [choices("choose", **settings)], questions=QUESTIONS)
        run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path))
    assert says in str(caught.value) and caught.value.key == "metric_list"


def test_a_metric_without_a_number_is_an_error(loaded: Loaded, tmp_path: Path) -> None:
    names = lay_out(tmp_path, [choices("choose", metric_list=[{"metric": "acc", "aggregation": "mean"}])],
                    questions=QUESTIONS)  # fmt: skip
    place = tmp_path / "tasks" / "choose.yaml"
    place.write_text(place.read_text()[:-1] + ", process_results: !function odd.process_results}")
    (tmp_path / "tasks" / "odd.py").write_text("def process_results(doc, results):\n    return {'acc': float('nan')}\n")
    with pytest.raises(UserError, match="gives no number"):
        run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path))


def test_a_task_that_runs_what_the_model_writes_in_its_own_way_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    asked = task("code", "generate_until", metric_list=metrics("exact_match"), unsafe_code=True, **WRITES)
    names = lay_out(tmp_path, [asked], questions=QUESTIONS)
    with pytest.raises(UserError, match="outside a sandbox"):
        run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path))


def test_several_answers_to_an_item_are_shares_too(loaded: Loaded, tmp_path: Path) -> None:
    """As ifeval's instructions, which its aggregation counts one by one."""
    names = lay_out(tmp_path, [choices("choose", metric_list=[{"metric": "followed", "aggregation": "mean"}],
                                       process_results="x")], questions=QUESTIONS)  # fmt: skip
    place = tmp_path / "tasks" / "choose.yaml"
    text = place.read_text().replace('"process_results": "x"', '"process_results": !function several.process_results')
    place.write_text(text.replace('"aggregation": "mean"', '"aggregation": !function several.share'))
    (tmp_path / "tasks" / "several.py").write_text(
        "def process_results(doc, results):\n    return {'followed': [True, doc['gold'] == 0]}\n"
        "def share(items):\n    flat = sum(items, [])\n    return sum(flat) / len(flat)\n"
    )
    row, *beside = run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path))
    assert all(other["beside"] for other in beside)
    assert row["value"] == pytest.approx(11 / 16) and row["share"] and 0.5 <= row["low"] < 11 / 16 < row["high"] <= 1
    assert row["items"] == [] and row["n"] == 8


def merging(merges: list[tuple[str, str]]) -> PreTrainedTokenizerBase:
    """A tokenizer of single letters and these merges."""
    letters = sorted({*"thensworakcy<>|_ ", "\n"})
    words = [*letters, *("".join(merge) for merge in merges)]
    inner = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    inner.add_special_tokens(["<|eos|>"])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|eos|>", pad_token="<|eos|>")


def test_a_choice_that_merges_with_its_question_is_scored_by_what_it_adds(tmp_path: Path) -> None:
    """Counted on from the question's tokens, `wer` would have no token at all, and `werk` only the last one."""
    tokenizer = merging([("a", "n"), ("an", "s"), ("w", "e"), ("we", "r"), ("ans", "wer")])
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=1, **SHAPE)).eval()
    rows = [{"query": query, "choices": ["wer", "werk", "wsy"], "gold": 1} for query in ("the k", "the ans")]
    names = lay_out(tmp_path, [choices("border", "border.jsonl", metric_list=metrics("acc"))], border=rows)
    tasks = known(tmp_path)
    row = run_harness(model, tokenizer, HarnessTasks(tasks=names), tasks)[0]
    assert row["merged"] == [1]
    whole = tokenizer("the answerk", return_tensors="pt")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(whole[0])[-2:] == ["answer", "k"]
    with torch.no_grad():
        says = model(whole).logits[0].log_softmax(-1)
    answer, more = float(says[-3, whole[0, -2]]), float(says[-2, whole[0, -1]])
    found = [float(instance.resps[0][0]) for instance in tasks.loaded["tasks"]["border"].instances[3:]]
    assert found[:2] == pytest.approx([answer, answer + more], rel=1e-5)
    assert row["items"][1] == float(max(range(3), key=found.__getitem__) == 1)


def test_a_choice_that_adds_no_token_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    rows = [*QUESTIONS[:1], {**QUESTIONS[1], "choices": [" one", "", " two"]}]
    names = lay_out(tmp_path, [choices("choose", metric_list=metrics("acc"))], questions=rows)
    with pytest.raises(UserError, match="item 1 of the task choose adds no token"):
        run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path))


def test_choices_without_a_question_are_scored(loaded: Loaded, tmp_path: Path) -> None:
    names = lay_out(tmp_path, [choices("choose", metric_list=metrics("acc"), doc_to_text="")], questions=QUESTIONS)
    assert run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path))[0]["merged"] == []


@pytest.fixture(scope="module")
def chain() -> Loaded:
    """A model of which each next word is settled by the last one: hidden states are the words' own."""
    follows = {"p": "<think>", "<think>": "x", "x": "\n", "\n": "</think>", "</think>": "42", "42": "\n", "q": "42",
               "r": "r"}  # fmt: skip
    words = [*follows, "<eos>"]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<eos>"))
    inner.add_tokens(words[:-1])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<eos>")
    size = len(words) + len(words) % 2
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=size, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, tie_word_embeddings=False, eos_token_id=len(words) - 1, head_dim=size,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(len(words), size))
        for word, after in follows.items():
            model.lm_head.weight[words.index(after), words.index(word)] = 1.0
    return model, tokenizer


@pytest.mark.parametrize(
    ("limit", "thinking", "value", "thoughts", "unclosed", "cut"),
    [(9, "strip", 3 / 4, 2 / 4, 0, 1 / 4), (2, "strip", 1 / 4, 0, 2 / 4, 3 / 4), (9, "keep", 1 / 4, 0, 2 / 4, 1 / 4)],
)
def test_thoughts_are_no_answers(
    chain: Loaded, tmp_path: Path, limit: int, thinking: str, value: float, thoughts: float, unclosed: float, cut: float
) -> None:
    """`p` thinks over a stop string and answers, `q` answers, `r` never ends, and a prompt may begin the thought."""
    rows = [{"query": query, "answer": "42"} for query in ("p", "q", "r", "q <think>")]
    asked = task(
        "answer", "generate_until", "rows.jsonl", metric_list=metrics("exact_match"), metadata={"thinking": thinking},
        filter_list=[regex("number", "([0-9]+)")],
        generation_kwargs={"until": ["\n"], "max_gen_toks": limit, "do_sample": False},
    )  # fmt: skip
    names = lay_out(tmp_path, [asked], rows=rows)
    (row,) = run_harness(*chain, HarnessTasks(tasks=names), known(tmp_path))
    found = [row[name] for name in ("value", "thoughts", "unclosed", "cut")]
    assert found == pytest.approx([value, thoughts, unclosed, cut])


def test_answers_that_are_added_later_are_those_of_one_run(loaded: Loaded, tmp_path: Path) -> None:
    sampled = {"generation_kwargs": {"until": ["."], "max_gen_toks": 3, "do_sample": True, "temperature": 2.0}}
    asked = task("write", "generate_until", metric_list=metrics("exact_match"), **sampled,
                 filter_list=[regex("letter", "([aeiou])")], doc_to_target="o")  # fmt: skip
    names = lay_out(tmp_path, [asked], questions=QUESTIONS)
    answers: dict[tuple[int, int], list[Any]] = {(0, 4): [], (0, 2): [], (2, 2): []}
    rows = {
        (first, count): run_harness(
            *loaded, HarnessTasks(tasks=names, repeats=count), known(tmp_path), answers[first, count], first
        )
        for first, count in answers
    }
    whole, *parts = ([row["answers"] for row in kept] for kept in answers.values())
    assert whole == [before + after for before, after in zip(*parts, strict=True)]
    assert len({answer for each in whole for answer in each}) > 2
    (one,), (joined,) = rows[0, 4], join_samples([rows[0, 2], rows[2, 2]])
    assert (joined["samples"], joined["repeats"]) == (one["samples"], 4)
    for key in ("value", "low", "high", "items", "chance_high"):
        assert joined[key] == pytest.approx(one[key]), key


def test_what_was_asked_and_answered_is_kept_item_by_item(chain: Loaded, loaded: Loaded, tmp_path: Path) -> None:
    """The choice that is answered is the one that the score judges; a written answer comes without its thought."""
    answers: list[dict[str, Any]] = []
    names = lay_out(tmp_path, [choices("choose", metric_list=metrics("acc"))], questions=QUESTIONS)
    row = run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path), answers=answers)[0]
    assert [(each["item"], each["question"]) for each in answers] == list(enumerate(q["query"] for q in QUESTIONS))
    for each, asked, score in zip(answers, QUESTIONS, row["items"], strict=True):
        assert each["choices"] == asked["choices"] and each["target"] == asked["choices"][asked["gold"]]
        assert (each["answers"] == [each["target"]]) == bool(score)
    asked = task("write", "generate_until", "rows.jsonl", metric_list=metrics("exact_match"),
                 filter_list=[regex("number", "([0-9]+)")],
                 generation_kwargs={"until": ["\n"], "max_gen_toks": 9, "do_sample": False})  # fmt: skip
    rows, answers = [{"query": query, "answer": "42"} for query in ("p", "q", "r")], []
    names = lay_out(tmp_path / "written", [asked], rows=rows)
    run_harness(*chain, HarnessTasks(tasks=names, repeats=2), known(tmp_path / "written"), answers=answers)
    assert [each["answers"] for each in answers] == [["42"] * 2, ["42"] * 2, ["[invalid]"] * 2]
    assert {(each["filter"], each["target"]) for each in answers} == {("number", "42")}


def test_questions_with_one_ending_and_long_texts_are_kept_readable(loaded: Loaded, tmp_path: Path) -> None:
    """As WinoGrande's: the choices come first, and the question is what follows them."""
    rows = [{"options": [noun, "fish"], "end": "has one" + " word" * 500, "gold": 1} for noun in NOUNS[:2]]
    asked = choices("ending", "rows.jsonl", metric_list=metrics("acc"), doc_to_text="gold", doc_to_target="end",
                    doc_to_choice="options")  # fmt: skip
    names, answers = lay_out(tmp_path, [asked], rows=rows), list[dict[str, Any]]()
    run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path), answers=answers)
    write_answers(tmp_path / "answers.parquet", answers)
    kept = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    assert kept == answers and [each["target"] for each in kept] == ["fish", "fish"]
    assert all(len(each["question"]) < 2010 and each["question"].startswith("has one word") for each in kept)
    assert kept[0]["choices"] == ["cat", "fish"] and kept[0]["answers"][0] in kept[0]["choices"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>2 + 2</think>\n4", ("4", True, False)),
        (" <think>a</think> b <think>c</think> d", ("b  d", True, False)),
        ("<think>2 + 2", ("", False, True)),
        ("4 <think>", ("", False, True)),
        (" 4", (" 4", False, False)),
    ],
)
def test_a_thought_without_an_end_leaves_no_answer(text: str, answer: tuple[str, bool, bool]) -> None:
    assert without_thought(text) == answer


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("data/questions.jsonl", None, "cannot be had"),
        ("choose.yaml", "task: choose\nprocess_docs: !function a.b\n", "package"),
        ("choose.yaml", "task: choose\noutput_type: guess\n", "cannot be loaded"),
    ],
)
def test_what_a_task_lacks_is_named(loaded: Loaded, tmp_path: Path, file: str, text: str | None, says: str) -> None:
    names, tasks = (
        lay_out(tmp_path, [choices("choose", metric_list=metrics("acc"))], questions=QUESTIONS),
        tmp_path / "tasks",
    )
    if text is None:
        (tasks / file).unlink()
    else:
        (tasks / file).write_text(text)
    with pytest.raises(UserError, match="`choose`") as caught:
        run_harness(*loaded, HarnessTasks(tasks=names), known(tmp_path))
    assert says in caught.value.what
