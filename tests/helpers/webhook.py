"""A webhook of the tests: a real web server that keeps what it gets."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.timeouts import WAIT

VARIABLE, SECRET = "SMOLMAKE_WEBHOOK", "/services/T0-secret"


class Hook(ThreadingHTTPServer):
    """A webhook that answers with `status` after `delay` seconds and keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.got: list[dict[str, Any]] = []
        self.status, self.released = 200, threading.Event()
        self.released.set()
        self.address = f"http://127.0.0.1:{self.server_address[1]}{SECRET}"


class Answer(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json" and self.path == SECRET
        self.server.got.append(json.loads(body))
        self.server.released.wait(WAIT)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Hook]:
    server = Hook()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
