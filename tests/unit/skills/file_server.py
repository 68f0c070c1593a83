"""A web server on the loopback interface that serves one file, in whatever way a test wants it."""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

CONTENT = bytes(range(256)) * 4096
"""1 MiB."""
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class FileServer:
    """Serves `CONTENT` at ``/file``, with ranges and an ETag, unless *answer* does something else first.

    *answer* gets the handler, and says whether it has answered. *asked* are the headers of all requests.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.content = CONTENT
        self.etag = '"v1"'
        self.last_modified = ""
        self.has_ranges = True
        self.asked: list[dict[str, str]] = []
        self.answer: Callable[[Handler], bool] = lambda _: False
        self.gate = threading.Event()
        self.is_sending = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"files": self}))
        self._server.daemon_threads = True
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def root(self) -> str:
        return f"{self._scheme}://localhost:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.root}/file"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    files: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self.close_connection = True
        self.files.asked.append({name.lower(): value for name, value in self.headers.items()})
        if not self.files.answer(self):
            self.serve()

    def serve(self, length: int | None = None) -> None:
        """Send the file, or the rest that was asked for; only *length* bytes of it where that is given."""
        begin, total = self.begin(), len(self.files.content)
        if begin >= total > 0:
            self.head(416, **{"Content-Range": f"bytes */{total}", "Content-Length": "0"})
            return
        extra = {"Content-Range": f"bytes {begin}-{total - 1}/{total}"} if begin else {}
        self.head(206 if begin else 200, **{"Content-Length": str(total - begin)}, **extra)
        rest = self.files.content[begin:]
        self.wfile.write(rest if length is None else rest[:length])

    def begin(self) -> int:
        """From where the client wants the file, if that still is the same file and this server can do it."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match is None or not self.files.has_ranges:
            return 0
        is_same = self.headers.get("If-Range") in (self.files.etag, self.files.last_modified)
        return int(match[1]) if is_same else 0

    def head(self, status: int, **headers: str) -> None:
        """Send the status and the headers, with what tells which file it is."""
        self.send_response(status)
        tags = {"ETag": self.files.etag, "Last-Modified": self.files.last_modified}
        for name, value in {**tags, **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""
