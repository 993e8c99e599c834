"""Starts the post-training scripts in forked processes: importing TRL takes longer than a tiny training.

Usage: python subprocess_runner.py; then a line of JSON, {"script", "job", "processes"}, for each run. Each process is
the script as torchrun would start it. Answers with the process ids, then with the exit codes; both are lines of JSON.
"""

import importlib.util
import json
import os
import runpy
import socket
import sys

import datasets  # noqa: F401
import torch
import trl.trainer.dpo_trainer
import trl.trainer.sft_trainer  # noqa: F401

import smolmake.posttrain.hf_trainer  # noqa: F401


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(script: str, job: str, rank: int, processes: int, port: int) -> None:
    """Be one process of the group, and end."""
    if processes > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
    os.dup2(2, 1)  # the answers are alone on the standard output
    sys.argv = [script, job]
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if importlib.util.find_spec("deepspeed"):
        os.environ["DS_ACCELERATOR"] = "cpu"
        import deepspeed  # noqa: F401
    for line in sys.stdin:
        asked = json.loads(line)
        port, children = free_port(), []
        for rank in range(asked["processes"]):
            child = os.fork()
            if child == 0:
                run(asked["script"], asked["job"], rank, asked["processes"], port)
            children.append(child)
        print(json.dumps(children), flush=True)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)
