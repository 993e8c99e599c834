"""The columns that post-training's data must have, and what is wrong with a file of it in the recipe's terms."""

from __future__ import annotations

from smolmake.data.columns import MissingColumn
from smolmake.errors import UserError

HINTS = {
    "messages": "Conversations need a column `messages` (a list of {role, content}, the last one with the role"
    " assistant), `conversations`, or the columns instruction and output, or prompt and completion.",
    "chosen": "Preference pairs need the columns `chosen` and `rejected`: two conversations with one beginning, or two"
    " answers to a `prompt`.",
    "prompt": "Prompts need a column `prompt`: a text.",
}
HINTS["rejected"] = HINTS["chosen"]


def told_of_section(error: UserError, key: str) -> UserError:
    """The error with the recipe's key of its dataset; for a missing column the remedy says what the data must be."""
    error.key = error.key or key
    if isinstance(error, MissingColumn):
        found = ", ".join(f"`{column}`" for column in error.present)
        error.remedy = f"{HINTS[error.column]} This data has {found}: rename or convert."
    return error
