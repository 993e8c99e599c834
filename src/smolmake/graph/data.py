"""The steps of the data: cleaned documents, tokenizers, token shards, and what is adopted instead of made."""

from __future__ import annotations

from typing import Any

from smolmake.execution.content_hash import content_digest
from smolmake.execution.step import Step, Steps
from smolmake.graph.datasets import PLACE_KEYS, place
from smolmake.graph.decontamination import add_items, add_overlap_of_shards, add_overlaps
from smolmake.recipe.pretraining import LongContext, Stage
from smolmake.recipe.schema import Recipe
from smolmake.recipe.sources import Adopted, Tokenizer, TokenizerFiles

ROW_KEYS = ("template", "turn", "where", "at_least", "at_most", "on_error")


def adopt(steps: Steps, name: str, adopted: Adopted, key: str) -> Step:
    """What exists already: its digest is its identity, wherever it lies."""
    return steps.add("adopted", name, {"digest": adopted.digest}, {}, "data", (key,), path=adopted.path)


def adopt_base(steps: Steps, recipe: Recipe) -> Step:
    """The model that a recipe starts from."""
    assert recipe.base is not None
    if recipe.base.adopt is not None:
        return adopt(steps, "base", recipe.base.adopt, "base")
    spec = {"hub": recipe.base.hub, "revision": recipe.base.revision}
    return steps.add("adopted", "base", spec, {}, "data", ("base",))


def add_documents(steps: Steps, recipe: Recipe) -> dict[str, Step]:
    """The cleaned documents of every source whose token shards are not adopted."""
    documents: dict[str, Step] = {}
    for name in sources_in_order(recipe):
        if recipe.sources[name].shards is None:
            documents[name] = _documents(steps, recipe, name, documents)
    add_overlaps(steps, recipe, documents)
    return documents


def _documents(steps: Steps, recipe: Recipe, name: str, documents: dict[str, Step]) -> Step:
    """The cleaned documents of a source."""
    source, inputs = recipe.sources[name], dict[str, Step]()
    spec: dict[str, Any] = {
        "files": place(steps, source, inputs, "files"),
        "text": source.text,
        "cleaning": recipe.cleaning.model_dump(exclude={"decontamination"}),
        **source.model_dump(include=set(ROW_KEYS)),
    }
    inputs |= {f"duplicates_of:{other}": documents[other] for other in source.duplicates_of}
    keys = tuple(f"sources.{name}.{key}" for key in (*PLACE_KEYS, "text", *ROW_KEYS, "duplicates_of")) + ("cleaning",)
    keys += add_items(steps, recipe, "filter", spec, inputs)
    return steps.add("documents", name, spec, inputs, "data", keys, data_workers=recipe.run.data_workers)


def sources_in_order(recipe: Recipe) -> list[str]:
    """The sources, each after those that it must not repeat. `check_recipe` refuses circles."""
    order: list[str] = []

    def put(name: str) -> None:
        for other in recipe.sources[name].duplicates_of:
            put(other)
        if name not in order:
            order.append(name)

    for name in recipe.sources:
        put(name)
    return order


def add_shards(steps: Steps, recipe: Recipe, documents: dict[str, Step], tokenizer: Step) -> dict[str, Step]:
    """The token shards of every source, made or adopted."""
    shards = {}
    for name, source in recipe.sources.items():
        if source.shards is not None:
            shards[name] = adopt(steps, name, source.shards, f"sources.{name}.shards")
            add_overlap_of_shards(steps, recipe, name, shards[name], tokenizer)
            continue
        spec = {"special_tokens": True} if source.special_tokens else {}
        inputs = {"documents": documents[name], "tokenizer": tokenizer}
        keys, workers = (f"sources.{name}.special_tokens",), recipe.run.data_workers
        shards[name] = steps.add("shards", name, spec, inputs, "data", keys, data_workers=workers)
    return shards


def add_packings(steps: Steps, recipe: Recipe, stage: Stage, shards: dict[str, Step]) -> dict[str, Step]:
    """The sources of a stage packed into its sequences, by role; none if it cuts them from the stream.

    Stages of one length share them. `shards` has the roles shards:NAME.
    """
    shaped = stage if isinstance(stage, LongContext) else recipe.pretraining
    assert shaped is not None and recipe.pretraining is not None
    if (shaped.packing or recipe.pretraining.packing) != "best-fit":
        return {}
    length, section = shaped.sequence_length, packing_key(stage).removesuffix(".packing")
    keys, workers = (f"{section}.packing", f"{section}.sequence_length"), recipe.run.data_workers
    packings = {}
    for role, step in shards.items():
        name, spec = role.removeprefix("shards:"), {"sequence_length": length}
        packings[f"packing:{name}"] = steps.add(
            "packing", f"{name}-{length}", spec, {"shards": step}, "data", keys, data_workers=workers
        )
    return packings


def packing_key(stage: Stage) -> str:
    """Where the recipe says how a stage's sequences are made."""
    return f"long_context.{stage.name}.packing" if isinstance(stage, LongContext) else "pretraining.packing"


def add_tokenizers(steps: Steps, recipe: Recipe, documents: dict[str, Step]) -> Step:
    """The chosen tokenizer; its rivals and the analysis are steps beside it."""
    section, inputs = recipe.tokenizer, {f"documents:{name}": step for name, step in documents.items()}
    if section is None:
        return steps.add("tokenizer", "given", {"from": "base"}, {"base": steps.checkpoints["base"]}, "tokenizer")
    sizes = [*([] if _exists(section) else [section.vocab_size]), *section.compare]
    trained = [
        steps.add(
            "tokenizer",
            f"bpe-{size}",
            {"vocab_size": size, "characters": section.characters_per_source},
            inputs,
            "tokenizer",
            ("tokenizer",),
        )
        for size in dict.fromkeys(sizes)
    ]
    taken: dict[str, Tokenizer | TokenizerFiles] = {"taken": section} if _exists(section) else {}
    existing = [
        steps.add("tokenizer", name, _taken_tokenizer(steps, files), {}, "tokenizer", ("tokenizer",))
        for name, files in {**taken, **section.rivals}.items()
    ]
    chosen = existing[0] if taken else trained[0]
    if documents:
        about = {n: {"language": recipe.sources[n].language, "domain": recipe.sources[n].domain} for n in documents}
        rivals = {f"tokenizer:{step.name}": step for step in [*trained, *existing]}
        told = tuple(f"sources.{name}.{key}" for name in about for key in ("language", "domain"))
        spec = {"chosen": chosen.name, "sources": about}
        steps.add("tokenizer_comparison", "analysis", spec, {**inputs, **rivals}, "tokenizer", (*told, "tokenizer"))
    return chosen


def _exists(files: Tokenizer | TokenizerFiles) -> bool:
    return files.path is not None or files.hub is not None


def _taken_tokenizer(steps: Steps, files: Tokenizer | TokenizerFiles) -> dict[str, Any]:
    """The spec of a tokenizer that exists; the recipe's own one has the size that its model counts on."""
    size = {"vocab_size": files.vocab_size} if isinstance(files, Tokenizer) else {}
    if files.path is None:
        return {"hub": files.hub, "revision": files.revision, **size}
    file = f"{files.path}/tokenizer*.json"
    return {"path": files.path, "content": content_digest(file, steps.root), **size}
