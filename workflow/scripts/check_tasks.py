"""Answer every task of a recipe with a tiny new model, before anything trains. Usage: check_tasks.py JOB"""

from smolmake.execution.job import Job, run_step, stay_offline
from smolmake.graph.specs.evaluate import CheckTasksSpec
from smolmake.graph.specs.runs import DeviceRun

stay_offline()  # before a library reads the environment

from smolmake.evaluate.check_tasks import check_tasks


def compute(job: Job[CheckTasksSpec, DeviceRun]) -> None:
    check_tasks(job)


if __name__ == "__main__":
    run_step(compute, CheckTasksSpec, DeviceRun, __doc__ or "")
