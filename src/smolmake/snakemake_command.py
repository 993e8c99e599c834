"""Run a recipe, or plan it: both call Snakemake with a profile of this project.

    smolmake plan toy
    smolmake run toy
    smolmake run smollm3 --profile slurm
    smolmake run toy -- checks --cores 4

`plan` computes nothing. It is Snakemake's dry run, which ends with what would run and why, its cost, and what is left
of the recipe's budget. `run` stops before its first job if the plan is over budget, unless `--consent` allows its size.
Finished steps are kept, and training continues from its last checkpoint: the same command continues a stopped run.

What follows `--` goes to Snakemake: options, and the targets data, tokenizers, checks, pretrain, posttrain and
evaluate.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from smolmake.errors import UserError

PROFILES = Path("profiles")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", default="toy", help="a name in config/recipes, or a path (default: toy)")
    parser.add_argument(
        "--profile", default="local",
        help="a folder in profiles/, or a profile that Snakemake finds by name or path (default: local)",
    )  # fmt: skip
    parser.add_argument("--consent", metavar="GPU_HOURS", help="run over budget, up to the size that the plan states")
    if parser.get_default("command") == "plan":
        parser.add_argument("--json", metavar="FILE", help="write the plan to this file as JSON too")
        parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the plan instead of printing it")


def run(arguments: argparse.Namespace) -> None:
    if arguments.command == "plan" and arguments.picture is not None:
        from smolmake.report.charts.graph import write_plan_picture

        write_plan_picture(arguments.recipe, Path.cwd(), arguments.picture)
        return
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *snakemake_options(arguments)])  # noqa: S606


def snakemake_options(arguments: argparse.Namespace) -> list[str]:
    """Snakemake's command line. `--config` comes last: it would read a target behind it as a setting."""
    options = [*arguments.passed]
    if (PROFILES / arguments.profile).is_dir():
        options += ["--workflow-profile", str(PROFILES / arguments.profile)]
    else:
        options += ["--profile", arguments.profile]
    if arguments.command == "plan":
        options += ["--dry-run", *(["--logger-smolmake-json", arguments.json] if arguments.json else [])]
    return [*options, "--config", f"recipe={arguments.recipe}", *_consent(arguments.consent)]


def _consent(hours: str | None) -> list[str]:
    if hours is None:
        return []
    try:
        float(hours)
    except ValueError:
        raise UserError(
            "not a number of GPU-hours", key="--consent", value=hours, remedy="give the number that the plan states"
        ) from None
    return [f"consent={hours}"]
