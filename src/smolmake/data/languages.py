"""Programming languages by the name of a file."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = {
    "Assembly": "s asm", "C": "c h", "C#": "cs", "C++": "cc cpp cxx hh hpp", "CSS": "css", "CUDA": "cu cuh",
    "Dart": "dart", "Fortran": "f f90", "Go": "go", "HTML": "html htm", "Haskell": "hs", "Java": "java",
    "JavaScript": "js mjs jsx", "Julia": "jl", "Kotlin": "kt kts", "Lua": "lua", "Markdown": "md markdown",
    "OCaml": "ml mli", "PHP": "php", "Perl": "pl pm", "Python": "py pyi", "R": "r", "Ruby": "rb", "Rust": "rs",
    "SQL": "sql", "Scala": "scala", "Shell": "sh bash", "Swift": "swift", "TeX": "tex", "TypeScript": "ts tsx",
}  # fmt: skip
NAMES = {"Makefile": "Makefile", "Dockerfile": "Dockerfile", "CMakeLists.txt": "CMake", "Snakefile": "Python"}
BY_SUFFIX = {f".{suffix}": language for language, suffixes in SUFFIXES.items() for suffix in suffixes.split()}
# Folders of a code tree that are not its own code.
PASSED_OVER = {"__pycache__", "node_modules", "site-packages"}


def language_of(path: Path) -> str:
    """The language as The Stack names it; empty for files that are not known as code."""
    return NAMES.get(path.name) or BY_SUFFIX.get(path.suffix.lower(), "")
