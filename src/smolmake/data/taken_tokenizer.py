"""Tokenizers that exist already, from a folder or from the hub."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from smolmake.data.tokenizer import end_of_text_id, tokenizer_config
from smolmake.errors import UserError
from smolmake.files import write_json
from smolmake.graph.specs.data import TokenizerSpec


def take_tokenizer(spec: TokenizerSpec, folder: Path) -> None:
    """Copy tokenizer.json and tokenizer_config.json into `folder`; a lacking configuration is made.

    Raises:
        UserError: if there is no such tokenizer, it cannot be read, or it has not the size that the recipe says.
    """
    where = spec.path or f"{spec.hub} of the hub"
    try:
        described = _read(spec, "tokenizer.json")
        tokenizer = Tokenizer.from_str(described or "")
    except Exception as error:  # of files, of the network, of the library
        raise UserError(
            f"there is no tokenizer that can be read in {where}", file=spec.path, key="tokenizer", value=error,
            remedy="it needs a tokenizer.json; for a model behind a gate set HF_TOKEN",
        ) from None  # fmt: skip
    size = tokenizer.get_vocab_size()
    if spec.vocab_size not in (None, size):
        raise UserError(
            f"the tokenizer in {where} has another size than the recipe says",
            key="tokenizer.vocab_size", value=spec.vocab_size, remedy=f"set vocab_size: {size}",
        )  # fmt: skip
    (folder / "tokenizer.json").write_text(described or "")
    config = _read(spec, "tokenizer_config.json")
    made = tokenizer_config(max_length=10**9)
    made |= {key: tokenizer.id_to_token(end_of_text_id(tokenizer)) for key in ("eos_token", "pad_token")}
    write_json(folder / "tokenizer_config.json", json.loads(config) if config else made)


def _read(spec: TokenizerSpec, name: str) -> str | None:
    if spec.path is not None:
        file = Path(spec.path) / name
        return file.read_text() if file.is_file() else None
    assert spec.hub is not None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(spec.hub, name, revision=spec.revision)).read_text()
    except EntryNotFoundError:
        return None
