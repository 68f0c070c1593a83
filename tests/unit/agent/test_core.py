"""The agent core where foreign code, disks and models do what they should not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from pibot_mesh.agent import threads
from pibot_mesh.agent.batch import Hooks, Refusal, ToolUse
from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.events import AgentEvent, Compacted, MessageEnd, RunEnd, RunState
from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage
from pibot_mesh.agent.model import Delta, FailureKind, ModelFailure, ModelRequest, StreamPart
from pibot_mesh.agent.tools import Tool, ToolOutcome, ToolRegistry
from pibot_mesh.protocol.messages import Output, State, ToolSpec, Usage
from pibot_mesh.testing.scripted import ScriptedModel, Turn, call
from tests.brokers import until

QUICK = RunLimits(retry_base_s=0.001)
OVERFLOW = ModelFailure(FailureKind.OVERFLOW, "too long")


async def run(agent: AgentCore, text: str = "do it") -> list[AgentEvent]:
    """All events of one run; none may hang."""
    async with asyncio.timeout(10):
        return [event async for event in agent.run(text)]


def results(agent: AgentCore) -> list[str]:
    """What the model was told of its calls."""
    return [message.text for message in agent.messages if isinstance(message, ToolMessage)]


# --- Foreign code ---


def cancelled_inside() -> None:
    """As asyncio.run does where something cancels its main task."""
    raise asyncio.CancelledError


def leaves() -> None:
    """As a script does that was made a tool."""
    raise SystemExit(3)


class Odd(BaseException):
    """Somebody's own."""


def odd() -> None:
    """Raises what nobody expects."""
    raise Odd("hm")


@pytest.mark.parametrize("does", [cancelled_inside, leaves, odd])
@pytest.mark.parametrize("is_async", [False, True])
async def test_whatever_a_tool_raises_its_call_gets_a_result(does: object, is_async: bool) -> None:
    """The run goes on, the program too, and no thread is lost."""
    assert callable(does)
    registry = ToolRegistry()
    room = threads._room._value

    @registry.tool
    def plain() -> None:
        """Break."""
        does()

    @registry.tool
    async def in_loop() -> None:
        """Break."""
        does()

    agent = AgentCore(ScriptedModel(call("in_loop" if is_async else "plain"), "I see."), registry)
    await run(agent)

    assert agent.outcome.state is RunState.COMPLETED
    assert "broke" in results(agent)[0]
    assert "did not end" not in results(agent)[0]
    assert threads._room._value == room


async def test_where_no_thread_can_begin_the_tool_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its place is free again."""

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    registry = ToolRegistry([Tool(ToolSpec("look"), lambda args, context: Output("dark"))])
    room = threads._room._value
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    outcome = await registry.outcome("look", {})

    assert outcome.error is not None
    assert outcome.error.code == "busy"
    assert threads._room._value == room


async def dialog_closed(use: ToolUse) -> None:
    """Waits for somebody who goes away."""
    closed = asyncio.get_running_loop().create_future()
    closed.cancel()
    await closed


@pytest.mark.parametrize(
    ("hooks", "says"),
    [
        (Hooks(before_tool=dialog_closed), "the hook before_tool broke"),
        (Hooks(before_tool=lambda use: True), "the hook before_tool broke: TypeError"),  # type: ignore[arg-type, return-value]
        (Hooks(after_tool=lambda use, outcome: "dark"), "the hook after_tool broke"),  # type: ignore[arg-type, return-value]
    ],
)
async def test_whatever_a_hook_does_the_call_gets_a_result(hooks: Hooks, says: str) -> None:
    """In words, and the run goes on."""
    registry = ToolRegistry([Tool(ToolSpec("look"), lambda args, context: Output("dark"))])
    agent = AgentCore(ScriptedModel(call("look"), "I see."), registry, hooks=hooks)
    await run(agent)

    assert results(agent)[0].startswith(says)
    assert agent.outcome.state is RunState.COMPLETED


async def test_a_tool_that_goes_while_its_hook_thinks_is_named() -> None:
    """A skill may be loaded again at any time."""
    registry = ToolRegistry([Tool(ToolSpec("look"), lambda args, context: Output("dark"))])

    def remove(use: ToolUse) -> None:
        registry.remove("look")

    agent = AgentCore(ScriptedModel(call("look"), "I see."), registry, hooks=Hooks(before_tool=remove))
    await run(agent)
    assert results(agent) == ["the tool 'look' has gone"]


async def test_an_interrupt_while_a_hook_thinks_skips_the_call() -> None:
    """It has not begun."""
    registry = ToolRegistry([Tool(ToolSpec("look"), lambda args, context: Output("dark"))])

    async def interrupt(use: ToolUse) -> Refusal | None:
        agent.interrupt("wait")
        return None

    agent = AgentCore(ScriptedModel(call("look"), "I see."), registry, hooks=Hooks(before_tool=interrupt))
    await run(agent)
    assert results(agent) == ["skipped: interrupted"]


class Broken:
    """A model that somebody wrote."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
        """Begin, and break."""
        yield Delta("So ")
        raise self._error


@pytest.mark.parametrize("error", [OSError("no disk"), asyncio.CancelledError()])
async def test_a_model_that_breaks_fails_the_run(error: BaseException) -> None:
    """With all events, and what it had said."""
    agent = AgentCore(Broken(error))
    events = await run(agent)

    assert [event.is_whole for event in events if isinstance(event, MessageEnd)] == [False]
    assert isinstance(events[-1], RunEnd)
    assert (agent.outcome.state, agent.outcome.failure) == (RunState.FAILED, FailureKind.PROTOCOL)
    assert agent.messages[-1] == AssistantMessage("So ")


async def test_an_assertion_in_a_model_reaches_the_test() -> None:
    """A ScriptedModel that is asked too often says so."""
    agent = AgentCore(ScriptedModel())
    with pytest.raises(AssertionError, match="its script has 0 turns"):
        await run(agent)
    assert not agent.is_running


# --- Abort, and who reads ---


async def test_a_slow_disk_does_not_hold_up_an_abort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole output is then nowhere; the run has ended."""
    gate, has_begun = threading.Event(), threading.Event()

    def slow(self: Path, *_: object, **__: object) -> int:
        has_begun.set()
        gate.wait(10)
        return 0

    monkeypatch.setattr(Path, "write_text", slow)
    registry = ToolRegistry([Tool(ToolSpec("dump"), lambda args, context: Output("x" * 50_000))])
    agent = AgentCore(ScriptedModel(call("dump")), registry, output_dir=tmp_path)
    running = asyncio.ensure_future(run(agent))
    await asyncio.to_thread(has_begun.wait, 5)
    begun = time.monotonic()
    agent.abort()
    await running
    gate.set()

    assert time.monotonic() - begun < 0.5
    assert "bytes left out" in results(agent)[0]


async def test_a_reader_who_is_cancelled_twice_leaves_an_agent_that_works() -> None:
    """In the middle of a tool's grace."""
    gate, is_deaf = threading.Event(), threading.Event()

    def deaf(*_: object) -> Output:
        is_deaf.set()
        gate.wait(10)
        return Output()

    agent = AgentCore(ScriptedModel(call("deaf"), "Again."), [Tool(ToolSpec("deaf"), deaf)])
    running = asyncio.ensure_future(run(agent))
    await asyncio.to_thread(is_deaf.wait, 5)
    running.cancel()
    await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.wait({running})
    await until(lambda: not agent.is_running, "the run is over")
    gate.set()

    await run(agent)
    assert agent.outcome.text == "Again."


async def test_a_plain_function_that_gives_an_awaitable_is_left_behind_in_time() -> None:
    """It cannot be told in the first try, and need not be waited for twice."""

    is_deaf, gate = asyncio.Event(), asyncio.Event()

    async def deaf() -> Output:
        is_deaf.set()
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()
        return Output()

    registry = ToolRegistry([Tool(ToolSpec("deaf"), lambda args, context: deaf())])
    agent = AgentCore(ScriptedModel(call("deaf")), registry)
    running = asyncio.ensure_future(run(agent))
    await is_deaf.wait()
    begun = time.monotonic()
    agent.abort()
    await running
    assert time.monotonic() - begun < 0.5
    gate.set()


async def test_outputs_of_one_batch_are_all_kept() -> None:
    """They end at the same time, in threads; each file that the model is told of is there."""

    def dump(*_: object) -> Output:
        return Output("x" * 30_000)

    for _ in range(10):
        calls = AssistantMessage("", tuple(CallRequest(f"c{number}", "dump") for number in range(4)))
        agent = AgentCore(
            ScriptedModel(calls, "Much."), [Tool(ToolSpec("dump"), dump)], limits=RunLimits(same_calls=99)
        )
        await run(agent)
        files = [Path(text.rpartition("is in ")[2].rstrip("]")) for text in results(agent)]
        assert [file.exists() for file in files] == [True] * 4
        assert len({file.parent for file in files}) == 1


# --- Retries, limits ---


async def test_an_empty_answer_has_a_try_of_its_own() -> None:
    """Whatever went wrong before it."""
    network = ModelFailure(FailureKind.NETWORK, "cut", is_retryable=True)
    agent = AgentCore(ScriptedModel(network, "", "Here."), limits=QUICK)
    await run(agent)
    assert agent.outcome.text == "Here."


async def test_a_refused_connection_uses_no_tokens() -> None:
    """Nothing was read."""
    refused = ModelFailure(FailureKind.NETWORK, "refused", is_retryable=True)
    limits = RunLimits(retry_base_s=0.001, tokens=1500)
    registry = ToolRegistry([Tool(ToolSpec("look"), lambda args, context: Output("dark"))])
    agent = AgentCore(ScriptedModel(*[refused] * 4, call("look"), "Dark."), registry, limits=limits)
    await run(agent, "x" * 1800)
    assert agent.outcome.state is RunState.COMPLETED


async def test_after_a_steering_message_an_interrupt_still_counts() -> None:
    """Until it was said itself."""
    registry = ToolRegistry([Tool(ToolSpec("look"), lambda args, context: Output("dark"))])
    gate = asyncio.Event()
    model = ScriptedModel(["So", gate, call("look")], call("look"), "I see.")
    agent = AgentCore(model, registry)
    running = asyncio.ensure_future(run(agent))
    while not model.requests:
        await asyncio.sleep(0)
    agent.steer("first")
    agent.interrupt("second")
    gate.set()
    await running
    assert results(agent) == ["skipped: interrupted", "skipped: interrupted"]


async def test_arguments_that_strict_json_does_not_know_are_not_sent_back() -> None:
    """Services may refuse the whole conversation for them."""
    agent = AgentCore(ScriptedModel(CallRequest("c", "look", '{"a": NaN}'), "I see."), [_look()])
    await run(agent)
    assert isinstance(agent.messages[1], AssistantMessage)
    assert agent.messages[1].calls[0].arguments == "{}"


# --- The context ---


def _look(size: int = 4) -> Tool:
    return Tool(ToolSpec("look"), lambda args, context: Output("x" * size))


async def test_what_is_being_done_is_never_forgotten() -> None:
    """The instruction of this run stays, also where the model gives no summary, and over several of them."""

    def answer(request: ModelRequest) -> Turn:
        if "shorten the record" in request.system:
            return ModelFailure(FailureKind.PROTOCOL, "no summary today")
        turns = len(model.requests)
        return call("look", turn=turns) if turns < 40 else "All counted."

    model = ScriptedModel("Hello.", *[answer] * 60)
    limits = RunLimits(context_tokens=6000, same_calls=99)
    agent = AgentCore(model, [_look(3000)], limits=limits)
    await run(agent, "hi there")
    events = await run(agent, "count the ducks")

    assert sum(isinstance(event, Compacted) for event in events) > 2
    asked = [request for request in model.requests if "shorten" not in request.system]
    assert all("count the ducks" in str(request.messages) for request in asked[1:])
    assert "hi there" in str(asked[-1].messages)
    assert str(asked[-1].messages).count("Earlier turns") == 1


async def test_a_model_that_reads_less_than_it_should_is_asked_again_with_less() -> None:
    """Its context may be smaller than what was configured."""
    talk: list[Message] = []
    for number in range(40):
        talk += [UserMessage(f"question {number} {'x' * 250}"), AssistantMessage("y" * 250)]
    agent = AgentCore(ScriptedModel(OVERFLOW, "They talked.", "Here."), messages=talk)
    await run(agent)

    assert agent.outcome.text == "Here."
    assert "They talked." in agent.messages[0].text


async def test_a_service_that_counts_more_than_we_do_is_believed() -> None:
    """What is told is what counts: older turns are summarised all the same."""
    script: list[Turn] = [[call("look"), Usage(input=4000 + number)] for number in range(4)]
    model = ScriptedModel(*script, "A summary.", "Seen.")
    limits = RunLimits(context_tokens=4500, same_calls=99)
    agent = AgentCore(model, [_look(900)], limits=limits)
    events = await run(agent)

    compacted = next(event for event in events if isinstance(event, Compacted))
    assert compacted.after < compacted.before
    assert len(agent.messages) < 9


async def test_a_summary_has_a_limit() -> None:
    """A model that tells the whole story again has shortened nothing."""
    talk: list[Message] = [
        message for _ in range(30) for message in (UserMessage("q" * 900), AssistantMessage("a" * 900))
    ]
    model = ScriptedModel("s" * 300_000, "Here.")
    agent = AgentCore(model, messages=talk, limits=RunLimits(context_tokens=12_000))
    await run(agent)
    assert len(str(model.requests[-1].messages)) < 12_000 * 3


async def test_where_tools_alone_fill_the_room_nothing_is_summarised() -> None:
    """It would be asked for at every turn, and win nothing; the service says what it thinks."""
    tools = [Tool(ToolSpec(f"tool_{number}", "d" * 300), lambda args, context: Output("ok")) for number in range(31)]
    model = ScriptedModel(*[call("tool_1", turn=number) for number in range(5)], "Done.")
    agent = AgentCore(model, tools, limits=RunLimits(context_tokens=3000, same_calls=99))
    await run(agent)
    assert len(model.requests) == 6


async def test_an_after_hook_may_give_nothing() -> None:
    """Then the outcome stands as it is."""
    seen: list[ToolOutcome] = []
    agent = AgentCore(
        ScriptedModel(call("look"), "I see."), [_look()], hooks=Hooks(after_tool=lambda _, o: seen.append(o))
    )
    await run(agent)
    assert (seen[0].state, results(agent)) == (State.COMPLETED, ["xxxx"])
