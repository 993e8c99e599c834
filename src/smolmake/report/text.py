"""How the report writes numbers."""

import math
from itertools import pairwise

UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def compact(value: float) -> str:
    """412345 -> 412k, 1843200 -> 1.84M, three significant digits."""
    for factor, suffix in UNITS:
        if abs(value) >= factor * 0.9995:
            return f"{round_to(value / factor, 3)}{suffix}"
    return round_to(value, 3)


def round_to(value: float, digits: int) -> str:
    """`value` with so many significant digits, without exponent and trailing zeros."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def whole(value: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{value:,.0f}"


def amount(value: float) -> str:
    """1234.5 -> 1,234, 0.163 -> 0.16, 0.0003 -> <0.01; from ten million on as `compact`."""
    if 0 < abs(value) < 0.01:
        return "<0.01"
    if abs(value) >= 1e7:
        return compact(value)
    return whole(value) if abs(value) >= 9.95 else round_to(value, 2)


def duration(seconds: float) -> str:
    """The two largest units: 42 s, 3 min 12 s, 5 h 20 min, 12 d 4 h."""
    if seconds < 59.5:
        return f"{round_to(seconds, 2)} s" if seconds < 10 else f"{seconds:.0f} s"
    total = round(seconds)
    steps = pairwise(((86400, "d"), (3600, "h"), (60, "min"), (1, "s")))
    (size, unit), (smaller, smaller_unit) = next(step for step in steps if total >= step[0][0])
    rest = total % size // smaller
    return f"{total // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")


def percent(value: float, decimals: int = 1) -> str:
    """0.4125 -> 41.2%."""
    return f"{100 * value:.{decimals}f}%"


def signed(value: float, decimals: int) -> str:
    """+1.2 or −1.2, with a true minus sign; what rounds to zero has no sign."""
    text = f"{abs(value):.{decimals}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else "−"
    return sign + text


def plural(count: int, noun: str) -> str:
    """1 step, 2 steps."""
    return f"{whole(count)} {noun}" + ("" if count == 1 else "s")


def listed(words: list[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""
