"""Count the evaluation items in a source's documents without dropping any. Usage: measure_overlap.py JOB"""

from itertools import islice

from smolmake.data.contamination import Contamination
from smolmake.data.documents import iterate_texts
from smolmake.data.sources import data_files
from smolmake.data.words import words_of
from smolmake.evaluate.items import task_items
from smolmake.files import write_json
from smolmake.program import Job, run_step

BATCH = 256


def compute(job: Job) -> None:
    files = data_files(job.spec["tasks"], job.input("tasks") / "files" if "tasks" in job.inputs else None)
    contamination = Contamination(task_items(files), job.spec["ngram"])
    texts = iterate_texts(job.input("documents"))
    read = found = 0
    while batch := list(islice(texts, BATCH)):
        read += len(batch)
        found += 0 if contamination.empty else len(contamination.found_in(words_of(batch)))
    overlap = {
        task: {key.replace("dropped", "found"): count for key, count in counts.items()}
        for task, counts in contamination.summary().items()
    }
    write_json(job.folder / "overlap.json", {"read": read, "contaminated": found, "overlap": overlap})
    job.finish(["overlap.json"], {"read": read, "contaminated": found})


if __name__ == "__main__":
    run_step(compute, __doc__ or "")
