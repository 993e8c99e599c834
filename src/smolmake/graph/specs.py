"""What each kind of step is made from: one frozen model a kind, typed from the recipe down to the kernel.

A step's identity is the digest of its `Spec` in canonical JSON, of its inputs' ids and of the code that computes it.
How it runs (devices, threads, folders) is in a `Run` model beside it and decides no result.

A field may be typed as a part of a section of the recipe: it is given the section and keeps that part of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PlainSerializer

from smolmake.execution.step import Run, Spec
from smolmake.recipe.evaluation import HarnessTasks
from smolmake.recipe.expectations import Expectations
from smolmake.recipe.posttraining import TrainingSettings
from smolmake.recipe.pretraining import Guard, ModelShape, Optimizer, Precision
from smolmake.recipe.runtime import Alerts, DeviceLayout, Layout, Preflight, Upload
from smolmake.recipe.schedule import BatchPiece, SchedulePiece, batch_at
from smolmake.recipe.sources import Argument, CleaningRules, Rows


class DeviceRun(Run):
    """A step that computes on the devices of a layout."""

    layout: Layout = Layout()
    device: Literal["auto", "cpu", "cuda"]

    @property
    def nodes(self) -> int:
        return self.layout.nodes

    @property
    def gpus_per_node(self) -> int:
        return self.layout.gpus_per_node

    @property
    def launcher(self) -> str:
        """What starts the step's script on its devices, as the beginning of a shell command."""
        return self.layout.launcher(self.threads)


# Data.


class PathDataset(Spec):
    """Files of the user's, with the digest of their content."""

    path: str
    format: str
    content: str


class HubDataset(Spec):
    """A dataset of the Hugging Face hub."""

    hub: str
    config: str | None
    split: str
    files: list[str]
    revision: str | None


class GeneratedDataset(Spec):
    """A file, folder or glob of what a program generates, which is an input."""

    generated: str
    format: str


FileDataset = PathDataset | GeneratedDataset
DatasetSpec = FileDataset | HubDataset


class SourceLabels(Spec):
    """What a source is for comparisons by source."""

    language: str
    domain: str


class GeneratedSpec(Spec):
    """A program of the user's: the digests of its files by name, and what else its output depends on."""

    code: dict[str, str]
    arguments: dict[str, Argument | list[Argument]]
    reads: dict[str, str]
    packages: dict[str, str]
    python: str | None = None


class GeneratedRun(Run):
    """Where the program lies, and the files, folders or globs that the recipe reads of its output."""

    script: str
    expected: list[str]


class AdoptedSpec(Spec):
    """Files that exist, by their digest wherever they lie, or a model of the hub by its commit."""

    digest: str | None = None
    hub: str | None = None
    revision: str | None = None


class AdoptedRun(Run):
    path: str | None = None


class DocumentsSpec(Spec):
    """The cleaned documents of a source; `tasks` is a dataset whose items they must not contain."""

    files: DatasetSpec
    rows: Rows
    cleaning: CleaningRules
    tasks: FileDataset | None = None


class SuiteItemsSpec(Spec):
    """The items of tasks of the lm-evaluation-harness."""

    tasks: list[str]


class OverlapSpec(Spec):
    """How many evaluation items stand in a source's documents or shards, by runs of `ngram` words."""

    ngram: int
    tasks: FileDataset | None = None


class HeldoutSpec(Spec):
    """So many held-out documents of every source."""

    documents: int
    sources: dict[str, SourceLabels]


class TokenizerSpec(Spec):
    """A tokenizer: trained on so many characters of each source, or one of a folder, of the hub, or of the base model.

    `vocab_size` is what it must have; None for those that are only compared with.
    """

    vocab_size: int | None = None
    characters: int | None = None
    path: str | None = None
    content: str | None = None
    hub: str | None = None
    revision: str | None = None


class TokenizerComparisonSpec(Spec):
    """The tokenizers compared on every source, and which of them is the recipe's."""

    chosen: str
    sources: dict[str, SourceLabels]


class ShardsSpec(Spec):
    """A source's documents as tokens; `special_tokens`: text such as <|im_start|> in them stands for that token."""

    special_tokens: bool


class PackingSpec(Spec):
    """A source's documents side by side in sequences of one length."""

    sequence_length: int


class MixtureSpec(Spec):
    """The order of sources in a stage. It goes on where the `before_sequences` first sequences of the stage before it
    end; `label` keys the permutations of its sources."""

    weights: dict[str, float]
    sequence_length: int
    seed: int
    label: str
    before_sequences: int | None = None


class StageSequences(Spec):
    """How many sequences a stage reads, and whether the sources' repeat caps hold for it."""

    stage: str
    sequences: int
    capped: bool


class RepeatCap(SourceLabels):
    """How often a source may be repeated."""

    max_epochs: float


class EpochsSpec(Spec):
    """How often each source is seen by the end of each stage."""

    stages: list[StageSequences]
    sources: dict[str, RepeatCap]


# Pretraining.


UsedOptimizer = Annotated[Optimizer, PlainSerializer(Optimizer.used)]


class SegmentSpec(Spec):
    """Steps [start, end) of a stage that began at step `stage_start`, with what holds within them.

    `batches` are sizes within a batch-size warm-up. A segment without a parent has `model` and `seed`; `rope_theta`
    None keeps the parent's.
    """

    start: int
    end: int
    stage_start: int
    schedule: tuple[SchedulePiece, ...]
    batches: tuple[BatchPiece, ...] | None = None
    global_batch_size: int
    sequence_length: int
    rope_theta: float | None
    optimizer: UsedOptimizer
    fresh_optimizer: bool
    precision: Precision
    z_loss: float
    guard: Guard | None = None
    model: ModelShape | None = None
    seed: int | None = None

    def batch_size(self, step: int) -> int:
        """Sequences of a step's global batch."""
        return self.global_batch_size if self.batches is None else batch_at(self.batches, step)[0]

    def tokens_before(self, step: int) -> int:
        """Tokens that the run has read before a step."""
        sequences = step * self.global_batch_size if self.batches is None else batch_at(self.batches, step)[1]
        return sequences * self.sequence_length

    def tokens_until(self, step: int) -> int:
        """Tokens that the segment has read before a step."""
        return self.tokens_before(step) - self.tokens_before(self.start)


class SegmentRun(DeviceRun):
    """`micro_batch`: sequences of this length per forward pass and device; `preflight`: the check of its layout;
    `milestones`: steps after which weights are kept. The others are `run`'s of the recipe."""

    micro_batch: int
    milestones: tuple[int, ...]
    preflight: str
    compile: Literal["auto", "on", "off"]
    recovery_every: float
    scratch: str | None
    noise_scale_every: int
    source_loss_every: int
    trackers: tuple[str, ...]
    upload: Upload | None
    alerts: Alerts | None


class PreflightSpec(Spec):
    """A layout and the model that is to be trained on it, in sequences of the longest of its stages."""

    layout: DeviceLayout
    model: ModelShape
    rope_theta: float
    vocab_size: int
    optimizer: UsedOptimizer
    precision: Precision
    sequence_length: int


class PreflightRun(DeviceRun):
    """`limits` are what the machines must show; `mfu` and `cpu_flops` say how fast tokens must be read."""

    limits: Preflight
    mfu: float
    cpu_flops: float
    recovery_every: float
    scratch: str | None


# Post-training.


class PostTrainingRun(DeviceRun):
    """`micro_batch` is the largest number of rows in a forward pass where the layout says none."""

    micro_batch: int


class ConversationsSpec(Spec):
    """A dataset of which a share of the rows is used."""

    files: DatasetSpec
    fraction: float = 1.0


class SupervisedSpec(Spec):
    """Mid-training or SFT."""

    training: TrainingSettings
    seed: int
    loss: Literal["all", "assistant"]
    packing: Literal["none", "bfd", "wrapped"]
    template: str
    data: dict[str, ConversationsSpec]


class PreferencesSpec(Spec):
    """Pairs of answers of two checkpoints."""

    prompts: DatasetSpec
    template: str | None
    max_new_tokens: int
    temperature: float
    seed: int


class AlignmentSpec(Spec):
    """APO: preference optimisation."""

    training: TrainingSettings
    seed: int
    beta: float
    data: dict[str, ConversationsSpec]


class MergeSpec(Spec):
    """Weights of models, whose sum is 1."""

    weights: dict[str, float]


# Evaluation and report.


class TaskFiles(Spec):
    """A folder of task files, with the digest of their content, and the data that they ask."""

    folder: str
    content: str
    data: FileDataset


class EvaluationSpec(Spec):
    """What a checkpoint is measured on; `milestone`: of a segment's, not its last one. `heldout_tokens` is how much of
    a held-out document is read."""

    tasks: TaskFiles | None
    limit: int | None
    prompts: list[str]
    chat_prompts: list[str]
    template: str | None
    heldout_tokens: int | None
    milestone: int | None = None


class SuiteSpec(Spec):
    """A suite that a checkpoint is measured on."""

    harness: HarnessTasks
    template: str | None
    milestone: int | None = None


class SuiteRun(DeviceRun):
    """`suite` is the suite's name in the recipe."""

    suite: str


class CheckTasksSpec(Spec):
    """All tasks of a recipe."""

    tasks: TaskFiles | None
    template: str | None
    suites: dict[str, SuiteSpec]


class ReportSpec(Spec):
    """What the report says beside the steps' results."""

    title: str
    text: str
    expectations: Expectations
