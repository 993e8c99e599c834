"""The end of a group of processes."""

from __future__ import annotations

import time

import torch.distributed as dist

LET_GO = 0.3  # seconds


def leave_processes() -> None:
    """Leave torch.distributed's default group, at the end of what its processes do together.

    Gloo's thread needs Python's lock to let go of the last message. The group's end waits for that thread, and keeps
    the lock if a DDP model is the last to know the group: both then wait for ever. Asleep, this thread has no lock.
    """
    time.sleep(LET_GO)
    dist.destroy_process_group()
