"""A model is tried, and what is found is said in words."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count

import pytest

from pibot_mesh.agent.messages import CallRequest
from pibot_mesh.agent.model import Delta, FailureKind, ModelFailure, ModelRequest, StreamPart
from pibot_mesh.agent.model_check import Finding, check_model
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.testing.scripted import ScriptedModel, Turn, call


async def found(*script: Turn, tick_s: float = 0.25) -> list[Finding]:
    """What is found where the clock goes on by *tick_s* at each look."""
    ticks = count()
    return await check_model(ScriptedModel(*script), clock=lambda: next(ticks) * tick_s)


async def test_a_model_that_works() -> None:
    """With how long it took."""
    findings = await found(["pong", Usage(20, 0, 3)], call("add", a=2, b=3))

    assert [finding.verdict for finding in findings] == ["works", "works", "works"]
    assert [finding.text for finding in findings] == [
        'it answers "pong" (after 0.2 s, 0.5 s in all)',
        "it calls tools: add(a=2, b=3) (after 0.2 s, 0.5 s in all)",
        "it tells what it used: 20 tokens in, 3 out",
    ]


async def test_a_slow_model_is_called_slow() -> None:
    """It works all the same."""
    findings = await found("pong", call("add", a="2", b=3), tick_s=4)

    assert [finding.verdict for finding in findings] == ["slow", "slow", "works"]
    assert "4.0 s, 8.0 s in all: that is slow" in findings[0].text
    assert "estimated" in findings[2].text


@pytest.mark.parametrize("kind", list(FailureKind))
async def test_a_model_that_does_not_answer(kind: FailureKind) -> None:
    """What is wrong stands first, then what the service said; tools are not tried then."""
    [finding] = await found(ModelFailure(kind, "401: no"))

    assert (finding.verdict, finding.failure) == ("wrong", kind)
    assert finding.text.endswith(": 401: no")


@pytest.mark.parametrize(
    "turn",
    [
        "The sum is 5.",
        call("add", a=2),
        CallRequest("", "add", "{"),
        call("sum", a=2, b=3),
        CallRequest("", "add", "[]"),
    ],
)
async def test_a_model_that_cannot_call_tools(turn: Turn) -> None:
    """The advice is to choose another."""
    findings = await found("pong" * 40, turn)

    assert findings[1].verdict == "wrong"
    assert "choose a model that can" in findings[1].text
    assert len(findings[0].text) < 120


async def test_a_stream_without_an_end_is_named() -> None:
    """A model of one's own may do that."""

    class Broken:
        async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
            yield Delta("po")

    [finding] = await check_model(Broken())
    assert (finding.verdict, finding.text) == ("wrong", "its answer has no end")


async def test_a_failure_at_the_tool_call_is_told() -> None:
    """Some services refuse tools."""
    findings = await found("pong", ModelFailure(FailureKind.PROTOCOL, "does not support tools"))
    assert findings[1].text.endswith("does not support tools")
