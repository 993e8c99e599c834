"""The processes of a job on the devices of one node: `python -m smolmake.cluster.torchrun NUMBER SCRIPT JOB`.

torchrun does the work. What it says itself when a process fails, a stack trace of its own and a table of exit codes,
gives way to what the process said: a mistake of the user is told once, however many processes met it, and of
anything else one line names the process, whose own trace stands above.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

STOPPED = 128 + signal.SIGTERM  # the state is saved, and the processes have said so
ENDED = (-signal.SIGTERM, STOPPED)


def ending(failures: Mapping[int, ProcessFailure], processes: int) -> tuple[str, int]:
    """What to say of processes that failed, by rank, and the exit code to end with."""
    messages: list[Any] = [failure.message for failure in failures.values()]
    told = [message["message"] for message in messages if isinstance(message, dict)]
    if told:
        return str(told[0]), 1
    # torchrun ends the others by SIGTERM and counts them in.
    rank, first = min(failures.items(), key=lambda item: (item[1].exitcode in ENDED, item[1].timestamp, item[0]))
    code = first.exitcode if first.exitcode >= 0 else 128 - first.exitcode
    if code == STOPPED:
        return "", code
    how = f"ended with exit code {code}" if first.exitcode >= 0 else f"was ended by {first.signal_name()}"
    return f"error: process {rank} of {processes} {how}", code


def main() -> None:
    number, *command = sys.argv[1:]
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed."):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        arguments = run.parse_args(["--standalone", "--nproc-per-node", number, *command])  # type: ignore[no-untyped-call]
        run.run(arguments)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        said, code = ending(error.failures, int(number))
    except SignalException as error:  # torchrun has passed it on and waited
        said, code = "", 128 + error.sigval
    else:
        return
    print(said, end="\n" if said else "", file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
