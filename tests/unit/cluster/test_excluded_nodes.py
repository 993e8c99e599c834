"""Nodes that a preflight found wanting: which they are, the list of them, and how a mended one is taken back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.training import ROOT

from smolmake.cluster.excluded_nodes import EXCLUDED, exclude_nodes, excluded_nodes, failing_nodes, include_nodes
from smolmake.errors import UserError


def result(check: str, passed: bool, *nodes: str) -> dict[str, object]:
    return {"check": check, "measured": "1 to 9 GB/s", "required": "5 GB/s", "passed": passed, "nodes": nodes}


def test_a_failing_node_is_named_with_all_that_it_failed(tmp_path: Path) -> None:
    assert failing_nodes(tmp_path) == {}
    results = [result("burn", False, "n2"), result("links", False, "n2", "n3"), result("disk", False)]
    (tmp_path / "checks.json").write_text(json.dumps([*results, result("memory", True, "n1")]))
    assert failing_nodes(tmp_path) == {
        "n2": "burn 1 to 9 GB/s, required 5 GB/s; links 1 to 9 GB/s, required 5 GB/s",
        "n3": "links 1 to 9 GB/s, required 5 GB/s",
    }


def test_the_list_grows_and_mended_nodes_leave_it(tmp_path: Path) -> None:
    assert excluded_nodes(tmp_path) == {}
    exclude_nodes(tmp_path, {"n2": "slow"})
    exclude_nodes(tmp_path, {"n3": "hot"})
    assert [why.split(": ")[1] for why in excluded_nodes(tmp_path).values()] == ["slow", "hot"]
    with pytest.raises(UserError, match="not excluded") as caught:
        include_nodes(tmp_path, ["n4"])
    assert "n2" in caught.value.remedy or "n3" in caught.value.remedy
    assert include_nodes(tmp_path, ["n2"]) == ["n2"] and list(excluded_nodes(tmp_path)) == ["n3"]
    assert include_nodes(tmp_path, ["all"]) == ["n3"] and excluded_nodes(tmp_path) == {}
    (tmp_path / EXCLUDED).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        excluded_nodes(tmp_path)


def test_the_command_lists_and_clears(tmp_path: Path) -> None:
    def say(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "smolmake.cli", "nodes", *options]
        environment = {"PYTHONPATH": str(ROOT / "src")}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    exclude_nodes(tmp_path, {"n2": "slow"})
    assert say().stdout.startswith("n2  2") and say().stdout.endswith(": slow\n")
    wrong = say("--clear", "n3")
    assert wrong.returncode == 1 and "remedy" in wrong.stderr and "Traceback" not in wrong.stderr
    assert say("--clear", "n2").stdout == "may take jobs again: n2\n"
    assert say().stdout == "no node is excluded\n"
