"""Snakemake's output for smolmake: as always while jobs run, and the plan at the end of a dry run.

Named in the profiles (`logger: smolmake`). In a dry run Snakemake tells each job it would run; this handler collects
them instead of printing them, and ends with reasons and cost. `--logger-smolmake-json FILE` writes the plan as JSON.
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

SILENT_IN_A_DRY_RUN = (LogEvent.JOB_INFO, LogEvent.RUN_INFO, LogEvent.SHELLCMD, LogEvent.RESOURCES_INFO)


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    json: Optional[str] = field(  # noqa: UP045 (Snakemake makes an option of it)
        default=None, metadata={"help": "Write the plan of a dry run to this file as JSON.", "env_var": False}
    )


class LogHandler(LogHandlerBase):
    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        stream = sys.stdout if getattr(self.common_settings, "stdout", False) else sys.stderr
        self.printer = ColorizingTextHandler(nocolor=self.common_settings.nocolor, stream=stream)
        self.planned: list[str] = []
        self.failed = self.told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, or keep the job of a dry run for the plan."""
        event = getattr(record, "event", None)
        if self.common_settings.dryrun:
            if event == LogEvent.JOB_INFO:
                self.planned += [str(path) for path in record.__dict__.get("output") or []]
            self.failed = self.failed or record.levelno >= logging.ERROR
            if event in SILENT_IN_A_DRY_RUN or (record.levelno < logging.WARNING and not self.failed):
                return
        if self.printer.formatter is None and self.formatter is not None:
            self.printer.setFormatter(self.formatter)
        self.printer.emit(record)

    def close(self) -> None:
        """End a dry run with the plan. Snakemake calls this twice."""
        if self.common_settings.dryrun and not self.failed and not self.told:
            self.told = True
            self._tell()
        super().close()

    def _tell(self) -> None:
        from smolmake.plan.graph import current_plan
        from smolmake.plan.outlook import look_ahead
        from smolmake.plan.show import plan_text

        plan = current_plan()
        if plan is None:
            return
        outlook = look_ahead(plan, self.planned)
        print(plan_text(outlook), file=self.printer.stream, flush=True)
        if self.settings is not None and self.settings.json is not None:
            Path(self.settings.json).write_text(json.dumps(outlook.as_json(), indent=1, sort_keys=True) + "\n")
