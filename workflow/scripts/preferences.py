"""Let a stronger and a weaker checkpoint answer the same prompts: preference pairs. Usage: preferences.py JOB"""

from smolmake.execution.job import Job, run_step, stay_offline
from smolmake.graph.specs.posttrain import PreferencesSpec
from smolmake.graph.specs.runs import DeviceRun

stay_offline()  # before a library reads the environment

from smolmake.posttrain.preferences import make_pairs


def compute(job: Job[PreferencesSpec, DeviceRun]) -> None:
    make_pairs(job)


if __name__ == "__main__":
    run_step(compute, PreferencesSpec, DeviceRun, __doc__ or "")
