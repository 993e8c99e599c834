"""The versions of installed libraries: kept beside every result, and in the id of a kind where a recipe wants it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from smolmake.errors import UserError

LIBRARIES = ("torch", "transformers", "trl", "datasets", "lm_eval", "tokenizers", "numpy", "pyarrow", "snakemake")
NO_RESULT = ("snakemake",)  # it starts the jobs and computes nothing


def installed_versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """The versions of those of these libraries that are installed."""
    found = {}
    for library in libraries:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def counted_versions(libraries: list[str], key: str) -> dict[str, str]:
    """The versions of libraries that a recipe names under a key.

    Raises:
        UserError: if one is not installed.
    """
    found = installed_versions(libraries)
    for library in libraries:
        if library not in found:
            raise UserError(
                "no such library is installed, so its version cannot count", key=key, value=library,
                remedy="write its name as pip does, such as torch or lm_eval, or install it",
            )  # fmt: skip
    return found
