"""Whether what suites ask fits what checkpoints read at once, which the recipe says before they are trained."""

from __future__ import annotations

from pathlib import Path

from smolmake.errors import UserError
from smolmake.recipe.evaluation import Suite
from smolmake.recipe.schema import Recipe
from smolmake.recipe.validate import CHAT_CHECKPOINTS, all_stages, checkpoint_names


def check_contexts(recipe: Recipe, file: Path) -> None:
    """Raise UserError for a length that no checkpoint of a suite reads, and for answers that leave no room for a
    question."""
    for name, suite in recipe.evaluation.suites.items():
        key, contexts = f"evaluation.suites.{name}", measured_contexts(recipe, suite)
        if not contexts:
            continue
        longest, shortest = max(contexts.values()), min(contexts.values())
        elsewhere = recipe.base is not None or bool(recipe.evaluation.models)  # models that may read more
        elsewhere = elsewhere or (suite.ruler is not None and suite.ruler.yarn)
        if suite.lengths and max(suite.lengths) > longest and not elsewhere:
            raise UserError(
                f"the suite asks for more tokens than any of its checkpoints reads ({longest:,})",
                file=file, key=f"{key}.lengths", value=max(suite.lengths),
                remedy=f"leave out lengths above {longest}, or extend the model (`long_context`)",
            )  # fmt: skip
        limit = suite.generation.get("max_gen_toks")
        if isinstance(limit, int) and limit >= shortest:
            short = ", ".join(other for other, context in contexts.items() if limit >= context)
            raise UserError(
                f"answers may be as long as all that {short} can read, which leaves no room for the question",
                file=file, key=f"{key}.generation.max_gen_toks", value=limit,
                remedy=f"give less than {shortest}, or choose other checkpoints with `on`",
            )  # fmt: skip


def context_warnings(recipe: Recipe) -> list[str]:
    """A line for each suite with questions that are longer than what some of its checkpoints read."""
    told = []
    for name, suite in recipe.evaluation.suites.items():
        longest = 0 if suite.ruler is not None and suite.ruler.yarn else max(suite.lengths, default=0)
        short = {other: n for other, n in measured_contexts(recipe, suite).items() if n < longest}
        if short:
            of = ", ".join(f"{other} ({context:,})" for other, context in short.items())
            told.append(
                f"the suite `{name}` asks {longest:,} tokens (evaluation.suites.{name}.lengths) also of checkpoints"
                f" that read fewer: {of}. They see the end of such a question alone"
            )
    return told


def measured_contexts(recipe: Recipe, suite: Suite) -> dict[str, int]:
    """The tokens that the checkpoints of a suite read at once, by their names; nothing where a model from elsewhere is
    not pretrained on, whose length only its files tell."""
    if recipe.pretraining is None:
        return {}
    extended = {stage.name: stage.sequence_length for stage in recipe.long_context}
    contexts = {
        stage.name: extended.get(stage.name, recipe.pretraining.sequence_length) for _, stage in all_stages(recipe)
    }
    last = list(contexts.values())[-1]
    names = [*checkpoint_names(recipe), *(["merged"] if recipe.merge is not None else [])]
    post = {name: last for name in names if name in CHAT_CHECKPOINTS}
    return post if suite.chat or suite.on == "chat" else contexts | post
