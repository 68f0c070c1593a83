"""A key is shown to the service and to nobody else, whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace

import pytest

from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.model import FailureKind
from pibot_mesh.config.settings import ModelSettings
from pibot_mesh.errors import ConfigError
from pibot_mesh.testing import FakeModelServer, HttpAnswer, SeenRequest, fail, raw, say, stream
from pibot_mesh.testing.answers import End, chunk, wire
from pibot_mesh.testing.model_server import Script
from tests.brokers import free_port
from tests.conformance.agent.agents import SETTINGS, Path
from tests.conformance.agent.asking import Outcome, always, asking, outcome

KEY = "Quoth9The3Raven7Nevermore"
"""Of no shape that keys have, so that it must be known to be hidden."""
KEYED = replace(SETTINGS, api_key=KEY)


class Ears:
    """Everything that was said where somebody could read it."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self._caplog = caplog
        self._capfd = capfd
        self._heard: list[str] = []

    def hear(self, *things: object) -> None:
        """Remember how *things* look, and of errors the traceback with all that they came from."""
        for thing in things:
            self._heard += [repr(thing), str(thing)]
            if isinstance(thing, BaseException):
                self._heard.append("".join(traceback.format_exception(thing)))

    def all(self) -> str:
        """What was heard, logged with its arguments and errors, and printed."""
        records = [f"{record.getMessage()} {record.args!r} {record.__dict__!r}" for record in self._caplog.records]
        printed = self._capfd.readouterr()
        return "\n".join([*self._heard, *records, self._caplog.text, printed.out, printed.err])


@pytest.fixture
def ears(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Ears:
    """With every logger that there is at DEBUG."""
    caplog.set_level(logging.DEBUG)
    for name in [
        *logging.Logger.manager.loggerDict,
        "openai",
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "pibot_mesh",
    ]:
        caplog.set_level(logging.DEBUG, logger=name)
    return Ears(caplog, capfd)


def by_key(answer: Callable[[str], HttpAnswer]) -> Script:
    """A service that says again which key it was sent."""
    return lambda request: answer(request.key)


FAILING: dict[str, Script] = {
    "401 with the key": by_key(lambda key: fail(401, f"Incorrect API key provided: {key}.", code="invalid_api_key")),
    "401 with the header": by_key(lambda key: fail(401, f"Authorization: Bearer {key} is not valid")),
    "401 with the key in its code": by_key(lambda key: fail(401, "no", code=key, type=key, param=key)),
    "400 with the key": by_key(lambda key: fail(400, f"messages: bad request of {key}")),
    "404 with a page": by_key(
        lambda key: raw(f"<html>who is {key}?</html>".encode(), status=404, content_type="text/html")
    ),
    "429 with the key": by_key(lambda key: fail(429, f"{key} asks too often", retry_after=1)),
    "500 with the key in a list": by_key(lambda key: raw(f'["{key}"]'.encode(), status=500)),
    "moved to an address with the key": by_key(
        lambda key: fail(302, "over there").with_headers({"Location": f"http://127.0.0.1:9/v1?key={key}"})
    ),
    "the key in a header of the answer": by_key(lambda key: fail(401, "no").with_headers({"X-Your-Key": key})),
    "the key in the status line": lambda request: wire(f"HTTP/1.1 401 {request.key}\r\n\r\n".encode()),
    "what is not HTTP": lambda request: wire(f"{request.key}\r\n\r\n".encode()),
    "a page": by_key(lambda key: raw(f"<html>{key}</html>".encode(), content_type="text/html")),
    "text": by_key(lambda key: raw(f"hello {key}".encode())),
    "an error in the stream": by_key(
        lambda key: stream(chunk({"content": "Ye"}), {"error": {"message": f"bad {key}", "code": key}})
    ),
    "an error in the stream at once": by_key(lambda key: stream({"error": f"who is {key}?"})),
    "an event that is no JSON": by_key(lambda key: stream(b"data: {" + key.encode() + b"\n\n")),
    "an unknown finish": by_key(lambda key: stream(chunk({}, finish=key))),
    "a call without a name": by_key(
        lambda key: stream(chunk({"tool_calls": [{"id": key, "function": {"arguments": key}}]}, finish="stop"))
    ),
    "a cut": always(HttpAnswer((End.RESET,))),
    "a cut in the middle": always(say("Yes and no").cut(20, reset=True)),
}


@pytest.mark.parametrize("name", FAILING)
async def test_a_failure_does_not_tell_the_key(name: str, ears: Ears, path: Path) -> None:
    """Not even where the service says it."""
    async with asking(path, FAILING[name], KEYED) as (client, server):
        came = await outcome(client)
        ears.hear(client, came.failure)
    ears.hear(client)

    assert server.requests[0].key == KEY, "it was sent where it belongs"
    assert KEY not in ears.all()


async def test_success_does_not_tell_the_key(ears: Ears, path: Path) -> None:
    """Nothing that is logged of a request or settings shows it."""
    async with asking(path, ["Yes."], KEYED) as (client, _):
        ears.hear(client, KEYED, (await outcome(client)).end)

    assert KEY not in ears.all()


async def _asked(settings: ModelSettings, path: Path, ears: Ears) -> Outcome:
    async with LLMClient(settings, transport=path) as client:
        came = await outcome(client)
        ears.hear(client, settings, came.failure)
    return came


async def test_nobody_there(ears: Ears, path: Path) -> None:
    """A connection that is refused, and a name that is not known."""
    for url in (f"http://127.0.0.1:{free_port()}/v1", "http://model.invalid/v1"):
        came = await _asked(replace(KEYED, base_url=url), path, ears)
        assert came.failure.kind is FailureKind.NETWORK

    assert KEY not in ears.all()


async def test_no_tls_there(ears: Ears, path: Path) -> None:
    """https to a service that speaks http, and says so."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        came = await _asked(replace(KEYED, base_url=f"https://127.0.0.1:{port}/v1"), path, ears)

    assert (came.failure.kind, came.failure.is_retryable) == (FailureKind.NETWORK, False)
    assert KEY not in ears.all()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_proxy_that_refuses(
    scheme: str, is_there: bool, ears: Ears, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the key nor the proxy's own password."""
    password = "Once5Upon8A2Midnight"

    def script(request: SeenRequest) -> HttpAnswer:
        return fail(407, f"who are you, {request.key} {request.headers.get('proxy-authorization')}?")

    async with FakeModelServer(script) as proxy:
        port = proxy.port if is_there else free_port()
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://me:{password}@127.0.0.1:{port}")
        for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)

        await _asked(replace(KEYED, base_url=f"{scheme}://model.invalid/v1"), path, ears)

    assert bool(proxy.requests) == is_there, "the proxy was asked"
    heard = ears.all()
    assert KEY not in heard
    assert password not in heard
    if scheme == "https" and is_there:
        assert proxy.requests[0].key == "", "what is for the service is not shown to the proxy"


@pytest.mark.parametrize("url", ["http://me:{key}@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?key={key}", "{key}"])
async def test_a_key_in_the_address_is_refused(url: str, ears: Ears, path: Path) -> None:
    """Addresses are shown and logged; the refusal does not repeat it where it can tell."""
    settings = replace(KEYED, base_url=url.format(key=KEY))

    with pytest.raises(ConfigError) as refused:
        LLMClient(settings, transport=path)

    ears.hear(refused.value)
    assert KEY not in ears.all()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_the_key_does_not_follow_to_another_address(status: int, ears: Ears, path: Path) -> None:
    """A redirect is said, and not followed."""
    async with FakeModelServer(always(say("Give it to me."))) as thief:
        moved = fail(status, "over there").with_headers({"Location": f"{thief.base_url}/chat/completions"})
        async with asking(path, always(moved), KEYED) as (client, _):
            failure = (await outcome(client)).failure

    assert thief.requests == []
    assert (failure.kind, failure.is_retryable) == (FailureKind.PROTOCOL, False)
    assert KEY not in ears.all()


@pytest.mark.parametrize("key", [f"{KEY}\nX-Header: yes", f"Bearer {KEY}", f"{KEY}é", f" {KEY}\n"])
async def test_a_key_that_cannot_be_sent_is_not_told(key: str, ears: Ears, path: Path) -> None:
    """What people copy with a key: blanks around it do no harm, anything else is refused in words."""
    async with asking(path, ["Yes."], replace(SETTINGS, api_key=key)) as (client, server):
        came = await outcome(client)
        ears.hear(client, came.end)

    assert came.text == "Yes." or came.failure.kind is FailureKind.AUTH
    assert [request.key for request in server.requests] in ([], [KEY])
    assert KEY not in ears.all()
