"""Datasets of the Hugging Face hub, streamed in parts: one for each of the files that the hub keeps a split in.

The token comes from the environment alone (HF_TOKEN, as `datasets` reads it). A part that was read is kept in its
step's folder, so an interrupted download goes on with the parts that are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from smolmake.data.documents import Document, needed_columns, to_document, told_of_source
from smolmake.data.readers import MissingColumn
from smolmake.errors import UserError


def open_hub(place: dict[str, Any], key: str) -> Any:
    """The dataset as `datasets` streams it; `key` is its place in the recipe, for errors.

    Raises:
        UserError: if the hub does not answer or has no such dataset.
    """
    import datasets

    try:
        return datasets.load_dataset(
            place["hub"],
            name=place["config"],
            split=place["split"],
            revision=place["revision"],
            data_files=place.get("files") or None,
            streaming=True,
        )
    except Exception as error:  # many kinds: of the network, of the hub, of the dataset's files
        raise _told(place, key, error) from None


def hub_parts(place: dict[str, Any], source: str) -> int:
    """How many parts the dataset is read in."""
    return max(1, int(open_hub(place, f"sources.{source}").num_shards))


def read_hub(spec: dict[str, Any], source: str, number: int, count: int) -> Iterator[Document]:
    """The documents of one part.

    Raises:
        UserError: if the hub stops answering, or the dataset lacks a column.
    """
    place = spec["files"]
    stream = open_hub(place, f"sources.{source}").shard(num_shards=count, index=number)
    rows = iter(stream)
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise _told(place, f"sources.{source}", error) from None
        if row is None:
            return
        for column in needed_columns(spec):
            if column not in row:
                missing = MissingColumn(column, row, file=place["hub"], place="this dataset")
                raise told_of_source(missing, spec, source)
        yield to_document(row, spec, source, place["hub"], skip=spec["on_error"] == "skip")


def hub_rows(place: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """All rows of a dataset, as post-training reads them: conversations, pairs, prompts.

    Raises:
        UserError: if the hub stops answering.
    """
    rows = iter(open_hub(place, key))
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            raise _told(place, key, error) from None
        if row is None:
            return
        yield row


def _told(place: dict[str, Any], key: str, error: Exception) -> UserError:
    asked = ", ".join(f"{key} {place[key]}" for key in ("config", "split", "revision") if place[key])
    return UserError(
        f"cannot read the dataset {place['hub']} of the hub ({asked}): {type(error).__name__}",
        file=place["hub"],
        key=f"{key}.hub",
        value=error,
        remedy="check the name, the configuration and the network; for a dataset behind a gate set HF_TOKEN. Parts "
        "that were read are kept: run the same command again",
    )
