"""Print what a recipe needs to adopt a folder: its digest, and the lines to write.

    python -m smolmake.planning.adopt FOLDER

FOLDER holds token shards (results/shards/NAME-ID of a smolmake tree) or a model in transformers' format.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smolmake.errors import UserError, run_as_program
from smolmake.execution.content_hash import content_digest
from smolmake.execution.manifest import MANIFEST, read_manifest
from smolmake.files import matching_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = Path(parser.parse_args().folder)
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


if __name__ == "__main__":
    run_as_program(main)
