"""Results of a recipe written down as finished, without computing them: for dry runs of recipes too large to run."""

import json

from smolmake.execution.manifest import MANIFEST, RECORD
from smolmake.execution.remote_storage import REMOTE
from smolmake.files import write_json
from smolmake.graph.specs.pretrain import SegmentRun
from smolmake.planning.history import RECIPE
from smolmake.planning.workflow import Workflow


def pretend_done(workflow: Workflow) -> None:
    """A manifest and an identity record for every step of the plan, as far as plans read them."""
    root = workflow.steps.root
    write_json(root / "results" / "latest" / workflow.recipe.name / RECIPE, workflow.steps.values)
    for step in workflow.steps.all.values():
        folder = root / "results" / step.key
        folder.mkdir(parents=True, exist_ok=True)
        record = {
            "spec": step.spec.values(),
            "recipe_values": workflow.steps.recipe_values(step),
            "config_hash": step.config_hash,
            "inputs": {role: other.key for role, other in step.inputs.items()},
            "code": workflow.steps.code_of(step.kind),
            "versions": step.versions,
        }
        about = {"seconds": 3600.0, "recipe": workflow.recipe.name, "gpus": 0}
        milestones = step.run.milestones if isinstance(step.run, SegmentRun) else ()
        kept = {f"milestones/step-{at}/model.safetensors": {"bytes": 1} for at in milestones}
        elsewhere = {"url": "memory://elsewhere", "files": list(kept)}
        manifest = {"payload": kept}
        for name, content in (
            (RECORD, record), ("provenance.json", about), (REMOTE, elsewhere), (MANIFEST, manifest)
        ):  # fmt: skip
            (folder / name).write_text(json.dumps(content))
