"""What all sections of a recipe are made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", name) or ".." in name:
        raise ValueError("a name becomes part of a path: use a-z, 0-9, '_', '.', '-' (64 at most, no '..')")
    return name


def _check_hub_id(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) or ".." in name:
        raise ValueError("the hub names its datasets and models owner/name")
    return name


def _check_digest(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("a SHA-256 digest has 64 characters of 0-9 and a-f; `smolmake adopt FOLDER` prints it")
    return text


Name = Annotated[str, AfterValidator(_check_name)]
HubId = Annotated[str, AfterValidator(_check_hub_id)]
Digest = Annotated[str, AfterValidator(_check_digest)]
Share = Annotated[float, Field(gt=0, le=1)]
Weights = dict[Name, Annotated[float, Field(ge=0)]]


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
