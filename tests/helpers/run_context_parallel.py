"""A step with context parallelism against one device: its loss and gradients. Usage: run_context_parallel.py DEVICE"""

import json
import sys
from pathlib import Path

from torch import Tensor

from smolmake.preflight.parity import RATE, ParityRun
from smolmake.recipe.pretraining import ModelShape, Optimizer, Precision
from smolmake.recipe.runtime import Layout
from smolmake.train.parallel import ParallelContext, destroy_parallel, init_parallel, with_layout

MODEL = ModelShape(
    hidden_size=512, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4
)  # fmt: skip


def first_step(run: ParityRun, parallel: ParallelContext) -> tuple[float, dict[str, Tensor]]:
    found: dict[str, Tensor] = {}
    with run.trainer(parallel, Path()) as trainer:

        def keep() -> None:
            found.update({name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None})

        trainer.optimizer.step = keep  # type: ignore[method-assign]
        return trainer.step(0, RATE).loss, found


def main() -> None:
    parallel = init_parallel(sys.argv[1], Layout())
    precision: Precision = "bf16" if parallel.device.type == "cuda" else "fp32"
    spread = with_layout(parallel, Layout(context_parallel=parallel.world_size))
    run = ParityRun(MODEL, 1e4, Optimizer(clip_grad_norm=1e9), precision, spread)
    alone = first_step(run, ParallelContext(parallel.device)) if parallel.is_main else None
    parallel.barrier()
    together = first_step(run, run.parallel)
    if alone is not None:
        apart = {name: float((a - together[1][name]).norm() / a.norm()) for name, a in alone[1].items()}
        print(json.dumps({"loss": abs(alone[0] - together[0]) / alone[0], "gradients": apart}), flush=True)
    destroy_parallel(parallel)


if __name__ == "__main__":
    main()
