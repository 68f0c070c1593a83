"""What a node makes of its tasks when tools come and go with their skills."""

from __future__ import annotations

from pibot_mesh.agent.tools import Tool
from pibot_mesh.errors import ErrorCode
from pibot_mesh.node.events import EndTool, StartTool, StopSeen
from pibot_mesh.protocol.messages import Capacity, Output, State, ToolSpec
from tests.unit.node.play import Play, only, results, task


def test_a_task_whose_tool_is_taken_away_while_it_runs_ends_as_it_began() -> None:
    """What it gave counts, and it was no more than what its tool was when it was called."""
    play = Play().online()
    play.give(task("t1"))
    play.tools.remove("read")

    [result] = results(play.end("t1"))

    assert result.state is State.COMPLETED
    assert result.tool_calls[0].effect == "read"
    play.give(task("t2"))
    assert play.refusals == [("t2", ErrorCode.UNKNOWN_TOOL)]


def test_a_task_that_reads_is_not_ended_by_the_stop_when_its_tool_is_gone() -> None:
    """A tool that nobody knows any more counts as one that moves something, but this one was seen to read."""
    play = Play().online()
    play.give(task("t1"))
    play.tools.remove("read")

    assert only(play.hear(StopSeen(True)), EndTool) == []


def test_a_task_is_rejected_when_its_tool_goes_while_it_waits() -> None:
    """As if it had come only now; the next one has its turn."""
    play = Play(capacity=Capacity(1, 2)).online()
    play.give(task("t1"), task("t2", tool="note"), task("t3"))
    play.tools.remove("note")

    effects = play.end("t1")

    assert [(result.id, result.state, result.error and result.error.code) for result in results(effects)] == [
        ("t1", State.COMPLETED, None),
        ("t2", State.REJECTED, ErrorCode.UNKNOWN_TOOL),
    ]
    assert [start.task.id for start in only(effects, StartTool)] == ["t3"]


def test_a_task_is_rejected_when_its_tool_wants_other_arguments_by_now() -> None:
    """It was checked by a schema that does not hold any more."""
    play = Play().online()
    play.give(task("t1"), task("t2", tool="note", args={"value": "x"}))
    play.tools.remove("note")
    play.tools.add(Tool(ToolSpec("note", parameters={"additionalProperties": False}), lambda args, context: Output()))

    [_, result] = results(play.end("t1"))

    assert (result.state, result.error and result.error.code) == (State.REJECTED, ErrorCode.BAD_ARGUMENTS)


def test_a_tool_that_begins_to_move_things_while_the_stop_holds_is_not_begun() -> None:
    """Its task was let through as one that reads."""
    play = Play().online()
    play.give(task("t1"), task("t2", tool="note"))
    play.hear(StopSeen(True))
    play.tools.remove("note")
    play.tools.add(Tool(ToolSpec("note", effect="actuate"), lambda args, context: Output()))

    [_, result] = results(play.end("t1"))

    assert (result.state, result.error and result.error.code) == (State.REJECTED, ErrorCode.STOPPED)


def test_a_tool_whose_schema_is_none_is_refused_in_words() -> None:
    """A skill can write one by hand."""
    play = Play().online()
    play.tools.add(Tool(ToolSpec("odd", parameters={"type": "nonsense"}), lambda args, context: Output()))

    play.give(task("t1", tool="odd"))

    assert play.refusals == [("t1", ErrorCode.BAD_ARGUMENTS)]
