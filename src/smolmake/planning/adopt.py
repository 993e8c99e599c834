"""Print what a recipe needs to adopt a folder: its digest, and the lines to write.

    smolmake adopt models/SmolLM3-3B-Base

FOLDER holds token shards (results/shards/NAME-ID of a smolmake tree) or a model in transformers' format.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smolmake.errors import UserError
from smolmake.execution.content_hash import content_digest
from smolmake.execution.manifest import MANIFEST, read_manifest
from smolmake.listing import matching_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="token shards, or a model in transformers' format")


def run(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    if not folder.is_dir() or not matching_files(str(folder), Path.cwd()):
        raise UserError("there is no folder with files", value=folder, remedy="name the folder to adopt")
    entry = f"{{path: {folder}, digest: {content_digest(str(folder), Path.cwd())}}}"
    if (folder / "config.json").is_file():
        print(f"base:\n  adopt: {entry}")
    elif (folder / MANIFEST).is_file() and read_manifest(folder / MANIFEST).get("kind") in ("shards", "adopted"):
        print(f"sources:\n  NAME:\n    path: {folder}  # where its text lies or lay\n    shards: {entry}")
    else:
        raise UserError(
            "this folder has neither a model (config.json) nor token shards with their manifest", file=folder,
            remedy="adopt a folder results/shards/NAME-ID of a smolmake tree, or one in transformers' format",
        )  # fmt: skip
