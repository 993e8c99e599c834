"""What results/ holds already: earlier results of a step, what they were made from, and how long they took."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.execution.manifest import MANIFEST, RECORD
from smolmake.execution.step import Step, flat
from smolmake.listing import matching_files

RECIPE = "recipe.json"  # in results/latest/<recipe>: what the recipe said at its last whole run
ALIKE = 0.9  # of its values that a renamed or copied recipe has of the other one
FOLDER = re.compile(r"(?P<name>.+)-(?P<id>[0-9a-f]{10})")


@dataclass
class History:
    """The folders under results/ by step label (kind/name), the newest first."""

    root: Path
    _read: dict[Path, dict[str, Any] | None] = field(default_factory=dict)
    _typical: dict[tuple[str, str, int, str], float | None] = field(default_factory=dict)

    @cached_property
    def folders(self) -> dict[str, list[Path]]:
        found: dict[str, list[tuple[int, Path]]] = defaultdict(list)
        for manifest in (self.root / "results").glob(f"*/*/{MANIFEST}"):
            match = FOLDER.fullmatch(manifest.parent.name)
            if match is not None:
                label = f"{manifest.parent.parent.name}/{match['name']}"
                found[label].append((manifest.stat().st_mtime_ns, manifest.parent))
        return {label: [folder for _, folder in sorted(dated, reverse=True)] for label, dated in found.items()}

    @cached_property
    def finished(self) -> set[str]:
        """The keys (kind/name-id) of all finished steps."""
        return {f"{folder.parent.name}/{folder.name}" for folders in self.folders.values() for folder in folders}

    def earlier(self, step: Step, recipe: str, before: str) -> dict[str, Any] | None:
        """What the newest other result of a step was made from, or None.

        Among those made for the recipe, also by the name that it had before, which some steps bear.
        """
        labels = dict.fromkeys([step.label, *([f"{step.kind}/{before}"] if step.name == recipe else [])])
        for folder in (folder for label in labels for folder in self.folders.get(label, [])):
            if folder.name == step.key.partition("/")[2]:
                continue
            record = self._json(folder / RECORD)
            if record is not None and self._provenance(folder).get("recipe") in (recipe, before):
                return record
        return None

    def made_from(self, key: str) -> dict[str, Any]:
        """What a result was made from, by its key (kind/name-id); nothing where it is gone."""
        return self._json(self.root / "results" / key / RECORD) or {}

    def last_recipe(self, recipe: str) -> dict[str, Any] | None:
        """The values of a recipe at its last whole run (see `recipe_values`), or None."""
        return self._json(self.root / "results" / "latest" / recipe / RECIPE)

    def called_before(self, recipe: str, values: dict[str, Any]) -> str:
        """The name of a recipe at its last whole run, which is another one if it was renamed or copied since.

        That is the recipe with a whole run with which a recipe without one shares most, and at least ALIKE, of its
        values. The recipe's own name where there is none.
        """
        if self.last_recipe(recipe) is not None:
            return recipe
        now, shares = flat(values), {recipe: 0.0}
        for file in sorted((self.root / "results" / "latest").glob(f"*/{RECIPE}")):
            if (last := self._json(file)) is not None:
                before = flat(last)
                same = sum(key in now and now[key] == value for key, value in before.items())
                shares[file.parent.name] = same / max(len(now), len(before), 1)
        best = max(shares, key=lambda name: shares[name])
        return best if shares[best] >= ALIKE else recipe

    def begun(self, step: Step) -> bool:
        """Whether the step was started and did not end."""
        folder = f"{self.root}/results/{step.key}"  # no Path: this is asked thousands of times
        return os.path.exists(f"{folder}/{RECORD}") and not os.path.exists(f"{folder}/{MANIFEST}")

    def measured_hours(self, step: Step) -> float | None:
        """How long the newest result of a step took, in hours."""
        times = (self._provenance(folder).get("seconds") for folder in self.folders.get(step.label, []))
        return next((seconds / 3600 for seconds in times if seconds is not None), None)

    def typical_hours(self, kind: str, recipe: str, gpus: int = 0, ending: str = "") -> float | None:
        """What a finished step of a kind took on so many GPUs: the median of this recipe's, else of all, in hours.

        `ending`: only of steps whose name ends so.
        """
        if (asked := (kind, recipe, gpus, ending)) not in self._typical:
            ours, all_times = [], []
            of_kind = (label for label in self.folders if label.startswith(f"{kind}/") and label.endswith(ending))
            for provenance in (self._provenance(folder) for label in of_kind for folder in self.folders[label]):
                if "seconds" in provenance and provenance.get("gpus", 0) == gpus:
                    all_times.append(provenance["seconds"] / 3600)
                    if provenance.get("recipe") == recipe:
                        ours.append(all_times[-1])
            times = ours or all_times
            self._typical[asked] = statistics.median(times) if times else None
        return self._typical[asked]

    def spent_gpu_hours(self, recipe: str, keys: set[str]) -> float:
        """GPU-hours of all finished results that a recipe uses (`keys`) or that were made for it once."""
        spent = 0.0
        for folder in (each for folders in self.folders.values() for each in folders):
            provenance = self._provenance(folder)
            if provenance.get("recipe") == recipe or f"{folder.parent.name}/{folder.name}" in keys:
                spent += provenance.get("gpus", 0) * provenance.get("seconds", 0.0) / 3600
        return spent

    def versions(self, step: Step) -> dict[str, str]:
        """The versions of libraries that a finished step was computed with."""
        return dict(self._provenance(self.root / "results" / step.key).get("versions", {}))

    def _provenance(self, folder: Path) -> dict[str, Any]:
        return self._json(folder / "provenance.json") or {}

    def _json(self, file: Path) -> dict[str, Any] | None:
        """The object of a file, read once; None where there is none."""
        if file not in self._read:
            try:
                value = json.loads(file.read_text())
            except (OSError, ValueError):
                value = None
            self._read[file] = value if isinstance(value, dict) else None
        return self._read[file]


def last_saved(recovery: Path) -> int | None:
    """The step of the newest recovery checkpoint in a folder, of a segment or of TRL, if there is one."""
    names = [re.match(r"(?:step|checkpoint)-(\d+)", path.name) for path in recovery.glob("*-*")]
    return max((int(name[1]) for name in names if name), default=None)


def named_results(values: dict[str, Any], root: Path) -> set[str]:
    """The keys (kind/name-id) of results that a recipe names by a path anywhere in its values, links followed."""
    results, found = (root / "results").resolve(), set[str]()
    for leaf in flat(values).values():
        for text in leaf if isinstance(leaf, list) else [leaf]:
            for path in _paths(text, root) if isinstance(text, str) else ():
                if path.is_relative_to(results) and len(parts := path.relative_to(results).parts) > 1:
                    found.add("/".join(parts[:2]))
    return found


def _paths(text: str, root: Path) -> list[Path]:
    """The files and folders that a text means, if it is a path or a glob."""
    try:
        if (place := root / text).exists():
            return [place.resolve()]
        return [file.resolve() for file in matching_files(text, root)] if "/" in text else []
    except (OSError, ValueError, UserError):  # a text that is no path, or a path that nobody can read
        return []
