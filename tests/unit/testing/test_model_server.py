"""The FakeModelServer plays its script to any HTTP client. The clients here are the standard library's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import TypeVar

import pytest

from pibot_mesh.protocol.codec import JSON
from pibot_mesh.testing import QUIRKS, FakeModelServer, HttpAnswer, SeenRequest, fail, never, raw, say
from pibot_mesh.testing.answers import End, wire
from pibot_mesh.testing.model_server import echo

T = TypeVar("T")
PATH = "/v1/chat/completions"
ASKED = b'POST %s HTTP/1.1\r\nContent-Length: 15\r\n\r\n{"stream":true}' % PATH.encode()


class Client:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        self.http = HTTPConnection("127.0.0.1", port, timeout=5)

    def post(self, text: str = "Hi", path: str = PATH, **more: JSON) -> HTTPResponse:
        body = {"stream": True, "messages": [{"role": "user", "content": text}], **more}
        self.http.request("POST", path, json.dumps(body), {"Authorization": "Bearer no real key"})
        return self.http.getresponse()

    def ask(self, text: str = "Hi", **more: JSON) -> tuple[int, bytes]:
        response = self.post(text, **more)
        return response.status, response.read()


async def with_client(server: FakeModelServer, use: Callable[[Client], T]) -> T:
    """What *use* gives, run beside the server."""

    def run() -> T:
        client = Client(server.port)
        try:
            return use(client)
        finally:
            client.http.close()

    async with asyncio.timeout(10):
        return await asyncio.to_thread(run)


async def test_answers_are_used_one_after_another_over_one_connection() -> None:
    """And what was asked is recorded."""
    first, second = say("Hello"), fail(429, "slow down", retry_after=2)
    async with FakeModelServer([first, second, "Bye"]) as server:
        answers = await with_client(server, lambda client: [client.ask(text) for text in ("one", "two", "three")])

    assert answers == [(200, first.body), (429, second.body), (200, say("Bye").body)]
    assert [request.last for request in server.requests] == ["one", "two", "three"]
    assert [(request.method, request.path, request.key) for request in server.requests] == [
        ("POST", PATH, "no real key")
    ] * 3
    assert {request.connection for request in server.requests} == {1}
    assert server.connections == 1


async def test_who_asks_for_no_stream_gets_none() -> None:
    """The same words in one piece."""
    async with FakeModelServer([say("Hello")]) as server:
        status, body = await with_client(server, lambda client: client.ask(stream=False))

    assert (status, json.loads(body)["choices"][0]["message"]["content"]) == (200, "Hello")


async def test_a_function_answers_by_what_it_sees() -> None:
    """Its own, or each of the list's."""
    async with FakeModelServer(lambda request: f"You said {request.last}") as server:
        _, body = await with_client(server, lambda client: client.ask("Moo"))
    assert body == say("You said Moo").body

    async with FakeModelServer([lambda request: say(request.last)]) as server:
        _, body = await with_client(server, lambda client: client.ask("Moo"))
    assert body == say("Moo").body


async def test_running_out_of_answers_is_said() -> None:
    """As a failure of the service, with words for the test's author."""
    async with FakeModelServer(["one"]) as server:
        *_, (status, body) = await with_client(server, lambda client: [client.ask(), client.ask()])

    assert status == 500
    assert "the script of the FakeModelServer has 1 answers: none for request 2" in body.decode()


async def test_what_a_script_raises_is_not_lost() -> None:
    """An assert in a script fails the test, when the server is left."""

    def script(_: SeenRequest) -> HttpAnswer:
        raise AssertionError("no temperature was sent")

    answers: list[tuple[int, bytes]] = []

    async def use() -> None:
        async with FakeModelServer(script) as server:
            answers.append(await with_client(server, lambda client: client.ask()))

    with pytest.raises(AssertionError, match="no temperature was sent"):
        await use()
    [(status, body)] = answers
    assert status == 500
    assert b"AssertionError: no temperature was sent" in body


async def test_an_error_in_the_test_comes_first() -> None:
    """The script's would hide it."""

    async def use() -> None:
        async with FakeModelServer(lambda request: str(request.body["nothing"])) as server:
            await with_client(server, lambda client: client.ask())
            raise ValueError("the test's own")

    with pytest.raises(ValueError, match="the test's own"):
        await use()


async def test_a_wrong_path_is_not_found() -> None:
    """So a wrong base_url is seen, and uses up no answer."""
    async with FakeModelServer(["one"]) as server:
        wrong, right = await with_client(
            server, lambda client: [client.post(path="/chat").read(), client.post().read()]
        )

    assert b"there is nothing at /chat" in wrong
    assert right == say("one").body


async def test_it_plays_a_proxy() -> None:
    """A whole URL as the path, and CONNECT."""
    async with FakeModelServer(["one", fail(407, "who are you?")]) as server:

        def use(client: Client) -> tuple[bytes, int]:
            body = client.post(path=f"http://model.invalid{PATH}").read()
            client.http.request("CONNECT", "model.invalid:443")
            return body, client.http.getresponse().status

        assert await with_client(server, use) == (say("one").body, 407)
    assert [request.path for request in server.requests] == [f"http://model.invalid{PATH}", "model.invalid:443"]
    assert server.requests[1].body is None


async def test_a_status_may_be_one_that_nobody_knows() -> None:
    """Services make up their own."""
    async with FakeModelServer([fail(529, "Overloaded")]) as server:
        status, _ = await with_client(server, lambda client: client.ask())

    assert status == 529


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_the_end_of_a_body_can_be_told_in_three_ways(framing: str) -> None:
    """The client sees the same body, in as many writes as the answer has."""
    answer = say("Hel", "lo", one_write=False).framed(framing)  # type: ignore[arg-type]
    async with FakeModelServer([answer, "again"]) as server:
        bodies = await with_client(server, lambda client: [client.ask()[1], client.ask()[1]])

    assert bodies == [answer.body, say("again").body]
    assert server.connections == (2 if framing == "close" else 1)


@pytest.mark.parametrize("answer", [say("Hello"), raw(b"12345"), say("Hello").framed("length")])
@pytest.mark.parametrize("after", [3, None])
async def test_a_cut_body_is_seen_as_cut(answer: HttpAnswer, after: int | None) -> None:
    """Whether a part or all of it came."""
    async with FakeModelServer([answer.cut(after)]) as server:

        def use(client: Client) -> bytes:
            with pytest.raises(IncompleteRead) as cut:
                client.ask()
            return cut.value.partial

        assert await with_client(server, use) == answer.body[:after]
        assert not server.requests[0].was_left


async def test_a_connection_can_be_reset() -> None:
    """In the middle, or before anything."""
    async with FakeModelServer([say("Hello").cut(10, reset=True), HttpAnswer((End.RESET,))]) as server:

        def use(client: Client) -> None:
            with pytest.raises((ConnectionResetError, IncompleteRead)):
                client.ask()
            client.http.close()
            with pytest.raises(ConnectionResetError):
                client.ask()

        await with_client(server, use)


async def test_the_head_can_be_anything() -> None:
    """Byte by byte what the test wants."""
    async with FakeModelServer([wire(b"HTTP/1.0 200 Fine\r\n\r\nHello"), wire()]) as server:

        def use(client: Client) -> tuple[int, bytes]:
            answer = client.ask()
            with pytest.raises(RemoteDisconnected):
                client.ask()
            return answer

        assert await with_client(server, use) == (200, b"Hello")


async def test_the_head_can_come_before_what_is_waited_for() -> None:
    """The client has the status, and nothing of the body."""
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with FakeModelServer([HttpAnswer((b"", gate, b"Hello"))]) as server:

        def use(client: Client) -> bytes:
            response = client.post()
            loop.call_soon_threadsafe(gate.set)
            return response.read()

        assert await with_client(server, use) == b"Hello"


@pytest.mark.parametrize("answer", [never(), say("Hello").held_open(), say("Hello", one_write=False).paced(60)])
async def test_the_server_sees_that_a_client_has_gone(answer: HttpAnswer) -> None:
    """While nothing comes."""
    async with FakeModelServer([answer]) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ASKED)
        request = await server.asked()
        assert not request.ended.is_set()

        writer.close()

        async with asyncio.timeout(5):
            await request.ended.wait()
        assert request.was_left


async def test_the_server_sees_that_a_client_does_not_read() -> None:
    """No more is sent than the system takes."""
    answer = raw(b"x" * 8_000_000).in_writes(4096)
    async with FakeModelServer([answer], send_buffer=16 * 1024) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4096)
        writer.write(ASKED)
        request = await server.asked()
        await reader.readexactly(1000)

        async with asyncio.timeout(5):
            sent = -1
            while sent != request.sent:
                sent = request.sent
                await asyncio.sleep(0.05)
        assert 1000 < request.sent < len(answer.body)

        writer.close()
        async with asyncio.timeout(5):
            await request.ended.wait()
        assert request.was_left


async def test_leaving_the_server_ends_what_hangs() -> None:
    """A test ends, whatever its client still waits for."""
    async with FakeModelServer([never()]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ASKED)
        await server.asked()

    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_the_program_says_and_calls_what_it_is_told() -> None:
    """And says what the tool said."""
    async with FakeModelServer(echo) as server:

        def use(client: Client) -> list[bytes]:
            told = [{"role": "user", "content": "x"}, {"role": "tool", "content": "dark"}]
            return [
                client.ask(text, stream=False, **more)[1]
                for text, more in (("Moo", {}), ('call look {"room": "attic"}', {}), ("", {"messages": told}))
            ]

        answers = await with_client(server, use)

    messages = [json.loads(body)["choices"][0]["message"] for body in answers]
    assert [message["content"] for message in messages] == ["You said: Moo", None, "The tool said: dark"]
    [called] = messages[1]["tool_calls"]
    assert called["function"] == {"name": "look", "arguments": '{"room": "attic"}'}


async def test_the_program_prints_where_it_is() -> None:
    """And answers there, until it is ended."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pibot_mesh.testing.model_server", "--delay", "0.01", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert program.stdout is not None
        async with asyncio.timeout(20):
            address = (await program.stdout.readline()).decode().strip()
        port = int(address.removeprefix("http://127.0.0.1:").removesuffix("/v1"))
        status, body = await asyncio.to_thread(lambda: Client(port).ask("Moo"))
        assert (status, body) == (
            200,
            echo(SeenRequest("", "", {}, {"messages": [{"role": "user", "content": "Moo"}]}, 1)).body,
        )
    finally:
        program.terminate()
        await program.wait()


def test_every_quirk_says_what_it_is() -> None:
    """In a sentence; and what a right client makes of it is one thing."""
    for name, quirk in QUIRKS.items():
        assert quirk.says.endswith("."), name
        assert bool(quirk.failure) != bool(quirk.failure is None and (quirk.text or quirk.calls)), name
    assert len(QUIRKS) > 60


def test_what_is_for_tests_is_loaded_when_it_is_asked_for() -> None:
    """The package alone loads neither the server nor the cores."""
    seen = "[name for name in sys.modules if name.startswith(('pibot_mesh.testing.', 'pibot_mesh.agent', 'asyncio'))]"
    program = f"import sys, pibot_mesh.testing as t; print({seen}); print('say' in dir(t), t.say.__name__)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)

    assert done.stdout.splitlines() == ["[]", "True say"]


def test_what_is_not_there_is_said() -> None:
    """As any module says it."""
    import pibot_mesh.testing as testing

    with pytest.raises(AttributeError, match=r"'pibot_mesh.testing' has no attribute 'nothing'"):
        _ = testing.nothing
    assert "FakeModelServer" in dir(testing)
