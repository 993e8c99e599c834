"""Job files for tests, as a run of the workflow writes them."""

from pathlib import Path
from typing import Any

from smolmake.execution.job import job_file
from smolmake.files import canonical_json, write_atomically


def write_job(place: Path, job: dict[str, Any]) -> str:
    """Write a job down in a tree; returns the argument that its script takes when it runs there."""
    file = job_file(f"{job['kind']}/{job['name']}-{job['id']}")
    write_atomically(place / file, canonical_json(job))
    return str(file)
