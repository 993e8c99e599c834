"""Run the program by which a recipe generates data, and keep what it writes. Usage: generated.py JOB"""

from pathlib import Path

from smolmake.data.generated import run_generator
from smolmake.data.readers import FILES
from smolmake.errors import UserError
from smolmake.execution.bytecode import check_by_content
from smolmake.execution.content_hash import code_digests
from smolmake.execution.job import Job, run_step
from smolmake.graph.specs.data import GeneratedRun, GeneratedSpec


def compute(job: Job[GeneratedSpec, GeneratedRun]) -> None:
    spec, run = job.spec, job.run
    check_code(spec, Path(run.script), job.name)
    check_by_content(Path(run.script).parent / name for name in spec.code)
    rows = run_generator(Path(run.script), spec.arguments, job.folder, run.expected)
    check_code(spec, Path(run.script), job.name)
    job.finish([FILES], {"rows": rows})


def check_code(spec: GeneratedSpec, script: Path, name: str) -> None:
    """Refuse a script that is not the one that the step's id was made from: it changed while the graph ran."""
    if code_digests(script) != spec.code:
        raise UserError(
            "the script or a module that it imports changed after the run had been planned",
            file=script, key=f"generated.{name}",
            remedy="start the run again when it changes no more; its data then counts as other data",
        )  # fmt: skip


if __name__ == "__main__":
    run_step(compute, GeneratedSpec, GeneratedRun, __doc__ or "")
