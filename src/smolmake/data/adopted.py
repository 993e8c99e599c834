"""Token shards or a model that exist already, linked where they lie or fetched from the hub."""

from __future__ import annotations

import json
from pathlib import Path

from smolmake.errors import UserError
from smolmake.execution.content_hash import content_digest
from smolmake.execution.job import Job
from smolmake.execution.manifest import MANIFEST, read_manifest
from smolmake.files import new_file
from smolmake.graph.specs.data import AdoptedRun, AdoptedSpec
from smolmake.listing import matching_files

MODEL_FILES = ["*.safetensors*", "config.json", "generation_config.json", "tokenizer*", "*.jinja"]


def adopt_artefact(job: Job[AdoptedSpec, AdoptedRun]) -> None:
    if job.spec.hub is not None:
        fetch_model(job, job.spec.hub)
        job.finish(["checkpoint"], {"tokens_total": 0, "hub": job.spec.hub, "revision": job.spec.revision})
    elif job.run.path is not None:
        adopt_folder(job, Path(job.run.path))


def adopt_folder(job: Job[AdoptedSpec, AdoptedRun], folder: Path) -> None:
    """Link a folder whose digest is what the recipe says."""
    found = content_digest(str(folder), Path.cwd())
    if found != job.spec.digest:
        raise UserError(
            "what lies there is not what the recipe adopts: its digest differs",
            file=folder, value=found,
            remedy=f"bring its files back, or adopt what it has now: smolmake adopt {folder}",
        )  # fmt: skip
    if (folder / "config.json").is_file():
        check_model(folder, "*.adopt.path")
        link(folder, job.folder / "checkpoint")
        job.finish(["checkpoint"], {"tokens_total": 0})
    else:
        adopt_shards(job, folder)


def adopt_shards(job: Job[AdoptedSpec, AdoptedRun], folder: Path) -> None:
    """Link the shards' files; which they are, and what is known of them, says their manifest beside them."""
    if not (folder / MANIFEST).is_file() or read_manifest(folder / MANIFEST).get("kind") not in ("shards", "adopted"):
        raise UserError(
            "this folder has neither a model (config.json) nor token shards with their manifest",
            file=folder,
            remedy="adopt a folder results/shards/NAME-ID of a smolmake tree, or one in transformers' format",
        )  # fmt: skip
    manifest = read_manifest(folder / MANIFEST)
    names = sorted({Path(name).parts[0] for name in manifest["payload"]})
    for name in names:
        link(folder / name, job.folder / name)
    job.finish(names, manifest["facts"])


def fetch_model(job: Job[AdoptedSpec, AdoptedRun], name: str) -> None:
    """The hub's files of one commit; the token comes from the environment (HF_TOKEN). Resumes what was cut."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    revision = job.spec.revision
    try:
        snapshot_download(name, revision=revision, local_dir=job.folder / "checkpoint", allow_patterns=MODEL_FILES)
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        raise UserError(
            "the hub did not give this model", key="*.hub", value=f"{name} at {revision}: {error}",
            remedy="check its name and revision, the network and HF_TOKEN, and that HF_HUB_OFFLINE is not set",
        ) from None  # fmt: skip
    check_model(job.folder / "checkpoint", "*.hub")


def check_model(folder: Path, key: str) -> None:
    """Raise UserError for a model whose weights are pickles, or that would run code of its own."""
    if not matching_files("*.safetensors", folder):
        raise UserError(
            "this model has no safetensors weights", file=folder, key=key,
            remedy="take a model or revision with safetensors: others are pickles, which are not loaded",
        )  # fmt: skip
    if "auto_map" in json.loads((folder / "config.json").read_text()):
        raise UserError(
            "this model brings code of its own, which is never run", file=folder, key=key,
            remedy="take a model whose architecture transformers knows",
        )  # fmt: skip


def link(target: Path, place: Path) -> None:
    with new_file(place) as beside:
        beside.symlink_to(target.resolve())
