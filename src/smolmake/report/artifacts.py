"""What the report is made from: the artefacts of one recipe, as docs/reference/artefacts.md describes their files.

Everything is read leniently in one respect only: a file that is not there gives None or an empty list, and
the part of the report that needs it is left out. What is there must follow the contract.
"""

import json
import math
import re
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from smolmake.execution.kinds import KINDS


@dataclass(frozen=True)
class ReportArtefact:
    """One finished step: its directory, its place in the order of work, and the stage it belongs to."""

    kind: str
    name: str
    path: Path
    order: int
    label: str
    group: str

    def file(self, name: str) -> str:
        """A file of this artefact as the report shows it: relative to the results root."""
        return f"{self.kind}/{self.path.name}/{name}"


@dataclass(frozen=True)
class GraphNode:
    """One step of the graph. `seconds` and `gpu_hours` are what it took, or will take: None is not known."""

    key: str
    kind: str
    group: str
    state: Literal["done", "missing"]
    seconds: float | None = None
    gpu_hours: float = 0.0


@dataclass(frozen=True)
class GraphData:
    """The steps, inputs first, and, as pairs of keys, which step needs which: (from, to).

    `price` is of one GPU-hour. `waits` holds for each stage its share of the longest chain of steps to run, and `wall`
    the time of all that is to run with the devices there are, in seconds. `pins` are steps that stay although their
    code has changed: step, id, reason.
    """

    nodes: list[GraphNode]
    edges: list[tuple[str, str]]
    price: float | None = None
    currency: str = ""
    waits: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    pins: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class MetricLine:
    """One optimizer step of metrics.jsonl; `tokens` counts from the start of its run.

    `noise` holds the estimates of |G|^2 and tr(Sigma) and the batch in sequences, where they were measured.
    """

    step: int
    tokens: float
    loss: float
    learning_rate: float | None
    tokens_per_second: float | None
    noise: tuple[float, float, float] | None = None
    source_loss: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One task and metric at one checkpoint, with its 95 % interval."""

    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    chance: float
    formulation: str
    items: tuple[float, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return (self.task, self.metric)


@dataclass(frozen=True)
class HeldOut:
    """Loss on the held-out documents of one source; `low` and `high` bound the bits per byte.

    `nats` and `sizes` hold the loss and the bytes of each document, for comparisons document by document.
    """

    source: str
    domain: str
    tokens: int
    loss: float
    bits_per_byte: float
    low: float
    high: float
    nats: tuple[float, ...] = ()
    sizes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """The evaluation of one checkpoint."""

    name: str
    label: str
    group: str
    order: int
    tokens: float
    scores: dict[tuple[str, str], Score]
    heldout: list[HeldOut]
    file: str


NAMES = {"mid": "mid-training", "sft": "SFT", "apo": "APO", "merge": "merge"}
SHORT = {"mid": "mid", "sft": "SFT", "apo": "APO", "merge": "merge"}
POSTTRAINING = ("mid", "sft", "apo", "merge")


def stage_name(group: str) -> str:
    """The name of a stage in prose: stage1 -> stage 1, lc1 -> long context 1."""
    spaced = re.sub(r"^(stage|lc)(\d+)$", lambda m: f"{'stage' if m[1] == 'stage' else 'long context'} {m[2]}", group)
    return NAMES.get(group, spaced)


def short_name(group: str) -> str:
    """The name of a stage on an axis: S1, LC1, mid, SFT."""
    return SHORT.get(group, re.sub(r"^stage(\d+)$", r"S\1", re.sub(r"^lc(\d+)$", r"LC\1", group)))


def is_pretraining(group: str) -> bool:
    return re.fullmatch(r"stage\d+", group) is not None


def is_extension(group: str) -> bool:
    return re.fullmatch(r"lc\d+", group) is not None


def group_of_name(name: str) -> str | None:
    """The stage that a step's name speaks of (stage1-0-150, lc1, sft, merged), or None."""
    found = re.match(r"(stage\d+|lc\d+|mid|sft|apo|merge)", name)
    return found[1] if found else None


def read_json(artefact: ReportArtefact, name: str) -> Any:
    """The content of a JSON file of the artefact, or None if it has no such file."""
    path = artefact.path / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_facts(artefact: ReportArtefact) -> dict[str, Any]:
    """The `facts` of the artefact's manifest."""
    manifest = read_json(artefact, "manifest.json") or {}
    facts: dict[str, Any] = manifest.get("facts", {})
    return facts


def read_metrics(artefact: ReportArtefact) -> list[MetricLine]:
    """The lines of metrics.jsonl in the order of steps.

    A run that was killed and resumed has written some steps twice: the later line is the one that counts. Its
    last line may have been cut short, and is then left out.
    """
    path = artefact.path / "metrics.jsonl"
    if not path.is_file():
        return []
    lines: dict[int, MetricLine] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            raw = json.loads(text)
        except json.JSONDecodeError:
            continue
        if not isinstance(raw, dict) or raw.get("loss") is None or not math.isfinite(raw["loss"]):
            continue
        lines[raw["step"]] = MetricLine(
            raw["step"],
            raw.get("tokens", 0),
            raw["loss"],
            raw.get("learning_rate"),
            raw.get("tokens_per_second"),
            (raw["gradient_square"], raw["gradient_variance"], raw["sequences"]) if "sequences" in raw else None,
            raw.get("source_loss", {}),
        )
    return [lines[step] for step in sorted(lines)]


def count_parameters(artefact: ReportArtefact) -> tuple[int, str] | None:
    """Parameters of a checkpoint and the file that says so.

    The manifest's facts if they have it, else the header of the safetensors files (8 bytes of length, then
    JSON with the shape of every tensor: https://github.com/huggingface/safetensors#format).
    """
    if "parameters" in (facts := read_facts(artefact)):
        return int(facts["parameters"]), artefact.file("manifest.json")
    total, last = 0, ""
    for path in sorted((artefact.path / "checkpoint").glob("model*.safetensors")):
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        last = artefact.file(f"checkpoint/{path.name}")
    return (total, last) if last else None


def read_score(raw: dict[str, Any]) -> Score:
    """One entry of scores.json."""
    return Score(
        raw["task"],
        raw["metric"],
        raw["value"],
        raw["low"],
        raw["high"],
        raw["n"],
        raw.get("chance") or 0.0,
        raw.get("formulation") or "",
        tuple(raw.get("items", ())),
    )


def read_checkpoints(artefacts: list[ReportArtefact]) -> list[Checkpoint]:
    """The evaluations with the scores of their suites, in the order of the checkpoints."""
    suites: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for artefact in of_kind(artefacts, "suite"):
        if suite := read_json(artefact, "scores.json"):
            suites[suite["checkpoint"]].append(suite)
    groups = {a.name: a.group for a in artefacts if KINDS[a.kind].model}
    found = []
    for artefact in artefacts:
        raw = read_json(artefact, "scores.json") if artefact.kind == "evaluation" else None
        if raw is None:
            continue
        name = raw["checkpoint"]
        scores = [read_score(s) for other in (raw, *suites[name]) for s in other.get("scores", [])]
        heldout = [
            HeldOut(
                h["source"],
                h["domain"],
                h["tokens"],
                h["loss"],
                h["bits_per_byte"],
                h["low"],
                h["high"],
                tuple(h.get("nats", ())),
                tuple(h.get("sizes", ())),
            )
            for h in raw.get("heldout", [])
        ]
        group = groups.get(name) or group_of_name(name) or artefact.group
        found.append(
            Checkpoint(
                name,
                artefact.label or name,
                group,
                raw.get("order", artefact.order),
                raw.get("tokens") or 0,
                {s.key: s for s in scores},
                heldout,
                artefact.file("scores.json"),
            )
        )
    return sorted(found, key=lambda c: (c.order, c.name))


def of_kind(artefacts: list[ReportArtefact], *kinds: str) -> list[ReportArtefact]:
    """The artefacts of a kind, or of several, in the order of work."""
    return sorted((a for a in artefacts if a.kind in kinds), key=lambda a: (a.order, a.name))


def read_mixtures(artefacts: list[ReportArtefact]) -> list[tuple[dict[str, Any], str]]:
    """What each stage draws, in the form of mixture.json, and the file that says so.

    epochs.json says it of all stages together; without one, each mixture.json that counts its sequences does.
    """
    for artefact in of_kind(artefacts, "epochs"):
        if counted := read_json(artefact, "epochs.json"):
            return [(stage, artefact.file("epochs.json")) for stage in counted["stages"]]
    mixtures = [(read_json(a, "mixture.json"), a.file("mixture.json")) for a in of_kind(artefacts, "mixture")]
    return [(m, file) for m, file in mixtures if m and "sequences" in m]


def describe_source(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    """What the recipe says about a source, whether it lists its sources by name or one after the other."""
    data = recipe.get("data")
    sources = recipe.get("sources") or (data.get("sources") if isinstance(data, dict) else None) or {}
    if isinstance(sources, dict):
        entry = sources.get(name)
    else:
        entry = next((s for s in sources if isinstance(s, dict) and s.get("name") == name), None)
    return entry if isinstance(entry, dict) else {}
