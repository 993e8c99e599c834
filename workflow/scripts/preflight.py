"""Check that a layout trains as one device does. Usage: [torchrun ...] preflight.py JOB (out, model, spec, run)"""

import argparse
import json
import sys
from pathlib import Path

import torch

from smolmake.errors import run_as_program
from smolmake.files import write_json
from smolmake.train.parallel import join_group, leave_group
from smolmake.train.preflight import drill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    job = json.loads(parser.parse_args().job)
    torch.set_num_threads(job["run"]["threads"])
    group = join_group(job["run"]["device"], job["run"]["layout"])
    result = drill(job["model"], job["spec"], job["run"], group)
    if group.first:
        Path(job["out"]).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(job["out"]), result)
        print(
            f"{result['processes']} processes with {result['strategy']} train as one does: "
            f"losses within {result['loss']:.1e}, weights within {result['weights']:.1e}",
            file=sys.stderr,
        )
    leave_group(group)


if __name__ == "__main__":
    run_as_program(main)
