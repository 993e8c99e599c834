"""A step of the graph and its identity: a slice of the recipe, the steps it reads, the code that computes it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer, SerializationInfo

from smolmake.errors import UserError, did_you_mean
from smolmake.execution.code_memory import Definitions
from smolmake.execution.kinds import script_of
from smolmake.execution.manifest import RECORD
from smolmake.execution.pins import Pin
from smolmake.execution.rules import step_code
from smolmake.files import digest


def _unless_identity(place: str, info: SerializationInfo) -> str | None:
    return None if info.context is IDENTITY else place


IDENTITY = "identity"
Place = Annotated[str, PlainSerializer(_unless_identity)]  # where data lies, beside its digest: no part of an identity


class Spec(BaseModel):
    """What decides a step's result, beside its inputs and its code: frozen, with no room for keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def values(self) -> dict[str, Any]:
        """The spec in JSON values, as the identity and identity.json have it.

        What is None is left out, so that a new setting that is off by default makes no other identity; a setting that
        is off at another value says so by `exclude_if`.
        """
        return self.model_dump(mode="json", exclude_none=True, context=IDENTITY)


class Run(BaseModel):
    """How a step runs; it decides no result.

    `threads` are the cores that it takes of a node: a process's threads, or the processes of a step done in parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    threads: int = 1

    @property
    def nodes(self) -> int:
        return 1

    @property
    def gpus_per_node(self) -> int:
        return 0

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node


PLAIN = Run()  # one process with one thread
SpecT = TypeVar("SpecT", bound=Spec)
RunT = TypeVar("RunT", bound=Run)


@dataclass(frozen=True, eq=False, repr=False)
class Step:
    """One node of the graph. `spec`, `inputs` and the code decide `id`; `run` and `stage` do not.

    `recipe_keys` are the places of the recipe that `spec` was made from, in the user's terms, and `config_hash` is the
    identity without the code: what a pin holds on to. `versions` are those of libraries that count in it.
    `kept_as` is the name in the step's folder where that is an earlier one than its own (see `other_names`).
    """

    kind: str
    name: str
    spec: Spec
    inputs: dict[str, Step]
    id: str
    stage: str
    run: Run
    recipe_keys: tuple[str, ...]
    config_hash: str
    code: str
    versions: dict[str, str]
    pin: Pin | None = None
    kept_as: str | None = None

    def spec_as(self, kind: type[SpecT]) -> SpecT:
        """The spec, which is one of this class."""
        assert isinstance(self.spec, kind), f"{self.label} has a {type(self.spec).__name__}"
        return self.spec

    def run_as(self, kind: type[RunT]) -> RunT:
        """How it runs, which is told by this class."""
        assert isinstance(self.run, kind), f"{self.label} has a {type(self.run).__name__}"
        return self.run

    @cached_property
    def key(self) -> str:
        """kind/name-id: the step's folder under results/."""
        return f"{self.kind}/{self.kept_as or self.name}-{self.id}"

    @property
    def named_key(self) -> str:
        """The key by the name that the recipe gives it today."""
        return f"{self.kind}/{self.name}-{self.id}"

    @cached_property
    def label(self) -> str:
        return f"{self.kind}/{self.name}"

    def __repr__(self) -> str:
        return f"Step({self.key})"  # the inputs' inputs' inputs would fill pages

    @cached_property
    def manifest(self) -> str:
        return f"results/{self.key}/manifest.json"


@dataclass
class Steps:
    """All steps of one recipe, in an order in which inputs come first.

    `values` is the recipe in the user's terms (see `recipe_values`), `pins` holds pins by step label, `versions`
    by kind those of the libraries that count, `kept_as` by `named_key` the names of folders that have another one.
    """

    root: Path
    values: dict[str, Any] = field(default_factory=dict)
    pins: dict[str, Pin] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    kept_as: dict[str, str] = field(default_factory=dict)
    all: dict[str, Step] = field(default_factory=dict)
    checkpoints: dict[str, Step] = field(default_factory=dict)
    _code: dict[str, Definitions] = field(default_factory=dict)
    _labels: dict[str, Step] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        name: str,
        spec: Spec,
        inputs: dict[str, Step],
        stage: str,
        recipe_keys: tuple[str, ...] = (),
        run: Run = PLAIN,
    ) -> Step:
        """Name, identify and keep a step.

        Raises:
            UserError: if a pin names this step and cannot be kept, or another step has its label.
        """
        code = self.code_of(kind)[""][""]
        asked_for = digest(spec.values())
        content = {"kind": kind, "spec": asked_for, "inputs": {role: other.id for role, other in inputs.items()}}
        hashes = {role: other.config_hash for role, other in inputs.items()}
        config_hash = digest({"kind": kind, "spec": asked_for, "inputs": hashes})
        versions = self.versions.get(kind, {})
        content |= {"code": code} | ({"versions": versions} if versions else {})
        identity, pin = digest(content)[:10], self.pins.get(f"{kind}/{name}")
        if pin is not None and pin.id != identity:
            check_pin(pin, config_hash, self.root)
            identity, inputs = pin.id, {}
        elif pin is not None:
            pin = None  # it names what the step is anyway
        kept_as = self.kept_as.get(f"{kind}/{name}-{identity}")
        step = Step(
            kind, name, spec, inputs, identity, stage, run, recipe_keys, config_hash, code, versions, pin, kept_as
        )  # fmt: skip
        other = self._labels.setdefault(step.label, step)
        if other.id != step.id:
            raise UserError(
                f"two steps of the recipe would be called {step.label}: the other one is of"
                f" {', '.join(other.recipe_keys)}",
                key=recipe_keys[-1] if recipe_keys else None, value=name, remedy="give one of them another name",
            )  # fmt: skip
        return self.all.setdefault(step.key, step)

    def code_of(self, kind: str) -> Definitions:
        """The code that computes steps of a kind, found out once (see `step_code`)."""
        if kind not in self._code:
            self._code[kind] = step_code(kind, script_of(kind, self.root))
        return self._code[kind]

    def of_kind(self, kind: str) -> list[Step]:
        return [step for step in self.all.values() if step.kind == kind]

    def recipe_values(self, step: Step) -> dict[str, Any]:
        """The slice of the recipe that the step was made from: recipe key -> value."""
        found: dict[str, Any] = {}
        for key in step.recipe_keys:
            flatten(look_up(self.values, key), key, found)
        return found

    def check_pins(self) -> None:
        """Raise UserError for a pin of a step that the recipe does not have."""
        labels = {step.label for step in self.all.values()}
        for label, pin in self.pins.items():
            if label not in labels:
                raise UserError(
                    "a pin names a step that the recipe does not have",
                    file=pin.file, key="step", value=label, remedy=f"{did_you_mean(label, labels)} Or remove the pin.",
                )  # fmt: skip


def check_pin(pin: Pin, config_hash: str, root: Path) -> None:
    """Raise UserError unless the pinned result is there and differs from what the recipe wants by its code alone."""
    folder = root / "results" / f"{pin.step}-{pin.id}"
    if not (folder / "manifest.json").is_file():
        raise UserError(
            "a pinned result is not there, and the code that made it has changed since: it cannot be made again",
            file=pin.file, key=pin.step, value=pin.id,
            remedy=f"bring {folder.relative_to(root)} back from a copy, go back to the code that made it, or remove"
            " the pin",
        )  # fmt: skip
    try:
        recorded = json.loads((folder / RECORD).read_text())["config_hash"]
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"the pinned result has no readable {RECORD}, so nobody knows what it was made from",
            file=folder / RECORD, key=pin.step, value=pin.id, remedy="remove the pin, or bring the file back",
        ) from None  # fmt: skip
    if recorded != config_hash:
        raise UserError(
            "a pinned result was made from another recipe or other data, not only by other code",
            file=pin.file, key=pin.step, value=pin.id,
            remedy="set the recipe back to what it was, or remove the pin: the step then runs again",
        )  # fmt: skip


def look_up(values: Any, key: str) -> Any:
    """The value at a dotted key, or None."""
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return None
        values = values[part]
    return values


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Every leaf of nested mappings by its dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        flatten(value, key, found)
    return found


def flatten(value: Any, key: str, found: dict[str, Any]) -> None:
    """Add every leaf under `value` to `found`, by its dotted key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            flatten(inner, f"{key}.{name}", found)
    else:
        found[key] = value
