"""The compute planner gives the published numbers, solves for each quantity, and tells what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smolmake.cli import main
from smolmake.errors import UserError
from smolmake.hardware.gpus import gpu_kind
from smolmake.model.counts import (
    Shape,
    chinchilla_tokens,
    count_parameters,
    flops_per_token,
    overtraining,
)
from smolmake.planning.budget import budget_table
from smolmake.planning.estimate import QUANTITIES, recipe_shape, solve
from smolmake.recipe.runtime import BudgetLine

ROOT = Path(__file__).parents[3]
SMOLLM3 = recipe_shape("smollm3", ROOT)
H100 = gpu_kind("h100").peak()


def shape(**changes: int) -> Shape:
    """The playbook's calculator: 128k x 2048, 16 layers of 32 heads, tied. Its 128k is 128,000."""
    values = {
        "vocab_size": 128_000, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 64, "tie_word_embeddings": True,
    }  # fmt: skip
    return Shape(**{**values, **changes})


def test_the_playbooks_parts() -> None:
    counts = count_parameters(shape())
    assert counts.embeddings == 262_144_000  # 262M; a vocabulary of 128,256 would be 263M
    assert round(count_parameters(shape(vocab_size=128_256)).embeddings / 1e6) == 263
    assert counts.output_head == 0
    assert counts.attention == 268_435_456  # 268M = 16 x 4 x 2048^2
    assert counts.feed_forward == 805_306_368  # 805M = 16 x 3 x 2048 x 8192
    assert counts.norms == 67_584  # 68k = (2 x 16 + 1) x 2048: the published formula leaves the final norm out
    assert counts.total == 1_335_953_408  # 1.34B
    untied = count_parameters(shape(tie_word_embeddings=False))
    assert untied.total - counts.total == untied.output_head == 262_144_000
    assert untied.multiplied == counts.multiplied == counts.total


def test_the_known_models() -> None:
    assert count_parameters(SMOLLM3).total == 3_075_098_624
    assert count_parameters(recipe_shape("baseline-1b", ROOT)).total == 1_235_814_400


def test_flops_a_token() -> None:
    assert flops_per_token(SMOLLM3, 4096) == 6 * 3_075_098_624 + 12 * 36 * 2048 * 4096


def test_chinchilla() -> None:
    assert chinchilla_tokens(3e9) == 60e9
    assert overtraining(count_parameters(SMOLLM3).total, 11e12) == pytest.approx(178.9, abs=0.1)


def test_smollm3s_run() -> None:
    """384 H100, 24 days, 30 % MFU (README and blog) make 10.7T tokens; over 30 days 11T need 82 % goodput."""
    cost = flops_per_token(SMOLLM3, 4096)
    run = solve(flops_per_token=cost, gpus=384, peak=H100, days=24, mfu=0.3, goodput=1)
    assert run.tokens == pytest.approx(10.707e12, rel=1e-3)
    assert run.solved == "tokens"
    assert run.tokens_per_second_per_gpu == pytest.approx(13_446, abs=1)  # published: 13.5 to 14 thousand
    calendar = solve(flops_per_token=cost, tokens=11e12, gpus=384, peak=H100, days=30, mfu=0.3)
    assert calendar.goodput == pytest.approx(0.822, abs=1e-3)
    assert calendar.gpu_hours == 276_480


def test_a_goodput_above_one_tells_what_would_do() -> None:
    cost = flops_per_token(SMOLLM3, 4096)
    with pytest.raises(UserError, match=r"24\.7 days, or 395 GPUs, or no more than 10\.71T tokens") as error:
        solve(flops_per_token=cost, tokens=11e12, gpus=384, peak=H100, days=24, mfu=0.3)
    assert error.value.key == "goodput"
    assert solve(flops_per_token=cost, tokens=11e12, gpus=395, peak=H100, days=24, mfu=0.3).goodput <= 1


def test_the_model_is_solved_for_too() -> None:
    attention = 12 * 36 * 2048 * 4096
    run = solve(tokens=10.707e12, gpus=384, peak=H100, days=24, mfu=0.3, goodput=1)
    assert run.parameters(attention) == pytest.approx(3_075_098_624, rel=1e-3)
    assert run.parameters() == pytest.approx(3_075_098_624 + attention / 6, rel=1e-3)


@given(
    st.floats(1e6, 1e13), st.floats(1e6, 1e14), st.floats(1, 1e5), st.floats(0.01, 1e3), st.floats(0.01, 1),
    st.sampled_from(QUANTITIES),
)  # fmt: skip
def test_solving_for_any_quantity_gives_it_back(
    cost: float, tokens: float, gpus: float, days: float, mfu: float, name: str
) -> None:
    known = {"flops_per_token": cost, "tokens": tokens, "gpus": gpus, "days": days, "mfu": mfu}
    goodput = tokens * cost / (gpus * H100 * mfu * days * 86_400)
    if not 1e-9 < goodput <= 1:
        known["gpus"] = gpus * goodput / 0.5
        goodput = 0.5
    known["goodput"] = goodput
    run = solve(peak=H100, **{key: value for key, value in known.items() if key != name})
    assert run.solved == name
    for key, value in known.items():
        assert getattr(run, key) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["exactly one", "0 are"]),
        ({"tokens": None, "flops_per_token": None}, ["2 are", "model, tokens"]),
        ({"tokens": None, "days": 0}, ["days", "above 0"]),
        ({"tokens": None, "gpus": -8}, ["gpus", "-8"]),
        ({"tokens": None, "mfu": 30}, ["mfu", "30", "0.3 or 30%"]),
        ({"tokens": None, "goodput": float("nan")}, ["goodput", "nan"]),
        ({"tokens": None, "gpus": float("inf")}, ["gpus", "inf"]),
    ],
)
def test_wrong_input_is_told(changes: dict[str, float | None], words: list[str]) -> None:
    known = {"flops_per_token": 2e10, "tokens": 1e12, "gpus": 384, "days": 24, "mfu": 0.3, "goodput": 0.5}
    with pytest.raises(UserError) as error:
        solve(peak=H100, **{**known, **changes})
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 0}, {"num_key_value_heads": 5}, {"vocab_size": -1}])
def test_an_impossible_shape_is_told(changes: dict[str, int]) -> None:
    with pytest.raises(UserError) as error:
        shape(**changes)
    assert error.value.key in changes


def test_other_wrong_input_is_told() -> None:
    with pytest.raises(UserError, match="did you mean `baseline-1b`"):
        recipe_shape("basline-1b", ROOT)
    with pytest.raises(UserError, match="sequence_length"):
        flops_per_token(SMOLLM3, 0)


def table(**lines: dict[str, float]) -> list[str]:
    return list(budget_table({name: BudgetLine.model_validate(line) for name, line in lines.items()}))


def test_the_published_budget() -> None:
    rows = table(
        main={"gpus": 384, "days": 30},
        before={"gpus": 192, "days": 15},
        during={"gpus": 192, "days": 10},
        reset={"gpus": 384, "days": 3},
        debugging={"gpus": 192, "days": 4},
    )
    hours = [row.split()[-2] for row in rows]
    assert hours == ["GPU-hours", "276,480", "69,120", "46,080", "27,648", "18,432", "437,760"]
    assert "384 GPUs x 3 d" in rows[4]
    assert rows[-1].split() == ["total", "437,760", "100.0%"]


def test_the_published_evaluation_budget() -> None:
    """Just under 10,000 GPU-hours: the suite takes 1.5, a long-context evaluation 8 (8 GPUs for an hour).

    Published: the main run every 10B tokens of 11T; more than 100 ablations, mostly of 100B. How many long-context
    evaluations there were is not published; 850 is what the published total leaves room for.
    """
    rows = table(
        main={"runs": 1100, "gpu_hours_each": 1.5},
        ablations={"runs": 100 * 10, "gpu_hours_each": 1.5},
        long={"runs": 850, "gpu_hours_each": 8},
    )
    assert "1,100 x 1.5 h" in rows[1] and rows[-1].split()[1] == "9,950"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ({"gpus": -1, "days": 30}, "gpus"),
        ({"gpus": 384, "days": float("nan")}, "days"),
        ({"runs": -1, "gpu_hours_each": 1.5}, "runs"),
        ({"runs": 1, "gpu_hours_each": float("inf")}, "gpu_hours_each"),
    ],
)
def test_wrong_budget_lines_are_refused(line: dict[str, float], key: str) -> None:
    with pytest.raises(ValidationError) as error:
        table(line=line)
    assert [each["loc"] for each in error.value.errors()] == [(key,)]


def program(monkeypatch: pytest.MonkeyPatch, arguments: str) -> str | int | None:
    """Run the command line here; the message or code that it exits with, None for success."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["smolmake", "estimate", *arguments.split()])
    try:
        main()
    except SystemExit as stop:
        return stop.code
    return None


Out = pytest.CaptureFixture[str]


def test_the_program_prints_one_screen(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program(monkeypatch, "--model smollm3 --gpus 384 --days 24 --mfu 30% --goodput 1") is None
    out = capsys.readouterr().out
    assert "10.71T  <- solved" in out
    assert "22.07 GFLOP = 6 x 3.075B + 3.62 for attention" in out
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 120


def test_the_program_takes_a_shape_and_solves_for_a_model(capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    calculator = (
        "--vocab-size 128k --hidden-size 2048 --intermediate-size 8192 --num-hidden-layers 16 "
        "--num-attention-heads 32 --num-key-value-heads 32 --head-dim 64"
    )
    assert program(monkeypatch, f"{calculator} --tokens 45B --gpus 8 --mfu 0.38 --goodput .95") is None
    assert "embeddings 262.1M, attention 268.4M, feed forward 805.3M, norms 67.58k" in capsys.readouterr().out
    assert program(monkeypatch, "--tokens 11T --gpus 384 --days 30 --mfu 30% --goodput 90%") is None
    assert "attention left out  <- solved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model smolm3", ["did you mean `smollm3`"]),
        ("--model baseline-1b --tokens 11X", ["tokens", "11X", "11T"]),
        ("--model baseline-1b --tokens 11T", ["4 are", "gpus, days, mfu, goodput"]),
        ("--model baseline-1b --gpu h20", ["did you mean `h200`"]),
        ("--model baseline-1b --parameters 3B", ["given twice"]),
        ("--vocab-size 128k", ["not complete", "--hidden-size"]),
        ("--model baseline-1b --gpu a100 --precision fp8", ["a100 has no fp8"]),
        ("--model baseline-1b --sequence-length 0", ["sequence_length"]),
        ("--parameters 1e400 --gpus 8 --days 1 --mfu 1 --goodput 1", ["parameters"]),
    ],
)
def test_the_program_tells_what_is_wrong(
    arguments: str, words: list[str], capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = program(monkeypatch, arguments)
    assert isinstance(told, str) and told.startswith("error: ")
    assert all(word in told for word in words), told
    assert len(told.splitlines()) <= 5
    assert capsys.readouterr().out == ""


def test_planning_needs_the_standard_library_alone() -> None:
    """The planner also runs where neither torch nor pydantic is installed."""
    modules = "smolmake.planning.estimate, smolmake.hardware.memory"
    code = f"import sys, {modules}; print(*sys.modules)"
    source = Path(__file__).resolve().parents[3] / "src"
    command = [sys.executable, "-c", code]
    modules = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(source)})
    assert not {"torch", "pydantic", "snakemake", "numpy", "yaml"} & set(modules.stdout.split())
