"""A raw HTTP service on the loopback interface: a test says byte for byte what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

Talk: TypeAlias = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its first line, its headers (names in lower case) and its body."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Counted from 1."""


class Service:
    """Answers each request as *talk* does it; the connection stays open unless that closes it.

    *lets_go* is set once a client has closed its end of a connection.
    """

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.lets_go = asyncio.Event()
        self._talk = talk
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"localhost:{self._port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self._port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                asked = await _read(reader, number)
                self.asked.append(asked)
                await self._talk(asked, writer)
        self.lets_go.set()
        writer.close()


async def _read(reader: asyncio.StreamReader, number: int) -> Asked:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines if one)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(line, headers, body, number)


def reply(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole reply of known length."""
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a body whose length is not known."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a service on ``localhost`` needs, and the file that its clients must trust."""
    key, public = folder / "key.pem", folder / "public.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(public)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, key)
    return context, public
