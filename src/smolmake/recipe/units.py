"""Numbers as people write them: 8.14T tokens, 32k positions, 2h."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

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


Count = Annotated[int, BeforeValidator(parse_count)]
Length = Annotated[int, BeforeValidator(parse_length)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
