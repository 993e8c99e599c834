"""A step with context parallelism against one device: its loss and gradients. Usage: run_context_parallel.py DEVICE"""

import json
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from smolmake.preflight.parity import RATE, Drill
from smolmake.recipe.pretraining import Optimizer
from smolmake.train.parallel import Group, join_group, leave_group, with_layout

MODEL = {
    "hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 4,
    "no_rope_layer_interval": 4, "rms_norm_eps": 1e-6, "initializer_range": 0.02, "tie_word_embeddings": True,
    "rope_theta": 1e4,
}  # fmt: skip


def first_step(drill: Drill, group: Group) -> tuple[float, dict[str, Tensor]]:
    found: dict[str, Tensor] = {}
    with drill.trainer(group, Path()) as trainer:

        def keep() -> None:
            found.update({name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None})

        trainer.optimizer.step = keep  # type: ignore[method-assign]
        return trainer.step(0, RATE)[0], found


def main() -> None:
    group = join_group(sys.argv[1], {})
    spec: dict[str, Any] = {"optimizer": Optimizer(clip_grad_norm=1e9).used()}
    spec["precision"] = "bf16" if group.device.type == "cuda" else "fp32"
    drill = Drill(MODEL, spec, {}, with_layout(group, {"strategy": "ddp", "context_parallel": group.world}))
    alone = first_step(drill, Group(group.device)) if group.first else None
    group.wait()
    together = first_step(drill, drill.group)
    if alone is not None:
        apart = {name: float((a - together[1][name]).norm() / a.norm()) for name, a in alone[1].items()}
        print(json.dumps({"loss": abs(alone[0] - together[0]) / alone[0], "gradients": apart}), flush=True)
    leave_group(group)


if __name__ == "__main__":
    main()
