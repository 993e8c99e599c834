"""Nodes that get no more jobs of this project, because a preflight named them as failing.

    smolmake nodes
    smolmake nodes --clear node07,node09
    smolmake nodes --clear all

Without an option it lists them with the reasons. The Slurm executor adds nodes, and its jobs avoid those in the list.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from smolmake.errors import UserError, did_you_mean
from smolmake.files import write_json

EXCLUDED = Path(".smolmake") / "excluded-nodes.json"
CHECKS = "checks.json"  # of a preflight: its table


def excluded_nodes(root: Path) -> dict[str, str]:
    """Why each of the nodes is left out, by name."""
    try:
        found = json.loads((root / EXCLUDED).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(
            "the list of excluded nodes cannot be read",
            file=root / EXCLUDED, remedy="delete the file: the next preflight names the nodes again",
        ) from None  # fmt: skip
    return {str(node): str(reason) for node, reason in found.items()}


def exclude_nodes(root: Path, reasons: dict[str, str]) -> None:
    """Add nodes with their reasons."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    (root / EXCLUDED).parent.mkdir(exist_ok=True)
    write_json(root / EXCLUDED, excluded_nodes(root) | {node: f"{day}: {why}" for node, why in reasons.items()})


def include_nodes(root: Path, names: list[str]) -> list[str]:
    """Let nodes take jobs again; gives their names. `all` means every one.

    Raises:
        UserError: if one of them is not excluded.
    """
    before = excluded_nodes(root)
    wanted = list(before) if names == ["all"] else names
    for name in wanted:
        if name not in before:
            remedy = did_you_mean(name, before) if before else "nothing is to be done"
            raise UserError("this node is not excluded", key="--clear", value=name, remedy=remedy)
    write_json(root / EXCLUDED, {node: why for node, why in before.items() if node not in wanted})
    return wanted


def failing_nodes(folder: Path) -> dict[str, str]:
    """The nodes that the last preflight of a step's folder found wanting, each with its reasons."""
    try:
        results = json.loads((folder / CHECKS).read_text())
    except (OSError, ValueError):
        return {}
    reasons: dict[str, list[str]] = {}
    for result in results:
        for node in () if result["passed"] else result["nodes"]:
            reasons.setdefault(node, []).append(
                f"{result['check']} {result['measured']}, required {result['required']}"
            )
    return {node: "; ".join(why) for node, why in reasons.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clear", metavar="NODES", help="let these take jobs again: NODE,NODE or all")


def run(arguments: argparse.Namespace) -> None:
    if arguments.clear is not None:
        cleared = include_nodes(Path.cwd(), arguments.clear.split(","))
        print(f"may take jobs again: {', '.join(cleared) or 'none was excluded'}")
        return
    for node, reason in excluded_nodes(Path.cwd()).items() or [("no node is excluded", "")]:
        print(f"{node}  {reason}".rstrip())
