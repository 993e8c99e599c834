"""Snakemake's output for smolmake: a dry run ends with the plan, a run with its report or with what failed.

A mistake of the user is shown as `error:` with file, key, value and remedy, and jobs without their whole command lines.
A job that fails is posted to the recipe's webhook, if it has one.

Named in the profiles (`logger: smolmake`). `--logger-smolmake-json FILE` writes the plan of a dry run as JSON.
"""

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from snakemake.logging import ColorizingTextHandler, logger
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

from smolmake.errors import UserError

LONGEST_LINE = 300
KEPT = "--keep-incomplete mode is set"  # and right: profiles/local says why
GO_ON = "What is finished is kept, a training goes on from its last checkpoint: the same command goes on from here."


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    json: Optional[str] = field(
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
        self.failed = self.told = self.started = False
        self.failed_logs: list[Path] = []
        logger.addFilter(name_the_error)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; of a dry run only warnings and errors, since the plan says the rest."""
        if self.common_settings.dryrun and record.levelno < logging.WARNING and not self.failed:
            return
        if record.getMessage().startswith(KEPT):
            return
        self.failed = self.failed or record.levelno >= logging.ERROR
        if getattr(record, "event", None) == LogEvent.JOB_ERROR:
            from smolmake.planning.run_events import job_failed  # of the tree whose Snakefile was read by now

            logs = getattr(record, "log", [])
            job_failed(", ".join(getattr(record, "output", [])), ", ".join(logs))
            self.failed_logs += [Path(log) for log in logs]
        self.started = self.started or getattr(record, "event", None) == LogEvent.JOB_STARTED
        if self.printer.formatter is None and self.formatter is not None:
            self.printer.setFormatter(Short(self.formatter))
        self.printer.emit(record)

    def close(self) -> None:
        """End a dry run with the plan, a run with its report or with what failed. Snakemake calls this twice."""
        if not self.told and self.common_settings.dryrun and not self.failed:
            self._tell_plan()
        elif not self.told and self.failed and self.started:
            self._tell_failures()
        elif not self.told and not self.failed:
            self._tell_report()
        self.told = True
        logger.removeFilter(name_the_error)
        super().close()

    def _tell_failures(self) -> None:
        for log in dict.fromkeys(self.failed_logs):
            print(f"\n{log}\n{last_words(log)}", file=self.printer.stream)
        print(f"\n{GO_ON}", file=self.printer.stream, flush=True)

    def _tell_report(self) -> None:
        from smolmake.planning.workflow import current_run

        run = current_run()
        report = None if run is None else Path("results/latest") / run.workflow.recipe.name / "report.html"
        if report is not None and report.exists():
            print(f"The report: {report}", file=self.printer.stream, flush=True)

    def _tell_plan(self) -> None:
        from smolmake.planning.plan import make_plan
        from smolmake.planning.text import plan_text
        from smolmake.planning.workflow import current_run

        run = current_run()
        if run is None:
            return
        plan = make_plan(run.workflow, run.outputs(), run.gpus())
        print(plan_text(plan), file=self.printer.stream, flush=True)
        if self.settings is not None and self.settings.json is not None:
            Path(self.settings.json).write_text(json.dumps(plan.as_json(), indent=1, sort_keys=True) + "\n")


class Short(logging.Formatter):
    """Snakemake's own formats, with long lines cut (a job's command line holds its whole step)."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self.inner = inner

    def format(self, record: logging.LogRecord) -> str:
        lines = self.inner.format(record).split("\n")
        return "\n".join(line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " ..." for line in lines)


def name_the_error(record: logging.LogRecord) -> bool:
    """A filter of Snakemake's logger, which runs where the error is caught: what the user can fix, in its own words.

    Snakemake logs the class of an exception and a text with the place in its rules, from which the message could only
    be cut out again; the exception itself is at hand in the thread that logs it.
    """
    if record.levelno >= logging.ERROR:
        for error in causes(sys.exception()):
            if isinstance(error, UserError):
                record.msg, record.args = f"error: {error}", None
            elif isinstance(error, KeyboardInterrupt):
                record.msg, record.args = "interrupted", None
    return True


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that it was raised from or while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def last_words(log: Path) -> str:
    """The error that a job's log, or that of another of its ranks, ends with: from its last line that begins with
    `error:`; where there is none, the last ten lines of the job's."""
    try:
        texts = [log.read_text(errors="replace").rstrip()]
        texts += [
            rank.read_text(errors="replace").rstrip() for rank in sorted(log.parent.glob(f"{log.stem}.rank-*.log"))
        ]
    except OSError:
        return "it left no log"
    for text in texts:
        lines = text.rpartition("== job")[2].split("\n")  # of the last start
        begins = [number for number, line in enumerate(lines) if line.startswith("error:")]
        if begins:
            return "\n".join(lines[begins[-1] :])
    return "\n".join(texts[0].split("\n")[-10:])
