"""What a site fills in, as options of the executor: `smolmake-slurm-...` in the profile and on the command line."""

import re
from dataclasses import dataclass, field
from typing import Any, Optional

from snakemake_executor_plugin_slurm import ExecutorSettings as SlurmSettings
from snakemake_interface_common.exceptions import WorkflowError

NAME = re.compile(r"[A-Za-z0-9_.,@+-]+")


def option(text: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": text, "env_var": False, "required": False})


@dataclass
class ExecutorSettings(SlurmSettings):
    """The Slurm plugin's settings, and those of a site."""

    account: Optional[str] = option("Account that jobs are charged to. Without it Slurm takes the user's default.")
    cpu_partition: Optional[str] = option("Partition of jobs without GPUs.")
    gpu_partition: Optional[str] = option("Partition of jobs with GPUs.")
    gpu_type: Optional[str] = option("Type of GPU as Slurm names it (gres), such as h100.")
    longest: Optional[int] = option("Longest time limit of a job, in minutes.")
    extra: Optional[str] = option("More options for sbatch, such as --exclusive.")
    hung_after: int = option("Seconds without a heartbeat after which a running job is ended and sent again.", 600)
    requeue_wait: int = option("Seconds that a preempted job has to come back before it is sent again.", 300)
    lost_after: int = option("Seconds after which a job that Slurm no longer knows counts as failed.", 120)
    status_command: Optional[str] = option("Not used: squeue is asked first, then sacct.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("account", "cpu_partition", "gpu_partition", "gpu_type", "qos", "reservation"):
            value = getattr(self, name)
            if value is not None and not NAME.fullmatch(str(value)):
                raise WorkflowError(
                    f"this is no name that Slurm could have\n  key     smolmake-slurm-{name.replace('_', '-')}\n"
                    f"  value   {value}\n  remedy  letters, digits and . _ - , @ + only"
                )
