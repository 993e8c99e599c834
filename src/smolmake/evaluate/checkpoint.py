"""The checkpoint that a job measures."""

from pathlib import Path

from smolmake.errors import UserError
from smolmake.execution.job import Job
from smolmake.execution.manifest import payload_under, verify_payload
from smolmake.execution.step import Run
from smolmake.graph.specs.evaluate import EvaluationSpec, SuiteSpec


def measured_checkpoint(job: Job[EvaluationSpec | SuiteSpec, Run]) -> Path:
    """The folder of a checkpoint, or of the milestone that the job names: that one may be in remote storage alone."""
    milestone, step = job.spec.milestone, job.input("checkpoint")
    if milestone is None:
        return step / "checkpoint"
    place, manifest = f"milestones/step-{milestone}", job.inputs["checkpoint"]
    if not (files := payload_under(manifest, place)):
        raise UserError(
            f"the segment kept no milestone at step {milestone}: it had passed it when the milestone was asked for",
            file=manifest, key="pretraining.milestone_steps",
            remedy="run the same command again: the segment is then trained again; or set the milestones as they were",
        )  # fmt: skip
    verify_payload(manifest, only=files)
    return step / place
