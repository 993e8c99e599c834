"""Does each step of the toy do its work whatever the seed? Runs the toy recipe with several seeds and prints a table.

    python benchmarks/toy_seeds.py [--seeds 0 1 2] [--recipe toy]

Data, tokenizer and shards are shared between the seeds; initial weights, the order of data and the sampling of
post-training differ. Each cell is the score with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from smolmake.planning.workflow import load_workflow  # noqa: E402

LEFT_OUT = {"acc_norm"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", default="toy")
    arguments = parser.parse_args()
    tables: dict[str, dict[str, dict[int, str]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in arguments.seeds:
            overlay = Path(scratch) / f"seed{seed}.yaml"
            overlay.write_text(f"extends: {arguments.recipe}\nname: {arguments.recipe}-seed{seed}\nseed: {seed}\n")
            command = ["snakemake", "--workflow-profile", "profiles/local", "--quiet", "all", "--config"]
            program = str(Path(sys.executable).parent / command[0])
            subprocess.run([program, *command[1:], f"recipe={overlay}"], cwd=ROOT, check=True)
            for step in load_workflow(str(overlay), ROOT).steps.of_kind("evaluation"):
                scores = json.loads((ROOT / step.manifest).with_name("scores.json").read_text())
                collect(tables, step.name, seed, scores)
    for name, columns in tables.items():
        print(f"\n{name}")
        for checkpoint, cells in columns.items():
            print(f"  {checkpoint:<16}" + "".join(f"{cells[seed]:>24}" for seed in arguments.seeds))


def collect(tables: dict[str, dict[str, dict[int, str]]], name: str, seed: int, scores: dict[str, Any]) -> None:
    """Put one evaluation's cells into the tables: metric -> checkpoint -> seed -> text."""
    for score in scores["scores"]:
        text = f"{score['value']:.3f} [{score['low']:.2f}, {score['high']:.2f}]"
        tables.setdefault(f"{score['task']} {score['metric']}", {}).setdefault(name, {})[seed] = text
    for loss in scores["heldout"]:
        text = f"{loss['bits_per_byte']:.3f} [{loss['low']:.2f}, {loss['high']:.2f}]"
        tables.setdefault(f"bits per byte, {loss['source']}", {}).setdefault(name, {})[seed] = text


if __name__ == "__main__":
    main()
