"""What a run says on the terminal beside Snakemake's own words."""

import logging
import os
import signal
from pathlib import Path

from smolmake.planning.run_events import last_saved
from smolmake.train.recovery.signals import StopSignal
from snakemake_logger_plugin_smolmake import Short, last_words


def formatted(message: str) -> str:
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, message, None, None)
    return Short(logging.Formatter("%(message)s")).format(record)


def test_a_mistake_stands_without_the_place_in_the_rules() -> None:
    mistake = "a key is missing\n  key     name\n  remedy  add it"
    place = 'WorkflowError in file "/somewhere/workflow/rules/common.smk", line 25:\n'
    assert formatted(f'{place}{mistake}\n  File "/somewhere/common.smk", line 25, in <module>') == f"error: {mistake}"
    assert formatted(place + mistake) == f"error: {mistake}"
    assert formatted("WorkflowError:\nAt least one job did not complete.").startswith("WorkflowError:")


def test_ctrl_c_leaves_no_stack_trace() -> None:
    assert formatted("Traceback (most recent call last):\n\n  File x\n\nKeyboardInterrupt\n") == "interrupted"


def test_long_lines_are_cut() -> None:
    first, second = formatted("python x.py " + "a" * 5000 + "\nshort").split("\n")
    assert len(first) < 400 and first.endswith(" ...") and second == "short"


def test_the_last_error_of_a_log_is_what_counts(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("begun\nerror: first\nerror: second\n  remedy  x\n")
    assert last_words(log) == "error: second\n  remedy  x"
    log.write_text("\n".join(map(str, range(30))))
    assert last_words(log).split("\n") == [str(number) for number in range(20, 30)]
    assert last_words(tmp_path / "none.log") == "it left no log"
    (tmp_path / "a.rank-0001.log").write_text("== job 6\nerror: of an earlier start\n== job 7\nbegun\n")
    (tmp_path / "a.rank-0002.log").write_text("== job 7\nerror: of another rank\n")
    assert last_words(log) == "error: of another rank"
    log.write_text("error: of the first\nsrun: error: node07: task 1: Terminated\n")
    assert last_words(log) == "error: of the first\nsrun: error: node07: task 1: Terminated"


def test_the_newest_recovery_checkpoint_is_named(tmp_path: Path) -> None:
    assert last_saved(tmp_path / "recovery") is None
    for name in ("step-000000040", "step-000000120.1", ".step-000000300.tmp"):
        (tmp_path / "recovery" / name).mkdir(parents=True)
    assert last_saved(tmp_path / "recovery") == 120
    (tmp_path / "trl" / "checkpoint-7").mkdir(parents=True)
    assert last_saved(tmp_path / "trl") == 7


def test_one_interrupt_asks_to_stop_and_a_second_one_interrupts() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop = StopSignal()
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked and stop.reason == "SIGINT"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
