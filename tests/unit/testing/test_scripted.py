"""The ScriptedModel says what its script says, and tells its author what is missing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from pibot_mesh.agent.messages import AssistantMessage, CallRequest, UserMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind, Model, ModelFailure, ModelRequest, StreamPart, UsageSeen
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.testing import Pause, ScriptedModel, call

ASKED = ModelRequest((UserMessage("2 and 2?"),))


async def parts(model: Model, request: ModelRequest = ASKED) -> list[StreamPart]:
    async with aclosing(model.stream(request)) as stream:
        return [part async for part in stream]


async def test_a_word_is_a_turn() -> None:
    """It comes as a delta, and as the answer."""
    assert await parts(ScriptedModel("Four.")) == [Delta("Four."), Answer(AssistantMessage("Four."))]


async def test_calls_are_a_turn_and_get_ids() -> None:
    """Counted over the model's life, so that no two are the same; an id that is given stays."""
    model = ScriptedModel(call("add", a=2, b=2), [call("wait"), CallRequest("mine", "add", "{not JSON")])

    first, second = await parts(model), await parts(model)

    assert first == [Answer(AssistantMessage("", (CallRequest("call_1", "add", '{"a": 2, "b": 2}'),)), "tool_calls")]
    calls = (CallRequest("call_2", "wait"), CallRequest("mine", "add", "{not JSON"))
    assert second == [Answer(AssistantMessage("", calls), "tool_calls")]


async def test_steps_come_one_after_another() -> None:
    """Reasoning, text, usage and a call make one answer."""
    usage = Usage(input=9, output=4)
    model = ScriptedModel([Delta("2 + 2", "reasoning"), "I ", "", "add.", usage, call("add", a=2)])

    said = AssistantMessage("I add.", (CallRequest("call_1", "add", '{"a": 2}'),), "2 + 2", "reasoning_content")
    assert await parts(model) == [
        Delta("2 + 2", "reasoning"),
        Delta("I "),
        Delta("add."),
        UsageSeen(usage),
        Answer(said, "tool_calls"),
    ]


@pytest.mark.parametrize("turn", [AssistantMessage("Four."), Answer(AssistantMessage("Four."))])
async def test_a_whole_message_is_a_turn(turn: AssistantMessage | Answer) -> None:
    """Its text comes as a delta too."""
    assert await parts(ScriptedModel(turn)) == [Delta("Four."), Answer(AssistantMessage("Four."))]


async def test_an_answer_can_be_cut_by_the_token_limit() -> None:
    """The script says how an answer ends."""
    [*_, last] = await parts(ScriptedModel(["I wou", Answer(AssistantMessage("I wou", (call("add"),)), "length")]))

    assert last == Answer(AssistantMessage("I wou", (CallRequest("call_1", "add"),)), "length")


async def test_a_failure_keeps_what_came() -> None:
    """Unless the script says otherwise."""
    cut = ModelFailure(FailureKind.NETWORK, "cut", is_retryable=True)
    own = ModelFailure(FailureKind.NETWORK, "cut", partial=AssistantMessage("else"))
    model = ScriptedModel(cut, ["I wou", cut], ["I wou", own])

    ends = [(await parts(model))[-1] for _ in range(3)]

    assert ends == [
        cut,
        ModelFailure(FailureKind.NETWORK, "cut", is_retryable=True, partial=AssistantMessage("I wou")),
        own,
    ]


@pytest.mark.parametrize("turn", ["", [], AssistantMessage(" ")])
async def test_an_empty_turn_fails_as_with_real_services(turn: str | AssistantMessage) -> None:
    """An answer is never empty."""
    [*_, last] = await parts(ScriptedModel(turn))

    assert isinstance(last, ModelFailure)
    assert (last.kind, last.is_retryable) == (FailureKind.EMPTY, True)


async def test_a_function_answers_by_what_it_is_asked() -> None:
    """And may leave it to another one."""
    model = ScriptedModel(lambda request: lambda again: f"{len(request.messages)} {again is request}")

    assert (await parts(model))[0] == Delta("1 True")
    assert model.requests == [ASKED]


async def test_it_waits_for_an_event_and_can_be_closed_there() -> None:
    """What waits is ended at once, and no call stays open."""
    gate, never = asyncio.Event(), asyncio.Event()
    model = ScriptedModel(["one", gate, Pause(0.001), "two", never])
    stream = model.stream(ASKED)

    assert await anext(stream) == Delta("one")
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    async with asyncio.timeout(5):
        assert await waiting == Delta("two")
    assert model.open_calls == 1

    await stream.aclose()

    assert model.open_calls == 0


async def test_running_out_of_script_is_told_to_the_author() -> None:
    """With what was asked last."""
    model = ScriptedModel("Four.")
    assert model.turns_left == 1
    await parts(model)
    assert model.turns_left == 0

    with pytest.raises(AssertionError, match=r"asked 2 times, but its script has 1 turns: .*2 and 2\?"):
        await parts(model)
    with pytest.raises(AssertionError, match="after 'nothing'"):
        await parts(model, ModelRequest(()))


async def test_what_is_no_turn_is_refused() -> None:
    """With its words."""
    with pytest.raises(TypeError, match="no turn of a ScriptedModel: 4"):
        await parts(ScriptedModel(4))  # type: ignore[arg-type]
