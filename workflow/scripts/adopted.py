"""Put token shards or a model that exist already into the graph, where they lie. Usage: adopted.py JOB"""

from smolmake.data.adopted import adopt_artefact
from smolmake.execution.job import Job, run_step
from smolmake.graph.specs.data import AdoptedRun, AdoptedSpec


def compute(job: Job[AdoptedSpec, AdoptedRun]) -> None:
    adopt_artefact(job)


if __name__ == "__main__":
    run_step(compute, AdoptedSpec, AdoptedRun, __doc__ or "")
