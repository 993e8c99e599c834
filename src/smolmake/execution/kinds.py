"""The one table of the kinds of steps. A kind is also the name of its rule, its script and its folder of results.

What a step reads is said by its rule, what it is made from by its model in graph/specs/, what it costs by
planning/cost.py. CONTRIBUTING.md has the list of places that a new kind of step touches.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Kind:
    """A kind of steps.

    `title` is what people read in the report's picture, `target` the target of the workflow that asks for its steps.
    `mem_mb` and `runtime` (minutes) are the least that it asks of a cluster, memory for each of its `workers`.
    `time` says how the plan knows how long a step takes: from tokens that are known before (`sized`), only once one
    has been measured (`measured`), or seconds until then (`short`). `tokens_per_second` is what one worker does.
    """

    name: str
    title: str
    target: str
    environment: str
    mem_mb: int = 2000
    runtime: int = 240
    time: Literal["sized", "measured", "short"] = "short"
    tokens_per_second: float = 0.0  # assumed: docs/explanation/costs.md has what was measured
    workers: bool = False  # done in parts by as many processes as it has threads
    devices: bool = False  # takes the devices of its layout
    launched: bool = False  # started once for each device by its layout's launcher
    trains: bool = False  # the tokens that it reads count as trained
    model: bool = False  # it gives a checkpoint
    chat: bool = False  # it gives a model that answers through a chat template
    check: bool = False  # a check before training: no result depends on it

    @property
    def script(self) -> str:
        return f"workflow/scripts/{self.name}.py"


def _table(*kinds: Kind) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds}


KINDS = _table(
    Kind("generated", "Generated data", "data", "generated", runtime=1440),
    Kind("adopted", "Adopted", "data", "data"),
    Kind("documents", "Documents", "data", "data", workers=True, time="sized",
         tokens_per_second=1e6),
    Kind("suite_items", "Suites' items", "data", "evaluate", runtime=120),
    Kind("overlap", "Overlap", "data", "data"),
    Kind("heldout", "Held-out text", "data", "data", runtime=60),
    Kind("tokenizer", "Tokenizers", "tokenizers", "data", runtime=120),
    Kind("tokenizer_comparison", "Comparison", "tokenizers", "data", runtime=60),
    Kind("shards", "Token shards", "data", "data", mem_mb=3000, workers=True, time="sized",
         tokens_per_second=1e7),
    Kind("packing", "Packing", "data", "data", workers=True),
    Kind("mixture", "Mixtures", "data", "data", mem_mb=1000, runtime=30),
    Kind("epochs", "Epoch counts", "data", "data", mem_mb=1000, runtime=30),
    Kind("preflight", "Machines", "checks", "train", mem_mb=1500, runtime=60, devices=True,
         launched=True, check=True),
    Kind("segment", "Segments", "pretrain", "train", mem_mb=1500, runtime=1440, time="sized",
         devices=True, launched=True, trains=True, model=True),
    Kind("posttraining", "Training", "posttrain", "posttrain", runtime=1440,
         time="measured", devices=True, launched=True, trains=True, model=True, chat=True),
    Kind("preferences", "Preferences", "posttrain", "posttrain", devices=True),
    Kind("alignment", "Alignment", "posttrain", "posttrain", runtime=1440,
         time="measured", devices=True, launched=True, trains=True, model=True, chat=True),
    Kind("merge", "Merges", "posttrain", "posttrain", runtime=60, model=True, chat=True),
    Kind("evaluation", "Evaluations", "evaluate", "evaluate", time="measured", devices=True),
    Kind("suite", "Suites", "evaluate", "evaluate", runtime=480, time="measured", devices=True),
    Kind("check_tasks", "Tasks", "checks", "evaluate", mem_mb=4000, runtime=120, check=True,),
    Kind("report", "Page", "all", "report", mem_mb=1000, runtime=30),
)  # fmt: skip
TARGETS = tuple(dict.fromkeys(kind.target for kind in KINDS.values() if kind.target != "all"))


def script_of(kind: str, root: Path) -> Path:
    """The script that computes steps of a kind, in a tree."""
    return root / KINDS[kind].script
