"""A model hub on loopback: as much of its protocol as ``huggingface_hub`` uses to fetch one public file."""

from __future__ import annotations

import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves files as ``/REPOSITORY/resolve/REVISION/NAME``.

    Attributes:
        files: content by ``REPOSITORY/NAME``.
        requests: method and path of every request, in order.
        break_after: bytes after which the next GET is cut off; None for never.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.break_after: int | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub._answer(self, with_body=False)

            def do_GET(self) -> None:
                hub._answer(self, with_body=True)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def gets(self) -> int:
        """How many downloads were asked for."""
        return sum(method == "GET" for method, _ in self.requests)

    def _answer(self, handler: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = handler.path.split("?")[0]
        self.requests.append((handler.command, path))
        repository, _, rest = path.strip("/").partition("/resolve/")
        content = self.files.get(f"{repository}/{rest.partition('/')[2]}")
        if content is None:
            handler.send_response(404)
            handler.send_header("X-Error-Code", "EntryNotFound")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        body = content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        handler.send_header("X-Repo-Commit", _COMMIT)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Accept-Ranges", "bytes")
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.end_headers()
        if not with_body:
            return
        if self.break_after is not None:
            body, self.break_after = body[: self.break_after], None
            handler.close_connection = True
        handler.wfile.write(body)
