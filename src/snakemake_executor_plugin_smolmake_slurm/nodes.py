"""Which nodes get no more jobs: those on which jobs failed twice, and those that a preflight found wanting."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from smolmake.cluster.excluded_nodes import exclude_nodes, excluded_nodes, failing_nodes
from smolmake.errors import UserError
from snakemake_executor_plugin_smolmake_slurm.queue import node_names, nodes_of, sick_nodes
from snakemake_executor_plugin_smolmake_slurm.watch import failed_nodes, out_of_storage

STRIKES = 2
CHECKS = 3  # times that a preflight is sent again to other nodes: after that, what it wants is rather at fault


class Nodes:
    """Keeps `failed`, the Slurm plugin's own set of nodes that sbatch is told to exclude; `root` is the project."""

    def __init__(self, root: Path, failed: set[str], logger: Any) -> None:
        self.root, self.failed, self.logger = root, failed, logger
        self.listed: set[str] = set()  # what the project's list of excluded nodes said last
        self.strikes: Counter[str] = Counter()
        self.checks: Counter[Path] = Counter()  # by a preflight's folder: how often it found nodes wanting

    def refresh(self) -> None:
        """Take the project's list as it is now.

        Raises:
            UserError: if it cannot be read.
        """
        now = set(excluded_nodes(self.root))
        self.failed -= self.listed - now
        self.failed |= now
        self.listed = now

    def check(self, job: Any, partition: str | None) -> None:
        """Raise UserError if the project's list leaves a job fewer nodes than it needs."""
        wanted = int(job.resources.get("nodes") or 1)
        nodes = nodes_of(partition) if self.listed else []
        left = [node for node in nodes if node not in self.listed]
        if nodes and len(left) < wanted:
            raise UserError(
                f"{job.rule.name} takes {wanted} nodes, and {len(left)} are left",
                key="excluded nodes", value=", ".join(sorted(self.listed & set(nodes))),
                remedy="smolmake nodes says why each is left out; once they are repaired: smolmake nodes --clear all",
            )  # fmt: skip

    def exclude(self, job: Any, folder: Path, partition: str | None) -> bool:
        """Exclude the nodes that a preflight named as failing; gives whether it is worth another try without them.

        All nodes of several say nothing about a node: then the network, or what is wanted, is at fault.
        """
        failing, nodes = failing_nodes(folder), int(job.resources.get("nodes") or 1)
        self.checks[folder] += 1
        if not failing or len(failing) == nodes > 1 or self.checks[folder] > CHECKS:
            return False
        exclude_nodes(self.root, failing)
        for node, reason in failing.items():
            self.logger.error(
                f"The preflight found node {node} wanting ({reason}): it gets no more jobs of this project. Have it"
                f" looked at, then: smolmake nodes --clear {node}"
            )
        try:
            self.refresh()
            self.check(job, partition)
        except UserError as error:
            self.logger.error(str(error))
            return False
        return True

    def blame(self, nodes: str, logs: list[Path]) -> None:
        """Count a failed job against its node, and exclude a node that has had two."""
        if out_of_storage(logs):
            return
        names = node_names(nodes)
        guilty = set(sick_nodes(names)) or failed_nodes(logs) or (set(names) if len(names) == 1 else set())
        for node in guilty:
            self.strikes[node] += 1
            if self.strikes[node] >= STRIKES and node not in self.failed:
                self.failed.add(node)
                self.logger.error(
                    f"Jobs failed twice on node {node}: it gets no more jobs of this run. Have it looked at."
                )
