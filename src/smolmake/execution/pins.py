"""Pins: finished results that stay in use although the code that made them has changed since.

config/pins/<recipe>.yaml is a list of entries with the keys `step` (kind/name), `id` (the ten characters at the end
of its folder's name) and `reason`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.yaml_files import parse_yaml

KEYS = ("step", "id", "reason")


@dataclass(frozen=True)
class Pin:
    step: str
    id: str
    reason: str
    file: Path


def read_pins(recipe: str, root: Path) -> dict[str, Pin]:
    """The pins of a recipe by step.

    Raises:
        UserError: if the file is not as it should be.
    """
    file = root / "config" / "pins" / f"{recipe}.yaml"
    if not file.is_file():
        return {}
    entries = parse_yaml(file.read_bytes(), file) or []
    if not isinstance(entries, list):
        raise UserError("pins are a list", file=file, remedy="begin each pin with `- step: kind/name`")
    pins: dict[str, Pin] = {}
    for entry in entries:
        pin = _read(entry, file)
        if pin.step in pins:
            raise UserError("two pins of one step", file=file, key="step", value=pin.step, remedy="remove one")
        pins[pin.step] = pin
    return pins


def _read(entry: Any, file: Path) -> Pin:
    if not isinstance(entry, dict) or set(entry) != set(KEYS) or not all(isinstance(entry[key], str) for key in KEYS):
        raise UserError(
            "a pin has exactly the keys step, id and reason, each with a text",
            file=file, value=entry, remedy="write `- {step: segment/stage1-0-170, id: 3f9c0a12be, reason: ...}`",
        )  # fmt: skip
    if not re.fullmatch(r"[a-z_]+/[a-z0-9][a-z0-9_.-]*", entry["step"]) or not re.fullmatch(
        r"[0-9a-f]{10}", entry["id"]
    ):
        raise UserError(
            "a pin names a step and its id as its folder under results/ does",
            file=file, value=entry, remedy="for results/segment/stage1-0-170-3f9c0a12be: step segment/stage1-0-170, id"
            " 3f9c0a12be (in quotes if it is all digits)",
        )  # fmt: skip
    if not entry["reason"].strip():
        raise UserError("a pin needs a reason", file=file, key=entry["step"], remedy="say why it may stay in use")
    return Pin(entry["step"], entry["id"], entry["reason"].strip(), file)
