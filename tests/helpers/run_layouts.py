"""The parity drill of many layouts in one start of four processes. Usage: torchrun run_layouts.py CASES"""

import json
import sys

from smolmake.preflight.parity import Drill, parity
from smolmake.train.parallel import join_group, leave_group, with_layout


def main() -> None:
    group = join_group("cpu", {})
    for name, (model, layout, spec) in json.loads(sys.argv[1]).items():
        finding = parity(Drill(model, spec, {}, with_layout(group, layout)))
        if group.first:
            print(json.dumps([name, finding.found, finding.passed]), flush=True)
    leave_group(group)


if __name__ == "__main__":
    main()
