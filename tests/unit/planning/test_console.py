"""What a run says on the terminal beside Snakemake's own words."""

import logging
import os
import signal
from pathlib import Path

from smolmake.errors import UserError
from smolmake.planning.history import last_saved
from smolmake.train.recovery.signals import StopSignal
from snakemake_logger_plugin_smolmake import Short, last_words, name_the_error


def formatted(message: str) -> str:
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, message, None, None)
    return Short(logging.Formatter("%(message)s")).format(record)


def reported(error: BaseException) -> str:
    """What is logged when an exception ends Snakemake, in its own words before."""
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, "in its own words", None, None)
    try:
        raise error
    except BaseException:
        assert name_the_error(record)
    return record.getMessage()


def test_a_mistake_stands_in_its_own_words_wherever_it_was_caught() -> None:
    mistake = UserError("a key is missing", key="name", remedy="add {it} in 100 %")
    wrapped, hidden = ValueError("wrapped"), ValueError("hidden")
    wrapped.__cause__, hidden.__context__ = mistake, mistake
    for error in (mistake, wrapped, hidden):
        assert reported(error) == "error: a key is missing\n  key     name\n  remedy  add {it} in 100 %"
    assert reported(ValueError("of a rule")) == "in its own words"


def test_ctrl_c_leaves_no_stack_trace() -> None:
    assert reported(KeyboardInterrupt()) == "interrupted"


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
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested and stop.reason == "SIGINT"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
