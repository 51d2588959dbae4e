"""Channels on loopback that alerts are sent to: a webhook that behaves as told, and a mail server."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

WAIT_S = 20.0


class _Channel:
    """Keeps what arrives, and lets a test wait for it."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self.messages: list[Any] = []

    def _keep(self, message: Any) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait_for(self, is_there: Callable[[list[Any]], bool]) -> None:
        """Wait until what has arrived fulfils a condition; fails the test if it does not."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: is_there(self.messages), WAIT_S), self.messages

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer no more."""


class Webhook(_Channel):
    """An HTTP server that takes apprise's json:// messages.

    Args:
        answers: status codes of the first requests; 200 after them. 3xx sends the client on to itself.
        hangs: keep every request waiting until ``close``.

    Attributes:
        messages: the JSON bodies that are answered with 200, before they are.
        requests: how many requests came.
    """

    def __init__(self, *answers: int, hangs: bool = False) -> None:
        super().__init__()
        self.requests = 0
        self._answers = list(answers)
        self._hangs = hangs
        self._closing = threading.Event()
        channel = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status = channel._answer()
                if status is None:
                    return
                if status == 200:
                    channel._keep(json.loads(body or "{}"))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """As apprise reads it; the path is a secret."""
        return f"json://127.0.0.1:{self._server.server_port}/hook-s3cr3t"

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]

    @property
    def text(self) -> str:
        """Everything that has arrived."""
        return "\n\n".join(f"{message['title']}\n{message['message']}" for message in self.messages)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self) -> int | None:
        with self._arrived:
            self.requests += 1
            self._arrived.notify_all()
            answer = self._answers.pop(0) if self._answers else 200
        if self._hangs:
            self._closing.wait()
            return None
        return answer


def dead_url() -> str:
    """A webhook's URL on a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"json://127.0.0.1:{probe.getsockname()[1]}/hook-s3cr3t"


class MailServer(_Channel):
    """An SMTP server that takes every mail; ``messages`` are the raw mails."""

    def __init__(self) -> None:
        super().__init__()
        channel = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self._say(220)
                while line := self.rfile.readline():
                    command = line.split()[0].upper()
                    if command == b"DATA":
                        self._say(354)
                        mail = bytearray()
                        while (part := self.rfile.readline()) != b".\r\n":
                            mail += part
                        channel._keep(bytes(mail))
                    self._say(221 if command == b"QUIT" else 250)

            def _say(self, code: int) -> None:
                self.wfile.write(b"%d mail.test\r\n" % code)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """As apprise reads it."""
        port = self._server.server_address[1]
        return f"mailto://127.0.0.1:{port}/?from=batcher@example.org&to=ops@example.org&mode=insecure"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
