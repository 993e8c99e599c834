"""The manifest: a small, deterministic statement that an artefact is whole, written last."""

from __future__ import annotations

import contextlib
import json
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.execution.libraries import installed_versions
from smolmake.execution.remote_storage import download, has_remote
from smolmake.files import digest, file_digest, file_stamp, is_settled, write_json

MANIFEST = "manifest.json"
HASHED = ".hashed.json"  # beside it: what the payload's files looked like when their hashes were last right
REMOVED = "removed.json"  # beside it: files of the payload that were removed on purpose
RECORD = "identity.json"  # beside it: what the step was made from, for the reasons that later plans give


def write_manifest(
    folder: Path,
    step: dict[str, Any],
    inputs: dict[str, Path],
    payload: list[Path],
    facts: dict[str, Any],
    started: float,
    known: dict[str, Any] | None = None,
    about: dict[str, Any] | None = None,
    stamps: dict[str, list[int]] | None = None,
) -> None:
    """Write provenance.json, then manifest.json, into `folder`.

    `step` has kind, name and id; `inputs` maps roles to the manifests used; `payload` lists files under `folder`
    that belong to the result, and `known` adds files whose size and hash were taken when they were written, when they
    had these `stamps`. No time, host or absolute path goes into the manifest; `about` goes into provenance.
    """
    write_json(folder / "provenance.json", _provenance(started) | (about or {}))
    stamps = (stamps or {}) | {path.relative_to(folder).as_posix(): file_stamp(path.stat()) for path in payload}
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
    sealed = {**manifest, "seal": digest(manifest)}
    _keep_stamps(folder, stamps, time.time_ns())
    (folder / REMOVED).unlink(missing_ok=True)
    write_json(folder / MANIFEST, sealed)


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


def verify_payload(path: Path, only: tuple[str, ...] = (), content: bool = True) -> list[str]:
    """Check sizes and hashes of the payload of a manifest (or of the files named `only`) before use.

    Gives the files that had to be hashed.

    A file is hashed again only if it was touched since its hash was last right: its size and times tell, of which the
    system sets one itself. Without `content`, sizes alone.
    What is missing is fetched from remote storage where it was copied to; milestones only if `only` names them. What
    removed.json names may be missing: who needs it is told before it starts (smolmake.planning.optimizer_states).

    Raises:
        UserError: if a file is missing or differs.
    """
    manifest = read_manifest(path)
    began, hashed = time.time_ns(), _read_stamps(path.parent) if content else {}
    again: dict[str, list[int]] = {}
    for name, expected in manifest["payload"].items():
        if only and name not in only:
            continue
        file = path.parent / name
        if not file.exists() and name in removed_files(path.parent):
            continue
        if not file.exists() and has_remote(path.parent, name):
            if name.startswith("milestones/") and not only:
                continue  # whoever evaluates one asks for it by name
            download(path.parent, name, expected)
        stamp = file_stamp(file.stat()) if file.is_file() else [-1]
        right = stamp[0] == expected["bytes"]
        if right and content and hashed.get(name) != stamp:
            right = file_digest(file) == expected["sha256"]
            again[name] = stamp
        if not right:
            raise UserError(
                "this file is not what its manifest says: it was changed, cut or lost after it was made",
                file=file,
                remedy=f"delete {path}; the step that makes it then runs again",
            )
    if again:
        with contextlib.suppress(OSError):  # in a tree that is only read they are hashed each time
            _keep_stamps(path.parent, hashed | again, began)
    return list(again)


def _keep_stamps(folder: Path, stamps: dict[str, list[int]], since: int) -> None:
    """Note what files looked like when they were hashed, `since` then; those changed just before are left out."""
    write_json(folder / HASHED, {name: stamp for name, stamp in stamps.items() if is_settled(stamp, since)})


def _read_stamps(folder: Path) -> dict[str, list[int]]:
    try:
        stamps = json.loads((folder / HASHED).read_text())
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def note_removed(folder: Path, names: set[str], why: str) -> None:
    """Note beside a manifest, before it happens, that files of its payload are removed on purpose."""
    write_json(folder / REMOVED, {"files": sorted(removed_files(folder) | names), "why": why})


def removed_files(folder: Path) -> set[str]:
    """The files of a step's payload that may be missing because they were removed on purpose."""
    try:
        return set(json.loads((folder / REMOVED).read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def payload_under(path: Path, place: str) -> tuple[str, ...]:
    """The files of a manifest's payload under a folder such as milestones/step-500, for `verify_payload`."""
    return tuple(name for name in read_manifest(path)["payload"] if name.startswith(place + "/"))


def _provenance(started: float) -> dict[str, Any]:
    return {
        "seconds": round(time.time() - started, 3),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "command": [Path(sys.argv[0]).name],
        "versions": installed_versions(),
        "git": _git_commit(),
    }


def _git_commit() -> str | None:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except OSError:
        return None
    return found.stdout.strip() or None
