"""Results of a recipe written down as finished, without computing them: for dry runs of recipes too large to run."""

import json

from smolmake.execution.fingerprint import code_definitions
from smolmake.execution.kinds import script_of
from smolmake.execution.manifest import MANIFEST, RECORD
from smolmake.files import write_json
from smolmake.planning.history import RECIPE
from smolmake.planning.workflow import Plan


def pretend_done(plan: Plan) -> None:
    """A manifest and an identity record for every step of the plan, as far as plans read them."""
    root = plan.steps.root
    write_json(root / "results" / "latest" / plan.recipe.name / RECIPE, plan.steps.values)
    for step in plan.steps.all.values():
        folder = root / "results" / step.key
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "spec": step.spec,
            "origin": plan.steps.origin(step),
            "meaning": step.meaning,
            "inputs": {role: other.key for role, other in step.inputs.items()},
            "code": code_definitions(script_of(step.kind, root)),
        }
        about = {"seconds": 3600.0, "recipe": plan.recipe.name, "gpus": 0}
        for name, content in ((RECORD, record), ("provenance.json", about), (MANIFEST, {})):
            (folder / name).write_text(json.dumps(content))
