"""HTTP with the standard library alone: `http.client`, each request in a daemon thread of its own.

The thread reads, and hands bytes to the event loop through a bounded pipe; the loop never blocks and never waits for
the thread. Ending a request early shuts its socket down, which wakes the thread wherever it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import weakref
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pibot_mesh.agent.http_connections import Connection, Connections
from pibot_mesh.agent.pipe import Pipe
from pibot_mesh.agent.transport import Cause, TransportError
from pibot_mesh.protocol.codec import JSON

_PIECE: Final = 64 * 1024
_FINISH_S: Final = 0.25
"""Seconds that a body may stay open behind what mattered of it."""
_REST: Final = 64 * 1024
"""Bytes that are worth reading behind what mattered."""


class StandardTransport:
    """Sends requests to the service at *base_url*; *connect_s* limits each step of connecting."""

    name: Final = "standard"

    def __init__(self, base_url: str, headers: Mapping[str, str], *, connect_s: float = 10.0) -> None:
        self._base_url = base_url
        self._connections = Connections(base_url, connect_s)
        self._path = urlsplit(base_url).path
        self._headers = {
            "Accept": "text/event-stream, application/json",
            "Content-Type": "application/json",
            "User-Agent": "pibot-mesh",
            **headers,
        }
        self._open: weakref.WeakSet[_Exchange] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r})"

    async def open(self) -> None:
        """See `Transport.open`."""

    async def post(self, path: str, body: Mapping[str, JSON]) -> _Exchange:
        """See `Transport.post`."""
        payload = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        exchange = _Exchange(self._connections, asyncio.get_running_loop())
        self._open.add(exchange)
        try:
            await exchange.start(self._path + path, self._headers, payload)
        except BaseException:
            await exchange.aclose()
            raise
        return exchange

    async def aclose(self) -> None:
        """End everything that is open."""
        for exchange in list(self._open):
            exchange.abort()
        self._connections.close()


class _Exchange:
    """One request and its reply. What the thread runs is marked so; everything else belongs to the loop."""

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connections = connections
        self._loop = loop
        self._pipe = Pipe(loop)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        """The socket that the thread may be waiting on."""
        self._is_aborted = False
        self._is_finishing = False
        self._is_ended = False

    async def start(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send the request; returns when status and headers are there."""
        work = (path, headers, body)
        threading.Thread(target=self._run, args=work, name="pibot-model", daemon=True).start()
        await self._pipe.wait()
        if not self.status:
            await self._pipe.read()

    async def read(self) -> bytes:
        """See `Reply.read`."""
        return await self._pipe.read()

    def finish(self) -> None:
        """See `Reply.finish`."""
        with self._lock:
            if self._is_ended or self._is_finishing:
                return
            self._is_finishing = True
            self._connections.expect(1)
        self._loop.call_later(_FINISH_S, self.abort)

    async def aclose(self) -> None:
        """See `Reply.aclose`. What is left of a finished body is read by the thread, for a short time."""
        self._pipe.close()
        if not self._is_finishing:
            self.abort()

    def abort(self) -> None:
        """End the exchange: the thread wakes from whatever it waits for, and closes the connection."""
        self._pipe.close()
        with self._lock:
            self._is_aborted = True
            waiting_on = self._socket
        if waiting_on is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which takes the TLS state from under the thread.
                socket.socket.shutdown(waiting_on, socket.SHUT_RDWR)

    # --- In the thread ---

    def _run(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        error: TransportError | None = None
        try:
            self._talk(path, headers, body)
        except TransportError as caught:
            error = caught
        except http.client.IncompleteRead:
            error = TransportError("cut", "the connection ended in the middle of the answer")
        except http.client.HTTPException as caught:
            what = "closed the connection without an answer" if isinstance(caught, ConnectionError) else "broke HTTP"
            cause: Cause = "cut" if isinstance(caught, ConnectionError) else "protocol"
            error = TransportError(cause, f"the service {what} ({type(caught).__name__})")
        except (OSError, ValueError) as caught:  # TLS gives a ValueError for a connection that is closed meanwhile
            error = TransportError("cut", f"the connection broke: {caught}")
        with self._lock:
            self._is_ended = True
            if self._is_finishing:
                self._connections.expect(-1)
        self._pipe.end(error)

    def _talk(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        connection, response = self._begin(path, headers, body)
        is_whole = False
        try:
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            self.status = response.status
            self._pipe.signal()
            is_whole = self._pass_on(response)
        finally:
            self._let_go(connection, is_good=is_whole and not response.will_close)

    def _begin(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[Connection, http.client.HTTPResponse]:
        """Send the request and read the head of the reply; once more where a kept connection was closed meanwhile."""
        connection = self._connections.take()
        if connection is not None:
            with contextlib.suppress(http.client.RemoteDisconnected, ConnectionError):
                return connection, self._ask(connection, path, headers, body)
        connection = self._connections.open()
        return connection, self._ask(connection, path, headers, body)

    def _ask(
        self, connection: Connection, path: str, headers: Mapping[str, str], body: bytes
    ) -> http.client.HTTPResponse:
        try:
            with self._lock:
                if self._is_aborted:
                    raise TransportError("cut", "the request was ended")
                self._socket = connection.http.sock
            with contextlib.suppress(BrokenPipeError):  # a refusal may be there before the request was read
                connection.http.request("POST", connection.target(path), body, {**headers, **connection.headers})
            return connection.http.getresponse()
        except BaseException:
            self._let_go(connection, is_good=False)
            raise

    def _pass_on(self, response: http.client.HTTPResponse) -> bool:
        """Hand the body to the loop. Returns whether it was whole, so that its connection can serve again."""
        left = _REST
        while piece := response.read1(_PIECE):
            if not self._pipe.put(piece):
                left -= len(piece)
                if left < 0:
                    return False
        if response.length:
            raise TransportError("cut", "the connection ended in the middle of the answer")
        response.close()  # it does not notice itself that a body of known length is at its end
        return True

    def _let_go(self, connection: Connection, *, is_good: bool) -> None:
        """Leave the connection to the next request, or close it."""
        with self._lock:
            self._socket = None
            is_good = is_good and not self._is_aborted
        self._connections.give(connection, is_good=is_good)
