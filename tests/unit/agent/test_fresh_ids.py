"""Calls under ids of our own, and under the service's where it looks."""

from __future__ import annotations

import re
from contextlib import aclosing

from pibot_mesh.agent.fresh_ids import FreshIds
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage
from pibot_mesh.agent.model import Answer, FailureKind, ModelFailure, ModelRequest, StreamPart
from pibot_mesh.testing import ScriptedModel

BEGIN = UserMessage("begin")


async def ask(model: FreshIds, *messages: Message) -> list[StreamPart]:
    async with aclosing(model.stream(ModelRequest((BEGIN, *messages)))) as parts:
        return [part async for part in parts]


async def test_a_call_gets_an_id_that_nobody_can_know_before() -> None:
    """12 hex digits, another one each time, also where the service says the same again."""
    inner = ScriptedModel(*[CallRequest("call_1", "look")] * 3)
    model = FreshIds(inner)

    ids = []
    for _ in range(3):
        *_, answer = await ask(model)
        assert isinstance(answer, Answer)
        ids += [call.id for call in answer.message.calls]

    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in ids)


async def test_the_service_sees_its_own_ids_again() -> None:
    """In calls and results; what it never named stays as it is."""
    inner = ScriptedModel([CallRequest("functions.look:0", "look")], "Done.")
    model = FreshIds(inner)
    [answer] = await ask(model)
    assert isinstance(answer, Answer)
    ours = answer.message.calls[0].id
    old = AssistantMessage("", (CallRequest("old", "look"),))

    await ask(model, old, ToolMessage("old", "look", "x"), answer.message, ToolMessage(ours, "look", "y"))

    _, first, _, second, result = inner.requests[1].messages
    assert first == old
    assert isinstance(second, AssistantMessage)
    assert second.calls == (CallRequest("functions.look:0", "look"),)
    assert result == ToolMessage("functions.look:0", "look", "y")


async def test_a_failure_is_passed_on_and_kept() -> None:
    """Whether it is worth trying again is in it alone."""
    failure = ModelFailure(FailureKind.NETWORK, "gone", is_retryable=True)
    model = FreshIds(ScriptedModel(failure))
    assert model.failure is None

    assert await ask(model) == [failure]
    assert model.failure == failure


async def test_who_leaves_closes_the_stream_of_the_model() -> None:
    """At once."""
    inner = ScriptedModel(["a", "b"])
    async with aclosing(FreshIds(inner).stream(ModelRequest((BEGIN,)))) as parts:
        await anext(parts)
        assert inner.open_calls == 1

    assert inner.open_calls == 0
