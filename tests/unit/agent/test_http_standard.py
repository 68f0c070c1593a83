"""HTTP with the standard library, against real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pibot_mesh.agent import http_connections, http_standard
from pibot_mesh.agent.http_standard import StandardTransport
from pibot_mesh.agent.pipe import MAX_WAITING
from pibot_mesh.agent.transport import Reply, TransportError
from tests.brokers import free_port, needs_openssl, until
from tests.unit.agent.loopback import CHUNKED, END, Asked, Service, Talk, certificate, chunk, reply

PATH = "/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Ü"}]}


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine that runs the tests has."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@asynccontextmanager
async def asking(talk: Talk, path: str = "/v1") -> AsyncIterator[tuple[StandardTransport, Service]]:
    """A transport, and a service that answers as *talk* does."""
    async with asyncio.timeout(20), Service(talk) as service:
        transport = StandardTransport(f"http://{service.address}{path}", {"Authorization": "Bearer k3y"})
        try:
            yield transport, service
        finally:
            await transport.aclose()


def always(*pieces: bytes) -> Talk:
    """A service that answers every request with the same bytes."""

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return talk


def closing(*pieces: bytes) -> Talk:
    """The same, and the connection ends behind it."""

    async def talk(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await always(*pieces)(asked, writer)
        writer.close()

    return talk


async def rest(answer: Reply) -> bytes:
    """All that is left of a body."""
    pieces = []
    while piece := await answer.read():
        pieces.append(piece)
    await answer.aclose()
    return b"".join(pieces)


def threads() -> int:
    """How many threads of requests there are."""
    return sum(thread.name == "pibot-model" for thread in threading.enumerate())


async def test_a_request_goes_out_as_json() -> None:
    """Below the address, with the headers that were given; the reply's headers have lower-case names."""
    async with asking(always(reply(b"hello", status="201 Created", headers="X-Thing: a\r\n"))) as (transport, service):
        answer = await transport.post(PATH, BODY)

        assert (answer.status, answer.headers["x-thing"]) == (201, "a")
        assert await rest(answer) == b"hello"
        [asked] = service.asked
        assert asked.line == "POST /v1/chat/completions HTTP/1.1"
        assert json.loads(asked.body) == BODY
        assert (asked.headers["authorization"], asked.headers["host"]) == ("Bearer k3y", service.address)
        assert asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "talk",
    [
        always(reply(b"abc")),
        always(CHUNKED, chunk(b"a"), chunk(b"bc"), END),
        closing(b"HTTP/1.1 200 OK\r\n\r\nabc"),
        closing(b"HTTP/1.0 200 OK\r\n\r\nabc"),
        always(b"HTTP/1.1 100 Continue\r\n\r\n", reply(b"abc")),
    ],
    ids=["length", "chunks", "to the end", "HTTP/1.0", "100 before"],
)
async def test_a_body_may_end_in_any_way(talk: Talk) -> None:
    """That HTTP knows."""
    async with asking(talk) as (transport, _):
        for _ in range(2):
            assert await rest(await transport.post(PATH, BODY)) == b"abc"


async def test_bytes_come_as_soon_as_they_are_there() -> None:
    """The head, and each piece."""
    goes_on = asyncio.Event()

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in (CHUNKED, chunk(b"a"), chunk(b"b"), END):
            writer.write(piece)
            await goes_on.wait()
            goes_on.clear()

    async with asking(talk) as (transport, _):
        answer = await transport.post(PATH, BODY)
        for expected in (b"a", b"b", b""):
            goes_on.set()
            assert await answer.read() == expected
        goes_on.set()


@pytest.mark.parametrize(
    "talk",
    [
        closing(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"),
        closing(CHUNKED, chunk(b"ab")),
        closing(CHUNKED, b"5\r\nab"),
        closing(CHUNKED, chunk(b"ab"), b"nonsense\r\n"),
    ],
    ids=["length", "between chunks", "in a chunk", "no chunk"],
)
async def test_a_cut_body_is_told(talk: Talk) -> None:
    """After what had come."""
    async with asking(talk) as (transport, _):
        answer = await transport.post(PATH, BODY)

        assert await answer.read() == b"ab"
        with pytest.raises(TransportError) as caught:
            await answer.read()
        assert (caught.value.cause, caught.value.is_retryable) == ("cut", True)


async def test_a_connection_that_breaks_is_told() -> None:
    """In the middle of the body."""
    came = asyncio.Event()

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"ab"))
        await came.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with asking(talk) as (transport, _):
        answer = await transport.post(PATH, BODY)
        assert await answer.read() == b"ab"
        came.set()
        with pytest.raises(TransportError) as caught:
            await answer.read()
        assert caught.value.cause == "cut"


@pytest.mark.parametrize(
    ("talk", "cause"),
    [
        (closing(), "cut"),
        (closing(b"SSH-2.0-OpenSSH_9\r\n\r\n"), "protocol"),
        (closing(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), "protocol"),
    ],
)
async def test_what_is_no_reply_is_told(talk: Talk, cause: str) -> None:
    """Only a connection that broke is worth another try."""
    async with asking(talk) as (transport, _):
        with pytest.raises(TransportError) as caught:
            await transport.post(PATH, BODY)

        assert caught.value.cause == cause


async def test_a_service_that_is_not_there_is_told() -> None:
    """With its address."""
    port = free_port()
    with pytest.raises(TransportError, match=f"nothing listens at 127.0.0.1:{port}") as caught:
        await StandardTransport(f"http://127.0.0.1:{port}", {}).post(PATH, BODY)

    assert caught.value.cause == "connect"


async def test_a_name_that_nobody_knows_is_told() -> None:
    """It may be known later."""
    with pytest.raises(TransportError, match=r"the name of nobody\.invalid:80 is not known") as caught:
        await StandardTransport("http://nobody.invalid", {}).post(PATH, BODY)

    assert caught.value.is_retryable


async def test_a_connection_that_does_not_come_has_a_limit() -> None:
    """A service whose queue is full says nothing at all."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        transport = StandardTransport(f"http://127.0.0.1:{port}", {}, connect_s=0.1)
        with pytest.raises(TransportError, match=r"no connection to 127.0.0.1:\d+ within 0.1 s"):
            await transport.post(PATH, BODY)
        for one in waiting:
            one.close()


async def test_a_connection_serves_again() -> None:
    """One request after another; two at a time have two."""
    async with asking(always(CHUNKED, chunk(b"a"), END)) as (transport, service):
        for _ in range(5):
            await rest(await transport.post(PATH, BODY))
        assert service.connections == 1

        answers = await asyncio.gather(*(transport.post(PATH, BODY) for _ in range(2)))
        assert [await rest(answer) for answer in answers] == [b"a", b"a"]
        assert service.connections == 2


@pytest.mark.parametrize("header", ["Connection: close\r\n", ""])
async def test_a_kept_connection_that_was_closed_is_no_failure(header: str) -> None:
    """A new one is opened in its place."""
    async with asking(closing(reply(b"a", headers=header))) as (transport, service):
        for number in range(1, 4):
            assert await rest(await transport.post(PATH, BODY)) == b"a"
            await asyncio.wait_for(service.lets_go.wait(), 5)
            service.lets_go.clear()
            assert service.connections == number


async def test_a_kept_connection_that_breaks_in_this_moment_is_no_failure() -> None:
    """The request goes out once more, on a new one; that of a new one does not."""

    async def talk(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(service.asked) in (2, 4, 5):
            writer.transport.abort()
        else:
            writer.write(reply(b"a"))

    async with asking(talk) as (transport, service):
        for _ in range(2):
            assert await rest(await transport.post(PATH, BODY)) == b"a"
        assert [asked.connection for asked in service.asked] == [1, 1, 2]

        with pytest.raises(TransportError, match="the"):
            await transport.post(PATH, BODY)
        assert [asked.connection for asked in service.asked] == [1, 1, 2, 2, 3]


async def test_an_old_connection_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routers forget idle connections without a word."""
    monkeypatch.setattr(http_connections, "_IDLE_S", -1.0)
    async with asking(always(reply(b"a"))) as (transport, service):
        for _ in range(2):
            await rest(await transport.post(PATH, BODY))

        assert service.connections == 2


async def test_a_connection_on_which_something_came_unasked_is_not_used() -> None:
    """It would be taken for the next reply."""
    is_kept = asyncio.Event()

    async def talk(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b"a"))
        if asked.connection == 1:
            await is_kept.wait()
            writer.write(reply(b"bye", status="408 Request Timeout"))

    async with asking(talk) as (transport, service):
        assert await rest(await transport.post(PATH, BODY)) == b"a"
        [kept] = transport._connections._idle
        is_kept.set()
        await until(lambda: not kept.is_good(), "the unasked reply came")

        assert (await transport.post(PATH, BODY)).status == 200
        assert service.connections == 2


async def test_a_refusal_before_the_request_was_read_is_heard() -> None:
    """A service may close its ears to a large body, and still say why."""
    large = {"messages": "x" * 4_000_000}

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        connection.recv(10)
        connection.sendall(reply(b"no", status="401 Unauthorized", headers="Connection: close\r\n"))
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0)
        while connection.recv(1 << 20):
            pass
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        answer = await StandardTransport(f"http://127.0.0.1:{server.getsockname()[1]}", {}).post(PATH, large)
        assert (answer.status, await rest(answer)) == (401, b"no")
        thread.join(5)


async def test_ending_early_ends_the_thread_and_the_connection() -> None:
    """Whether the head has come or not."""

    async def talk(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(service.asked) == 1:
            writer.write(CHUNKED + chunk(b"a"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0)

    async with asking(talk) as (transport, service):
        answer = await transport.post(PATH, BODY)
        assert await answer.read() == b"a"
        await answer.aclose()
        await until(lambda: threads() == 0, "the first thread ended")
        await asyncio.wait_for(service.lets_go.wait(), 5)

        waiting = asyncio.create_task(transport.post(PATH, BODY))
        await until(lambda: len(service.asked) == 2, "the second request came")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: threads() == 0, "the second thread ended")
        await answer.aclose()


async def test_a_body_that_stays_open_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What mattered has come; the connection is closed soon after, and serves again where the end comes in time."""
    monkeypatch.setattr(http_standard, "_FINISH_S", 0.05)

    async with asking(always(CHUNKED, chunk(b"done"))) as (transport, service):
        for _ in range(2):
            answer = await transport.post(PATH, BODY)
            assert await answer.read() == b"done"
            answer.finish()
            answer.finish()
            await answer.aclose()
        await until(lambda: threads() == 0, "the threads ended")
        assert service.connections == 2


async def test_the_end_of_a_finished_body_frees_its_connection() -> None:
    """The next request waits for it, for a moment."""
    async with asking(always(CHUNKED, chunk(b"done"), END)) as (transport, service):
        for _ in range(20):
            answer = await transport.post(PATH, BODY)
            assert await answer.read() == b"done"
            answer.finish()
            await answer.aclose()

        await until(lambda: threads() == 0, "the threads ended")
        assert service.connections <= 3


async def test_what_follows_a_finished_body_without_end_is_not_read() -> None:
    """Only a little of it is worth a connection."""
    async with asking(always(CHUNKED, *[chunk(b"x" * 1000)] * 2000)) as (transport, service):
        answer = await transport.post(PATH, BODY)
        await answer.read()
        answer.finish()
        await answer.aclose()

        await asyncio.wait_for(service.lets_go.wait(), 5)
        await until(lambda: threads() == 0, "the thread ended")


async def test_a_slow_reader_holds_the_service_back() -> None:
    """Little waits here; nothing of it is lost."""
    sent = 0
    piece = b"x" * 10_000

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        writer.transport.set_write_buffer_limits(16_384)
        writer.write(CHUNKED)
        for _number in range(1000):
            writer.write(chunk(piece))
            await writer.drain()
            sent += len(piece)
        writer.write(END)

    async with asking(talk) as (transport, _):
        answer = await transport.post(PATH, BODY)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 9_000_000
        pipe = answer._pipe
        assert pipe._size <= MAX_WAITING + 65_536

        assert len(await rest(answer)) == 10_000_000


async def test_an_exchange_ends_while_its_thread_waits_for_room() -> None:
    """It is let go at once."""
    async with asking(always(CHUNKED, *[chunk(b"x" * 10_000)] * 1000)) as (transport, _):
        answer = await transport.post(PATH, BODY)
        await until(lambda: answer._pipe._size >= MAX_WAITING, "the pipe is full")
        await answer.aclose()

        await until(lambda: threads() == 0, "the thread ended")


async def test_a_closed_transport_sends_nothing() -> None:
    """What was open ends, and no later try goes better."""

    async def talk(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(b"a") if len(service.asked) == 1 else CHUNKED)

    async with asking(talk) as (transport, service):
        await rest(await transport.post(PATH, BODY))
        answer = await transport.post(PATH, BODY)
        await transport.aclose()
        with pytest.raises(TransportError) as caught:
            await answer.read()
        assert caught.value.cause == "cut"

        with pytest.raises(TransportError) as caught:
            await transport.post(PATH, BODY)
        assert (caught.value.cause, caught.value.is_retryable) == ("setup", False)


def test_a_loop_that_ends_before_its_thread_is_no_trouble() -> None:
    """The thread has nobody to tell, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = StandardTransport(f"http://127.0.0.1:{server.getsockname()[1]}", {})

        async def leave() -> None:
            task = asyncio.create_task(transport.post(PATH, BODY))
            await asyncio.sleep(0)
            task.cancel()

        asyncio.run(leave())
        deadline = time.monotonic() + 5
        while threads() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert threads() == 0


def test_no_key_is_in_the_transports_name() -> None:
    """Whoever logs it logs the address alone."""
    transport = StandardTransport("http://127.0.0.1:1/v1", {"Authorization": "Bearer k3y"})

    assert repr(transport) == "StandardTransport('http://127.0.0.1:1/v1')"


# --- Proxies ---


async def test_a_proxy_gets_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its own login, which the service does not see."""
    async with asking(always(reply(b"a"))) as (_, proxy):
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{proxy.address}")
        transport = StandardTransport("http://models.invalid:8000/v1", {"Authorization": "Bearer k3y"})
        for _ in range(2):
            assert await rest(await transport.post(PATH, BODY)) == b"a"

        first, second = proxy.asked
        assert first.line == "POST http://models.invalid:8000/v1/chat/completions HTTP/1.1"
        assert first.headers["host"] == "models.invalid:8000"
        assert first.headers["authorization"] == "Bearer k3y"
        assert base64.b64decode(first.headers["proxy-authorization"].removeprefix("Basic ")) == b"me:p@ss"
        assert (second.headers, second.connection) == (first.headers, 1)
        await transport.aclose()


@needs_openssl
async def test_a_proxy_tunnels_what_is_encrypted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It sees its own login, and nothing of the request."""
    tls, public = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    passed: list[asyncio.Task[None]] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head.append(await reader.readuntil(b"\r\n\r\n"))
        inner = await asyncio.open_connection("127.0.0.1", service._port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        passed.extend(asyncio.create_task(copy(*ends)) for ends in ((reader, inner[1]), (inner[0], writer)))

    head: list[bytes] = []
    async with asyncio.timeout(20), Service(always(reply(b"a")), tls) as service:
        proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
        monkeypatch.setenv("HTTPS_PROXY", f"me:pass@127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        transport = StandardTransport(f"https://{service.address}/v1", {"Authorization": "Bearer k3y"})

        assert await rest(await transport.post(PATH, BODY)) == b"a"
        assert service.asked[0].line == "POST /v1/chat/completions HTTP/1.1"
        assert "proxy-authorization" not in service.asked[0].headers
        assert head[0].startswith(f"CONNECT {service.address} HTTP/1.".encode())
        assert b"Proxy-Authorization: Basic " + base64.b64encode(b"me:pass") in head[0]
        assert b"k3y" not in head[0]
        await transport.aclose()
        proxy.close()
        for task in passed:
            task.cancel()


async def test_a_proxy_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the login, and without another try."""
    async with asking(closing(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")) as (_, proxy):
        monkeypatch.setenv("https_proxy", f"http://me:s3cret@{proxy.address}")
        with pytest.raises(
            TransportError, match=f"models.invalid:443 through the proxy {proxy.address}: .*407"
        ) as caught:
            await StandardTransport("https://models.invalid/v1", {}).post(PATH, BODY)

        assert caught.value.cause == "setup"
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("variable", "value"), [("NO_PROXY", "localhost"), ("HTTPS_PROXY", "http://127.0.0.1:1")])
async def test_a_proxy_is_not_for_everybody(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the hosts of NO_PROXY, and not for another scheme."""
    async with asking(always(reply(b"a"))) as (transport, _):
        monkeypatch.setenv(variable, value)
        if variable == "NO_PROXY":
            monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

        assert await rest(await transport.post(PATH, BODY)) == b"a"


async def test_all_proxy_is_for_both_schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the scheme has none of its own."""
    async with asking(always(reply(b"a"))) as (_, proxy):
        monkeypatch.setenv("ALL_PROXY", f"http://{proxy.address}")
        assert await rest(await StandardTransport("http://[::1]:7/v1", {}).post(PATH, BODY)) == b"a"

        assert proxy.asked[0].line.startswith("POST http://[::1]:7/v1/chat/completions ")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://", "http://host:port"])
async def test_a_proxy_of_an_unknown_kind_is_told(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other try goes better."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(TransportError, match="proxy") as caught:
        await StandardTransport("http://127.0.0.1:1", {}).post(PATH, BODY)

    assert caught.value.cause == "setup"


# --- TLS ---


@needs_openssl
async def test_a_service_must_be_who_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A certificate that nobody vouches for is refused; a trusted one serves, again and again."""
    tls, public = certificate(tmp_path)
    async with asyncio.timeout(20), Service(always(CHUNKED, chunk(b"a"), END), tls) as service:
        with pytest.raises(TransportError, match="is not to be trusted") as caught:
            await StandardTransport(f"https://{service.address}", {}).post(PATH, BODY)
        assert caught.value.cause == "setup"

        monkeypatch.setenv("SSL_CERT_FILE", str(public))
        transport = StandardTransport(f"https://{service.address}", {})
        for _ in range(3):
            assert await rest(await transport.post(PATH, BODY)) == b"a"
        assert len({asked.connection for asked in service.asked}) == 1
        answers = await asyncio.gather(*(transport.post(PATH, BODY) for _ in range(2)))
        assert [await rest(answer) for answer in answers] == [b"a", b"a"]
        await transport.aclose()


@needs_openssl
async def test_an_encrypted_exchange_ends_early_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its thread does not stay behind."""
    tls, public = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    async with asyncio.timeout(20), Service(always(CHUNKED, chunk(b"a")), tls) as service:
        transport = StandardTransport(f"https://{service.address}", {})
        answer = await transport.post(PATH, BODY)
        assert await answer.read() == b"a"
        await answer.aclose()

        await until(lambda: threads() == 0, "the thread ended")
        await transport.aclose()


async def test_a_service_that_does_not_encrypt_is_told() -> None:
    """It is probably http."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(reply(b"", status="400 Bad Request"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransportError, match=r"is it http://\?") as caught:
            await StandardTransport(f"https://127.0.0.1:{port}", {}).post(PATH, BODY)

    assert caught.value.cause == "setup"
