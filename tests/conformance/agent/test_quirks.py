"""What OpenAI-compatible services really send and refuse, one by one, over a real socket and both HTTP paths."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, ToolMessage, UserMessage
from pibot_mesh.agent.model import FailureKind, ModelRequest
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.testing import QUIRKS, HttpAnswer, Quirk, SeenRequest, fail, say
from pibot_mesh.testing.answers import End, wire
from pibot_mesh.testing.quirks import PLAIN
from pibot_mesh.testing.quirks.quirk import LOOK
from tests.brokers import free_port
from tests.conformance.agent.agents import SETTINGS, Path
from tests.conformance.agent.asking import Outcome, always, asking, outcome

PROVIDERS = ("volcengine", "openai", "deepseek", "ollama", "custom")


@pytest.mark.parametrize("name", QUIRKS)
async def test_quirk(name: str, path: Path) -> None:
    """The client makes of it what is right."""
    quirk = QUIRKS[name]
    async with asking(path, always(quirk.answer), replace(SETTINGS, provider=quirk.provider)) as (client, _):
        came = await outcome(client, quirk.request)

    assert (came.text, came.reasoning) == (quirk.text, quirk.reasoning)
    assert quirk.usage in (None, came.usage)
    _expect_failure(quirk, came) if quirk.failure else _expect_answer(quirk, came)


def _expect_answer(quirk: Quirk, came: Outcome) -> None:
    message = came.answer.message
    calls = [
        replace(one, id=one.id if wanted.id else "") for one, wanted in zip(message.calls, quirk.calls, strict=True)
    ]
    assert calls == list(quirk.calls)
    ids = [one.id for one in message.calls]
    assert all(ids), "every call has an id"
    assert len(set(ids)) == len(ids), "and each its own"
    assert message.reasoning_field == quirk.reasoning_field
    assert quirk.finish in (None, came.answer.finish)


def _expect_failure(quirk: Quirk, came: Outcome) -> None:
    failure = came.failure
    assert (failure.kind, failure.is_retryable) == (quirk.failure, quirk.is_retryable), failure.text
    assert failure.retry_after_s == quirk.retry_after_s
    assert failure.text.strip(), "it says what was wrong"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("max_tokens is refused (OpenAI)", "max_tokens"),
        ("max_completion_tokens is refused", "max_completion_tokens"),
        ("stream_options is refused", "stream_options"),
    ],
)
async def test_what_was_refused_is_remembered(name: str, field: str, path: Path) -> None:
    """One request more, once; the limit goes out under its other name."""
    quirk = QUIRKS[name]
    async with asking(path, always(quirk.answer), replace(SETTINGS, provider=quirk.provider)) as (client, server):
        first, second = await outcome(client), await outcome(client)

    assert (first.text, second.text) == ("Yes.", "Yes.")
    assert [field in request.body for request in server.requests] == [True, False, False]
    for request in server.requests:
        assert 500 in (request.body.get("max_tokens"), request.body.get("max_completion_tokens"))


async def test_a_field_is_left_out_once(path: Path) -> None:
    """Where that does not help, the refusal stands."""
    refusal = fail(400, "Unrecognized request argument supplied: stream_options")
    async with asking(path, always(refusal)) as (client, server):
        failure = (await outcome(client)).failure

    assert (failure.kind, failure.is_retryable) == (FailureKind.PROTOCOL, False)
    assert "stream_options" in failure.text
    assert len(server.requests) <= 2


async def test_the_client_leaves_retries_to_the_loop(path: Path) -> None:
    """One request for one call, so that every retry is seen and counted."""
    async with asking(path, always(fail(503, "busy"))) as (client, server):
        await outcome(client)

    assert len(server.requests) == 1


async def body_of(path: Path, provider: str, request: ModelRequest) -> JSON:
    """What a service of *provider*'s kind is sent."""
    async with asking(path, ["Yes."], replace(SETTINGS, provider=provider)) as (client, server):
        await outcome(client, request)
    return server.requests[0].body


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_request_is_one_that_every_service_takes(provider: str, path: Path) -> None:
    """The prompt as system, tools as functions, a stream, and nothing that is refused by some."""
    body = await body_of(path, provider, PLAIN)

    assert body["model"] == "m"
    assert body["stream"] is True
    assert body["messages"] == [
        {"role": "system", "content": "You look."},
        {"role": "user", "content": "Look into the attic and the hall."},
    ]
    assert body["tools"][0] == {
        "type": "function",
        "function": {"name": "look", "description": "Looks into a room.", "parameters": dict(LOOK.parameters)},
    }
    assert "parallel_tool_calls" not in body
    assert "max_tokens" in body or "max_completion_tokens" in body
    assert {"max_tokens", "max_completion_tokens"} - set(body), "never both"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_without_tools_nothing_is_said_of_tools(provider: str, path: Path) -> None:
    """An empty list is refused by some; without a prompt and a limit there is nothing of them either."""
    body = await body_of(path, provider, ModelRequest((UserMessage("Yes?"),)))

    assert set(body) <= {"model", "messages", "stream", "stream_options"}
    assert [message["role"] for message in body["messages"]] == ["user"]


async def test_the_key_goes_out_as_bearer(path: Path) -> None:
    """To the address in the settings, below which the path is the usual one."""
    async with asking(path, ["Yes."]) as (client, server):
        await outcome(client)

    [request] = server.requests
    assert (request.method, request.path, request.key) == ("POST", "/v1/chat/completions", SETTINGS.api_key)


async def test_without_a_key_there_is_no_header(path: Path) -> None:
    """Local services want none."""
    async with asking(path, ["Yes."], replace(SETTINGS, provider="ollama", api_key=None)) as (client, server):
        assert (await outcome(client)).text == "Yes."

    assert server.requests[0].key in ("", "ollama", "none")


ROUND = (
    UserMessage("Look."),
    AssistantMessage("I look.", (CallRequest("call_a", "look", '{"room": "attic"}'), CallRequest("call_b", "wait"))),
    ToolMessage("call_a", "look", "dark"),
    ToolMessage("call_b", "wait", ""),
    UserMessage("And now?"),
)


async def test_calls_and_results_go_back_as_they_came(path: Path) -> None:
    """Ids that are fine are left alone; no arguments are {} and no output is (no output)."""
    body = await body_of(path, "custom", ModelRequest(ROUND, tools=(LOOK,)))

    _, said, dark, nothing, _ = body["messages"]
    assert said["content"] == "I look."
    assert said["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "look", "arguments": '{"room": "attic"}'}},
        {"id": "call_b", "type": "function", "function": {"name": "wait", "arguments": "{}"}},
    ]
    assert (dark["role"], dark["tool_call_id"], dark["content"]) == ("tool", "call_a", "dark")
    assert (nothing["role"], nothing["tool_call_id"], nothing["content"]) == ("tool", "call_b", "(no output)")


REASONED = ModelRequest(
    (
        UserMessage("Look."),
        AssistantMessage("", (CallRequest("call_a", "look", "{}"),), "The attic.", "reasoning"),
        ToolMessage("call_a", "look", "dark"),
    ),
    tools=(LOOK,),
)


async def test_reasoning_goes_back_under_its_own_name(path: Path) -> None:
    """Where the service wants it at all."""
    deepseek = (await body_of(path, "deepseek", REASONED))["messages"][1]
    others = [(await body_of(path, provider, REASONED))["messages"][1] for provider in ("openai", "custom", "ollama")]
    without_tools = (await body_of(path, "deepseek", replace(REASONED, tools=())))["messages"][1]

    assert deepseek["reasoning"] == "The attic."
    assert [name for message in (*others, without_tools) for name in message if name.startswith("reasoning")] == []


async def test_the_same_conversation_begins_with_the_same_bytes(path: Path) -> None:
    """Or the service's cache of prompts would not find it."""
    first = await body_of(path, "custom", ModelRequest(ROUND[:1], "You look.", (LOOK,)))
    later = await body_of(path, "custom", ModelRequest(ROUND, "You look.", (LOOK,)))

    assert json.dumps(later["messages"]).startswith(json.dumps(first["messages"])[:-1])
    assert later["tools"] == first["tools"]


def _date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "least_s", "most_s"),
    [
        (lambda: {"Retry-After": "3"}, 3, 3),
        (lambda: {"Retry-After": "0.5"}, 0.5, 0.5),
        (lambda: {"retry-after-ms": "250"}, 0.25, 0.25),
        (lambda: {"Retry-After": _date(90)}, 60, 90),
        (lambda: {"Retry-After": _date(-90)}, 0, 0),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(
    status: int, headers: Callable[[], dict[str, str]], least_s: float, most_s: float, path: Path
) -> None:
    """In seconds, in milliseconds, or as a date, which may have passed."""
    async with asking(path, always(fail(status).with_headers(headers()))) as (client, _):
        failure = (await outcome(client)).failure

    assert failure.is_retryable
    assert failure.retry_after_s is not None
    assert least_s <= failure.retry_after_s <= most_s


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "1e999", ""])
async def test_a_retry_after_that_makes_no_sense_is_none(value: str, path: Path) -> None:
    """The loop then waits as long as it sees fit."""
    async with asking(path, always(fail(429, retry_after=value))) as (client, _):
        assert (await outcome(client)).failure.retry_after_s is None


BROKEN: dict[str, tuple[HttpAnswer, FailureKind, bool]] = {
    "the connection ends before the head": (wire(), FailureKind.NETWORK, True),
    "the connection is reset before the head": (HttpAnswer((End.RESET,)), FailureKind.NETWORK, True),
    "the connection ends in the head": (wire(b"HTTP/1.1 200 OK\r\nConte"), FailureKind.NETWORK, True),
    "the connection ends in the body": (say("Yes and no").cut(20), FailureKind.NETWORK, True),
    "the connection is reset in the body": (say("Yes and no").cut(20, reset=True), FailureKind.NETWORK, True),
    "the body is shorter than was said": (say("Yes").framed("length").cut(20), FailureKind.NETWORK, True),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_connection_is_worth_another_try(name: str, path: Path) -> None:
    """And the next one may be fine, with the same client."""
    answer, kind, is_retryable = BROKEN[name]
    async with asking(path, [answer, "Yes."]) as (client, _):
        failure = (await outcome(client)).failure
        again = await outcome(client)

    assert (failure.kind, failure.is_retryable) == (kind, is_retryable), failure.text
    assert again.text == "Yes."


@pytest.mark.parametrize("answer", [wire(b"SSH-2.0-OpenSSH_9.6\r\n"), wire(b"HTTP/1.1 twohundred OK\r\n\r\n")])
async def test_what_is_not_http_is_a_typed_failure(answer: HttpAnswer, path: Path) -> None:
    """Some other program listens there."""
    async with asking(path, always(answer)) as (client, _):
        failure = (await outcome(client)).failure

    assert failure.kind in (FailureKind.PROTOCOL, FailureKind.NETWORK)


async def test_a_connection_that_the_service_closed_meanwhile_is_no_failure(path: Path) -> None:
    """Services close connections that rest; the next request must not suffer from it."""
    closing = replace(say("Yes."), steps=(say("Yes.").body, End.CUT), framing="close")
    async with asking(path, [closing, "Yes."]) as (client, server):
        assert [(await outcome(client)).text for _ in range(2)] == ["Yes.", "Yes."]

    assert server.connections == 2


async def test_a_connection_is_used_again(path: Path) -> None:
    """TLS for every turn would cost more than all else. An answer's end may be read while the next one is asked."""
    async with asking(path, always(say("Yes."))) as (client, server):
        for _ in range(10):
            await outcome(client)

    assert server.connections <= 2


async def test_calls_can_run_side_by_side(path: Path) -> None:
    """One client serves many agents, and nobody gets another's answer."""

    def script(request: SeenRequest) -> HttpAnswer:
        return say(*request.last, one_write=False).paced(0.001)

    async with asking(path, script) as (client, _):
        texts = [f"Number {number}" for number in range(20)]
        came = await asyncio.gather(*(outcome(client, ModelRequest((UserMessage(text),))) for text in texts))

    assert [one.text for one in came] == texts


async def test_a_service_that_is_not_there(path: Path) -> None:
    """Says so, with its address, and is worth another try."""
    port = free_port()
    settings = replace(SETTINGS, base_url=f"http://127.0.0.1:{port}/v1")
    async with LLMClient(settings, transport=path) as client:
        failure = (await outcome(client)).failure

    assert (failure.kind, failure.is_retryable) == (FailureKind.NETWORK, True)
    assert str(port) in failure.text
