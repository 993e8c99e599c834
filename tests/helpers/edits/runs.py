"""A round of random edits: a base, edits of every kind, and the judgement."""

import random
import shutil
from collections.abc import Iterable
from pathlib import Path

from helpers.edits.code import code_edits
from helpers.edits.data import write_data
from helpers.edits.edit import Edit
from helpers.edits.files import file_edits
from helpers.edits.judge import Judge
from helpers.edits.recipe import recipe_edits, rewritings
from helpers.edits.recompute import CODE, RECIPE, Recomputer

ROOT = Path(__file__).parents[3]


def make_judge(place: Path, wanted: Iterable[str] = (), libraries: str = "") -> Judge:
    """A judge of edits of a base in `place`, whose steps with these labels, or all, are computed."""
    base = place / "base"
    for part in CODE:
        shutil.copytree(ROOT / part, base / part, ignore=shutil.ignore_patterns("__pycache__"))
    write_data(base)
    shutil.copy(ROOT / "tests" / "pipeline" / RECIPE, base / RECIPE)
    (place / "scratch").mkdir()
    recomputer = Recomputer(base, place / "scratch", libraries=libraries)
    return Judge(recomputer, recomputer.make_base(wanted))


def random_edits(base: Path, seed: int, count: int) -> list[Edit]:
    """So many edits of each of three kinds, and as many of each that change nothing."""
    rng = random.Random(seed)
    return [
        *code_edits(base, rng, count, neutral=False), *code_edits(base, rng, count, neutral=True),
        *file_edits(base, rng, count, neutral=False), *file_edits(base, rng, count, neutral=True),
        *recipe_edits(base, rng, count), *rewritings(base, rng, count),
    ]  # fmt: skip
