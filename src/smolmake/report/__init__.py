"""The report: one HTML page about a run, every figure of which names the files it is computed from."""

from smolmake.report.inputs import GraphData, GraphNode, ReportArtefact
from smolmake.report.page import write_report

__all__ = ["GraphData", "GraphNode", "ReportArtefact", "write_report"]
