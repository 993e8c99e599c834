"""Write the toy's sources and evaluation data, as real files. Usage: toyfiles.py JOB"""

from smolmake.data.toy import write_toy_files
from smolmake.execution.job import Job, run_step


def compute(job: Job) -> None:
    rows = write_toy_files(job.folder / "files", job.spec["seed"], sorted(job.spec["packages"]))
    job.finish(["files"], {"rows": rows})


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
