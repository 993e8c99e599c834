"""Write docs/reference/commands.md from the subcommands of `smolmake`.

Usage: python tools/write_commands.py [--check]
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from smolmake.cli import COMMANDS, SNAKEMAKE, command_parser, module

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "reference" / "commands.md"
COMMAND = "python tools/write_commands.py"
HEADER = f"""\
# Commands

<!-- Made from src/smolmake/cli.py and the modules that it names by `{COMMAND}`. Do not edit it by hand. -->

`make setup` installs the command as `.venv/bin/smolmake`; after `source .venv/bin/activate` it is `smolmake`. Call it
in the project's folder. A mistake ends with exit code 1 and one screen that names the file, the key, the value and a
remedy; a wrong option with 2; Ctrl-C with 130.

| command | what it does |
|---|---|
"""


def render() -> str:
    """The content of the page."""
    rows = [f"| [`{name}`](#smolmake-{name}) | {summary} |\n" for name, (_, summary) in COMMANDS.items()]
    return HEADER + "".join(rows) + "".join(section(name) for name in COMMANDS)


def section(name: str) -> str:
    """A subcommand's heading, help and arguments. What several share is printed with the first of them."""
    first = next(other for other, (place, _) in COMMANDS.items() if place == COMMANDS[name][0])
    help_text = inspect.getdoc(module(name)) if name == first else None
    body = "\n".join(paragraphs(help_text)) if help_text else f"See [`smolmake {first}`](#smolmake-{first})."
    table = "\n".join(arguments(command_parser(name)))
    rest = "| `-- ...` | options and targets for Snakemake |\n" if name in SNAKEMAKE else ""
    return f"\n## `smolmake {name}`\n\n{body}\n\n| argument | meaning |\n|---|---|\n{table}\n{rest}"


def paragraphs(text: str) -> Iterator[str]:
    """The lines of a help text in Markdown: what is indented becomes a block."""
    inside = False
    for line in text.split("\n"):
        indented = line.startswith("    ")
        if line and indented != inside:
            yield "```text" if indented else "```\n"
            inside = indented
        if not line and inside:
            yield "```"
            inside = False
        yield line[4:] if indented else line


def arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Table rows of a parser's arguments."""
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        choices = " or ".join(map(str, action.choices)) if action.choices else name
        label = name if not action.option_strings else action.option_strings[-1]
        if action.option_strings and action.nargs != 0:
            label += f" {choices}"
        if not action.option_strings and action.nargs in ("?", "*"):
            label = f"[{label}{' ...' if action.nargs == '*' else ''}]"
        yield f"| `{label}` | {(action.help or '').replace('%%', '%')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the page is out of step")
    if not parser.parse_args().check:
        FILE.write_text(render())
    elif not FILE.is_file() or FILE.read_text() != render():
        sys.exit(f"{FILE.relative_to(ROOT)} is out of step with the commands: run {COMMAND}")


if __name__ == "__main__":
    main()
