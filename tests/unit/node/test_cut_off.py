"""What a node says of a task that a crash cut off: what was found, and never more."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pibot_mesh.agent.settled import Settled
from pibot_mesh.agent.tools import Tool, ToolRegistry
from pibot_mesh.errors import ErrorCode
from pibot_mesh.node.cut_off import settle_all
from pibot_mesh.node.events import Entry, TaskArrived
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, Result, State, Task, ToolCall, ToolSpec, WireError
from tests.unit.node.play import Play, agent, results, task

OFF = Output("fan is off", {"value": "OFF", "found": "OFF"})
WAS_ON = Output("fan was found on, as ordered, and is off now", {"value": "OFF", "found": "ON"})


def restarted(cut_off: Task, settled: Settled | None) -> Result:
    """What the node says after a crash in the middle of *cut_off*."""
    play = Play().online()
    play.give(cut_off)
    later = play.again({} if settled is None else {cut_off.id: settled})
    [result] = results(later.online().hear(TaskArrived(cut_off)))
    return result


def test_what_was_found_done_is_completed() -> None:
    """It was read back, so nobody need do it again, and no question is left."""
    result = restarted(task(tool="press", args={"value": "x"}), Settled(OFF, is_done=True))

    assert (result.state, result.output, result.error) == (State.COMPLETED, OFF, None)
    assert result.tool_calls == (ToolCall("press", {"value": "x"}, True, "actuate"),)


def test_what_was_found_otherwise_is_unknown_and_says_what_was_found() -> None:
    """The effect may have come and gone: neither completed nor failed would be true."""
    result = restarted(task(tool="press"), Settled(WAS_ON))

    assert (result.state, result.output) == (State.UNKNOWN, WAS_ON)
    text = "the node restarted in the middle of the task: fan was found on, as ordered, and is off now"
    assert result.error == WireError(ErrorCode.INTERRUPTED, text, retryable=False)


def test_of_what_nothing_was_found_nothing_is_said() -> None:
    """No output, and no guess."""
    result = restarted(task(tool="press"), None)

    assert (result.state, result.output) == (State.UNKNOWN, Output())
    assert result.error is not None
    assert result.error.message == "the node restarted in the middle of the task"


def tools(settled: Settled | Exception | None = None) -> ToolRegistry:
    """A tool that can look back, with *settled*, and one that cannot."""

    def settle(args: Mapping[str, JSON]) -> Settled | None:
        looked_at.append(args)
        if isinstance(settled, Exception):
            raise settled
        return settled

    looked_at.clear()
    word = {"type": "object", "properties": {"value": {"type": "string"}}}
    return ToolRegistry(
        [
            Tool(ToolSpec("look", parameters=word, effect="actuate"), lambda args, context: Output(), settle=settle),
            Tool(ToolSpec("blind", effect="actuate"), lambda args, context: Output()),
        ]
    )


looked_at: list[Mapping[str, JSON]] = []


def test_a_running_call_is_asked_what_it_did() -> None:
    """With its own arguments."""
    entry = Entry(task(tool="look", args={"value": "x"}), "running")

    assert settle_all([entry], tools(Settled(OFF, is_done=True))) == {"t1": Settled(OFF, is_done=True)}
    assert looked_at == [{"value": "x"}]


@pytest.mark.parametrize(
    "entry",
    [
        Entry(task(tool="look"), "queued"),
        Entry(task(tool="look"), "ended", Result("t1", "r1", 1, State.COMPLETED)),
        Entry(task(tool="blind"), "running"),
        Entry(task(tool="gone"), "running"),
        Entry(task(tool="look", args={"value": 1}), "running"),
    ],
)
def test_what_has_not_begun_has_ended_or_cannot_be_asked_is_left_alone(entry: Entry) -> None:
    """So are arguments that the tool would have refused."""
    assert settle_all([entry], tools(Settled(OFF))) == {}
    assert looked_at == []


@pytest.mark.parametrize("settled", [None, ZeroDivisionError("a bug")])
def test_a_tool_that_knows_nothing_or_breaks_leaves_it_unknown(settled: Exception | None) -> None:
    """Its bug does not keep the node from starting."""
    assert settle_all([Entry(task(tool="look"), "running")], tools(settled)) == {}


def test_an_agent_is_never_done_and_says_what_was_found_of_its_calls() -> None:
    """Only of those that were under way; what it would have done next nobody knows."""
    calls = (
        ToolCall("look", {"value": "a"}, True, "actuate"),
        ToolCall("look", {"value": "b"}, None, "actuate"),
        ToolCall("look", {"value": "c"}, None, "actuate"),
        ToolCall("blind", {}, None, "actuate"),
    )

    settled = settle_all([Entry(agent(), "running", None, calls)], tools(Settled(OFF, is_done=True)))

    found: list[JSON] = [dict(OFF.data), dict(OFF.data)]
    assert settled == {"t1": Settled(Output("fan is off; fan is off", {"found": found}))}
    assert looked_at == [{"value": "b"}, {"value": "c"}]
