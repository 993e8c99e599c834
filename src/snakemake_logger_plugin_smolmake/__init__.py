"""Snakemake's output for smolmake: as always while jobs run, and the plan at the end of a dry run.

Named in the profiles (`logger: smolmake`). `--logger-smolmake-json FILE` writes the plan of a dry run as JSON.
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake.logging import ColorizingTextHandler
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase


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
        settings = self.common_settings
        if settings.dryrun:
            # Snakemake then ends a dry run once it knows the jobs: formatting thousands of them took half of its time.
            settings.quiet = {Quietness.RULES, Quietness.PROGRESS}
        stream = sys.stdout if getattr(settings, "stdout", False) else sys.stderr
        self.printer = ColorizingTextHandler(nocolor=settings.nocolor, stream=stream)
        self.failed = self.told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; of a dry run only warnings and errors, since the plan says the rest."""
        if self.common_settings.dryrun and record.levelno < logging.WARNING and not self.failed:
            return
        self.failed = self.failed or record.levelno >= logging.ERROR
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
        from smolmake.plan.graph import current_run
        from smolmake.plan.outlook import look_ahead
        from smolmake.plan.show import plan_text

        run = current_run()
        if run is None:
            return
        outlook = look_ahead(run.plan, run.outputs())
        print(plan_text(outlook), file=self.printer.stream, flush=True)
        if self.settings is not None and self.settings.json is not None:
            Path(self.settings.json).write_text(json.dumps(outlook.as_json(), indent=1, sort_keys=True) + "\n")
