"""Which encoder the shards will get, as far as it can be known before they are made: a slow one is told beforehand.

A tokenizer.json that is there is tried once, as the step will try it; the answer is kept in .smolmake/encoders.json by
the file's hash and the versions of both libraries. What a recipe trains has a shape that the fast encoder knows.
"""

from __future__ import annotations

import json
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from smolmake.execution.remembered import remember, remembered
from smolmake.execution.step import Step
from smolmake.files import digest, file_digest
from smolmake.graph.specs.data import AdoptedRun, AdoptedSpec, ShardsSpec, TokenizerSpec

# Times as long as the fast encoder takes for a byte-level BPE: benchmarks/results/2026-11-28-xeon-data.md
SLOWDOWN = 20  # the reference
PIECES_SLOWDOWN = 5  # the fast encoder without a ByteLevel pre-tokenizer: Llama 2, Mistral and Gemma
PIECES = "a tokenizer of SentencePiece's kind, which even the fast encoder reads more slowly"
Slowness = tuple[int, str]  # so many times as long as usual, and why
REMEMBERED = Path(".smolmake") / "encoders.json"


class Encoders:
    """What is known of the encoder of shards; `root` is the tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.installed = installed()
        self.found: dict[tuple[str, bool], Slowness] = {}

    def slowness(self, shards: Step) -> Slowness:
        """How much more slowly than usual a step's documents will be encoded, and why; (1, "") if nobody knows yet."""
        if not self.installed:
            return SLOWDOWN, "the fast encoder is not installed: make setup"
        tokenizer, special = shards.inputs["tokenizer"], shards.spec_as(ShardsSpec).special_tokens
        if (asked := (tokenizer.key, special)) not in self.found:
            file = self._file(tokenizer)
            self.found[asked] = self._tried(file, special) if file is not None else (1, "")
        return self.found[asked]

    def waits_for(self, shards: Step) -> str:
        """The tokenizer of the hub that must be fetched before anybody knows which encoder reads it, if it is one."""
        tokenizer = shards.inputs["tokenizer"]
        spec, base = tokenizer.spec_as(TokenizerSpec), tokenizer.inputs.get("base")
        hub = spec.hub or (base.spec_as(AdoptedSpec).hub if base is not None else None)
        return hub if hub is not None and self._file(tokenizer) is None else ""

    def _file(self, tokenizer: Step) -> Path | None:
        """The tokenizer.json of a step, its result or what it will be made from, if that is there."""
        places = [self.root / "results" / tokenizer.key]
        if (path := tokenizer.spec_as(TokenizerSpec).path) is not None:
            places.append(self.root / path)
        if (base := tokenizer.inputs.get("base")) is not None:
            places.append(self.root / "results" / base.key / "checkpoint")
            places += [self.root / adopted] if (adopted := base.run_as(AdoptedRun).path) is not None else []
        return next((file for place in places if (file := place / "tokenizer.json").is_file()), None)

    def _tried(self, file: Path, special: bool) -> Slowness:
        key = digest([file_digest(file), special, metadata.version("tokenizers"), self.installed])
        known = remembered(self.root / REMEMBERED)
        if key not in known:
            from tokenizers import Tokenizer  # here: most plans find the answer in the file

            from smolmake.data.encoder import make_encoder

            try:
                tokenizer = Tokenizer.from_file(str(file))
            except Exception:  # tokenizers raises nothing narrower; the step that takes it tells what is wrong
                return 1, ""
            byte_level = "ByteLevel" in json.dumps(json.loads(tokenizer.to_str())["pre_tokenizer"])
            why = make_encoder(tokenizer, special).slow_because
            known[key] = [SLOWDOWN, why] if why else [1, ""] if byte_level else [PIECES_SLOWDOWN, PIECES]
            remember(self.root / REMEMBERED, known)
        times, why = known[key]
        return int(times), str(why)


def installed() -> str:
    """The version of the fast encoder that stands beside the packages; empty where there is none."""
    spec = find_spec("tokenizers_next")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return next((each.version for each in metadata.distributions(path=places) if each.name == "tokenizers"), "")
