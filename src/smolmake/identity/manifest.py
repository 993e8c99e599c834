"""The manifest: a small, deterministic statement that an artefact is whole, written last."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.files import digest, file_digest, write_json

MANIFEST = "manifest.json"
RECORD = "identity.json"  # beside it: what the step was made from, for the reasons that later plans give
LIBRARIES = ("torch", "transformers", "trl", "datasets", "lm_eval", "tokenizers", "numpy", "pyarrow", "snakemake")


def write_manifest(
    folder: Path,
    step: dict[str, Any],
    inputs: dict[str, Path],
    payload: list[Path],
    facts: dict[str, Any],
    started: float,
    known: dict[str, Any] | None = None,
    about: dict[str, Any] | None = None,
) -> None:
    """Write provenance.json, then manifest.json, into `folder`.

    `step` has kind, name and id; `inputs` maps roles to the manifests used; `payload` lists files under `folder`
    that belong to the result, and `known` adds files whose size and hash were taken when they were written. No time,
    host or absolute path goes into the manifest; `about` goes into provenance.
    """
    write_json(folder / "provenance.json", _provenance(started) | (about or {}))
    manifest = {
        **step,
        "inputs": {role: file_digest(path) for role, path in inputs.items()},
        "payload": {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
            for path in sorted(payload)
        }
        | (known or {}),
        "facts": facts,
    }
    write_json(folder / MANIFEST, {**manifest, "seal": digest(manifest)})


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest, given its path.

    Raises:
        UserError: if it is not a manifest.
    """
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        seal = manifest.pop("seal")
        manifest["payload"], manifest["facts"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            "this is not a whole manifest", file=path, remedy="delete its folder; the step then runs again"
        ) from None
    if seal != digest(manifest):
        raise UserError(
            "this manifest was changed after it was written", file=path,
            remedy="bring back the original, or delete its folder; the step then runs again",
        )  # fmt: skip
    return manifest


def verify_payload(path: Path, only: tuple[str, ...] = (), content: bool = True) -> None:
    """Check sizes and hashes of the payload of a manifest (or of the files named `only`) before use.

    Without `content`, sizes alone: for token shards of terabytes, whose hashes were checked when they were mixed.

    Raises:
        UserError: if a file is missing or differs.
    """
    manifest = read_manifest(path)
    for name, expected in manifest["payload"].items():
        if only and name not in only:
            continue
        file = path.parent / name
        whole = file.is_file() and file.stat().st_size == expected["bytes"]
        if not whole or (content and file_digest(file) != expected["sha256"]):
            raise UserError(
                "this file is not what its manifest says: it was changed, cut or lost after it was made",
                file=file,
                remedy=f"delete {path}; the step that makes it then runs again",
            )


def _provenance(started: float) -> dict[str, Any]:
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {
        "seconds": round(time.time() - started, 3),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "command": [Path(sys.argv[0]).name],
        "versions": versions,
        "git": _git_commit(),
    }


def _git_commit() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
