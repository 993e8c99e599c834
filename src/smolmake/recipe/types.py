"""What all sections of a recipe are made of: names, and numbers as people write them (8.14T tokens, 32k, 2h)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler

COUNT_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
TIME_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}
NUMBER = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_count(value: Any) -> Any:
    """`8.14T` → 8_140_000_000_000, `32k` → 32_000. Numbers pass through; the result must be whole."""
    number = _parse(value, COUNT_UNITS)
    if isinstance(number, float) and math.isfinite(number) and number == round(number):
        return round(number)
    return number


def parse_length(value: Any) -> Any:
    """As `parse_count`, but k is 1,024: a sequence length of `32k` is 32,768 tokens, as the field uses it."""
    match = NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match and match[2] == "k":
        return parse_count(match[1]) * 1024
    return parse_count(value)


def parse_seconds(value: Any) -> Any:
    """`2h` → 7200.0, `90s` → 90.0, `1.5d` → 129600.0."""
    return _parse(value, TIME_UNITS)


def _parse(value: Any, units: dict[str, int]) -> Any:
    if not isinstance(value, str):
        return value
    match = NUMBER.fullmatch(value)
    if not match or match[2] not in units:
        raise ValueError(f"not a number with one of the units {', '.join(filter(None, units))}")
    number = Decimal(match[1].replace("_", "")) * units[match[2]]
    return int(number) if number == number.to_integral_value() else float(number)


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


@dataclass(frozen=True)
class Written:
    """For editors: the value may also be a text of this form."""

    units: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        units = "|".join(filter(None, self.units))
        pattern = rf"^\s*[0-9][0-9_]*(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*({units})?\s*$"
        return {"anyOf": [handler(core), {"type": "string", "pattern": pattern}]}


Count = Annotated[int, BeforeValidator(parse_count), Written(tuple(COUNT_UNITS))]
Length = Annotated[int, BeforeValidator(parse_length), Written(tuple(COUNT_UNITS))]
Seconds = Annotated[float, BeforeValidator(parse_seconds), Written(tuple(TIME_UNITS))]
Name = Annotated[str, AfterValidator(_check_name)]
HubId = Annotated[str, AfterValidator(_check_hub_id)]
Digest = Annotated[str, AfterValidator(_check_digest)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Weights = dict[Name, Annotated[float, Field(ge=0)]]


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
