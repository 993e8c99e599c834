"""What a model wrote can neither do harm nor say that it is right; attacked for real."""

import json
import os
import time
from pathlib import Path

import psutil
import pytest
from helpers.models import write_tokenizer
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from smolmake.errors import UserError
from smolmake.evaluate.code_scores import CodeScores, mean_pass_at
from smolmake.evaluate.harness import run_harness
from smolmake.evaluate.harness_tasks import Tasks
from smolmake.evaluate.sandbox import Limits, Sandbox, find_sandbox
from smolmake.recipe.evaluation import HarnessTasks

TIGHT = Limits(seconds=8, cpu_seconds=1, memory=2**29, disk=2**20, processes=8)
RIGHT = "def double(x):\n    return 2 * x\n"
TESTS = "assert double(4) == 8\n"
MARK = "20071.25"  # seconds that a process sleeps, by which it is found


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """The sandbox; where there is none the tests are skipped with the reason, but under .ci/run, which installs it."""
    try:
        return find_sandbox()
    except UserError as error:
        if os.environ.get("REQUIRE_SANDBOX"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("program", "tests", "verdict"),
    [
        (RIGHT, TESTS, "passed"),
        (RIGHT, "import numpy as np\nassert (np.array([double(2)]) == 4).all()", "passed"),
        (RIGHT.replace("2", "3"), TESTS, "failed"),
        ("def double(x:", TESTS, "failed"),
        ("import sys\n" + RIGHT + "print('long ' * 10**6)", TESTS, "passed"),
        (RIGHT, TESTS + f"# {'long ' * 10**6}", "passed"),
        (RIGHT + "input()", TESTS, "failed"),
    ],
)
def test_a_program_is_right_if_it_passes_its_tests(sandbox: Sandbox, program: str, tests: str, verdict: str) -> None:
    assert sandbox.judge(program, tests) == verdict


FORGED = {
    "prints": "print('passed')\nimport sys\nsys.exit(0)",
    "exits": "import os\nprint('\"passed\"', flush=True)\nos._exit(0)",
    "writes to every descriptor": (
        'import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b\'"loaded"\\n"passed"\\n\')\n'
        "    except OSError:\n        pass\nos._exit(0)"
    ),
    "exits while it is tested": "import os\ndef double(x):\n    os._exit(0)",
    "raises SystemExit": "def double(x):\n    raise SystemExit(0)",
    "signals": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(1, 9)\nos._exit(0)",
    "kills all": "import os\nos.kill(-1, 9)\nos._exit(0)",
    "takes the token from the runner's names": (
        "import sys\ndef double(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        if 'token' in frame.f_globals:\n            frame.f_globals['say'](frame.f_globals['token'])\n"
        "        frame = frame.f_back\n    import os\n    os._exit(0)"
    ),
    "changes exec": "import builtins\nbuiltins.exec = lambda *_: None",
    "reads the token itself": (
        "import json, os, sys\nframe = sys._getframe(1)\nspace = frame.f_globals\nspace['say']('loaded')\n"
        "token, _ = json.loads(space['told'].readline())\nspace['say'](token)\nos._exit(0)"
    ),
}


@pytest.mark.parametrize("attack", FORGED)
def test_no_program_is_right_because_it_says_so(sandbox: Sandbox, attack: str) -> None:
    assert sandbox.judge(FORGED[attack], TESTS, TIGHT) in ("failed", "died", "forged")


def test_a_program_that_sends_the_token_itself_is_found_out(sandbox: Sandbox) -> None:
    for attack in ("takes the token from the runner's names", "changes exec", "reads the token itself"):
        assert sandbox.judge(FORGED[attack], TESTS) == "forged", attack


ENDLESS = {
    "a loop": ("while True: pass", {"out of time"}),
    "sleep": ("import time\ntime.sleep(1000)", {"out of time"}),
    "endless output": ("import os\nwhile True: os.write(1, b'x' * 65536)", {"out of time"}),
    "output on the channel": (
        "import os, sys\nfd = int(sys.argv[1])\nwhile True: os.write(fd, b'x' * 65536)", {"too much output"}
    ),
    "a fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"out of time"}),
    "memory of one": ("x = bytearray(2**34)", {"failed"}),
    "memory of many": (
        "import os, time\nfor _ in range(5):\n    if not os.fork(): break\n"
        "x = bytearray(b'x') * (300 * 2**20)\ntime.sleep(100)", {"out of memory"},
    ),
    "a disk that fills": ("f = open('/tmp/f', 'wb')\nwhile True: f.write(b'x' * 65536)", {"failed"}),
    "many files": (
        "n = 0\nwhile True:\n    n += 1\n    with open(f'/tmp/{n}', 'wb') as f: f.write(b'x' * 4096)", {"failed"},
    ),
    "shared memory": ("open('/dev/shm/f', 'wb').write(b'x')", {"failed"}),
    "threads": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=[99]).start()",
                {"failed"}),
}  # fmt: skip


@pytest.mark.parametrize("attack", ENDLESS)
def test_what_has_no_end_ends(sandbox: Sandbox, attack: str) -> None:
    program, verdicts = ENDLESS[attack]
    limits = Limits(seconds=2, cpu_seconds=1, memory=2**29, disk=2**20, processes=8)
    begun = time.monotonic()
    assert sandbox.judge(program, "pass", limits) in verdicts
    assert time.monotonic() - begun < 8


def test_no_file_of_the_machine_is_seen_or_changed(sandbox: Sandbox, tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("kept")
    wipe = f"import os, shutil\nshutil.rmtree('/', ignore_errors=True)\nassert not os.path.exists({str(kept)!r})"
    seen = "assert not {'etc', 'home', 'work', 'var'} & set(os.listdir('/'))\nassert os.getuid() and os.getgid()"
    places = "for place in ('/usr/x', '/x', '/dev/x', '/packages/x'):\n"
    written = f"{places}    try: open(place, 'w')\n    except OSError: continue\n    assert False, place"
    secret = "assert set(os.environ) <= {*'PATH LANG HOME PWD PYTHONHASHSEED OPENBLAS_NUM_THREADS LC_CTYPE'.split()}"
    assert sandbox.judge(wipe, "\n".join([seen, written, secret])) == "passed"
    assert kept.read_text() == "kept" and Path("/usr/bin/env").exists()


def test_there_is_no_network_and_no_other_process(sandbox: Sandbox) -> None:
    program = (
        "import os, socket\nassert [name for _, name in socket.if_nameindex()] == ['lo']\n"
        "for place in (('1.1.1.1', 53), ('127.0.0.1', 22)):\n    try: socket.create_connection(place, 1)\n"
        "    except OSError: continue\n    assert False\n"
        "assert len([name for name in os.listdir('/proc') if name.isdigit()]) <= 3\n"
        "try: os.setuid(0)\nexcept OSError: pass\nassert os.getuid()"
    )
    assert sandbox.judge(program, "pass") == "passed"


def test_nothing_is_left_behind(sandbox: Sandbox) -> None:
    left = (
        "import os, time\nif not os.fork():\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        f"    os.execv('/usr/bin/sleep', ['sleep', '{MARK}'])\ntime.sleep(0.3)"
    )
    assert sandbox.judge(left, "pass") == "passed"
    end = time.monotonic() + 5
    while found := [each for each in psutil.process_iter(["cmdline"]) if MARK in (each.info["cmdline"] or ())]:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def test_a_broken_sandbox_is_an_error_and_no_wrong_answer(sandbox: Sandbox) -> None:
    with pytest.raises(UserError, match="not judged") as caught:
        Sandbox((*sandbox.command, "--no-such-option"), sandbox.inside, sandbox.outside).judge(RIGHT, TESTS)
    assert "no-such-option" in str(caught.value)


def test_where_there_is_no_sandbox_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no bubblewrap") as caught:
        find_sandbox.__wrapped__()
    assert "apt install bubblewrap" in caught.value.remedy
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    with pytest.raises(UserError, match="No permissions to create") as caught:
        find_sandbox.__wrapped__()
    assert "user.max_user_namespaces" in caught.value.remedy


HUMANEVAL = """
from lm_eval.tasks.humaneval.utils import build_predictions, pass_at_k
"""


def test_humaneval_s_own_scoring_goes_through_the_sandbox(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its functions as they are; a tiny model's answers stand behind programs that are whole without them."""
    write_tokenizer(tmp_path / "model", [RIGHT])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=1, num_key_value_heads=1)  # fmt: skip
    asked = {
        "task": "code", "dataset_path": "json", "test_split": "test", "output_type": "generate_until",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "code.jsonl")}}, "unsafe_code": True,
        "doc_to_text": "{{prompt}}", "doc_to_target": "{{test}}\ncheck({{entry_point}})",
        "generation_kwargs": {"until": ["."], "max_gen_toks": 4, "do_sample": False},
        "metric_list": [{"metric": "PASS", "aggregation": "mean", "higher_is_better": True, "k": [1]}],
        "filter_list": [{"name": "create_test", "filter": [{"function": "custom", "filter_fn": "BUILD"}]}],
    }  # fmt: skip
    text = json.dumps(asked).replace('"PASS"', "!function code.pass_at_k")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "code.yaml").write_text(text.replace('"BUILD"', "!function code.build_predictions"))
    (tmp_path / "tasks" / "code.py").write_text(HUMANEVAL)
    test = "def check(candidate):\n    assert candidate(4) == 8\n"
    rows = [{"prompt": program + "#", "test": test, "entry_point": "double"} for program in
            (RIGHT, RIGHT.replace("2", "3"), FORGED["prints"] + "\n")]  # fmt: skip
    (tmp_path / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = Tasks(include_path=str(tmp_path / "tasks"), include_defaults=False)
    (row,) = run_harness(LlamaForCausalLM(config).eval(), tokenizer, HarnessTasks(tasks=["code"]), tasks)
    assert (row["metric"], row["value"], row["items"]) == ("pass@1", pytest.approx(1 / 3), [1.0, 0.0, 0.0])
    assert "programs in the sandbox: 2 failed, 1 passed" in capsys.readouterr().err


def test_pass_at_k_is_the_published_estimate(sandbox: Sandbox) -> None:
    """Of 4 programs of which 1 is right, 2 hold the right one in half of all cases."""
    scores = CodeScores(sandbox)
    wrong = RIGHT.replace("2", "3")
    found, results = scores([TESTS, TESTS], [[wrong, RIGHT, wrong, wrong], [RIGHT] * 4], [1, 2, 8])
    assert found == {"pass@1": (1 / 4 + 1) / 2, "pass@2": (1 / 2 + 1) / 2}
    assert scores.verdicts == {"passed": 5, "failed": 3} and results[0][1][1]["passed"]
    assert mean_pass_at(3, [(5, 0), (5, 3)]) == 1 / 2
