"""What a step costs: tokens, FLOPs, devices, hours and disk, from the recipe alone or from what was measured before.

GPU steps: hours = FLOPs / (GPUs x peak x MFU x goodput), with the layout's MFU or cost.mfu. A segment with no GPUs
in its layout takes what an earlier result of the same step took, else FLOPs / (processes x threads x
cost.cpu_flops). Without
GPUs, FLOPs say little of an evaluation or of post-training (starting, generating): what finished steps of the same kind
took is all that counts. Where there are none, or the recipe does not say how much data a step has, its time is
unknown, and the plan says so. A suite's time on GPUs is what finished ones of the same suite took; else its requests
take FLOPs as above, and its answers LAYER_SECONDS a layer for every ANSWERS tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from smolmake.execution.kinds import KINDS
from smolmake.execution.step import Step
from smolmake.graph.specs.evaluate import EvaluationSpec, SuiteRun, SuiteSpec
from smolmake.graph.specs.pretrain import SegmentRun, SegmentSpec
from smolmake.graph.specs.runs import DeviceRun
from smolmake.hardware.gpus import gpu_kind
from smolmake.hardware.memory import FP32, RECOVERY_COPIES, training_state_bytes
from smolmake.model.counts import Parameters, Shape, count_parameters, flops_per_token
from smolmake.planning.encoding import SLOWDOWN, Encoders
from smolmake.planning.history import History
from smolmake.recipe.formats import list_data
from smolmake.recipe.posttraining import Conversations, PostTraining
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Files

BYTES_PER_TOKEN = 4.5  # of English text in a large vocabulary: for data whose tokens nobody has counted
TEXT_COMPRESSION = 0.4  # of cleaned documents in zstd Parquet
ANSWERS = 16  # written side by side: as many long ones fit a GPU's memory; of short ones there are up to 256
LAYER_SECONDS = 1e-3  # for a token of each: SmolLM3-3B (36 layers) on an H200 took 28 to 44 ms, with 18 layers 13 to 19
OF_ROWS = "tokens guessed from rows, each a quarter of max_length"
OF_SUITES = "tokens as the recipe estimates them, answers in batches that end with their longest"


@dataclass(frozen=True)
class Cost:
    """The cost of one step. `hours` is wall-clock on its devices; bytes are kept, or needed only while it runs.

    `uncertain` says what its GPU-hours stand on, where that may be wrong several times over; `encoder` why its
    documents will be encoded slowly, or that nobody knows yet whether they will.
    """

    tokens: float = 0.0
    flops: float = 0.0
    gpus: int = 0
    hours: float | None = 0.0
    kept_bytes: float = 0.0
    temporary_bytes: float = 0.0
    uncertain: str = ""
    encoder: str = ""

    @property
    def gpu_hours(self) -> float:
        return self.gpus * (self.hours or 0.0)


class Costs:
    """The costs of a recipe's steps from what results/ holds, or from the recipe alone (no `history`)."""

    def __init__(self, recipe: Recipe, root: Path, history: History | None) -> None:
        self.recipe, self.root, self.history = recipe, root, history
        self.encoders = Encoders(root)
        self.shape = shape_of(recipe)
        self.counts = count_parameters(self.shape) if self.shape is not None else Parameters(0, 0, 0, 0, 0)
        self.parameters = self.counts.total
        self.peak = gpu_kind(recipe.cost.gpu).peak()

    def of(self, step: Step) -> Cost:
        """The cost of running this step from its beginning."""
        estimate = getattr(self, f"_{step.kind}", None)
        cost: Cost = Cost() if estimate is None else estimate(step)
        if cost.gpus or self.history is None or KINDS[step.kind].time == "sized":
            return cost
        hours = self.measured(step)
        if hours is None:
            hours = self.history.typical_hours(step.kind, self.recipe.name)
        return replace(cost, hours=0.0 if hours is None and KINDS[step.kind].time == "short" else hours)

    def measured(self, step: Step) -> float | None:
        """The hours that the newest result of a step of that kind and name took."""
        return None if self.history is None else self.history.measured_hours(step)

    def _timed(
        self, step: Step, tokens: float | None, flops_per_token: float | None, kept: float = 0.0, temporary: float = 0.0
    ) -> Cost:
        """A cost whose time follows from the FLOPs and the step's layout."""
        run, settings = step.run_as(DeviceRun), self.recipe.cost
        cost = Cost(gpus=run.gpus, hours=self.measured(step), kept_bytes=kept, temporary_bytes=temporary)
        if tokens is None or flops_per_token is None:
            return cost
        flops, hours = tokens * flops_per_token, cost.hours
        if run.gpus:
            hours = flops / (run.gpus * self.peak * (run.layout.mfu or settings.mfu) * settings.goodput) / 3600
        elif hours is None:
            hours = flops / (max(run.layout.gpus, 1) * run.threads * settings.cpu_flops) / 3600
        return replace(cost, tokens=tokens, flops=flops, hours=hours)

    def _of_source(self, step: Step, bytes_per_token: float) -> Cost:
        """A step over a source's text whose time follows from its tokens."""
        tokens = source_tokens(self.recipe.sources[step.name], self.root)
        if tokens is None:
            return Cost(hours=self.measured(step))
        hours = tokens / KINDS[step.kind].tokens_per_second / step.run.threads / 3600
        return Cost(tokens, hours=hours, kept_bytes=tokens * bytes_per_token)

    def _documents(self, step: Step) -> Cost:
        return self._of_source(step, BYTES_PER_TOKEN * TEXT_COMPRESSION)

    def _shards(self, step: Step) -> Cost:
        vocabulary = self.shape.vocab_size if self.shape is not None else 0
        cost = self._of_source(step, 2 if vocabulary <= 2**16 else 4)
        times, why = self.encoders.slowness(step)
        if why:
            hours = cost.hours * times if cost.hours is not None and cost.tokens else cost.hours
            return replace(cost, hours=hours, encoder=f"{times} times as long as usual: {why}")
        if hub := self.encoders.waits_for(step):
            unless = f"unless the fast encoder does not know the tokenizer of {hub}, which is not here yet"
            return replace(cost, encoder=f"{unless}: then {SLOWDOWN} times as long")
        return cost

    def _segment(self, step: Step) -> Cost:
        spec, state = step.spec_as(SegmentSpec), self.state_bytes(step)
        tokens = (spec.end - spec.start) * spec.global_batch_size * spec.sequence_length
        milestones = len(step.run_as(SegmentRun).milestones) * self.parameters * FP32
        flops = self._training_flops(spec.sequence_length)
        return self._timed(step, tokens, flops, state + milestones, RECOVERY_COPIES * state)

    def _posttraining(self, step: Step) -> Cost:
        section = self.recipe.mid_training if step.name == "mid" else self.recipe.sft
        assert section is not None
        return self._post(step, section, section.data, 1.0)

    def _alignment(self, step: Step) -> Cost:
        assert self.recipe.apo is not None
        # A pair is two answers, and the reference model adds a forward pass to each: a third of training it.
        return self._post(step, self.recipe.apo, self.recipe.apo.data, 1 + 1 / 3)

    def _post(self, step: Step, section: PostTraining, data: dict[str, Conversations], passes: float) -> Cost:
        counts = [conversation_tokens(files, section.max_length) for files in data.values()]
        tokens = None if None in counts else sum(count or 0.0 for count in counts) * section.epochs
        flops = self._training_flops(section.max_length)
        cost = self._timed(
            step, tokens, flops * passes if flops is not None else None,
            self.parameters * FP32, RECOVERY_COPIES * self.state_bytes(step),
        )  # fmt: skip
        return replace(cost, uncertain=OF_ROWS) if any(files.tokens is None for files in data.values()) else cost

    def state_bytes(self, step: Step) -> int:
        """Bytes of a step's training state; post-training, whose spec names no optimizer, takes AdamW."""
        optimizer = step.spec.optimizer.name if isinstance(step.spec, SegmentSpec) else "adamw"
        return training_state_bytes(self.counts, optimizer)

    def _merge(self, step: Step) -> Cost:
        return Cost(kept_bytes=self.parameters * FP32)

    def _evaluation(self, step: Step) -> Cost:
        section = self.recipe.evaluation
        documents = section.heldout_documents * len(self.recipe.sources) if "heldout" in step.inputs else 0
        length = step.spec_as(EvaluationSpec).heldout_tokens or 0
        # Without task tokens of its own in the recipe, the held-out text is all there is.
        flops = self._training_flops(length) if length else None
        return self._timed(step, documents * length, flops / 3 if flops is not None else None)

    def _suite(self, step: Step) -> Cost:
        name, gpus = step.run_as(SuiteRun).suite, step.run.gpus
        suite = self.recipe.evaluation.suites[name]
        length = sum(size**2 for size in suite.lengths) / (sum(suite.lengths) or 1)  # that a token is read in
        flops = self._training_flops(round(length) or 1)
        part = step.spec_as(SuiteSpec).harness.repeats / suite.repeats
        tokens = None if suite.tokens is None else suite.tokens * part
        cost = self._timed(step, tokens, flops / 3 if flops is not None else None)
        if not gpus or self.history is None:
            return cost
        if (hours := self.history.typical_hours("suite", self.recipe.name, gpus, f".{name}")) is not None:
            return replace(cost, hours=hours)
        if cost.hours is None or self.shape is None:
            return cost
        answering = (suite.answer_tokens or 0) * part / ANSWERS * self.shape.num_hidden_layers * LAYER_SECONDS / 3600
        return replace(cost, hours=cost.hours + answering, uncertain=OF_SUITES)

    def _training_flops(self, sequence_length: int) -> float | None:
        return flops_per_token(self.shape, sequence_length) if self.shape is not None else None


def shape_of(recipe: Recipe) -> Shape | None:
    """The model's shape for counting, or None where only a model of the hub knows it."""
    model = recipe.model
    if model is None or recipe.tokenizer is None:
        return None
    return Shape.of(model, recipe.tokenizer.vocab_size)


def source_tokens(files: Files, root: Path) -> float | None:
    """Tokens of a dataset: as the recipe says, else from the size of its files, else unknown."""
    if files.tokens is not None:
        return float(files.tokens)
    if files.path is None:
        return None
    return sum(file.stat().st_size for file in list_data(files.path, files.format, root).files) / BYTES_PER_TOKEN


def conversation_tokens(files: Conversations, max_length: int) -> float | None:
    """Tokens of the rows that are used; from their number, a row has a quarter of the longest."""
    if files.tokens is not None:
        return files.tokens * files.fraction
    return files.rows * files.fraction * max_length / 4 if files.rows is not None else None
