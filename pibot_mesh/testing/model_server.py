"""A service on loopback that speaks as OpenAI-compatible ones do, plays a script, and misbehaves where it is told to.

As a program it is something to try `pibot chat` against: ``python -m pibot_mesh.testing.model_server --port 0``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, TypeAlias

from pibot_mesh.agent.messages import CallRequest
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.testing.answers import End, Framing, HttpAnswer, ServerStep, fail, say
from pibot_mesh.testing.scripted import Pause

_BYTES_OF_HEAD: Final = 64 * 1024
_ENDPOINT: Final = "/chat/completions"


@dataclass(slots=True, eq=False)
class SeenRequest:
    """What a client asked, and how far its answer got. *headers* have small letters; the key is among them."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: JSON
    """The decoded JSON, or None where it is none."""
    connection: int
    """Counts the connections from 1, so that a test sees which ones were used again."""
    sent: int = 0
    """Bytes of the answer that the system has taken; the client need not have read them."""
    was_left: bool = False
    """Whether the connection ended from the other side before the answer did."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the answer has ended, or the connection."""

    @property
    def key(self) -> str:
        """What was sent as the key, or ""."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def messages(self) -> list[dict[str, JSON]]:
        """The messages of the body."""
        messages: list[dict[str, JSON]] = self.body["messages"]
        return messages

    @property
    def last(self) -> str:
        """What the last message says."""
        return str(self.messages[-1].get("content") or "")


Scripted: TypeAlias = str | HttpAnswer | Callable[[SeenRequest], str | HttpAnswer]
"""An answer, or a function of the request that gives one; a str is ``say(str)``."""

Script: TypeAlias = Sequence[Scripted] | Callable[[SeenRequest], str | HttpAnswer]
"""Answers that are used one after another, or a function that gives them all."""


class FakeModelServer:
    """A model service on loopback, for tests.

        async with FakeModelServer([say(call("add", a=2, b=2)), say("Four.")]) as server:
            settings = ModelSettings("custom", base_url=server.base_url, model="m", api_key="not a real key")
            agent = AgentCore(LLMClient(settings), tools, system_prompt="You add.")
            events = [event async for event in agent.run("2 and 2?")]

        assert [request.last for request in server.requests] == ["2 and 2?", "4"]

    The answers are made as `pibot_mesh.testing.answers` shows, or taken from `pibot_mesh.testing.quirks`. A function
    instead of a list answers by what it sees:

        FakeModelServer(lambda request: say(call("look")) if request.messages[-1]["role"] == "user" else say("Done."))

    Asked more often than there are answers, it answers 500 and says so. What a function of the script raises is
    answered with 500 too, and raised again when the server is left, so that an assert in it is not lost. It plays on
    any path that ends in ``/chat/completions``, and as an HTTP proxy (it then sees ``host:port`` or a whole URL as the
    path).
    """

    def __init__(self, script: Script, *, host: str = "127.0.0.1", port: int = 0, send_buffer: int = 0) -> None:
        """*send_buffer* is how many bytes the system may hold back for a client that does not read (0: its default)."""
        self.requests: list[SeenRequest] = []
        """What was asked, oldest first."""
        self.connections = 0
        """How many there have been."""
        self._script = script
        self._address = (host, port)
        self._send_buffer = send_buffer
        self._arrival = asyncio.Event()
        self._asked = 0
        self._error: Exception | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None, "the server runs inside 'async with'"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def base_url(self) -> str:
        """What a client's settings want."""
        return f"http://{self._address[0]}:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, *self._address, limit=_BYTES_OF_HEAD)
        if self._send_buffer:
            self._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._server.wait_closed()
        if self._error is not None and error is None:
            raise self._error

    async def asked(self, number: int = 1, within_s: float = 5.0) -> SeenRequest:
        """The request with this *number*, counted from 1. Raises TimeoutError where it has not come *within_s*."""
        async with asyncio.timeout(within_s):
            while len(self.requests) < number:
                self._arrival.clear()
                await self._arrival.wait()
        return self.requests[number - 1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        talk = asyncio.create_task(self._talk(reader, writer, self.connections))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while (request := await _request(reader, number)) is not None:
                    self.requests.append(request)
                    self._arrival.set()
                    if not await _Exchange(request, reader, writer).play(self._answer(request)):
                        break
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    def _answer(self, request: SeenRequest) -> HttpAnswer:
        if request.path.startswith("/") and not request.path.endswith(_ENDPOINT):
            return fail(
                404, f"there is nothing at {request.path}: base_url must end in /v1, and the path in {_ENDPOINT}"
            )
        try:
            answer = self._next()
            if callable(answer):
                answer = answer(request)
        except Exception as error:  # noqa: BLE001 - the script is the test's own code; it is raised when the test ends
            self._error = self._error or error
            return fail(500, f"the script of the FakeModelServer raised {type(error).__name__}: {error}")
        return say(answer) if isinstance(answer, str) else answer

    def _next(self) -> Scripted:
        if callable(self._script):
            return self._script
        self._asked += 1
        if self._asked > len(self._script):
            there_are = f"the script of the FakeModelServer has {len(self._script)} answers"
            return fail(500, f"{there_are}: none for request {self._asked}")
        return self._script[self._asked - 1]


async def _request(reader: asyncio.StreamReader, connection: int) -> SeenRequest | None:
    """The next request, or None where the client has closed."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return SeenRequest(method, path, headers, _json(body), connection)


def _json(body: bytes) -> JSON:
    try:
        return json.loads(body)
    except ValueError:
        return None


class _Exchange:
    """One answer on its way out."""

    def __init__(self, request: SeenRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._request = request
        self._reader = reader
        self._writer = writer
        self._written = 0

    async def play(self, answer: HttpAnswer) -> bool:
        """Send *answer*. Returns whether the connection can serve another request."""
        try:
            return await self._play(answer)
        except ConnectionError:
            self._request.was_left = True
            raise
        finally:
            self._request.ended.set()

    async def _play(self, answer: HttpAnswer) -> bool:
        is_streamed = not answer.whole or (self._request.body or {}).get("stream") is True
        steps, framing = (answer.steps, answer.framing) if is_streamed else ((answer.whole,), "length")
        head = _head(answer, framing, _length(steps) if answer.length is None or not is_streamed else answer.length)
        last = len(steps) - 1
        for number, step in enumerate(steps):
            match step:
                case bytes():
                    body = _chunk(step) if framing == "chunked" else step
                    end = _LAST_CHUNK if framing == "chunked" and number == last else b""
                    await self._write(head + body + end)
                    head = b""
                case End():
                    return await self._end(step)
                case _:
                    await self._wait(step)
        if head or (framing == "chunked" and not isinstance(steps[-1], bytes)):
            await self._write(head + (_LAST_CHUNK if framing == "chunked" else b""))
        return framing in ("chunked", "length")

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        self._written += len(data)
        self._request.sent = self._written - self._writer.transport.get_write_buffer_size()
        await self._writer.drain()
        self._request.sent = self._written

    async def _wait(self, step: Pause | asyncio.Event) -> None:
        """Wait for *step*. Raises ConnectionResetError where the client goes away meanwhile."""
        waits = asyncio.sleep(step.for_s) if isinstance(step, Pause) else step.wait()
        waiting, leaving = asyncio.ensure_future(waits), asyncio.ensure_future(self._reader.read(1))
        try:
            await asyncio.wait([waiting, leaving], return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not leaving.result():
                raise ConnectionResetError("the client has gone")
        finally:
            waiting.cancel()
            leaving.cancel()
            await asyncio.gather(waiting, leaving, return_exceptions=True)

    async def _end(self, end: End) -> bool:
        if end is End.HANG:
            await self._wait(asyncio.Event())
        if end is End.RESET:
            linger = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        return False


_LAST_CHUNK: Final = b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


def _length(steps: Iterable[ServerStep]) -> int:
    return sum(len(step) for step in steps if isinstance(step, bytes))


def _head(answer: HttpAnswer, framing: Framing, length: int) -> bytes:
    if framing == "none":
        return b""
    told = {"chunked": "Transfer-Encoding: chunked", "length": f"Content-Length: {length}"}
    lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}", told.get(framing, "Connection: close")]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def echo(request: SeenRequest) -> HttpAnswer:
    """The script of the program: it says what it was told, calls the tool that it is told to, and says what that said.

    ``call look {"room": "attic"}`` asks for a call of the tool ``look``.
    """
    if request.messages[-1]["role"] == "tool":
        return say(f"The tool said: {request.last}", split=_CHARACTERS, usage=Usage(10, 0, 5))
    addition = re.search(r"\badd (\d+) and (\d+)", request.last)
    if addition is not None and '"add"' in json.dumps(request.body.get("tools")):  # as "pibot model test" asks
        a, b = map(int, addition.groups())
        return say(CallRequest("", "add", json.dumps({"a": a, "b": b})), usage=Usage(10, 0, 5))
    word, _, rest = request.last.strip().partition(" ")
    if word == "call" and rest.strip():
        name, _, arguments = rest.strip().partition(" ")
        return say(CallRequest("", name, arguments.strip()), usage=Usage(10, 0, 5))
    return say(f"You said: {request.last}", split=_CHARACTERS, usage=Usage(10, 0, 5))


_CHARACTERS: Final = 4
"""In each delta, as with real models."""


async def _serve(options: argparse.Namespace) -> None:
    def script(request: SeenRequest) -> HttpAnswer:
        return echo(request).delayed(options.delay)

    async with FakeModelServer(script, host=options.host, port=options.port) as server:
        sys.stdout.write(f"{server.base_url}\n")
        options_of_chat = f"--provider custom --model fake --base-url {server.base_url}"
        sys.stderr.write(f"Try: pibot chat {options_of_chat} 'call system_status {{}}'\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server until Ctrl-C; it prints its address first."""
    parser = argparse.ArgumentParser(
        prog="python -m pibot_mesh.testing.model_server",
        description="A model service on this machine that says what it is told; 'call NAME {JSON}' calls a tool.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="before each answer")
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535 or options.delay < 0:
        parser.error("a port is a number from 0 to 65535, and a delay is at least 0")
    try:
        asyncio.run(_serve(options))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        parser.error(f"nobody can listen at {options.host}:{options.port}: {error.strerror or error}")


if __name__ == "__main__":
    main()
