"""The parity check of many layouts in one start of several processes. Usage: torchrun run_layouts.py CASES"""

import json
import sys

from smolmake.preflight.parity import ParityRun, parity
from smolmake.recipe.pretraining import ModelShape, Optimizer
from smolmake.recipe.runtime import Layout
from smolmake.train.parallel import destroy_parallel, init_parallel, with_layout


def main() -> None:
    parallel = init_parallel("cpu", Layout())
    for name, (model, layout, optimizer, precision) in json.loads(sys.argv[1]).items():
        spread = with_layout(parallel, Layout(**layout))
        result = parity(ParityRun(ModelShape(**model), 1e4, Optimizer(**optimizer), precision, spread))
        if parallel.is_main:
            print(json.dumps([name, result.measured, result.passed]), flush=True)
    destroy_parallel(parallel)


if __name__ == "__main__":
    main()
