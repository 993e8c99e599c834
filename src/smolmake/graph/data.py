"""The steps of the data: cleaned documents, tokenizers, token shards, and what is adopted instead of made."""

from __future__ import annotations

from graphlib import TopologicalSorter

from smolmake.execution.content_hash import content_digest
from smolmake.execution.step import Run, Step, Steps
from smolmake.graph.datasets import FILES_KEYS, dataset_spec
from smolmake.graph.decontamination import add_overlap, items_to
from smolmake.graph.specs.data import (
    AdoptedRun,
    AdoptedSpec,
    DocumentsSpec,
    PackingSpec,
    ShardsSpec,
    SourceLabels,
    TokenizerComparisonSpec,
    TokenizerSpec,
)
from smolmake.recipe.pretraining import BaseModelFiles, LongContext, Stage
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Adopted, Rows, Tokenizer, TokenizerFiles


def adopt(steps: Steps, name: str, adopted: Adopted, key: str) -> Step:
    """What exists already: its digest is its identity, wherever it lies."""
    spec, run = AdoptedSpec(digest=adopted.digest), AdoptedRun(path=adopted.path)
    return steps.add("adopted", name, spec, {}, "data", (key,), run)


def adopt_base(steps: Steps, recipe: Recipe) -> None:
    """The model that a recipe starts from, if it starts from one."""
    if recipe.base is not None:
        steps.checkpoints["base"] = adopt_model(steps, "base", recipe.base, "base")


def adopt_model(steps: Steps, name: str, model: BaseModelFiles, key: str) -> Step:
    """A model that exists, from its folder or from the hub."""
    if model.adopt is not None:
        return adopt(steps, name, model.adopt, key)
    spec = AdoptedSpec(hub=model.hub, revision=model.revision)
    return steps.add("adopted", name, spec, {}, "data", (key,), AdoptedRun())


def add_documents(steps: Steps, recipe: Recipe) -> dict[str, Step]:
    """The cleaned documents of every source whose token shards are not adopted, after those that it must not repeat."""
    documents: dict[str, Step] = {}
    for name in TopologicalSorter({name: s.duplicates_of for name, s in recipe.sources.items()}).static_order():
        source, inputs = recipe.sources[name], dict[str, Step]()
        if source.shards is not None:
            continue
        files = dataset_spec(steps, source, inputs, "files")
        inputs |= {f"duplicates_of:{other}": documents[other] for other in source.duplicates_of}
        tasks, items_keys = items_to(steps, recipe, "filter", inputs)
        spec = DocumentsSpec(files=files, rows=source, cleaning=recipe.cleaning, tasks=tasks)
        keys = [f"sources.{name}.{key}" for key in (*FILES_KEYS, *Rows.model_fields, "duplicates_of")]
        keys += ["cleaning", *items_keys]
        documents[name] = steps.add("documents", name, spec, inputs, "data", tuple(keys), workers(recipe))
    for name, made in documents.items():
        add_overlap(steps, recipe, name, {"documents": made}, ("measure",))
    return documents


def workers(recipe: Recipe) -> Run:
    """How a step runs that is done in parts by several processes."""
    return Run(threads=recipe.runtime.data_workers)


def source_labels(recipe: Recipe, names: dict[str, Step]) -> tuple[dict[str, SourceLabels], list[str]]:
    """Language and domain of some sources, and their recipe keys."""
    labels = {
        name: SourceLabels(language=recipe.sources[name].language, domain=recipe.sources[name].domain) for name in names
    }
    return labels, [f"sources.{name}.{key}" for name in labels for key in ("language", "domain")]


def add_shards(steps: Steps, recipe: Recipe, documents: dict[str, Step], tokenizer: Step) -> dict[str, Step]:
    """The token shards of every source, made or adopted."""
    shards = {}
    for name, source in recipe.sources.items():
        if source.shards is not None:
            shards[name] = adopt(steps, name, source.shards, f"sources.{name}.shards")
            # Nothing can be dropped from them any more: all items are counted.
            searched = {"shards": shards[name], "tokenizer": tokenizer}
            add_overlap(steps, recipe, name, searched, ("filter", "measure"))
            continue
        spec = ShardsSpec(special_tokens=source.special_tokens)
        inputs, keys = {"documents": documents[name], "tokenizer": tokenizer}, (f"sources.{name}.special_tokens",)
        shards[name] = steps.add("shards", name, spec, inputs, "data", keys, workers(recipe))
    return shards


def add_packings(steps: Steps, recipe: Recipe, stage: Stage, shards: dict[str, Step]) -> dict[str, Step]:
    """The sources of a stage packed into its sequences, by role; none if it cuts them from the stream.

    Stages of one length share them. `shards` has the roles shards:NAME.
    """
    shaped = stage if isinstance(stage, LongContext) else recipe.pretraining
    assert shaped is not None and recipe.pretraining is not None
    if (shaped.packing or recipe.pretraining.packing) != "best-fit":
        return {}
    spec, section = PackingSpec(sequence_length=shaped.sequence_length), shaped_by(stage)
    keys = (*packing_keys(stage), f"{section}.sequence_length")
    packings = {}
    for role, step in shards.items():
        name, inputs = role.removeprefix("shards:"), {"shards": step}
        packings[f"packing:{name}"] = steps.add(
            "packing", f"{name}-{spec.sequence_length}", spec, inputs, "data", keys, workers(recipe)
        )
    return packings


def packing_keys(stage: Stage) -> tuple[str, ...]:
    """Where the recipe says how a stage's sequences are made: an extension that does not say it inherits it."""
    own = f"{shaped_by(stage)}.packing"
    return ("pretraining.packing", own) if isinstance(stage, LongContext) and stage.packing is None else (own,)


def shaped_by(stage: Stage) -> str:
    """The section of the recipe that says what sequences a stage reads."""
    return f"long_context.{stage.name}" if isinstance(stage, LongContext) else "pretraining"


def add_tokenizers(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> Step:
    """The chosen tokenizer; its rivals and their comparison are steps beside it."""
    section, inputs = recipe.tokenizer, {f"documents:{name}": step for name, step in documents.items()}
    if section is None:
        base = {"base": steps.checkpoints["base"]}
        return steps.add("tokenizer", "given", TokenizerSpec(), base, "tokenizer")
    sizes = [*([] if _exists(section) else [section.vocab_size]), *section.compare_sizes]
    taken: list[tuple[str, Tokenizer | TokenizerFiles]] = [("taken", section)] if _exists(section) else []
    tokenizers = []
    for size in dict.fromkeys(sizes):
        spec = TokenizerSpec(vocab_size=size, characters=section.characters_per_source)
        tokenizers.append(steps.add("tokenizer", f"bpe-{size}", spec, inputs, "tokenizer", ("tokenizer",)))
    for name, files in [*taken, *section.compare_with.items()]:
        key = "tokenizer" if files is section else f"tokenizer.compare_with.{name}"
        tokenizers.append(steps.add("tokenizer", name, _existing_tokenizer(steps, files), {}, "tokenizer", (key,)))
    chosen = next(step for step in tokenizers if step.name == "taken") if taken else tokenizers[0]
    if documents:
        labels, keys = source_labels(recipe, documents)
        compared = {f"tokenizer:{step.name}": step for step in tokenizers}
        comparison = TokenizerComparisonSpec(chosen=chosen.name, sources=labels)
        steps.add("tokenizer_comparison", "analysis", comparison, inputs | compared, "tokenizer", (*keys, "tokenizer"))
    return chosen


def _exists(files: Tokenizer | TokenizerFiles) -> bool:
    return files.path is not None or files.hub is not None


def _existing_tokenizer(steps: Steps, files: Tokenizer | TokenizerFiles) -> TokenizerSpec:
    """A tokenizer that exists; the recipe's own one has the size that its model counts on."""
    size = files.vocab_size if isinstance(files, Tokenizer) else None
    if files.path is None:
        return TokenizerSpec(vocab_size=size, hub=files.hub, revision=files.revision)
    content = content_digest(f"{files.path}/tokenizer*.json", steps.root)
    return TokenizerSpec(vocab_size=size, path=files.path, content=content)
