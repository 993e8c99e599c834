"""What the steps of the data are made from."""

from __future__ import annotations

from smolmake.execution.step import Place, Run, Spec
from smolmake.recipe.sources import Argument, CleaningRules, Rows


class PathDataset(Spec):
    """Files of the user's, with the digest of their content."""

    path: Place
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
    """The items of tasks of the lm-evaluation-harness, and the user's own questions; what generates the latter's N-th
    dataset is the input `data:N`."""

    tasks: list[str]
    questions: list[FileDataset] | None = None
    revisions: dict[str, str] | None = None


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
    path: Place | None = None
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
