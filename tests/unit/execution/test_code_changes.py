"""The table of changes of the code: for each, exactly the kinds of steps whose own code it changes."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smolmake.execution.kinds import KINDS

Change = Callable[[Path], None]
PROGRAM = """
import json, sys
from pathlib import Path
from smolmake.execution.code_memory import remembered_code
from smolmake.execution.fingerprint import code_fingerprint
tree = Path(sys.argv[1])
with remembered_code(tree):
    scripts = {name: tree / "workflow" / "scripts" / f"{name}.py" for name in sys.argv[2:]}
    print(json.dumps({name: code_fingerprint(script, tree / "src") for name, script in scripts.items()}))
"""
NOTHING: tuple[str, ...] = ()
TRAINING = ("preflight", "segment")
MODELS = (*TRAINING, "alignment", "posttraining", "preferences")


def replace(file: str, old: str, new: str, everywhere: bool = False) -> Change:
    """Another text in a file of the package, for one that is there once, or everywhere."""

    def change(tree: Path) -> None:
        path = tree / "src" / "smolmake" / file
        text = path.read_text()
        assert text.count(old) == 1 or (everywhere and old in text), f"{file} has {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new))

    return change


def append(file: str, text: str) -> Change:
    def change(tree: Path) -> None:
        path = tree / "src" / "smolmake" / file
        path.write_text((path.read_text() if path.exists() else "") + text)

    return change


def first(file: str, name: str, statement: str) -> Change:
    """Another first statement in a function, method (`Class.method`) or class, after its docstring."""

    def change(tree: Path) -> None:
        path = tree / "src" / "smolmake" / file
        lines = path.read_text().splitlines()
        body = ast.parse("\n".join(lines)).body
        for part in name.split("."):
            body = next(node.body for node in body if getattr(node, "name", "") == part)  # type: ignore[attr-defined]
        at = body[1] if isinstance(body[0], ast.Expr) and len(body) > 1 else body[0]
        lines.insert(at.lineno - 1, " " * at.col_offset + statement)
        path.write_text("\n".join(lines) + "\n")

    return change


def move(name: str, source: str, target: str) -> Change:
    """A function of a module moved to a new one, with all that the old one imports; whoever imports it follows."""

    def change(tree: Path) -> None:
        package = tree / "src" / "smolmake"
        text = (package / source).read_text()
        body = ast.parse(text).body
        node = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)
        imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        moved = ast.get_source_segment(text, node) or ""
        (package / source).write_text(text.replace(moved, ""))
        (package / target).write_text("\n".join([*map(ast.unparse, imports), moved]) + "\n")
        before, after = [f"smolmake.{file.removesuffix('.py').replace('/', '.')}" for file in (source, target)]
        for file in [*package.rglob("*.py"), *(tree / "workflow" / "scripts").glob("*.py")]:
            file.write_text(
                re.sub(rf"from {before} import {name}\n", f"from {after} import {name}\n", file.read_text())
            )

    return change


def backwards(file: str) -> Change:
    """The functions and classes of a file in the opposite order."""

    def change(tree: Path) -> None:
        path = tree / "src" / "smolmake" / file
        body = ast.parse(path.read_text()).body
        turned = [node for node in body if isinstance(node, ast.FunctionDef)]
        rest = [node for node in body if node not in turned]
        path.write_text("\n".join(map(ast.unparse, [*rest, *turned[::-1]])) + "\n")

    return change


CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "a comment": (append("data/token_shards.py", "# A comment.\n"), NOTHING),
    "an annotation": (replace("posttrain/merge.py", "out: Path", "out: str"), NOTHING),
    "a docstring": (replace("model/rope.py", '"""Rotary', '"""The rotary'), NOTHING),
    "an unused function": (append("train/optimizer.py", "\n\ndef unused() -> int:\n    return 1\n"), NOTHING),
    "an unused constant": (append("report/text.py", "WORD = 'other'\n"), NOTHING),
    "an unused import": (append("model/decoder.py", "import json\nfrom smolmake.data import dedup\n"), NOTHING),
    "a moved function": (move("merge_linear", "posttrain/merge.py", "posttrain/averages.py"), NOTHING),
    "another order": (backwards("data/mixture.py"), NOTHING),
    "a raised text": (replace("recipe/schedule.py", "is outside the schedule", "is not in the schedule"), NOTHING),
    "an error's remedy": (replace("data/readers.py", 'remedy="fetch it again"', 'remedy="fetch it"', True), NOTHING),
    "errors": (first("errors.py", "UserError.__str__", "print(1)"), NOTHING),
    "leases": (append("execution/lease.py", "print(1)\n"), NOTHING),
    "what loads the execution": (append("execution/__init__.py", "print(1)\n"), NOTHING),
    "monitoring": (append("monitoring/progress.py", "print(1)\n"), NOTHING),
    "recovery": (append("train/recovery/checkpoint.py", "print(1)\n"), NOTHING),
    "diagnostics": (append("train/diagnostics/watch.py", "print(1)\n"), NOTHING),
    "the cluster": (append("cluster/srun.py", "print(1)\n"), NOTHING),
    "the command line": (append("cli.py", "print(1)\n"), NOTHING),
    "a new key of the recipe": (first("recipe/schema.py", "Recipe", "more: int = Field(1, ge=0)"), NOTHING),
    "a field of a spec": (first("graph/specs/data.py", "GeneratedSpec", "more: int = 1"), NOTHING),
    "a method of a spec": (first("graph/specs/pretrain.py", "SegmentSpec.batch_size", "print(1)"),
                           (*TRAINING, "report")),
    "how a step runs": (first("graph/specs/runs.py", "DeviceRun.nodes", "print(1)"), NOTHING),
    "what the report reads too": (append("monitoring/metrics.py", "print(1)\n"), ("report",)),
    "a function": (first("posttrain/merge.py", "merge_linear", "print(1)"), ("merge",)),
    "a function that several use": (first("data/clean.py", "iterate_texts", "print(1)"),
                                    ("overlap", "shards", "tokenizer", "tokenizer_comparison")),
    "the learning rate": (first("recipe/schedule.py", "learning_rate", "print(1)"), TRAINING),
    "a method of a reached class": (first("train/spikes.py", "Spikes.watch", "print(1)"), TRAINING),
    "a base class": (replace("posttrain/trainers.py", "(FullBatches, DPOTrainer)", "(DPOTrainer)"), ("alignment",)),
    "a constant": (replace("data/permutation.py", "ROUNDS = ", "ROUNDS = 1 + "), ("epochs", "mixture", "segment")),
    "a default": (replace("data/permutation.py", "maxsize=4096", "maxsize=4097"), ("epochs", "mixture", "segment")),
    "which files are read": (first("listing.py", "_inside", "print(1)"), (
        "adopted", "alignment", "check_tasks", "documents", "evaluation", "generated", "overlap", "posttraining",
        "preferences", "report", "suite", "suite_items")),
    "how files are written": (first("files.py", "write_json", "print(1)"), (
        "alignment", "check_tasks", "documents", "epochs", "evaluation", "heldout", "mixture", "overlap",
        "posttraining", "preflight", "suite", "tokenizer", "tokenizer_comparison")),
    "a decorator": (replace("model/head.py", "@cache\n", ""), TRAINING),
    "an effect in a reached module": (replace("model/kernels.py", "setup_context=_keep", "setup_context=None"), MODELS),
    "a new effect": (append("evaluate/tasks.py", "print(1)\n"), ("check_tasks", "evaluation")),
    "a package's start": (append("posttrain/__init__.py", "print(1)\n"),
                          ("alignment", "merge", "posttraining", "preferences", "report")),
    "a conditional import": (append("posttrain/merge.py", "try:\n    import fast\nexcept ImportError:\n    fast = 1\n"
                                    "merge_linear = fast or merge_linear\n"), ("merge",)),
    "the plan": (first("planning/cost.py", "Costs.of", "print(1)"), ("report",)),
    "a template of the report": (append("report/template.html.j2", "<p>"), ("report",)),
    "a new file beside the report": (append("report/more.css.j2", "p {}"), ("report",)),
    "a new file beside the package": (append("notes.txt", "A note."), NOTHING),
    "the report": (first("report/text.py", "plural", "print(1)"), ("report",)),
}  # fmt: skip


def fingerprints(tree: Path) -> dict[str, str]:
    """The fingerprints of all scripts as a new process sees them."""
    command = [sys.executable, "-c", PROGRAM, str(tree), *KINDS]
    found: dict[str, str] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


@pytest.fixture(scope="module")
def before(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    tree = tmp_path_factory.mktemp("code")
    for part in ("src/smolmake", "workflow/scripts"):
        shutil.copytree(root / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tree, fingerprints(tree)


@pytest.mark.parametrize("name", CASES)
def test_a_change_of_the_code(before: tuple[Path, dict[str, str]], tmp_path: Path, name: str) -> None:
    change, kinds = CASES[name]
    tree = shutil.copytree(before[0], tmp_path / "tree", copy_function=shutil.copy2)
    change(tree)
    now = fingerprints(tree)
    assert sorted(kind for kind in KINDS if now[kind] != before[1][kind]) == sorted(kinds)
