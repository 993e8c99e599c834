"""A recipe's graph in the form in which the rules ask for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from smolmake.errors import UserError
from smolmake.files import canonical_json, digest
from smolmake.identity.steps import Step, Steps, build_steps
from smolmake.recipe.load import find_recipe, load_recipe
from smolmake.recipe.schema import Recipe


@dataclass(frozen=True)
class Plan:
    """A recipe and its steps."""

    recipe: Recipe
    file: Path
    steps: Steps

    def step(self, kind: str, name_and_id: str) -> Step:
        """The step of a wildcard.

        Raises:
            UserError: if the recipe has no such step, as when an old result is asked for by path.
        """
        try:
            return self.steps.all[f"{kind}/{name_and_id}"]
        except KeyError:
            raise UserError(
                "the recipe has no such step",
                file=self.file,
                key=kind,
                value=name_and_id,
                remedy="ask for a target such as `report`, or set the recipe back to what it was",
            ) from None

    def inputs(self, kind: str, name_and_id: str) -> list[str]:
        return [step.manifest for step in self.step(kind, name_and_id).inputs.values()]

    def job(self, kind: str, name_and_id: str) -> str:
        """The argument of the step's script, in canonical JSON."""
        step = self.step(kind, name_and_id)
        return canonical_json(
            {
                "kind": step.kind,
                "name": step.name,
                "id": step.id,
                "folder": f"results/{step.key}",
                "spec": step.spec,
                "inputs": {role: other.manifest for role, other in step.inputs.items()},
                "run": step.run,
            }
        )

    def launcher(self, kind: str, name_and_id: str) -> str:
        """What starts the step's script on its devices."""
        return str(self.step(kind, name_and_id).run["launcher"])

    def manifests(self, *kinds: str) -> list[str]:
        return [step.manifest for kind in kinds for step in self.steps.of_kind(kind)]

    @property
    def links(self) -> str:
        """The file that says that results/latest/<recipe> shows exactly these steps."""
        state = digest(sorted(self.steps.all))[:10]
        return f"results/latest/{self.recipe.name}/links-{state}.json"


def use_environment_of(python: str, root: Path) -> None:
    """Let the rules' commands find this Python and this tree's package.

    Waiting threads sleep instead of spinning: on a busy machine, two spinning threads were 12 times slower than two
    that sleep; on an idle one they were 8 % faster.
    """
    os.environ["PYTHONPATH"] = str(root / "src")
    os.environ["PATH"] = str(Path(python).parent) + os.pathsep + os.environ["PATH"]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def plan_recipe(name: str, root: Path) -> Plan:
    """Load a recipe, check it and what it needs, and lay out its steps.

    Raises:
        UserError: for anything that is wrong.
    """
    _check_writable(root / "results")
    recipe = load_recipe(name, root)
    return Plan(recipe, find_recipe(name, root), build_steps(recipe, root))


def _check_writable(results: Path) -> None:
    place = results if results.exists() else results.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(
            "the results cannot be written", file=place, remedy="give write permission there, or run from another place"
        )


def check_unchanged(plan: Plan, now: str, asked: str) -> None:
    """Raise UserError if what the recipe leads to now is not what the graph asked for when it started."""
    if now != asked:
        raise UserError(
            "the recipe or the code has changed since this run started",
            file=plan.file,
            value=f"asked for {asked}, now {now}",
            remedy="run the same command again: what is still valid is kept",
        )
