"""segment.py with a pause after every step, so that a test on a busy machine can act before the last one."""

import runpy
import time
from pathlib import Path
from typing import Any

from smolmake.monitoring.run_log import RunLog

PAUSE = 0.1  # seconds

write_step = RunLog.step


def write_and_wait(self: RunLog, *arguments: Any) -> None:
    write_step(self, *arguments)
    time.sleep(PAUSE)


RunLog.step = write_and_wait  # type: ignore[method-assign]
runpy.run_path(str(Path(__file__).parents[2] / "workflow/scripts/segment.py"), run_name="__main__")
