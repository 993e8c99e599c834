"""The recipe's schema. Every key has a description; docs/recipe.md is made from them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from smolmake.recipe.units import Count, Length, Seconds


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", name) or ".." in name:
        raise ValueError("a name becomes part of a path: use a-z, 0-9, '_', '.', '-' (64 at most, no '..')")
    return name


Name = Annotated[str, AfterValidator(_check_name)]
Share = Annotated[float, Field(gt=0, le=1)]
Weights = dict[Name, Annotated[float, Field(ge=0)]]


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Files(Section):
    """Where data lies: your own `path`, or a `toy` file that smolmake writes itself."""

    path: str | None = Field(None, description="A file, a folder or a glob, relative to the project's root.")
    toy: Name | None = Field(None, description="The name of one of the toy's files instead of a path.")
    format: Literal["auto", "parquet", "jsonl", "text"] = Field(
        "auto", description="By default told from the file name: .parquet, .jsonl, .jsonl.gz, .jsonl.zst, else text."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Files:
        if (self.path is None) == (self.toy is None):
            raise ValueError("give exactly one of `path` (your files) and `toy` (a file of the toy recipe)")
        return self


class Source(Files):
    """A dataset of documents for pretraining."""

    text: str = Field("text", description="The column that holds a document's text (Parquet and JSONL).")
    domain: Name = Field("web", description="What it is for the mixture and the report: web, code, math, ...")
    language: str = Field("en", description="Language code of the text, or the programming language.")
    licence: str = Field("unknown", description="The licence, kept as provenance and shown in the report.")
    max_epochs: float = Field(
        4.0, gt=0, description="Repeat cap: more epochs than this over stages 1 to 3 is an error."
    )


class NearDuplicates(Section):
    """MinHash near-duplicate removal."""

    similarity: Share = Field(0.8, description="Jaccard similarity from which two documents count as duplicates.")
    ngram: int = Field(5, ge=1, description="Words per shingle.")
    permutations: int = Field(64, ge=16, description="MinHash permutations.")


class Cleaning(Section):
    """Filtering, duplicate removal, decontamination and the held-out split, the same for all sources."""

    min_characters: Count = Field(200, ge=0, description="Shorter documents are dropped.")
    max_characters: Count = Field(100_000, ge=1, description="Longer documents are dropped.")
    exact_duplicates: bool = Field(True, description="Drop documents whose text was seen before in the source.")
    near_duplicates: NearDuplicates | None = Field(None, description="MinHash settings; null switches it off.")
    decontaminate_ngram: int = Field(
        13, ge=3, description="A document that shares a run of this many words with an evaluation item is dropped."
    )
    heldout_share: float = Field(0.02, ge=0, lt=0.5, description="Share of documents kept out for held-out loss.")


class Tokenizer(Section):
    """A byte-level BPE tokenizer, digits split one by one, trained on the cleaned sources."""

    vocab_size: Count = Field(..., ge=300, description="Entries of the vocabulary, special tokens included.")
    characters_per_source: Count = Field(300_000, ge=1_000, description="How much of each source it is trained on.")
    compare: list[Count] = Field([], description="Other vocabulary sizes to train and compare in the analysis.")


class Model(Section):
    """The decoder's shape. Keys have transformers' SmolLM3 names; the vocabulary comes from the tokenizer."""

    hidden_size: Count = Field(..., ge=8, description="Width of the residual stream.")
    intermediate_size: Count = Field(..., ge=8, description="Width of the gated feed-forward.")
    num_hidden_layers: int = Field(..., ge=1, description="Number of layers.")
    num_attention_heads: int = Field(..., ge=1, description="Query heads.")
    num_key_value_heads: int = Field(..., ge=1, description="Key and value heads: fewer than query heads is GQA.")
    no_rope_layer_interval: int = Field(4, ge=0, description="Every n-th layer has no position encoding; 0: none.")
    rope_theta: float = Field(50_000.0, gt=0, description="RoPE base while pretraining (stages 1 to 3).")
    tie_word_embeddings: bool = Field(True, description="Share the embedding table with the output head.")
    rms_norm_eps: float = Field(1e-6, gt=0, description="Epsilon of the RMS norms.")
    initializer_range: float = Field(0.02, gt=0, description="Standard deviation of initial weights.")

    @model_validator(mode="after")
    def _divides(self) -> Model:
        if self.hidden_size % self.num_attention_heads or self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size must be num_attention_heads times an even head size")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        return self


class Optimizer(Section):
    """AdamW (Loshchilov and Hutter 2019)."""

    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(0.95, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the denominator.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay.")
    no_weight_decay: list[str] = Field(["embed_tokens"], description="Parameters whose name has one of these: none.")
    clip_grad_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this global norm.")


class Schedule(Section):
    """Learning rate over a run: linear warm-up from 0, then a constant part, then a decay (WSD, cosine, linear)."""

    peak: float = Field(..., gt=0, description="Learning rate after warm-up.")
    warmup_steps: Count = Field(0, ge=0, description="Steps of linear warm-up.")
    decay_steps: Count | None = Field(
        None, ge=0, description="Steps of decay at the run's end; null: all after warm-up."
    )
    decay_shape: Literal["linear", "cosine", "1-sqrt"] = Field("linear", description="Form of the decay.")
    floor: float = Field(0.0, ge=0, description="Learning rate at the end.")


class Stage(Section):
    """A span of pretraining with one mixture."""

    name: Name = Field(..., description="Such as stage1; used in paths.")
    steps: Count = Field(..., ge=1, description="Optimizer steps.")
    mixture: Weights = Field(..., description="Weight of each source; normalised to sum 1.")


class Pretraining(Section):
    """Stages 1 to 3: one run with one schedule, cut into segments."""

    sequence_length: Length = Field(..., ge=8, description="Tokens a sequence.")
    global_batch: Count = Field(..., ge=1, description="Sequences per optimizer step, over all devices.")
    segment_steps: Count = Field(
        ..., ge=1, description="A segment is at most this many steps, and ends in a checkpoint."
    )
    optimizer: Optimizer = Field(Optimizer(), description="The optimizer, for long context too.")
    schedule: Schedule = Field(..., description="Learning rate over all stages.")
    stages: list[Stage] = Field(..., min_length=1, description="In order.")


class LongContext(Stage):
    """An extension to longer sequences: raised RoPE theta, a fresh schedule, the optimizer's state starts anew."""

    sequence_length: Length = Field(..., ge=8, description="Tokens a sequence.")
    global_batch: Count = Field(..., ge=1, description="Sequences per optimizer step.")
    rope_theta: float = Field(..., gt=0, description="RoPE base of this extension.")
    schedule: Schedule = Field(..., description="Learning rate of this extension.")


class Conversations(Files):
    """A dataset in SmolTalk2's layout: `messages`, optionally `chat_template_kwargs`."""

    share: Share = Field(1.0, description="Share of its rows to use, drawn with the recipe's seed.")


class PostTraining(Section):
    """What mid-training, SFT and APO have in common. They run through TRL."""

    learning_rate: float = Field(..., gt=0, description="Peak; cosine down to a tenth of it.")
    epochs: float = Field(1.0, gt=0, description="Passes over the data.")
    batch: Count = Field(..., ge=1, description="Rows per optimizer step, over all devices.")
    max_length: Length = Field(..., ge=8, description="Longer rows are cut to this many tokens.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of the steps that warm up.")
    clip_grad_norm: float = Field(0.2, gt=0, description="Gradients are scaled down to this global norm.")


class SupervisedTraining(PostTraining):
    """Mid-training (loss on all tokens) or SFT (loss on assistant tokens)."""

    data: dict[Name, Conversations] = Field(..., min_length=1, description="Datasets by name.")
    loss: Literal["all", "assistant"] = Field(..., description="Which tokens are targets.")
    chat_template: str = Field(..., description="A file under config/templates.")


class Preferences(Section):
    """Preference pairs answered by two checkpoints: the stronger one's answer is chosen, the weaker one's rejected."""

    prompts: Files = Field(..., description="A dataset with a `prompt` column, optionally `chat_template_kwargs`.")
    strong: Name = Field("sft", description="The checkpoint whose answers are chosen.")
    weak: Name = Field("mid", description="The checkpoint whose answers are rejected.")
    max_new_tokens: Count = Field(64, ge=1, description="Length limit of an answer.")
    temperature: float = Field(0.7, ge=0, description="Sampling temperature of both; 0 is greedy.")


class Apo(PostTraining):
    """Anchored preference optimisation, APO-zero (D'Oosterlinck et al. 2024), against the SFT model."""

    beta: float = Field(0.1, gt=0, description="Strength of the anchor to the reference model.")
    data: dict[Name, Files] = Field({}, description="Datasets with `prompt`, `chosen`, `rejected` beside the pairs.")


class Merge(Section):
    """A linear merge of checkpoints, parameter by parameter."""

    weights: Weights = Field(..., min_length=2, description="Checkpoint name and weight; normalised to sum 1.")


class Evaluation(Section):
    """What every checkpoint is measured on."""

    tasks: str | None = Field(None, description="A folder of lm-evaluation-harness task files under config/tasks.")
    data: Files | None = Field(None, description="The folder that holds the tasks' data files.")
    limit: Count | None = Field(None, ge=1, description="Items per task at most; null: all.")
    heldout_documents: Count = Field(60, ge=1, description="Held-out documents per source for the loss.")
    prompts: list[str] = Field(["The "], description="What base checkpoints continue for the report's samples.")
    chat_prompts: list[str] = Field([], description="What all checkpoints answer for the report's samples.")


class Run(Section):
    """How it runs: nothing here is part of any result's identity."""

    micro_batch: Count = Field(16, ge=1, description="Sequences per forward pass at the pretraining length.")
    threads: int = Field(1, ge=1, description="CPU threads of a pretraining process.")
    threads_posttraining: int = Field(1, ge=1, description="CPU threads of mid-training, SFT, pairs and APO.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where there is one.")
    recovery_every: Seconds = Field(600.0, gt=0, description="Time between recovery checkpoints inside a segment.")


class Recipe(Section):
    """One model from data to report."""

    name: Name = Field(..., description="Readable links stand under results/latest/<name>/.")
    title: str = Field("", description="Heading of the report.")
    description: str = Field("", description="A few sentences for the report.")
    seed: int = Field(0, ge=0, description="Of initial weights, order of data and sampling in post-training.")
    sources: dict[Name, Source] = Field(..., min_length=1, description="Datasets by name.")
    cleaning: Cleaning = Field(Cleaning(), description="Filters and decontamination.")
    tokenizer: Tokenizer = Field(..., description="The tokenizer and its rivals.")
    model: Model = Field(..., description="The architecture.")
    pretraining: Pretraining = Field(..., description="Stages 1 to 3.")
    long_context: list[LongContext] = Field([], description="Extensions after stage 3, in order.")
    mid_training: SupervisedTraining | None = Field(None, description="Reasoning mid-training.")
    sft: SupervisedTraining | None = Field(None, description="Supervised fine-tuning.")
    preferences: Preferences | None = Field(None, description="Pairs made by two checkpoints.")
    apo: Apo | None = Field(None, description="Preference optimisation.")
    merge: Merge | None = Field(None, description="The last model.")
    evaluation: Evaluation = Field(Evaluation(), description="Suites and samples.")
    run: Run = Field(Run(), description="Machine settings.")
