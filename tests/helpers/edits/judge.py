"""What the plan says of edits, held against what really differs when steps are computed again.

Two kinds of faults. A step is kept too long ("under"): its plan is what it was, and its payload is not. It runs without
cause ("over"): the edit is such that no result can differ, and a plan runs steps again.

Each edit is planned by itself. For each step, all edits that keep it are then made together in one tree, and it is
computed there once; where its payload differs, halves of the edits are tried, until the one is found that does it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.edits.edit import Edit
from helpers.edits.recompute import RECIPE, Planned, Recomputer, local, plan_of
from smolmake.errors import UserError
from smolmake.execution.fingerprint import code_fingerprint
from smolmake.execution.kinds import KINDS
from smolmake.files import digest
from smolmake.planning.workflow import load_workflow

PLANS = ("src/smolmake/recipe/", "src/smolmake/graph/", "src/smolmake/files.py", "src/smolmake/listing.py")
Mean = Callable[[Any, Any], bool]


@dataclass
class Planning:
    """What the plan says of an edit: the steps that would run, those of them whose own plan differs; or why none."""

    running: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    refused: str = ""


@dataclass
class Verdict:
    """`under`: the edits by which a step's payload differs although its plan does not, the step, and how it ended."""

    planned: dict[Edit, Planning] = field(default_factory=dict)
    under: list[tuple[list[Edit], str, str]] = field(default_factory=list)
    rounded: list[tuple[Edit, str]] = field(default_factory=list)
    pairs: int = 0  # of an edit and a step that it keeps, computed

    @property
    def over(self) -> list[tuple[Edit, list[str]]]:
        found = [(edit, sorted(planning.running)) for edit, planning in self.planned.items() if edit.neutral]
        return [(edit, labels) for edit, labels in found if labels]

    @property
    def accepted(self) -> list[Edit]:
        return [edit for edit, planning in self.planned.items() if not planning.refused]


class Judge:
    """Judges edits of a base whose steps with these `labels` are computed."""

    def __init__(self, recomputer: Recomputer, labels: list[str]) -> None:
        self.recomputer, self.labels, self.base = recomputer, labels, recomputer.planned
        self.scripts = {kind: Path("workflow") / "scripts" / f"{kind}.py" for kind in KINDS}
        self.codes = self._codes(recomputer.base)

    def _codes(self, tree: Path) -> dict[str, str]:
        return {kind: code_fingerprint(tree / script, tree / "src") for kind, script in self.scripts.items()}

    def plan(self, edit: Edit) -> Planning:
        """What the plan says of one edit. Where an edit of code is not of what makes plans, its codes alone are new."""
        tree = self.recomputer.new_tree()
        try:
            edit.apply(tree)
            if edit.kind.startswith("code") and (edit.neutral or not edit.slot.startswith(PLANS)):
                codes = self._codes(tree)
                own = {label for label in self.base if codes[kind := label.partition("/")[0]] != self.codes[kind]}
                return Planning(self._following(own), own)
            planned = plan_of(tree) if edit.kind.startswith("code") else self._plan_here(tree)
        except UserError as error:
            planned = str(error)
        finally:
            shutil.rmtree(tree)
        if isinstance(planned, str):
            return Planning(refused=planned)
        gone = set(self.base) - set(planned)
        own = {label for label in set(self.base) - gone if local(planned[label]) != local(self.base[label])}
        running = {
            label for label, step in planned.items() if step["key"] != self.base.get(label, step | {"key": ""})["key"]
        }
        return Planning(running, own | gone)

    def _plan_here(self, tree: Path) -> Planned:
        """A tree's plan as this process's code makes it."""
        workflow = load_workflow(str(tree / RECIPE), tree)
        return {
            step.label: {
                "key": step.key, "code": step.code, "spec": digest(step.spec.values()),
                "job": json.loads(workflow.job(step)),
                "inputs": {
                    role: other.key if step.kind == "report" else other.label for role, other in step.inputs.items()
                },
            }
            for step in workflow.steps.all.values()
        }  # fmt: skip

    def _following(self, own: set[str]) -> set[str]:
        running = set(own)
        for label in self.base:  # inputs come first
            if not running.isdisjoint(self.recomputer.reads(label).values()):
                running.add(label)
        return running

    def judge(self, edits: Iterable[Edit]) -> Verdict:
        """Plan every edit, and compute every step under all edits that keep it."""
        verdict = Verdict({edit: self.plan(edit) for edit in edits})
        together: dict[str, Edit] = {}
        for edit in verdict.accepted:
            if not edit.alone:
                together.setdefault(edit.slot, edit)
        taken = [edit for edit in together.values() if not self._clashes(edit, together)]
        groups: dict[tuple[Edit, ...], list[str]] = {}
        for label in self.labels:
            keeping = [edit for edit in taken if self._keeps(verdict.planned[edit], label)]
            groups.setdefault(tuple(keeping), []).append(label)
        groups |= {
            (edit,): [label for label in self.labels if self._keeps(verdict.planned[edit], label)]
            for edit in verdict.accepted
            if edit.alone
        }
        for group, labels in groups.items():
            if group and labels:
                self._compute(list(group), labels, *self._tree(list(group)), verdict)
        return verdict

    def _clashes(self, edit: Edit, together: dict[str, Edit]) -> bool:
        """Whether an edit of a whole module stands beside others of the module."""
        whole = edit.slot.endswith(":*")
        return whole and any(slot.startswith(edit.slot[:-1]) and slot != edit.slot for slot in together)

    def _keeps(self, planning: Planning, label: str) -> bool:
        return label not in (planning.running if label.startswith("report/") else planning.own)

    def _tree(self, edits: list[Edit]) -> tuple[Path, Planned | str]:
        """A tree with all these edits, and its plan."""
        tree = self.recomputer.new_tree()
        for edit in sorted(edits, key=lambda each: (each.slot != RECIPE, each.slot)):
            edit.apply(tree)
        try:  # what each edit by itself keeps has the spec that it had; the job looks at its code itself
            return tree, self._plan_here(tree)
        except UserError as error:
            return tree, str(error)

    def _compute(
        self, edits: list[Edit], labels: list[str], tree: Path, planned: Planned | str, verdict: Verdict
    ) -> bool:
        """Whether all these steps are what they were under all these edits; the edits that do otherwise are told."""
        wrong: dict[str, str] = {}
        if isinstance(planned, str):
            wrong = dict.fromkeys(labels, f"no plan: {planned[-400:]}")
        else:
            same = [label for label in labels if label in planned and local(planned[label]) == local(self.base[label])]
            wrong = {label: "its plan differs in this tree" for label in labels if label not in same}
            for label, result in self.recomputer.compute(tree, same, planned).items():
                if result.payload != self.recomputer.before(label):
                    near = edits[0].alone and self.recomputer.is_near(label, tree)
                    if near:
                        verdict.rounded.append((edits[0], label))
                    else:
                        wrong[label] = "another payload" if result.payload is not None else result.log[-600:]
        shutil.rmtree(tree)
        verdict.pairs += len(edits) * (len(labels) - len(wrong))
        if not wrong:
            return True
        if len(edits) == 1:
            verdict.under += [(edits, label, how) for label, how in wrong.items()]
            return False
        halves = (edits[: len(edits) // 2], edits[len(edits) // 2 :])
        fine = [self._compute(half, list(wrong), *self._tree(half), verdict) for half in halves]
        if all(fine) and not all(how.startswith(("no plan", "its plan")) for how in wrong.values()):
            verdict.under += [(edits, label, f"only together: {how}") for label, how in wrong.items()]
        return False
