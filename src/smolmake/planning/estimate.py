"""How large a model, how many tokens, how many GPUs for how many days: solves for the one that is not given.

    smolmake estimate --model smollm3 --gpus 384 --gpu h100 --days 24 --mfu 30% --goodput 1

Give all but one of the model, `--tokens`, `--gpus`, `--days`, `--mfu` and `--goodput`. The identity behind it is

    tokens x FLOPs per token = GPUs x peak x MFU x goodput x days x 86,400

where the peak is the GPU's dense peak, MFU is measured while training goes on, and goodput is the share of wall-clock
time in which it goes on and is not lost later to a restart.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.hardware.gpus import gpu_kind
from smolmake.model.counts import Parameters, Shape, chinchilla_tokens, count_parameters, flops_per_token, overtraining

SECONDS_PER_DAY = 86_400
SHARES = ("mfu", "goodput")
QUANTITIES = ("flops_per_token", "tokens", "gpus", "days", *SHARES)
SIZES = [field.name for field in dataclasses.fields(Shape) if field.name not in ("tie_word_embeddings", "qk_norm")]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A training run in six numbers that fulfil the identity at the head of this module; `solved` was not given.

    `flops_per_token` is in FLOP, `tokens` in tokens, `peak` in FLOP/s per GPU, `days` in days of wall-clock time; `mfu`
    and `goodput` are shares of 1. `gpus` is a fraction when solved: `math.ceil` gives what to ask for.
    """

    flops_per_token: float
    tokens: float
    gpus: float
    peak: float
    days: float
    mfu: float
    goodput: float
    solved: str

    @property
    def gpu_hours(self) -> float:
        return self.gpus * self.days * 24

    @property
    def tokens_per_second_per_gpu(self) -> float:
        """While training goes on, that is, not counting what goodput leaves out."""
        return self.peak * self.mfu / self.flops_per_token

    def parameters(self, attention_flops: float = 0.0) -> float:
        """N behind the FLOPs per token, less those of attention (12 L d T): (FLOPs per token - attention) / 6."""
        return (self.flops_per_token - attention_flops) / 6


def solve(*, peak: float, **quantities: float | None) -> TrainingRun:
    """The one of the six QUANTITIES that is None or absent, from the others; units as in `TrainingRun`.

    Model and tokens stand on one side of the identity, the other four on the other side; so a missing quantity is the
    product of the opposite side divided by the others on its own: tokens = GPUs x peak x MFU x goodput x days x 86,400
    / FLOPs per token, days = tokens x FLOPs per token / (GPUs x peak x MFU x goodput x 86,400), and so on.

    Raises:
        UserError: if not exactly one is missing, if a value is out of range, or if an MFU or goodput above 1 would be
            needed; the remedy then says what would do.
    """
    known = {name: value for name, value in quantities.items() if value is not None}
    missing = [name for name in QUANTITIES if name not in known]
    if len(missing) != 1:
        names = [name.replace("flops_per_token", "model") for name in missing or QUANTITIES]
        raise UserError(
            f"exactly one quantity must be left out, to be solved for; here {len(missing)} are",
            key=", ".join(names), remedy="give all of these but one",
        )  # fmt: skip
    for name, value in {**known, "peak": peak}.items():
        if not 1e-30 < value < 1e30:
            raise _impossible(name, value, "give a number above 0 (1e-30 to 1e30)")
        if name in SHARES and value > 1:
            raise _impossible(name, value, f"a share of 1: write 0.3 or 30% for 30 percent, not {value:g}")
    work = math.prod(known.get(name, 1.0) for name in ("flops_per_token", "tokens"))
    supply = peak * SECONDS_PER_DAY * math.prod(known.get(name, 1.0) for name in ("gpus", "days", *SHARES))
    solved = missing[0]
    known[solved] = supply / work if solved in ("flops_per_token", "tokens") else work / supply
    if solved in SHARES and (over := known[solved]) > 1 + 1e-9:  # rounding
        raise UserError(
            f"the run would need a {solved} above 1", key=solved, value=f"{over:.3f}",
            remedy=f"even with {solved} 1 it takes {known['days'] * over:.3g} days, or"
            f" {math.ceil(known['gpus'] * over):,} GPUs, or no more than {short(known['tokens'] / over)} tokens",
        )  # fmt: skip
    return TrainingRun(peak=peak, solved=solved, **known)


def _impossible(key: str, value: Any, remedy: str) -> UserError:
    return UserError("not a possible value", key=key, value=value, remedy=remedy)


def run(arguments: argparse.Namespace) -> None:
    """Solve, and print one screen."""
    model, attention, counts = _model(arguments), 0.0, None
    cost = 6 * model if isinstance(model, float) else None
    if isinstance(model, Shape):
        counts = count_parameters(model)
        cost = flops_per_token(model, arguments.sequence_length)
        attention = cost - 6 * counts.multiplied
    known = {name: _number(name, getattr(arguments, name)) for name in QUANTITIES[1:]}
    result = solve(peak=gpu_kind(arguments.gpu).peak(arguments.precision), flops_per_token=cost, **known)
    peak = f"{result.peak / 1e12:,.1f} TFLOP/s dense {arguments.precision}"
    print(_table(result, counts, attention, f"{arguments.gpu}, {peak} each"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="a recipe, such as smollm3, whose model it is")
    parser.add_argument("--parameters", metavar="N", help="a model of N parameters; attention FLOPs are left out")
    for name in SIZES:
        parser.add_argument("--" + name.replace("_", "-"), metavar="N", help="a shape of your own")
    parser.add_argument("--untied", action="store_true", help="a shape of your own whose output head is not tied")
    parser.add_argument("--sequence-length", metavar="T", default="4k", help="tokens; 4k is 4,096 (default)")
    parser.add_argument("--gpu", metavar="KIND", default="h100", help="kind of GPU (default h100)")
    parser.add_argument("--precision", choices=["bf16", "fp8"], default="bf16", help="whose peak MFU refers to")
    parser.add_argument("--tokens", help="such as 11T")
    parser.add_argument("--gpus", help="number of GPUs")
    parser.add_argument("--days", help="wall-clock days")
    parser.add_argument("--mfu", help="model FLOPs utilisation, such as 0.3 or 30%%")
    parser.add_argument("--goodput", help="share of wall-clock time that counts, such as 0.9 or 90%%")


def _model(arguments: argparse.Namespace) -> Shape | float | None:
    """The model as a shape, as a number of parameters, or None where it is what is asked for."""
    arguments.sequence_length = _number("sequence_length", arguments.sequence_length)
    given = [name for name in SIZES if getattr(arguments, name) is not None]
    ways = [name for name in ("model", "parameters") if getattr(arguments, name) is not None]
    if len(ways) + bool(given or arguments.untied) > 1:
        raise UserError(
            "the model is given twice", key=", ".join([*ways, *given]),
            remedy="give --model, or --parameters, or the flags of a shape",
        )  # fmt: skip
    if arguments.model is not None:
        return recipe_shape(arguments.model, Path())
    if arguments.parameters is not None:
        return _number("parameters", arguments.parameters)
    if not given and not arguments.untied:
        return None
    if len(given) < len(SIZES):
        absent = ", ".join("--" + name.replace("_", "-") for name in SIZES if name not in given)
        raise UserError("the model's shape is not complete", key=absent, remedy="give these too, or --model")
    values = {name: _number(name, getattr(arguments, name)) or 0.0 for name in SIZES}
    for name, value in values.items():
        if value != round(value):
            raise _impossible(name, value, "give a whole number")
    whole = {name: round(value) for name, value in values.items()}
    return Shape(**whole, tie_word_embeddings=not arguments.untied, qk_norm=False)


def recipe_shape(recipe: str, root: Path) -> Shape:
    """The shape of a recipe's model.

    Raises:
        UserError: if there is no such recipe, or it has no model of its own.
    """
    from smolmake.planning.cost import shape_of  # it needs more than the standard library
    from smolmake.recipe.load import load_recipe

    shape = shape_of(load_recipe(recipe, root))
    if shape is None:
        raise UserError(
            "this recipe has no model of its own", key="model", value=recipe,
            remedy="name another one, or give --parameters or the flags of a shape",
        )  # fmt: skip
    return shape


def _number(name: str, text: str | None) -> float | None:
    """A number with a unit (11T, 4k, 30%) as written on the command line; None stays None."""
    from smolmake.recipe.types import parse_count, parse_length

    if text is None:
        return None
    try:
        if name in SHARES:
            return float(text[:-1]) / 100 if text.endswith("%") else float(text)
        return float(parse_length(text) if name == "sequence_length" else parse_count(text))
    except (ValueError, OverflowError):
        such = "0.3 or 30%" if name in SHARES else "384, 128k, 3B or 11T"
        raise UserError("not a number", key=name, value=text, remedy=f"write a number such as {such}") from None


def _table(run: TrainingRun, counts: Parameters | None, attention: float, gpu: str) -> str:
    """All quantities on one screen, the solved one marked, with what follows from them."""
    parameters = counts.total if counts else run.parameters(attention)
    parts = ""
    if counts:
        named = {name: getattr(counts, name) for name in vars(counts)}
        parts = ": " + ", ".join(f"{name.replace('_', ' ')} {short(n)}" for name, n in named.items() if n)
    multiplied = run.parameters(attention)
    rows = {
        "model": f"{short(parameters)} parameters{parts}",
        "flops_per_token": f"{run.flops_per_token / 1e9:,.2f} GFLOP = 6 x {short(multiplied)}"
        + (f" + {attention / 1e9:,.2f} for attention" if attention else "; attention left out"),
        "tokens": f"{short(run.tokens)}",
        "gpus": f"{math.ceil(run.gpus - 1e-9):,} ({gpu})",
        "days": f"{run.days:,.2f}",
        "mfu": f"{run.mfu:.1%}",
        "goodput": f"{run.goodput:.1%}",
        "GPU-hours": f"{run.gpu_hours:,.0f}",
        "tokens/s per GPU": f"{run.tokens_per_second_per_gpu:,.0f} while training goes on",
        "compute-optimal": f"{short(chinchilla_tokens(parameters))} tokens, 20 per parameter; "
        f"this is {overtraining(parameters, run.tokens):,.1f} times that",
    }
    width = max(len(name) for name in rows)
    mark = {run.solved: "  <- solved"}
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {text}{mark.get(name, '')}" for name, text in rows.items())


def short(number: float) -> str:
    """11.2T, 34.5B, 812M, 4.1k, 950: four significant digits."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            return f"{number / size:.4g}{unit}"
    return f"{number:.4g}"
