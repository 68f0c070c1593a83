"""Connections of `http.client` to one service, kept for as long as they can serve again."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pibot_mesh.agent.proxies import Proxy, proxy_for
from pibot_mesh.agent.transport import TransportError

_IDLE_S: Final = 30.0
"""Seconds for which a connection is kept: routers forget idle ones without a word."""
_MAX_IDLE: Final = 4
_BUFFER: Final = 64 * 1024
_FINISHING_S: Final = 0.02
"""Seconds that a request waits for a connection whose body is about to end: a new one costs more."""


class Connection:
    """One connection to the service, or to a proxy on the way to it."""

    def __init__(self, client: http.client.HTTPConnection, prefix: str = "", headers: Mapping[str, str] = {}) -> None:
        self.http = client
        self.headers = headers
        """What the proxy must see, besides the request's own."""
        self.idle_since_s = 0.0
        self._prefix = prefix

    def target(self, path: str) -> str:
        """What stands behind POST: proxies of plain HTTP want the whole address."""
        return self._prefix + path

    def is_good(self) -> bool:
        """Whether it can serve: it is not old, and the service has neither closed it nor said anything unasked."""
        sock = self.http.sock
        if sock is None or time.monotonic() - self.idle_since_s > _IDLE_S:
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)


class Connections:
    """Opens connections, and keeps those that can serve again. Used by the threads."""

    def __init__(self, base_url: str, connect_s: float) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None, "providers.base_url_of has looked"
        self._scheme = parts.scheme
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._connect_s = connect_s
        self._tls: ssl.SSLContext | None = None
        self._idle: list[Connection] = []
        self._changed = threading.Condition(threading.Lock())
        self._finishing = 0
        self._is_closed = False

    def take(self) -> Connection | None:
        """A kept connection that is still good, if there is one. Raises TransportError where all was closed."""
        with self._changed:
            if self._is_closed:
                raise TransportError("setup", "the model client is closed")
            if not self._idle and self._finishing:
                self._changed.wait(_FINISHING_S)
            while self._idle:
                connection = self._idle.pop()
                if connection.is_good():
                    return connection
                connection.http.close()
        return None

    def give(self, connection: Connection, *, is_good: bool) -> None:
        """Keep *connection* for the next request where it *is_good*, else close it."""
        connection.idle_since_s = time.monotonic()
        with self._changed:
            if is_good and len(self._idle) < _MAX_IDLE and not self._is_closed:
                self._idle.append(connection)
                self._changed.notify()
                return
        connection.http.close()

    def expect(self, change: int) -> None:
        """Count exchanges (1 or -1) whose connection will be free in a moment: a request does well to wait for it."""
        with self._changed:
            self._finishing += change
            self._changed.notify_all()

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on."""
        with self._changed:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.http.close()

    def open(self) -> Connection:
        """A new connection. Raises TransportError."""
        proxy = proxy_for(self._scheme, self._host, self._port)
        connection = self._through(proxy) if proxy is not None else Connection(self._client(self._host, self._port))
        at = f"{self._host}:{self._port}" if proxy is None else f"{self._host}:{self._port} through the proxy {proxy}"
        try:
            connection.http.connect()
        except OSError as error:
            connection.http.close()
            raise _connect_error(error, at, self._connect_s) from None
        connection.http.sock.settimeout(None)
        # The system would let its own buffer grow to megabytes while nobody reads.
        connection.http.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        return connection

    def _through(self, proxy: Proxy) -> Connection:
        headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
        client = self._client(proxy.host, proxy.port)
        if self._scheme == "https":
            client.set_tunnel(self._host, self._port, headers)
            return Connection(client)
        host = f"[{self._host}]" if ":" in self._host else self._host
        return Connection(client, f"http://{host}:{self._port}", headers)

    def _client(self, host: str, port: int) -> http.client.HTTPConnection:
        if self._scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._connect_s)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=self._connect_s, context=self._tls)


def _connect_error(error: OSError, at: str, connect_s: float) -> TransportError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransportError("setup", f"the certificate of {at} is not to be trusted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return TransportError("setup", f"{at} does not speak TLS as it should ({error.reason}): is it http://?")
    if isinstance(error, socket.gaierror):
        return TransportError("connect", f"the name of {at} is not known (is the network up?): {error.strerror}")
    if isinstance(error, TimeoutError):
        return TransportError("connect", f"no connection to {at} within {connect_s:g} s")
    if isinstance(error, ConnectionRefusedError):
        return TransportError("connect", f"nothing listens at {at}")
    is_refused = "Tunnel connection failed: 4" in str(error)
    return TransportError("setup" if is_refused else "connect", f"no connection to {at}: {error}")
