"""The command `smolmake`.

A subcommand lives in the module that does its work, which has `add_arguments(parser)` and `run(arguments)`; its
docstring is the help text. A module is imported when its subcommand is called, so `smolmake --help` answers at once.
`tools/write_commands.py` makes docs/reference/commands.md from all of this.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path
from typing import Any

from smolmake.errors import UserError, did_you_mean, run_as_program

# name: (module, what it does). The order is that of the help and of the reference page.
COMMANDS = {
    "run": ("smolmake.snakemake_command", "run a recipe from raw text to report"),
    "plan": ("smolmake.snakemake_command", "show what would run, why, and what it costs"),
    "step": ("smolmake.planning.by_hand", "compute one step alone, with its log on the terminal"),
    "status": ("smolmake.planning.status", "show where a run is: steps, loss, speed, events, time left, disk"),
    "inspect": ("smolmake.data.inspect", "show a document of a source, and the training steps that read it"),
    "trace": ("smolmake.data.inspect", "show which documents a row of a training step holds"),
    "compare": ("smolmake.report.compare", "compare two checkpoints or models question by question"),
    "estimate": ("smolmake.planning.estimate", "solve model, tokens, GPUs, days, MFU and goodput for the missing one"),
    "adopt": ("smolmake.planning.adopt", "print the lines by which a recipe adopts token shards or a model"),
    "gc": ("smolmake.planning.gc", "list or delete results that no recipe reaches"),
    "nodes": ("smolmake.cluster.excluded_nodes", "list the nodes that a preflight excluded, or take them back"),
}
SNAKEMAKE = ("run", "plan")  # take options for Snakemake behind `--`
IN_A_PROJECT = ("run", "plan", "step", "status", "compare", "gc")
WIDTH = 100


def main() -> None:
    """The entry point: one screen for a mistake of the user, exit code 1; 2 for a wrong option, 130 after Ctrl-C."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `smolmake status | head` ends quietly
    run_as_program(lambda: call(sys.argv[1:]))


def call(words: list[str]) -> None:
    """Run the subcommand that a command line names.

    Raises:
        UserError: for an unknown subcommand, and for what the subcommand finds wrong.
    """
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return
    name, *rest = words
    if name not in COMMANDS:
        raise UserError("unknown command", value=f"smolmake {name}", remedy=did_you_mean(name, COMMANDS))
    passed = rest[rest.index("--") + 1 :] if "--" in rest else []
    parser = command_parser(name)
    arguments = parser.parse_args(rest[: len(rest) - len(passed)], argparse.Namespace(passed=passed))
    if passed and name not in SNAKEMAKE:
        parser.error(f"unrecognized arguments: {' '.join(passed)}")
    if name in IN_A_PROJECT and not Path("workflow/Snakefile").is_file():
        raise UserError(
            "this is not the folder of a smolmake project",
            file=Path.cwd(), remedy="change to the folder that has workflow/, config/ and results/",
        )  # fmt: skip
    module(name).run(arguments)


def overview() -> str:
    """The text of `smolmake --help`."""
    lines = ["Usage: smolmake COMMAND [ARGUMENTS]", ""]
    lines += [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join([*lines, "", "`smolmake COMMAND --help` explains one of them."])


def module(name: str) -> Any:
    """The module that does a subcommand's work."""
    return importlib.import_module(COMMANDS[name][0])


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of a subcommand."""
    parser = argparse.ArgumentParser(
        prog=f"smolmake {name}",
        description=module(name).__doc__,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=WIDTH),
    )
    parser.set_defaults(command=name)
    module(name).add_arguments(parser)
    return parser


if __name__ == "__main__":
    main()
