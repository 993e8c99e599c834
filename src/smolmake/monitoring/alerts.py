"""Short messages to a webhook, such as a chat's. They never end or slow a run.

The address is a secret: it is read from an environment variable, whose name alone the recipe has, and is never told.
A message is JSON with `text`, which Slack and its likes show, and the fields that the text was made from. It is sent
by a thread, once, with a short limit; one that does not arrive is told on the log and left.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from smolmake.errors import UserError

LIMIT = 5.0  # seconds that a message may take
SCHEMES = ("https://", "http://")


class AlertSender:
    """Posts messages of one run or job. `settings` is the recipe's runtime.alerts; without it nothing is sent."""

    def __init__(self, settings: dict[str, Any] | None, about: dict[str, Any], active: bool = True) -> None:
        self.about, self.last = about, dict[str, float]()
        self.variable = settings["webhook_env"] if settings and active else ""
        self.pause = settings["pause"] if settings else 0.0
        self.under_way: list[threading.Thread] = []
        self.lock = threading.Lock()

    def post(self, kind: str, what: str, **fields: Any) -> None:
        """Send a message, unless one of its kind was sent within the last `pause` seconds."""
        address = os.environ.get(self.variable, "") if self.variable else ""
        if not address.startswith(SCHEMES):
            return
        with self.lock:
            now = time.monotonic()
            if now - self.last.get(kind, -float("inf")) < self.pause:
                return
            self.last[kind] = now
        where = " ".join(str(value) for value in self.about.values())
        message = {"text": f"{where}: {what}", "kind": kind, "what": what, "host": socket.gethostname()}
        body = json.dumps(message | self.about | fields).encode()
        thread = threading.Thread(target=_send, args=(address, body, self.variable), daemon=True, name="alert")
        thread.start()
        with self.lock:
            self.under_way = [other for other in self.under_way if other.is_alive()] + [thread]

    def close(self) -> None:
        """Before the process ends: wait for what is under way, LIMIT seconds at most."""
        end = time.monotonic() + LIMIT
        for thread in self.under_way:
            thread.join(max(end - time.monotonic(), 0.0))


def _send(address: str, body: bytes, variable: str) -> None:
    try:
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310 (http alone)
        with urllib.request.urlopen(request, timeout=LIMIT):  # noqa: S310
            pass
    except urllib.error.HTTPError as error:
        print(f"an alert was not taken by the webhook of {variable}: {error.code}", file=sys.stderr, flush=True)
    except Exception as error:  # its words may hold the address
        print(f"an alert did not reach the webhook of {variable}: {type(error).__name__}", file=sys.stderr, flush=True)


def check_webhook(settings: dict[str, Any] | None) -> None:
    """Raise UserError if the recipe wants alerts and the variable that it names holds no address."""
    if settings is not None and not os.environ.get(settings["webhook_env"], "").startswith(SCHEMES):
        raise UserError(
            "the recipe wants alerts, and the environment has no address for them",
            key="runtime.alerts.webhook_env", value=settings["webhook_env"],
            remedy="export the variable with the webhook's address (https://...), or leave `runtime.alerts` out",
        )  # fmt: skip
