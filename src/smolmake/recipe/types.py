"""What all sections of a recipe are made of: names, and numbers as people write them (8.14T tokens, 32k, 2h)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
)

from smolmake.errors import did_you_mean
from smolmake.execution.kinds import KINDS

COUNT_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
TIME_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}
NUMBER = re.compile(r"\s*([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")
NAME = r"[a-z0-9][a-z0-9_.-]{0,63}"
MOST = 10**18  # of any count: more would be no number of tokens, steps or rows
HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"


def parse_count(value: Any) -> Any:
    """`8.14T` → 8_140_000_000_000, `32k` → 32_000. Numbers pass through; the result must be whole."""
    number = _parse(value, COUNT_UNITS)
    if isinstance(number, int | float) and number > MOST:
        raise ValueError(f"too large: {MOST:.0e} is the most")
    if isinstance(number, float) and math.isfinite(number) and number == round(number):
        return round(number)
    return number


def parse_length(value: Any) -> Any:
    """As `parse_count`, but k is 1,024: a sequence length of `32k` is 32,768 tokens, as the field uses it."""
    match = NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match and match[2] == "k":
        return parse_count(parse_count(match[1]) * 1024)
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
    number = min(Decimal(match[1].replace("_", "")), Decimal(2 * MOST)) * units[match[2]]
    return int(number) if number == number.to_integral_value() else float(number)


class Problem(ValueError):
    """What is wrong with a section that is validated, or with one of its keys, for `recipe/load.py` to tell."""

    def __init__(self, what: str, *, remedy: str, key: str = "") -> None:
        super().__init__(what)
        self.remedy, self.key = remedy, key


SectionT = TypeVar("SectionT", bound="Section")


def exactly_one(section: SectionT, *keys: str) -> SectionT:
    """The section, if it has one of these keys and no other of them."""
    if sum(getattr(section, key) is not None for key in keys) != 1:
        raise ValueError(f"give exactly one of {', '.join(f'`{key}`' for key in keys[:-1])} and `{keys[-1]}`")
    return section


def match_whole(pattern: str, told: str, text: str) -> str:
    """A text of this pattern, without any `..` that would lead out of a folder."""
    if not re.fullmatch(pattern, text) or ".." in text:
        raise ValueError(told)
    return text


def possible_path(text: str) -> str:
    """A path that a file system can have."""
    if len(text.encode()) > 4000 or any(len(part.encode()) > 255 for part in text.split("/")):
        raise ValueError("longer than a path can be")
    return text


def known_name(what: str, name: str, info: ValidationInfo) -> str:
    """The name of something else in the recipe, such as a source: looked up once all of the recipe is read.

    What there is stands in the validation's context (see `known_names`); without one every name is taken.
    """
    known = (info.context or {}).get(what)
    if known is not None and name not in known:
        remedy = did_you_mean(name, known) if known else "remove it: the recipe has none"
        raise Problem(f"there is no such {what}", remedy=remedy)
    return name


def known_kind(name: str) -> str:
    """A kind of steps.

    Raises:
        Problem: if there is none of this name.
    """
    if name not in KINDS:
        raise Problem("there is no such kind of steps", remedy=did_you_mean(name, KINDS))
    return name


def known_first(what: str, text: str, info: ValidationInfo) -> str:
    """As `known_name`, of NAME/FILE."""
    known_name(what, text.partition("/")[0], info)
    return text


@dataclass(frozen=True)
class Written:
    """For editors and the reference: what a value is called, and that a text with a unit may stand for the number."""

    word: str
    units: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        units = "|".join(filter(None, self.units))
        pattern = rf"^\s*[0-9]+(_[0-9]+)*(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*({units})?\s*$"
        return {"anyOf": [handler(core), {"type": "string", "pattern": pattern}], "format": self.word}


Count = Annotated[int, BeforeValidator(parse_count), Written("count", tuple(COUNT_UNITS))]
Length = Annotated[int, BeforeValidator(parse_length), Written("length", tuple(COUNT_UNITS))]
Seconds = Annotated[float, BeforeValidator(parse_seconds), Written("time", tuple(TIME_UNITS))]
Name = Annotated[
    str,
    AfterValidator(
        partial(match_whole, NAME, "a name becomes part of a path: use a-z, 0-9, '_', '.', '-' (64 at most, no '..')")
    ),
    Field(json_schema_extra={"format": "name"}),
]
HubId = Annotated[str, AfterValidator(partial(match_whole, HUB_ID, "the hub names its datasets and models owner/name"))]
Digest = Annotated[
    str,
    AfterValidator(
        partial(
            match_whole, r"[0-9a-f]{64}",
            "a SHA-256 digest has 64 characters of 0-9 and a-f; `smolmake adopt FOLDER` prints it",
        )
    ),
]  # fmt: skip
Fraction = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e12)]
Rate = Annotated[float, Field(gt=0, le=10)]  # learning rate
Seed = Annotated[Count, Field(ge=0, lt=2**32)]  # what NumPy takes
Filled = Annotated[str, Field(min_length=1)]
FilePath = Annotated[Filled, AfterValidator(possible_path)]

KindName = Annotated[str, AfterValidator(known_kind), Field(json_schema_extra={"enum": list(KINDS)})]

# Names of something else in the recipe.
SourceName = Annotated[Name, AfterValidator(partial(known_name, "source"))]
TextSource = Annotated[Name, AfterValidator(partial(known_name, "source with text to clean"))]
Domain = Annotated[Name, AfterValidator(partial(known_name, "domain"))]
GeneratedFiles = Annotated[str, AfterValidator(partial(known_first, "generated data"))]
ChatTemplate = Annotated[str, AfterValidator(partial(known_name, "chat template"))]
SuiteName = Annotated[Name, AfterValidator(partial(known_name, "suite"))]
TrainedStage = Annotated[Name, AfterValidator(partial(known_name, "stage that trains"))]
LaidOut = Annotated[Name, AfterValidator(partial(known_name, "stage or step with a layout"))]
Checkpoint = Annotated[Name, AfterValidator(partial(known_name, "checkpoint"))]
Answering = Annotated[Name, AfterValidator(partial(known_name, "checkpoint before APO"))]
Measured = Annotated[Name, AfterValidator(partial(known_name, "checkpoint that is measured"))]
Surpassed = Annotated[Name, AfterValidator(partial(known_name, "checkpoint that is measured, nor `chance`"))]


class Section(BaseModel):
    """A part of the recipe: unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
