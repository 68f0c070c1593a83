"""The rules of the agent core, one by one, over a real socket and both HTTP paths.

The numbers are those of docs/agent.md. What a service may send is in test_quirks.py.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from pibot_mesh.agent.batch import Hooks, Refusal, ToolUse
from pibot_mesh.agent.events import (
    AgentEvent,
    Compacted,
    MessageDelta,
    MessageEnd,
    MessageTaken,
    Retry,
    RunEnd,
    RunState,
    ToolEnd,
    ToolStart,
    ToolUpdate,
    TurnEnd,
)
from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, ToolMessage, UserMessage
from pibot_mesh.agent.model import FailureKind
from pibot_mesh.agent.tools import ToolContext, ToolOutcome, ToolRegistry
from pibot_mesh.errors import ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, State, Usage
from pibot_mesh.testing import Pause, call, fail, never, say
from pibot_mesh.testing.answers import KEEP_ALIVE, chunk, stream
from tests.conformance.agent.agents import QUICK, SETTINGS, Clock, Path, bench

WITHIN_S = 2.0
"""Half a second is the rule; the rest is for a machine with other things to do. What is not ended takes a minute."""


@pytest.fixture(params=["standard", "openai"])
def path(request: pytest.FixtureRequest) -> Path:
    """Each rule holds over both."""
    value: Path = request.param
    return value


@pytest.fixture
def tools() -> ToolRegistry:
    """A few tools of every kind."""
    registry = ToolRegistry()

    @registry.tool
    async def add(a: int, b: int = 0) -> str:
        """Add two numbers."""
        return str(a + b)

    @registry.tool
    def broken() -> str:
        """Has a bug."""
        raise KeyError("speed")

    @registry.tool
    def refuses() -> str:
        """Cannot do it."""
        raise ToolError("the fan is stuck")

    return registry


# --- Events, and their order ---


async def test_events_of_an_answer_in_text(path: Path) -> None:
    """run_start, turn_start, message_start, message_delta*, message_end, turn_end, run_end, all numbered."""
    async with bench(path, [say("It is ", "warm.", split=2)]) as one:
        outcome = await one.run()

    assert one.types() == [
        *["run_start", "turn_start", "message_start", "message_delta", "message_end", "turn_end", "run_end"],
    ]
    assert (outcome.state, outcome.text) == (RunState.COMPLETED, "It is warm.")
    assert [event.seq for event in one.events] == list(range(len(one.events)))
    assert {event.run for event in one.events} == {one.events[0].run}
    assert [event.turn for event in one.events if event.type not in ("run_start", "run_end")] == [1] * (
        len(one.events) - 2
    )


async def test_events_of_tool_calls(path: Path, tools: ToolRegistry) -> None:
    """Every call starts before it is looked up; they end as they finish; results stand in the order of the calls."""
    gate = asyncio.Event()

    @tools.tool
    async def slow() -> str:
        """Waits for the quick one."""
        await gate.wait()
        return "slow"

    @tools.tool
    async def quick() -> str:
        """Lets the slow one go."""
        gate.set()
        return "quick"

    async with bench(path, [say("I look.", call("slow"), call("quick"), call("nothing")), say("Done.")], tools) as one:
        await one.run()

    assert one.types() == [
        *["run_start", "turn_start", "message_start", "message_delta", "message_end"],
        *["tool_start", "tool_start", "tool_start", "tool_end", "tool_end", "tool_end", "turn_end"],
        *["turn_start", "message_start", "message_delta", "message_end", "turn_end", "run_end"],
    ]
    assert [event.name for event in one.of(ToolStart)] == ["slow", "quick", "nothing"]
    assert [event.name for event in one.of(ToolEnd)][-1] == "slow"
    told = [message["content"] for message in one.server.requests[1].messages if message["role"] == "tool"]
    assert told[:2] == ["slow", "quick"]


async def test_the_loop_goes_on_because_of_calls_and_not_of_a_finish_reason(path: Path, tools: ToolRegistry) -> None:
    """ "stop" beside calls: they are made. "tool_calls" without any: that is the answer."""
    async with bench(path, [say(call("add", a=1), finish="stop"), say("One.", finish="tool_calls")], tools) as one:
        outcome = await one.run()

    assert (outcome.text, outcome.turns, one.results()) == ("One.", 2, [("1", False)])


async def test_deltas_are_pieces_and_never_the_text_so_far(path: Path) -> None:
    """Together they are the text, once."""
    text = "".join(chr(ord("a") + number % 26) for number in range(3000))
    async with bench(path, [say("hm", text, reasoning="why", split=7)]) as one:
        await one.run()

    pieces = one.of(MessageDelta)
    assert "".join(piece.text for piece in pieces if piece.kind == "text") == "hm" + text
    assert "".join(piece.text for piece in pieces if piece.kind == "reasoning") == "why"


async def test_a_reader_who_is_slow_holds_nothing_up(path: Path, tools: ToolRegistry) -> None:
    """The run goes on; no lifecycle event is lost; dropped deltas are seen as a gap."""
    ran = asyncio.Event()

    @tools.tool
    async def note() -> str:
        """Says that it ran."""
        ran.set()
        return "noted"

    async with bench(path, [say("x" * 200_000, call("note"), split=100), say("Done.")], tools) as one:
        events = one.agent.run("do it")
        first = await anext(events)
        async with asyncio.timeout(20):
            await ran.wait()
        rest = [event async for event in events]

    seen = [first, *rest]
    assert [event.type for event in seen if event.type != "message_delta"] == [
        *["run_start", "turn_start", "message_start", "message_end", "tool_start", "tool_end", "turn_end"],
        *["turn_start", "message_start", "message_end", "turn_end", "run_end"],
    ]
    assert seen[-1].seq >= len(seen), "there is a gap"
    assert len(seen) < 500, "what waits is bounded"


async def test_who_stops_reading_aborts_the_run(path: Path) -> None:
    """Nobody would hear the answer."""
    async with bench(path, [say("Hello").held_open(), say("Again.")]) as one:
        events = one.agent.run("do it")
        async for event in events:
            if event.type == "message_delta":
                break
        await events.aclose()
        assert not one.agent.is_running
        assert one.agent.outcome.state is RunState.CANCELED
        assert (await one.run("again")).text == "Again."


async def test_one_run_at_a_time(path: Path) -> None:
    """A second one is refused in words."""
    async with bench(path, [never()]) as one:
        events = one.agent.run("do it")
        await anext(events)
        with pytest.raises(RuntimeError, match="a run is under way"):
            await anext(one.agent.run("too"))
        await events.aclose()


# --- 1: every call gets exactly one result ---

ENDS: dict[str, tuple[CallRequest, str]] = {
    "an unknown tool": (call("nothing"), "there is no tool named 'nothing'"),
    "bad arguments": (call("add", a="x"), "is not of type 'integer'"),
    "malformed arguments": (CallRequest("", "add", '{"a": 1'), "no valid JSON"),
    "a bug": (call("broken"), "broken broke: KeyError: 'speed'"),
    "an error of the tool": (call("refuses"), "the fan is stuck"),
    "a time-out": (call("endless"), "did not end within 0.05 s"),
    "a hook's refusal": (call("add", a=666), "refused: not that one"),
    "a hook that breaks": (call("add", a=667), "the hook before_tool broke: ValueError: oh"),
}


def guard(use: ToolUse) -> Refusal | None:
    """Refuses one number, and breaks at another."""
    if use.args.get("a") == 667:
        raise ValueError("oh")
    return Refusal("not that one") if use.args.get("a") == 666 else None


@pytest.mark.parametrize("end", ENDS)
async def test_1_every_call_has_exactly_one_result(path: Path, tools: ToolRegistry, end: str) -> None:
    """However it ends; the one beside it is made all the same, and the model is told of both."""

    @tools.tool(timeout_s=0.05)
    async def endless() -> str:
        """Never ends by itself."""
        await asyncio.Event().wait()
        return "never"

    request, says = ENDS[end]
    script = [say(request, call("add", a=1, b=1)), say("I see.")]
    async with bench(path, script, tools, hooks=Hooks(before_tool=guard)) as one:
        outcome = await one.run()

    [(text, is_error), second] = one.results()
    assert says in text
    assert is_error
    assert second == ("2", False)
    assert outcome.state is RunState.COMPLETED
    asked = one.server.requests[1].messages
    assert [m["tool_call_id"] for m in asked if m["role"] == "tool"] == [c["id"] for c in asked[1]["tool_calls"]]


async def test_1_an_abort_gives_every_call_its_result(path: Path, tools: ToolRegistry) -> None:
    """Those that run, and those that have not begun."""

    @tools.tool(sequential=True)
    async def endless() -> str:
        """Never ends by itself."""
        one.agent.abort("enough")
        await asyncio.Event().wait()
        return "never"

    async with bench(path, [say(call("endless"), call("add", a=1))], tools) as one:
        outcome = await one.run()

    assert outcome.state is RunState.CANCELED
    assert one.results() == [
        ("canceled: the run was ended", True),
        ("not run: the run was ended before", True),
    ]


# --- 2: arguments ---

READ: dict[str, tuple[str, str]] = {
    "an empty string is no arguments": ("", "0 and 7"),
    "blanks are no arguments": ("  \n", "0 and 7"),
    "what was wrapped is unwrapped": ('{"arguments": {"a": 5}}', "5 and 7"),
    "a number in quotes": ('{"a": "5"}', "5 and 7"),
    "a whole number with a fraction of nothing": ('{"a": 5.0}', "5 and 7"),
}


@pytest.mark.parametrize("case", READ)
async def test_2_arguments_are_read_as_they_were_meant(path: Path, case: str) -> None:
    """Where that is safe."""
    registry = ToolRegistry()

    @registry.tool
    def show(a: int = 0, b: int = 7) -> str:
        """Show them."""
        return f"{a} and {b}"

    written, shown = READ[case]
    async with bench(path, [say(CallRequest("", "show", written)), say("I see.")], registry) as one:
        await one.run()

    assert one.results() == [(shown, False)]


async def test_2_all_violations_are_named_and_the_schema_repeated(path: Path) -> None:
    """So that the model can mend them at once."""
    registry = ToolRegistry()

    @registry.tool
    def blink(count: int, color: str, speed: float = 1.0) -> str:
        """Blink."""
        raise AssertionError("it must not run")

    written = '{"count": "many", "speed": [], "sped": 2}'
    async with bench(path, [say(CallRequest("", "blink", written)), say("I see.")], registry) as one:
        await one.run()

    [(text, is_error)] = one.results()
    assert is_error
    for part in ("count", "color", "speed", "sped", '"type":"number"'):
        assert part in text


async def test_2_malformed_arguments_are_refused_and_never_shown_again(path: Path, tools: ToolRegistry) -> None:
    """Neither salvaged nor copied: models copy what they see."""
    written = '{"a": 12345, "b": '
    async with bench(path, [say(CallRequest("", "add", written)), say("I see.")], tools) as one:
        await one.run()

    assert one.of(ToolStart)[0].arguments == written, "a person sees what the model wrote"
    assert one.results()[0][1]
    assert "12345" not in json.dumps(one.server.requests[1].body)
    assert one.server.requests[1].messages[1]["tool_calls"][0]["function"]["arguments"] == "{}"


# --- 3: an answer that was cut ---


async def test_3_an_answer_cut_by_the_token_limit_runs_no_call(path: Path, tools: ToolRegistry) -> None:
    """Not even one that looks whole; the model is told, and the loop goes on."""
    cut = say(call("add", a=1), CallRequest("", "add", '{"a": 1'), finish="length")
    async with bench(path, [cut, say("Shorter.")], tools) as one:
        outcome = await one.run()

    assert [is_error for _, is_error in one.results()] == [True, True]
    assert all("cut at its token limit" in text for text, _ in one.results())
    assert (outcome.state, outcome.text, outcome.calls) == (RunState.COMPLETED, "Shorter.", ())


async def test_3_a_text_cut_by_the_token_limit_is_no_completed_answer(path: Path) -> None:
    """It is what there is, and the outcome says so."""
    async with bench(path, [say("Once upon a", finish="length")]) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.text) == (RunState.STOPPED, "Once upon a")
    assert "token limit" in outcome.reason


# --- 4: side by side, or not ---


async def test_4_tools_run_side_by_side(path: Path, tools: ToolRegistry) -> None:
    """Threads too: each of these waits for the other."""
    meeting = threading.Barrier(3, timeout=10)

    @tools.tool
    def meet(who: str) -> str:
        """Wait for the others."""
        meeting.wait()
        return who

    async with bench(path, [say(*(call("meet", who=who) for who in "abc")), say("Met.")], tools) as one:
        await one.run()

    assert one.results() == [("a", False), ("b", False), ("c", False)]


async def test_4_one_sequential_tool_makes_the_batch_wait_in_line(path: Path, tools: ToolRegistry) -> None:
    """In the order in which the model asked."""
    log: list[str] = []

    @tools.tool(sequential=True)
    async def press(who: str) -> str:
        """Press a button."""
        log.append(f"{who} begins")
        await asyncio.sleep(0.01)
        log.append(f"{who} ends")
        return who

    @tools.tool
    async def look() -> str:
        """Look."""
        log.append("look")
        return ""

    async with bench(path, [say(call("press", who="a"), call("look"), call("press", who="b")), say("!")], tools) as one:
        await one.run()

    assert log == ["a begins", "a ends", "look", "b begins", "b ends"]
    assert one.types()[5:11] == ["tool_end", "tool_start", "tool_end", "tool_start", "tool_end", "turn_end"]


async def test_4_no_more_than_so_many_at_once(path: Path, tools: ToolRegistry) -> None:
    """A small machine has little room."""
    running, most = 0, 0

    @tools.tool
    async def work(number: int) -> str:
        """Work."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return str(number)

    script = [say(*(call("work", number=number) for number in range(9))), say("Done.")]
    async with bench(path, script, tools, limits=replace(QUICK, parallel=3)) as one:
        await one.run()

    assert most == 3
    assert [text for text, _ in one.results()] == [str(number) for number in range(9)]


async def test_4_a_plain_function_does_not_block_the_loop(path: Path, tools: ToolRegistry) -> None:
    """It runs in a thread; the loop lives on meanwhile, or this would wait for ever."""
    gate = threading.Event()

    @tools.tool
    def block() -> str:
        """Block until somebody lets go."""
        assert gate.wait(10)
        return "free"

    def let_go(event: AgentEvent) -> None:
        if isinstance(event, ToolStart):
            asyncio.get_running_loop().call_later(0.02, gate.set)

    async with bench(path, [say(call("block")), say("Done.")], tools) as one:
        await one.run(on=let_go)

    assert one.results() == [("free", False)]


async def test_4_progress_is_told_until_the_tool_has_ended(path: Path, tools: ToolRegistry) -> None:
    """What a thread that was left behind still says is ignored."""
    keep: list[ToolContext] = []

    @tools.tool
    def dig(context: ToolContext) -> str:
        """Dig."""
        keep.append(context)
        context.update("half")
        return "dug"

    @tools.tool
    async def late() -> str:
        """The first one speaks again."""
        keep[0].update("more")
        await asyncio.sleep(0)
        return ""

    async with bench(path, [say(call("dig")), say(call("late")), say("Done.")], tools) as one:
        await one.run()

    assert [(event.call, event.text) for event in one.of(ToolUpdate)] == [("call_1", "half")]
    kinds = one.types()
    assert kinds.index("tool_start") < kinds.index("tool_update") < kinds.index("tool_end")


# --- 5: steering, interrupting, following up ---


async def test_5_steering_comes_after_the_tools_and_one_message_a_turn(path: Path, tools: ToolRegistry) -> None:
    """Before the next model call; nothing that runs is disturbed."""

    @tools.tool
    async def look() -> str:
        """Two things are said while it runs."""
        one.agent.steer("left")
        one.agent.steer("right")
        assert one.agent.waiting == ("left", "right")
        return "seen"

    async with bench(path, [say(call("look"), call("add", a=1)), say("Left."), say("Right.")], tools) as one:
        outcome = await one.run()

    says = [[m["content"] for m in request.messages if m["role"] != "assistant"] for request in one.server.requests]
    assert says == [["do it"], ["do it", "seen", "1", "left"], ["do it", "seen", "1", "left", "right"]]
    assert [(event.text, event.kind) for event in one.of(MessageTaken)] == [("left", "steer"), ("right", "steer")]
    assert (outcome.text, outcome.turns, one.agent.waiting) == ("Right.", 3, ())


async def test_5_steering_reaches_a_run_that_was_about_to_end(path: Path) -> None:
    """It comes while the last answer is given."""
    async with bench(path, [say("Four."), say("And five.")]) as one:
        outcome = await one.run(
            on=lambda e: one.agent.steer("more") if e.turn == 1 and e.type == "message_start" else None
        )

    assert (outcome.text, one.server.requests[1].last) == ("And five.", "more")


async def test_5_an_interrupt_skips_what_has_not_begun(path: Path, tools: ToolRegistry) -> None:
    """What runs ends as it would; what waits is skipped, and the model is told so."""

    @tools.tool(sequential=True)
    async def press() -> str:
        """The person has seen enough."""
        one.agent.interrupt("stop that")
        return "pressed"

    async with bench(path, [say(call("press"), call("press"), call("add", a=1)), say("Stopped.")], tools) as one:
        outcome = await one.run()

    assert one.results() == [("pressed", False), ("skipped: interrupted", True), ("skipped: interrupted", True)]
    assert one.server.requests[1].last == "stop that"
    assert (outcome.state, len(outcome.calls)) == (RunState.COMPLETED, 1)


async def test_5_an_interrupt_during_an_answer_makes_none_of_its_calls(path: Path, tools: ToolRegistry) -> None:
    """And the calls of the next answer are made again."""

    def interrupt(event: AgentEvent) -> None:
        if event.turn == 1 and event.type == "message_delta" and not one.agent.waiting:
            one.agent.interrupt("wait")

    slow = say("I will ", call("add", a=1), one_write=False).paced(0.02)
    async with bench(path, [slow, say(call("add", a=2)), say("Two.")], tools) as one:
        await one.run(on=interrupt)

    assert one.results() == [("skipped: interrupted", True), ("2", False)]


async def test_5_a_follow_up_is_taken_when_the_run_would_end(path: Path, tools: ToolRegistry) -> None:
    """Behind all tool calls, one at a time."""
    async with bench(path, [say(call("add", a=1)), say("One."), say("Two."), say("Three.")], tools) as one:
        one.agent.follow_up("second")
        one.agent.follow_up("third")
        outcome = await one.run("first")

    assert [request.last for request in one.server.requests] == ["first", "1", "second", "third"]
    assert outcome.text == "Three."
    assert [event.kind for event in one.of(MessageTaken)] == ["follow_up", "follow_up"]


async def test_5_an_abort_loses_no_message(path: Path) -> None:
    """What did not reach the transcript is said in the next run."""
    async with bench(path, [never(), say("Yes."), say("Here.")]) as one:

        def say_something(event: AgentEvent) -> None:
            if event.type == "turn_start":
                one.agent.steer("are you there?")
                one.agent.follow_up("and now?")

        run = asyncio.ensure_future(one.run("hello", on=say_something))
        await one.server.asked()
        one.agent.abort()
        await run
        assert list(one.agent.waiting) == ["are you there?", "and now?"]
        await one.run("again")

    assert not one.agent.waiting
    said = [message.text for message in one.agent.messages if isinstance(message, UserMessage)]
    assert said == ["hello", "again", "are you there?", "and now?"]


async def test_5_what_waits_can_be_taken_back(path: Path, tools: ToolRegistry) -> None:
    """And is then not said; the calls go on where they were interrupted for it."""

    @tools.tool(sequential=True)
    async def press() -> str:
        """Somebody changes their mind."""
        one.agent.interrupt("stop")
        assert one.agent.take_back() == ("stop",)
        return "pressed"

    async with bench(path, [say(call("press"), call("add", a=1)), say("Done.")], tools) as one:
        await one.run()

    assert one.results() == [("pressed", False), ("1", False)]


# --- 6: abort ---


async def test_6_abort_before_the_first_byte(path: Path) -> None:
    """Within half a second, with no further model call."""
    async with bench(path, [never(), say("never asked")]) as one:
        clock = Clock()

        def abort(event: AgentEvent) -> None:
            if event.type == "turn_start":
                asyncio.get_running_loop().call_later(0.1, _abort, one.agent, clock)

        outcome = await one.run(on=abort)
        assert clock.seconds < WITHIN_S
        await asyncio.wait_for(one.server.requests[0].ended.wait(), 5)

    assert (outcome.state, outcome.reason, outcome.text) == (RunState.CANCELED, "enough", "")
    assert one.server.requests[0].was_left
    assert len(one.server.requests) == 1
    assert one.types()[-2:] == ["turn_end", "run_end"]


async def test_6_abort_in_the_middle_of_a_stream_keeps_what_came(path: Path, tools: ToolRegistry) -> None:
    """In the outcome and in the transcript; the calls that had come are not made."""
    async with bench(path, [stream(chunk({"content": "It is "}), chunk({"content": "warm"}), Pause(60))], tools) as one:
        clock = Clock()

        def abort(event: AgentEvent) -> None:
            if isinstance(event, MessageDelta) and event.text.endswith("warm"):
                _abort(one.agent, clock)

        outcome = await one.run(on=abort)
        assert clock.seconds < WITHIN_S

    assert (outcome.state, outcome.text) == (RunState.CANCELED, "It is warm")
    assert one.agent.messages[-1] == AssistantMessage("It is warm")
    [end] = one.of(MessageEnd)
    assert (end.is_whole, end.message.text) == (False, "It is warm")


@pytest.mark.parametrize("deaf", ["deaf_thread", "deaf_task"])
async def test_6_abort_in_a_tool_that_ignores_its_signal(
    path: Path, tools: ToolRegistry, deaf: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left behind, and the result, the event and the log say so."""
    gate, told = threading.Event(), asyncio.Event()

    @tools.tool
    def deaf_thread() -> str:
        """Looks at nothing."""
        gate.wait(20)
        return "at last"

    @tools.tool
    async def deaf_task() -> str:
        """Swallows its cancelling."""
        while not gate.is_set():
            try:
                await asyncio.wait_for(told.wait(), 20)
            except asyncio.CancelledError:
                continue
            break
        return "at last"

    async with bench(path, [say(call(deaf), call("add", a=1)), say("never asked")], tools) as one:
        clock = Clock()

        def abort(event: AgentEvent) -> None:
            if isinstance(event, ToolEnd):
                asyncio.get_running_loop().call_later(0.05, _abort, one.agent, clock)

        outcome = await one.run(on=abort)
        assert clock.seconds < WITHIN_S
    gate.set()
    told.set()

    assert outcome.state is RunState.CANCELED
    [(text, is_error), other] = one.results()
    assert is_error
    assert "may still be doing something" in text
    assert other == ("1", False)
    assert [event.is_left_behind for event in one.of(ToolEnd)] == [False, True]
    assert [recorded.ok for recorded in outcome.calls if recorded.name == deaf] == [None]
    assert "was left behind" in caplog.text
    assert len(one.server.requests) == 1


async def test_6_abort_sets_the_signal_of_a_tool(path: Path, tools: ToolRegistry) -> None:
    """A thread that looks at it ends in good order, and says what it had done."""

    @tools.tool
    def careful(context: ToolContext) -> str:
        """Works until it is told to end."""
        loop.call_soon_threadsafe(one.agent.abort)
        assert context.canceled.wait(10)
        return "did half of it"

    loop = asyncio.get_running_loop()
    async with bench(path, [say(call("careful"))], tools) as one:
        outcome = await one.run()

    assert outcome.state is RunState.CANCELED
    assert one.results() == [("did half of it", False)]


async def test_6_abort_in_a_back_off(path: Path) -> None:
    """The wait is over at once, and nothing is tried again."""
    async with bench(path, [fail(429, "slow down", retry_after=30), say("never asked")]) as one:
        clock = Clock()

        def abort(event: AgentEvent) -> None:
            if isinstance(event, Retry):
                asyncio.get_running_loop().call_later(0.05, _abort, one.agent, clock)

        outcome = await one.run(on=abort)
        assert clock.seconds < WITHIN_S

    assert outcome.state is RunState.CANCELED
    assert len(one.server.requests) == 1


async def test_6_abort_in_a_hook_that_waits_for_a_person(path: Path, tools: ToolRegistry) -> None:
    """The call is not made."""

    async def ask(use: ToolUse) -> None:
        one.agent.abort()
        await asyncio.Event().wait()

    async with bench(path, [say(call("add", a=1))], tools, hooks=Hooks(before_tool=ask)) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.calls) == (RunState.CANCELED, ())
    assert one.results() == [("not run: the run was ended before", True)]


# --- 7: deadlines ---


async def test_7_the_first_content_has_a_deadline(path: Path) -> None:
    """Keep-alive comments are no content."""
    chatter = [part for _ in range(40) for part in (KEEP_ALIVE, Pause(0.02))]
    settings = replace(SETTINGS, first_content_s=0.2)
    async with bench(path, [stream(*chatter, chunk({"content": "late"})), say("In time.")], settings=settings) as one:
        outcome = await one.run()

    assert [event.kind for event in one.of(Retry)] == [FailureKind.TIMEOUT]
    assert outcome.text == "In time."


async def test_7_content_that_stops_coming_has_a_deadline(path: Path) -> None:
    """Keep-alive comments do not prolong it."""
    chatter = [part for _ in range(40) for part in (KEEP_ALIVE, Pause(0.02))]
    settings = replace(SETTINGS, between_s=0.2)
    slow = stream(chunk({"content": "It "}), *chatter, chunk({"content": "is"}))
    async with bench(path, [slow, say("It is.")], settings=settings) as one:
        outcome = await one.run()

    assert [event.kind for event in one.of(Retry)] == [FailureKind.TIMEOUT]
    assert outcome.text == "It is."
    assert [event.is_whole for event in one.of(MessageEnd)] == [False, True]


async def test_7_a_slow_stream_that_keeps_coming_meets_none(path: Path) -> None:
    """The deadline is for a pause, not for the whole."""
    settings = replace(SETTINGS, between_s=0.3)
    slow = say(*"A long story, told slowly.", one_write=False).paced(0.02)
    async with bench(path, [slow], settings=settings) as one:
        outcome = await one.run()

    assert outcome.text == "A long story, told slowly."
    assert one.of(Retry) == []


async def test_7_a_tool_has_a_deadline(path: Path, tools: ToolRegistry) -> None:
    """It is cancelled, the model is told, and the run goes on."""
    ended = asyncio.Event()

    @tools.tool(timeout_s=0.05)
    async def endless() -> str:
        """Never ends by itself."""
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "never"

    async with bench(path, [say(call("endless")), say("Too slow.")], tools) as one:
        outcome = await one.run()

    assert one.results() == [("it did not end within 0.05 s, and was canceled", True)]
    assert ended.is_set()
    assert (outcome.state, outcome.calls[0].ok) == (RunState.COMPLETED, False)


async def test_7_the_run_has_a_deadline(path: Path) -> None:
    """It ends as one that met a limit, with what it has."""
    async with bench(path, [stream(chunk({"content": "So far"}), Pause(60))], limits=RunLimits(wall_s=0.3)) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.text) == (RunState.STOPPED, "So far")
    assert "0.3 s" in outcome.reason


# --- 8: limits ---


async def test_8_turns_are_limited(path: Path, tools: ToolRegistry) -> None:
    """The last turn's calls are still made, and answered."""
    script = [say(f"Turn {number}.", call("add", a=number)) for number in range(9)]
    async with bench(path, script, tools, limits=RunLimits(turns=3)) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.turns, outcome.text) == (RunState.STOPPED, 3, "Turn 2.")
    assert outcome.reason == "the limit of 3 turns is reached"
    assert len(one.results()) == 3


async def test_8_an_answer_in_the_last_turn_is_an_answer(path: Path, tools: ToolRegistry) -> None:
    """A limit is met by who wants to go beyond it."""
    async with bench(path, [say(call("add", a=1)), say("One.")], tools, limits=RunLimits(turns=2)) as one:
        assert (await one.run()).state is RunState.COMPLETED


async def test_8_tool_calls_are_limited(path: Path, tools: ToolRegistry) -> None:
    """Those beyond are not made, and have their results."""
    script = [say(*(call("add", a=number) for number in range(5))), say("never asked")]
    async with bench(path, script, tools, limits=RunLimits(tool_calls=3)) as one:
        outcome = await one.run()

    assert [is_error for _, is_error in one.results()] == [False, False, False, True, True]
    assert (outcome.state, len(outcome.calls)) == (RunState.STOPPED, 3)
    assert outcome.reason == "the limit of 3 tool calls is reached"


async def test_8_tokens_are_limited(path: Path, tools: ToolRegistry) -> None:
    """As the service tells them."""
    script = [say(call("add", a=number), usage=Usage(40, 0, 10)) for number in range(9)]
    async with bench(path, script, tools, limits=RunLimits(tokens=100)) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.turns) == (RunState.STOPPED, 2)
    assert outcome.reason == "the limit of 100 tokens is reached"


async def test_8_tokens_are_estimated_where_nobody_tells(path: Path, tools: ToolRegistry) -> None:
    """A service that is silent about them must not make a run endless."""
    script = [say("x" * 3000, call("add", a=number)) for number in range(9)]
    async with bench(path, script, tools, limits=RunLimits(tokens=2000)) as one:
        outcome = await one.run()

    assert outcome.state is RunState.STOPPED
    assert outcome.turns == 2


async def test_8_the_same_call_three_times_in_a_row(path: Path, tools: ToolRegistry) -> None:
    """Written in another order it is still the same; something else in between makes it new."""
    script = [
        say(CallRequest("", "add", '{"a":1,"b":2}')),
        say(CallRequest("", "add", '{"b": 2, "a": 1}')),
        say(call("add", a=9)),
        say(CallRequest("", "add", '{"a":1,"b":2}'), CallRequest("", "add", '{ "a":1, "b":2 }')),
        say(CallRequest("", "add", '{"a":1,"b":2}'), call("add", a=5)),
    ]
    async with bench(path, script, tools) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.turns) == (RunState.STOPPED, 5)
    assert outcome.reason == "the same call of add came 3 times in a row"
    assert [is_error for _, is_error in one.results()] == [False] * 5 + [True] * 2


async def test_8_limits_are_on_by_default(path: Path, tools: ToolRegistry) -> None:
    """A model that never stops calling is stopped."""
    numbers = iter(range(10_000))
    async with bench(path, lambda _: say(call("add", a=next(numbers))), tools, limits=RunLimits()) as one:
        outcome = await one.run()

    assert outcome.state is RunState.STOPPED


# --- 9: retries ---

PASSING = {
    "408": fail(408, "too slow"),
    "409": fail(409, "conflict"),
    "429": fail(429, "slow down"),
    "500": fail(500, "oops"),
    "503": fail(503, "overloaded"),
    "a stream without its end": stream(chunk({"content": "It "}), done=False),
    "a cut connection": say("It is warm.", split=3).cut(after=300),
    "a reset connection": say("It is warm.", split=3).cut(after=300, reset=True),
    "an error inside the stream": stream({"error": {"message": "overloaded", "code": 503}}),
    "an empty answer": say(""),
}


@pytest.mark.parametrize("trouble", PASSING)
async def test_9_what_passes_is_tried_again(path: Path, trouble: str) -> None:
    """And told as an event, with the wait before the next try."""
    async with bench(path, [PASSING[trouble], say("It is warm.")]) as one:
        outcome = await one.run()

    [retry] = one.of(Retry)
    assert (retry.attempt, retry.turn) == (2, 1)
    assert 0 < retry.delay_s < 1
    assert (outcome.state, outcome.text, outcome.turns) == (RunState.COMPLETED, "It is warm.", 1)
    assert one.agent.messages == (UserMessage("do it"), AssistantMessage("It is warm."))


LASTING = {
    "a wrong key": (fail(401, "invalid key"), FailureKind.AUTH),
    "a forbidden model": (fail(403, "not yours"), FailureKind.AUTH),
    "no money": (fail(429, "You exceeded your current quota", code="insufficient_quota"), FailureKind.QUOTA),
    "an empty account": (fail(402, "Insufficient Balance"), FailureKind.QUOTA),
    "a bad request": (fail(400, "messages: wrong"), FailureKind.PROTOCOL),
    "no such model": (fail(404, "no such model"), FailureKind.PROTOCOL),
}


@pytest.mark.parametrize("trouble", LASTING)
async def test_9_what_lasts_is_not_tried_again(path: Path, trouble: str) -> None:
    """The run fails at once, with the kind and with words."""
    answer, kind = LASTING[trouble]
    async with bench(path, [answer, say("never asked")]) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.failure) == (RunState.FAILED, kind)
    assert outcome.reason
    assert len(one.server.requests) == 1


async def test_9_the_tries_have_an_end(path: Path) -> None:
    """The run fails with the last error."""
    async with bench(path, lambda _: fail(500, "oops"), limits=replace(QUICK, retries=2)) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.failure) == (RunState.FAILED, FailureKind.NETWORK)
    assert [event.attempt for event in one.of(Retry)] == [2, 3]
    assert len(one.server.requests) == 3


async def test_9_an_empty_answer_is_tried_again_once(path: Path) -> None:
    """The second one ends the run."""
    async with bench(path, lambda _: say("", reasoning="hm")) as one:
        outcome = await one.run()

    assert (outcome.state, outcome.failure) == (RunState.FAILED, FailureKind.EMPTY)
    assert len(one.server.requests) == 2


async def test_9_retry_after_is_honoured(path: Path) -> None:
    """As the least that is waited."""
    async with bench(path, [fail(429, "slow down", retry_after=0.3), say("Yes.")]) as one:
        clock = Clock()
        await one.run()
        assert clock.seconds >= 0.3

    assert one.of(Retry)[0].delay_s >= 0.3


async def test_9_nobody_there_is_tried_again(path: Path) -> None:
    """A service that restarts: refused connections are network errors."""
    async with bench(path, [], limits=replace(QUICK, retries=1)) as one:
        await one.server.__aexit__(None, None, None)
        outcome = await one.run()

    assert (outcome.state, outcome.failure) == (RunState.FAILED, FailureKind.NETWORK)
    assert [event.kind for event in one.of(Retry)] == [FailureKind.NETWORK]


async def test_9_a_retry_never_repeats_a_tool_call(path: Path, tools: ToolRegistry) -> None:
    """Calls of an answer that broke off are not made; calls that were made are not made again."""
    made: list[int] = []

    @tools.tool(effect="actuate")
    async def press(number: int) -> str:
        """Press a button."""
        made.append(number)
        return "pressed"

    broken_off = say(call("press", number=1), one_write=True)
    cut = broken_off.cut(after=len(broken_off.body) - 60)
    script = [cut, say(call("press", number=2)), fail(500), fail(500), say("Done.")]
    async with bench(path, script, tools) as one:
        outcome = await one.run()

    assert made == [2]
    assert (outcome.state, len(one.of(Retry))) == (RunState.COMPLETED, 3)


# --- 11: the context ---


async def test_11_older_turns_are_summarised_between_turns(path: Path, tools: ToolRegistry) -> None:
    """Never between a call and its result; what it was all about stays."""

    def answer(request: Any) -> Any:
        if "shorten the record" in str(request.messages[0]["content"]):
            return say("They looked around.")
        turns = len([m for m in request.messages if m["role"] == "tool"])
        return say("All seen.") if "They looked" in json.dumps(request.body) and turns else say(call("look", n=turns))

    @tools.tool
    async def look(n: int) -> str:
        """Look around."""
        return "y" * 3000

    limits = replace(QUICK, context_tokens=6000, same_calls=99)
    async with bench(path, answer, tools, limits=limits, system_prompt="You look.") as one:
        outcome = await one.run("look at everything")

    assert (outcome.state, outcome.text) == (RunState.COMPLETED, "All seen.")
    [compacted] = one.of(Compacted)
    assert compacted.after < compacted.before
    first = one.agent.messages[0].text
    assert "They looked around." in first
    assert "look at everything" in first
    assert all(len(json.dumps(request.body)) < 6000 * 4 for request in one.server.requests)


async def test_11_a_service_that_says_too_long_is_asked_again_with_less(path: Path, tools: ToolRegistry) -> None:
    """Once, with older turns summarised."""
    too_long = fail(400, "This model's maximum context length is 4096 tokens", code="context_length_exceeded")

    @tools.tool
    async def look() -> str:
        """Look."""
        return "y" * 9000

    script = [say(call("look")), say("Seen."), too_long, say("A summary."), say("Four.")]
    async with bench(path, script, tools, limits=replace(QUICK, context_tokens=6000)) as one:
        await one.run("look")
        outcome = await one.run("2 and 2?")

    assert outcome.text == "Four."
    assert "A summary." in one.agent.messages[0].text
    assert one.server.requests[-1].last == "2 and 2?"


async def test_11_long_output_is_cut_in_the_middle_and_kept_in_a_file(
    path: Path, tools: ToolRegistry, tmp_path: FilePath
) -> None:
    """The model is told what was left out, and where it is."""
    whole = "begin " + "x" * 50_000 + " end"

    @tools.tool
    async def dump() -> str:
        """Say much."""
        return whole

    limits = replace(QUICK, tool_output_bytes=1000)
    async with bench(path, [say(call("dump")), say("Much.")], tools, limits=limits, output_dir=tmp_path) as one:
        await one.run()

    [(text, _)] = one.results()
    assert len(text) < 1400
    assert text.startswith("begin")
    assert "bytes left out" in text
    [file] = tmp_path.iterdir()
    assert str(file) in text
    assert file.read_text() == whole
    assert one.of(ToolEnd)[0].text == text


# --- 12: usage ---


async def test_12_usage_is_added_up_over_the_run(path: Path, tools: ToolRegistry) -> None:
    """Input, cached, output and reasoning; each turn has its own."""
    script = [
        say(call("add", a=1), usage=Usage(100, 80, 20, 5)),
        say("One.", usage=Usage(150, 90, 7, 1)),
    ]
    async with bench(path, script, tools) as one:
        outcome = await one.run()

    assert outcome.usage == Usage(250, 170, 27, 6)
    assert [event.usage for event in one.of(TurnEnd)] == [Usage(100, 80, 20, 5), Usage(150, 90, 7, 1)]


async def test_12_partial_and_aborted_streams_count(path: Path) -> None:
    """Where the service told in time."""
    told = {"usage": {"prompt_tokens": 10, "completion_tokens": 2}}
    broken = stream({**chunk({"content": "It "}), **told}, done=False)
    aborted = stream({**chunk({"content": "It "}), **told}, Pause(60))
    async with bench(path, [broken, aborted]) as one:

        def abort(event: AgentEvent) -> None:
            if event.type == "message_delta" and one.of(Retry):
                one.agent.abort()

        outcome = await one.run(on=abort)

    assert outcome.state is RunState.CANCELED
    assert outcome.usage == Usage(input=20, output=4)


# --- 13: hooks ---


async def test_13_a_hook_may_rewrite_arguments_which_are_checked_again(path: Path, tools: ToolRegistry) -> None:
    """The tool gets the new ones, or the model an error."""

    rewritten: dict[int, Mapping[str, JSON]] = {1: {"a": 10}, 2: {"a": "ten"}}

    async def rewrite(use: ToolUse) -> Mapping[str, JSON] | None:
        return rewritten.get(use.args["a"])

    script = [say(call("add", a=1), call("add", a=2), call("add", a=3)), say("I see.")]
    async with bench(path, script, tools, hooks=Hooks(before_tool=rewrite)) as one:
        outcome = await one.run()

    [first, (second, is_error), third] = one.results()
    assert (first, third) == (("10", False), ("3", False))
    assert is_error
    assert "the rewritten arguments do not fit: a: 'ten'" in second
    assert [recorded.args for recorded in outcome.calls] == [{"a": 10}, {"a": 3}]


async def test_13_a_hook_may_rewrite_a_result(path: Path, tools: ToolRegistry) -> None:
    """The model sees that one."""

    def rewrite(use: ToolUse, outcome: ToolOutcome) -> ToolOutcome | None:
        return ToolOutcome(State.COMPLETED, Output("secret")) if use.args["a"] == 1 else None

    async with bench(
        path, [say(call("add", a=1), call("add", a=2)), say("!")], tools, hooks=Hooks(after_tool=rewrite)
    ) as one:
        await one.run()

    assert one.results() == [("secret", False), ("2", False)]


async def test_13_a_hook_that_raises_makes_an_error_of_the_call(
    path: Path, tools: ToolRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the tool: it is not run. After: the model is told, and the run goes on."""

    async def fall(use: ToolUse, outcome: ToolOutcome) -> None:
        raise ValueError("after")

    hooks = Hooks(before_tool=guard, after_tool=fall)
    async with bench(path, [say(call("add", a=667), call("add", a=1)), say("!")], tools, hooks=hooks) as one:
        outcome = await one.run()

    [before, after] = one.results()
    assert before == ("the hook before_tool broke: ValueError: oh", True)
    assert after == ("the hook after_tool broke: ValueError: after", True)
    assert [recorded.args for recorded in outcome.calls] == [{"a": 1}]
    assert (outcome.state, "the hook after_tool broke" in caplog.text) == (RunState.COMPLETED, True)


# --- Chance ---


async def test_any_mixture_leaves_a_valid_transcript(path: Path, tools: ToolRegistry) -> None:
    """Answers, calls and troubles at random, with steering and aborts: one result a call, one end a run."""
    chance = random.Random(7)

    @tools.tool
    def nap() -> str:
        """Sleep a little."""
        time.sleep(0.003)
        return "awake"

    def answer(_: object) -> Any:
        calls = [
            chance.choice([call("add", a=chance.randint(0, 9)), call("nap"), call("no"), CallRequest("", "add", "{")])
            for _ in range(chance.randint(0, 3))
        ]
        trouble = [fail(500), say(""), say("x" * 90).cut(after=200), say("cut", *calls, finish="length")]
        return chance.choice([say("So.", *calls, split=2), say("So.", *calls), chance.choice(trouble)])

    async with bench(path, answer, tools, limits=replace(QUICK, turns=6, retry_base_s=0.001)) as one:
        for number in range(40):

            def disturb(event: AgentEvent) -> None:
                if chance.random() < 0.05:
                    chance.choice([one.agent.steer, one.agent.interrupt, one.agent.follow_up])(event.type)
                if chance.random() < 0.01:
                    one.agent.abort()

            one.events.clear()
            await one.run(f"run {number}", on=disturb)
            assert [type(event) for event in one.events].count(RunEnd) == 1
            assert isinstance(one.events[-1], RunEnd)
            starts, ends = one.of(ToolStart), one.of(ToolEnd)
            assert len(starts) == len(ends)
            results = [message for message in one.agent.messages if isinstance(message, ToolMessage)]
            assert len(results) >= len(ends)


def _abort(agent: Any, clock: Clock) -> None:
    clock.restart()
    agent.abort("enough")
