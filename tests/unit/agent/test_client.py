"""The model client over both HTTP libraries, against real sockets. Every quirk is in tests/conformance/agent."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from pibot_mesh.agent import client as module
from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.http_openai import OpenAITransport
from pibot_mesh.agent.http_standard import StandardTransport
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, ToolMessage, UserMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind, Model, ModelFailure, ModelRequest, StreamPart, UsageSeen
from pibot_mesh.config.settings import ModelSettings
from pibot_mesh.errors import ConfigError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import ToolSpec, Usage
from tests.brokers import free_port, needs_openssl
from tests.unit.agent.loopback import CHUNKED, END, Asked, Service, Talk, certificate, chunk, reply

KEY = "a-key-that-nobody-may-see"
SETTINGS = ModelSettings("custom", model="m", api_key=KEY, first_content_s=10, between_s=10)
HELLO = ModelRequest((UserMessage("Hello"),), "Be short.")
DONE = b"data: [DONE]\n\n"

Library: TypeAlias = Literal["standard", "openai"]


@pytest.fixture(params=["standard", "openai"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Everything here holds over both; proxies of the machine that runs the tests do not matter."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    value: Library = request.param
    if value == "openai":
        pytest.importorskip("openai", reason="the openai package is not installed")
    return value


def event(finish: str | None = None, **delta: JSON) -> bytes:
    """One event of a stream."""
    return b"data: %s\n\n" % json.dumps({"choices": [{"delta": delta, "finish_reason": finish}]}).encode()


def stream(*pieces: bytes) -> bytes:
    """A streamed reply that is whole."""
    return CHUNKED + b"".join(map(chunk, pieces)) + END


def always(data: bytes) -> Talk:
    """A service that answers every request with the same bytes."""

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return talk


def refusing(message: str, *, status: int = 400) -> bytes:
    """An error as most services send it."""
    return reply(json.dumps({"error": {"message": message}}).encode(), status=f"{status} No")


@asynccontextmanager
async def asking(
    library: Library, talk: Talk, settings: ModelSettings = SETTINGS
) -> AsyncIterator[tuple[LLMClient, Service]]:
    """A client, and a service that answers as *talk* does."""
    async with (
        asyncio.timeout(20),
        Service(talk) as service,
        LLMClient(replace(settings, base_url=f"http://{service.address}/v1"), transport=library) as client,
    ):
        yield client, service


async def heard(client: Model, request: ModelRequest = HELLO) -> list[StreamPart]:
    """All parts of one call."""
    async with aclosing(client.stream(request)) as parts:
        return [part async for part in parts]


async def failure(client: Model) -> ModelFailure:
    """The failure of a call that must not go well."""
    *_, last = await heard(client)
    assert isinstance(last, ModelFailure), last
    return last


async def test_a_call_gives_its_parts_and_one_end(library: Library) -> None:
    """Text, usage, and the message at the end."""
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n'
    body = stream(event(content="Hel"), event(content="lo"), event("stop"), usage, DONE)
    async with asking(library, always(body)) as (client, service):
        parts = await heard(client)

        assert parts == [
            Delta("Hel"),
            Delta("lo"),
            UsageSeen(Usage(3, 0, 2, 0)),
            Answer(AssistantMessage("Hello"), "stop"),
        ]
        assert json.loads(service.asked[0].body) == {
            "model": "m",
            "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        assert service.asked[0].line.startswith("POST /v1/chat/completions ")
        assert service.asked[0].headers["authorization"] == f"Bearer {KEY}"


async def test_both_libraries_send_the_same_body() -> None:
    """Tools, calls, results, limits and letters of all kinds."""
    pytest.importorskip("openai", reason="the openai package is not installed")
    call = CallRequest("call_1", "fan", '{"on": true}')
    request = ModelRequest(
        (UserMessage("ü🌀\ud800"), AssistantMessage("", (call,), "hm"), ToolMessage("call_1", "fan", "")),
        "Be short.",
        (ToolSpec("fan", "The fan.", {"type": "object", "properties": {"on": {"type": "boolean"}}}),),
        max_tokens=5,
    )
    settings = replace(SETTINGS, temperature=0.25)
    bodies = []
    for library in ("standard", "openai"):
        async with asking(library, always(stream(event(content="a"), DONE)), settings) as (client, service):
            await heard(client, request)
            bodies.append(json.loads(service.asked[0].body))

    assert bodies[0] == bodies[1]
    assert (bodies[0]["max_tokens"], bodies[0]["temperature"]) == (5, 0.25)


# --- Keys ---


async def test_without_a_key_nothing_is_sent(library: Library) -> None:
    """And it is said what to set."""
    client = LLMClient(ModelSettings("volcengine", f"http://127.0.0.1:{free_port()}"), transport=library)

    for settings_key in (None, "", "  "):
        client = LLMClient(replace(ModelSettings(), api_key=settings_key), transport=library)
        assert await heard(client) == [
            ModelFailure(FailureKind.AUTH, "there is no key for the model: set VOLC_API_KEY, or model.api_key_file")
        ]


@pytest.mark.parametrize("key", ["two words", "ключ", "a\nb", "a\x00b"])
async def test_a_key_that_is_none_is_told(key: str, library: Library) -> None:
    """It was copied with something else, and would break the request."""
    failed = await failure(LLMClient(ModelSettings("openai", api_key=key), transport=library))

    assert failed.kind is FailureKind.AUTH
    assert "copy it again (OPENAI_API_KEY" in failed.text
    assert key not in failed.text


@pytest.mark.parametrize(
    "data",
    [
        stream(event(content="a"), DONE),
        refusing(f"Incorrect API key provided: {KEY}", status=401),
        refusing(f"Authorization: Bearer {KEY} is wrong", status=500),
        stream(event(content="a"), b'data: {"error": {"message": "%s"}}\n\n' % KEY.encode()),
        stream(b"data: {broken %s\n\n" % KEY.encode()),
        reply(b"What is " + KEY.encode()),
        b"HTTP/1.1 301 %s\r\nLocation: https://x:%s@host/\r\nContent-Length: 0\r\n\r\n" % (KEY.encode(), KEY.encode()),
        KEY.encode() + b"\r\n\r\n",
    ],
    ids=["well", "401", "500", "in the stream", "broken", "no answer", "moved", "no HTTP"],
)
async def test_the_key_is_in_no_failure_and_in_no_log(
    data: bytes, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the service says, and however much is logged."""
    with caplog.at_level(logging.DEBUG):
        for name in ("openai", "openai._base_client", "httpx", "httpx2", "httpcore", "httpcore2"):
            caplog.set_level(logging.DEBUG, logger=name)
        async with asking(library, always(data)) as (client, service):
            parts = await heard(client)
            assert KEY in str(service.asked[0].headers), "it was sent"

    assert KEY not in repr(parts) + repr(client) + repr(vars(client)["_transport"]) + repr(SETTINGS)
    assert KEY not in caplog.text
    assert KEY not in "".join(str(record.__dict__) for record in caplog.records)


def test_a_client_says_what_it_is() -> None:
    """Without its key."""
    client = LLMClient(ModelSettings("deepseek", api_key=KEY), transport="standard")

    assert repr(client) == ("LLMClient(deepseek, 'deepseek-v4-flash', StandardTransport('https://api.deepseek.com'))")


def test_a_client_tells_what_it_asks() -> None:
    """The library as well, which `auto` has chosen."""
    client = LLMClient(ModelSettings("deepseek", api_key=KEY), transport="standard")

    assert (client.model, client.base_url) == ("deepseek-v4-flash", "https://api.deepseek.com")
    assert client.transport_name == "standard"


def test_settings_that_name_no_service_are_refused() -> None:
    """At once, not with the first call."""
    for settings in (ModelSettings("custom", model="m"), ModelSettings("custom", "http://host"), ModelSettings("x")):
        with pytest.raises(ConfigError):
            LLMClient(settings)


# --- The library ---


def test_the_library_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the caller, else by the settings, else by what is installed."""

    def chosen(settings: str, caller: str = "auto") -> object:
        client = LLMClient(replace(SETTINGS, base_url="http://h", transport=settings), transport=caller)  # type: ignore[arg-type]  # one of three
        return type(client._transport)

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: "there")
    assert chosen("auto") is OpenAITransport
    assert chosen("auto", "standard") is StandardTransport
    assert chosen("auto", "openai") is OpenAITransport
    assert chosen("standard") is StandardTransport
    assert chosen("openai", "standard") is StandardTransport
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert chosen("auto") is StandardTransport
    with pytest.raises(ConfigError, match="the openai package is not installed"):
        chosen("openai")


def test_the_standard_library_is_all_that_is_loaded() -> None:
    """A node has no memory for more."""
    program = """
import asyncio, sys
from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.messages import UserMessage
from pibot_mesh.agent.model import ModelRequest
from pibot_mesh.config.settings import ModelSettings

async def main():
    client = LLMClient(ModelSettings("custom", "http://127.0.0.1:1", "m"), transport="standard")
    print([part.kind.value async for part in client.stream(ModelRequest((UserMessage("a"),)))])

asyncio.run(main())
print(sorted({name.split(".")[0] for name in sys.modules} & {"openai", "httpx", "httpx2", "pydantic", "anyio", "rich"}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.splitlines() == ["['network']", "[]"]


async def test_a_client_of_the_package_tells_nobody_else_who_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads an organisation from the environment, which is OpenAI's business alone."""
    pytest.importorskip("openai", reason="the openai package is not installed")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-mine")
    async with asking("openai", always(stream(event(content="a"), DONE))) as (client, service):
        await heard(client)

        assert "of-mine" not in str(service.asked[0].headers)


async def test_the_first_calls_may_come_together(library: Library) -> None:
    """Each loads the library, and one of them keeps it."""
    async with asking(library, always(stream(event(content="a"), DONE))) as (client, _):
        for parts in await asyncio.gather(*(heard(client) for _ in range(3))):
            assert parts[-1] == Answer(AssistantMessage("a"))


async def test_a_client_may_be_closed_while_it_begins(library: Library) -> None:
    """The call ends with a failure."""
    async with asking(library, always(b"")) as (client, _):
        call = asyncio.create_task(failure(client))
        await asyncio.sleep(0)
        await client.aclose()

        assert (await call).kind is FailureKind.NETWORK


# --- Time ---


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "gave no answer within 0.2 s"),
        (CHUNKED, "gave no answer within 0.2 s"),
        (CHUNKED + chunk(b": hm\n\n" + event(role="assistant")), "gave no answer within 0.2 s"),
        (CHUNKED + chunk(event(content="a")), "said nothing for 0.3 s in the middle of its answer"),
        (CHUNKED + chunk(event(reasoning="a")), "said nothing for 0.3 s in the middle of its answer"),
    ],
    ids=["nothing", "a head", "no content", "text", "reasoning"],
)
async def test_silence_has_a_limit(data: bytes, says: str, library: Library) -> None:
    """One until the answer begins, another in its middle."""
    settings = replace(SETTINGS, first_content_s=0.2, between_s=0.3)
    async with asking(library, always(data), settings) as (client, _):
        failed = await failure(client)

        assert (failed.kind, failed.is_retryable) == (FailureKind.TIMEOUT, True)
        assert says in failed.text


async def test_comments_do_not_prolong_the_silence(library: Library) -> None:
    """Nor do chunks without content."""

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while not writer.is_closing():
            writer.write(chunk(b": hm\n\n" + event()))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with asking(library, talk, replace(SETTINGS, first_content_s=0.3)) as (client, _):
        assert (await failure(client)).kind is FailureKind.TIMEOUT


async def test_who_reads_slowly_does_not_time_out(library: Library) -> None:
    """Only the time counts in which the client waits for the service."""
    goes_on = asyncio.Event()

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(event(content="a")))
        await goes_on.wait()
        writer.write(chunk(event(content="b") + DONE) + END)

    settings = replace(SETTINGS, between_s=0.4)
    async with asking(library, talk, settings) as (client, _), aclosing(client.stream(HELLO)) as parts:
        assert await anext(parts) == Delta("a")
        await asyncio.sleep(0.5)
        goes_on.set()
        assert [part async for part in parts] == [Delta("b"), Answer(AssistantMessage("ab"))]


@pytest.mark.parametrize("behind", [b"", b": hm\n\n"])
async def test_an_answer_without_its_end_is_not_waited_for(
    behind: bytes, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a finish_reason only the usage can follow."""
    monkeypatch.setattr(module, "LINGER_S", 0.1)
    data = CHUNKED + chunk(event(content="a") + event("stop") + behind)
    async with asking(library, always(data)) as (client, _):
        begun = time.monotonic()
        assert (await heard(client))[-1] == Answer(AssistantMessage("a"))
        assert time.monotonic() - begun < SETTINGS.between_s / 2


async def test_a_connection_that_breaks_behind_the_answer_is_no_failure(library: Library) -> None:
    """All of it had come."""

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(event(content="a") + event("stop")))
        writer.close()

    async with asking(library, talk) as (client, _):
        assert (await heard(client))[-1] == Answer(AssistantMessage("a"))


async def test_a_body_that_stays_open_holds_nothing_up(library: Library) -> None:
    """[DONE] is the end, and the client serves again."""
    async with asking(library, always(CHUNKED + chunk(event(content="a") + DONE))) as (client, _):
        begun = time.monotonic()
        for _ in range(2):
            assert (await heard(client))[-1] == Answer(AssistantMessage("a"))
        assert time.monotonic() - begun < SETTINGS.between_s / 2


async def test_a_refusal_without_end_is_not_waited_for(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of it is told; the package reads it whole, and then its time is up."""
    monkeypatch.setattr(module, "LINGER_S", 0.1)
    data = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"come later")
    async with asking(library, always(data), replace(SETTINGS, first_content_s=1)) as (client, _):
        failed = await failure(client)

        assert failed.is_retryable
        assert "come later" in failed.text or library == "openai"


async def test_a_flood_does_not_starve_the_loop(library: Library) -> None:
    """Whoever wants to end the call gets the chance."""

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        while not writer.is_closing():
            writer.write(chunk(b": " + b"hm" * 30_000 + b"\n\n"))
            await writer.drain()

    async with asking(library, talk) as (client, _):
        call = asyncio.create_task(failure(client))
        await asyncio.sleep(0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


# --- Ending ---


@pytest.mark.parametrize("data", [b"", CHUNKED, CHUNKED + chunk(event(content="a"))], ids=["nothing", "head", "text"])
async def test_a_call_can_be_cancelled_anywhere(data: bytes, library: Library) -> None:
    """It ends at once, and the service sees it go."""
    async with asking(library, always(data)) as (client, service):
        call = asyncio.create_task(heard(client))
        async with asyncio.timeout(10):
            while not service.asked:
                await asyncio.sleep(0.005)
        call.cancel()
        done, _ = await asyncio.wait([call], timeout=2)
        assert done
        assert call.cancelled()
        await asyncio.wait_for(service.lets_go.wait(), 5)


async def test_closing_the_client_ends_its_calls(library: Library) -> None:
    """With a failure; the next one is refused, and not for being tried again."""
    async with asking(library, always(CHUNKED + chunk(event(content="a")))) as (client, _):
        async with aclosing(client.stream(HELLO)) as parts:
            assert await anext(parts) == Delta("a")
            await client.aclose()
            [end] = [part async for part in parts]
        assert isinstance(end, ModelFailure)
        assert end.partial == AssistantMessage("a")

        failed = await failure(client)
        assert (failed.kind, failed.is_retryable) == (FailureKind.NETWORK, False)


# --- What is learned ---


async def test_each_refused_field_is_left_out_from_then_on(library: Library) -> None:
    """One request more for each, within one call, and none later."""
    settings = replace(SETTINGS, max_tokens=5, temperature=0.5)

    async def talk(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body = json.loads(asked.body)
        for field in ("max_tokens", "max_completion_tokens", "stream_options", "temperature"):
            if field in body:
                writer.write(refusing(f"unknown field: {field}"))
                return
        writer.write(stream(event(content="a"), DONE))

    async with asking(library, talk, settings) as (client, service):
        for count in (5, 6):
            assert (await heard(client))[-1] == Answer(AssistantMessage("a"))
            assert len(service.asked) == count
        assert len({asked.connection for asked in service.asked}) <= 2


async def test_a_refusal_that_names_nothing_stands(library: Library) -> None:
    """So does one that is not about the request."""
    for data, kind in (
        (refusing("I do not like you"), FailureKind.PROTOCOL),
        (refusing("stream_options costs extra", status=403), FailureKind.AUTH),
        (refusing("max_tokens: your maximum context length is exceeded"), FailureKind.OVERFLOW),
    ):
        async with asking(library, always(data), replace(SETTINGS, max_tokens=5)) as (client, service):
            assert (await failure(client)).kind is kind
            assert len(service.asked) == 1


async def test_a_service_that_always_refuses_is_given_up(library: Library) -> None:
    """Each field is left out once."""
    words = "max_tokens, max_completion_tokens, stream_options, temperature, reasoning_content, content: null"
    history = (UserMessage("a"), AssistantMessage(calls=(CallRequest("a", "f"),)), ToolMessage("a", "f", "x"))
    settings = replace(SETTINGS, max_tokens=5, temperature=0.5)
    async with asking(library, always(refusing(words)), settings) as (client, service):
        *_, end = await heard(client, ModelRequest(history))

        assert isinstance(end, ModelFailure)
        assert end.kind is FailureKind.PROTOCOL
        assert len(service.asked) == 8


# --- What the package says of broken connections ---


async def test_no_service_is_told(library: Library) -> None:
    """It may be there a little later."""
    port = free_port()
    client = LLMClient(replace(SETTINGS, base_url=f"http://127.0.0.1:{port}"), transport=library)
    failed = await failure(client)
    await client.aclose()

    assert (failed.kind, failed.is_retryable) == (FailureKind.NETWORK, True)
    assert str(port) in failed.text


async def test_a_proxy_of_an_unknown_kind_is_told(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other try goes better."""
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:70")
    client = LLMClient(replace(SETTINGS, base_url="http://models.invalid"), transport=library)
    failed = await failure(client)
    await client.aclose()

    assert (failed.kind, failed.is_retryable) == (FailureKind.NETWORK, False)
    assert "gopher" in failed.text


@needs_openssl
async def test_a_service_that_cannot_be_trusted_is_told(library: Library, tmp_path: Path) -> None:
    """No other try goes better; nor where a service does not encrypt at all."""
    tls, _ = certificate(tmp_path)
    async with asyncio.timeout(20), Service(always(b""), tls) as service:
        client = LLMClient(replace(SETTINGS, base_url=f"https://{service.address}"), transport=library)
        failed = await failure(client)
        await client.aclose()

        assert (failed.kind, failed.is_retryable) == (FailureKind.NETWORK, False)
        assert "is not to be trusted" in failed.text

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(reply(b"", status="400 Bad Request"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = LLMClient(replace(SETTINGS, base_url=f"https://127.0.0.1:{port}"), transport=library)
        failed = await failure(client)
        await client.aclose()

    assert (failed.kind, failed.is_retryable) == (FailureKind.NETWORK, False)
    assert "is it http://?" in failed.text


async def test_what_is_not_http_is_told(library: Library) -> None:
    """No other try goes better."""

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9\r\n\r\n")
        writer.close()

    async with asking(library, talk) as (client, _):
        failed = await failure(client)

        assert (failed.kind, failed.is_retryable) == (FailureKind.NETWORK, False)


async def test_a_proxy_that_refuses_is_told(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the login that stands in its address."""

    async def talk(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with asyncio.timeout(20), Service(talk) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret@{proxy.address}")
        client = LLMClient(replace(SETTINGS, base_url="https://models.invalid"), transport=library)
        failed = await failure(client)
        await client.aclose()

    assert (failed.kind, failed.is_retryable) == (FailureKind.NETWORK, False)
    assert "407" in failed.text
    assert "s3cret" not in failed.text
