"""What a node makes of instructions: taken or refused, steered, approved, and every call in the journal before it is
made."""

from __future__ import annotations

from typing import Any

import pytest

from pibot_mesh.agent.tools import Tool
from pibot_mesh.errors import ErrorCode
from pibot_mesh.node.core import AGENT_GRACE_S, GRACE_S, MAX_SAID
from pibot_mesh.node.events import (
    AnswerApproval,
    ApprovalAnswered,
    ApprovalAwaited,
    CallBegun,
    CallEnded,
    EndTool,
    LetCall,
    NodeEffect,
    Note,
    RunTold,
    Save,
    SendEvent,
    StartTool,
    SteerRun,
    StopSeen,
    TaskArrived,
    TaskControlled,
    ToolEnded,
)
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Capacity, Control, Output, State, ToolCall, ToolSpec, Usage, WireError
from tests.unit.node.play import Play, agent, only, results, said, task

PRESS = ToolCall("press", {"value": "x"}, None, "actuate")
READ = ToolCall("read", {}, None, "read")


def running(*tools: str, **fields: object) -> Play:
    """A node that does an instruction."""
    play = Play().online()
    play.give(agent("t1", *tools, **fields))
    return play


def control(action: str, **fields: Any) -> TaskControlled:
    return TaskControlled("t1", Control(action, **fields))  # type: ignore[arg-type]


def ended(state: Any = State.COMPLETED, **fields: Any) -> ToolEnded:
    return ToolEnded("t1", state, **{"output": Output("done"), "tool_calls": (), **fields})


def notes(effects: list[NodeEffect]) -> str:
    """What is noted, where nothing else happens."""
    assert [type(effect) for effect in effects] == [Note]
    return only(effects, Note)[0].text


# Taken or refused


def test_an_instruction_is_accepted_in_words_at_once() -> None:
    """It takes longer than a fifth of a second in any case, and people watch."""
    play = Play().online()

    effects = play.hear(TaskArrived(agent()))

    assert [type(effect) for effect in effects] == [Save, StartTool, SendEvent]
    assert said(effects) == ["task_accepted"]
    assert said(play.wait(5)) == []


def test_an_instruction_that_waits_is_accepted_as_one_that_does_not_run() -> None:
    """It is steered all the same: what is said waits with it."""
    play = Play().online()
    play.give(task("t0"))

    [_, accepted] = play.hear(TaskArrived(agent()))
    assert isinstance(accepted, SendEvent)
    assert accepted.event.data == {"attempt": 1, "running": False}
    for number in range(MAX_SAID + 1):
        assert play.hear(control("steer", text=f"word {number}")) == []
    effects = play.end("t0")

    at = [type(effect) for effect in effects].index(StartTool)
    assert effects[at + 1 :] == [SteerRun("t1", f"word {number}") for number in range(1, MAX_SAID + 1)]


def test_a_node_without_an_agent_takes_no_instruction() -> None:
    """It has no model."""
    play = Play(has_agent=False).online()
    play.give(agent())

    assert play.refusals == [("t1", ErrorCode.NO_MODEL)]


def test_an_instruction_for_tools_that_are_not_there_is_refused_in_words() -> None:
    """All of them are named."""
    [effect] = Play().online().hear(TaskArrived(agent("t1", "read", "fly", "swim")))

    assert isinstance(effect, SendEvent)
    error = effect.event.data["error"]
    assert (error["code"], error["message"]) == (
        ErrorCode.UNKNOWN_TOOL,
        "this node has no tool named 'fly' or 'swim'",
    )


@pytest.mark.parametrize(("tools", "is_taken"), [(("read", "note"), True), (("read", "press"), False), ((), False)])
def test_while_the_stop_holds_no_instruction_is_taken_that_could_move_something(
    tools: tuple[str, ...], is_taken: bool
) -> None:
    """One that names no tools may call all that there are."""
    play = Play().online()
    play.hear(StopSeen(True))

    effects = play.hear(TaskArrived(agent("t1", *tools)))

    assert (only(effects, StartTool) != []) is is_taken
    if not is_taken:
        [result] = results(effects)
        assert (result.state, result.error and result.error.code) == (State.REJECTED, ErrorCode.STOPPED)
        assert result.tool_calls == ()


@pytest.mark.parametrize(("tools", "is_ended"), [(("read", "note"), False), (("read", "press"), True), ((), True)])
def test_the_stop_ends_an_instruction_that_could_move_something(tools: tuple[str, ...], is_ended: bool) -> None:
    """By its tools as they were when it began, whatever has become of them."""
    play = running(*tools)
    play.tools.remove("press")
    play.tools.add(Tool(ToolSpec("press"), lambda args, context: Output()))

    ends = only(play.hear(StopSeen(True)), EndTool)

    assert [(end.task.id, end.reason) for end in ends] == [("t1", "the emergency stop was pulled")] * is_ended


def test_a_node_without_tools_thinks_all_the_same() -> None:
    """Nothing that it does can move anything."""
    play = Play().online()
    for name in ("read", "note", "press"):
        play.tools.remove(name)
    play.hear(StopSeen(True))

    assert only(play.hear(TaskArrived(agent())), StartTool) != []


# What it tells


def test_what_a_run_tells_is_passed_on_under_one_count() -> None:
    """`task_accepted` is the first; the result comes behind. Nothing of that is stored."""
    play = running()

    effects = play.hear(RunTold("t1", "run_start", {"turn": 0})) + play.hear(
        RunTold("t1", "message_delta", {"text": "a"})
    )

    events = [effect.event for effect in only(effects, SendEvent)]
    assert len(events) == len(effects)
    assert [(one.type, one.seq, one.boot) for one in events] == [("run_start", 1, "b1"), ("message_delta", 2, "b1")]
    assert events[1].data == {"text": "a"}
    assert results(play.hear(ended()))[0].seq == 3


def test_what_cannot_be_sent_is_left_out_and_named() -> None:
    """The event comes all the same."""
    [effect] = running().hear(RunTold("t1", "tool_end", {"call": "c1", "text": "x" * 70_000}))

    assert isinstance(effect, SendEvent)
    assert effect.event.data["call"] == "c1"
    assert "left_out" in effect.event.data
    encode(effect.event)


def test_what_a_run_tells_after_its_end_is_dropped() -> None:
    """It was left behind, or is slow to fall silent."""
    play = running()
    play.hear(ended())

    for late in (
        RunTold("t1", "message_delta"),
        CallBegun("t1", "c1", PRESS),
        CallEnded("t1", "c1", True),
        ApprovalAwaited("t1", "c1"),
        ApprovalAnswered("t1", "c1"),
    ):
        assert play.hear(late) == []


def test_a_call_that_tells_how_far_it_is_is_accepted_in_words_before() -> None:
    """The first event of a task is always `task_accepted`."""
    play = Play().online()
    play.give(task())

    assert said(play.hear(RunTold("t1", "tool_update", {"text": "half"}))) == ["task_accepted", "tool_update"]
    assert said(play.hear(RunTold("t1", "tool_update", {"text": "almost"}))) == ["tool_update"]
    assert said(play.wait(1)) == []


# The journal stands before the call (promise 2)


def test_a_call_that_changes_something_stands_in_the_journal_before_it_begins() -> None:
    """Synced to disk; its end is stored too, and needs no sync: a call of which nobody knows is no lie."""
    play = running()

    [save, let] = play.hear(CallBegun("t1", "c1", PRESS))
    assert isinstance(save, Save)
    assert (save.entry.calls, save.is_durable, let) == ((PRESS,), True, LetCall("t1", "c1"))

    [save] = play.hear(CallEnded("t1", "c1", True))
    assert isinstance(save, Save)
    assert [one.ok for one in save.entry.calls] == [True]
    assert not save.is_durable


def test_a_call_that_reads_is_written_down_and_waits_for_nothing() -> None:
    """A sync costs an SD card its life."""
    [save] = running().hear(CallBegun("t1", "c1", READ))

    assert isinstance(save, Save)
    assert (save.entry.calls, save.is_durable) == ((READ,), False)


def test_the_end_of_a_call_that_was_never_made_says_nothing() -> None:
    """It was refused: by its arguments, or by a person."""
    assert running().hear(CallEnded("t1", "c9", False)) == []


def test_a_run_that_is_being_ended_makes_no_further_call() -> None:
    """Nobody lets it."""
    play = running()
    play.hear(control("cancel"))

    assert play.hear(CallBegun("t1", "c1", PRESS)) == []


def test_a_call_that_moves_something_while_the_stop_holds_ends_the_run() -> None:
    """A skill that was loaded between decision and start is no way around it."""
    play = running("read")
    play.hear(StopSeen(True))

    [end] = play.hear(CallBegun("t1", "c1", PRESS))

    assert isinstance(end, EndTool)
    assert end.reason == "the emergency stop was pulled"


def test_after_a_crash_every_call_is_named_and_the_one_under_way_is_unknown() -> None:
    """And the task is not run again where it may run only once."""
    play = running()
    play.hear(CallBegun("t1", "c1", READ))
    play.hear(CallEnded("t1", "c1", False))
    play.hear(CallBegun("t1", "c2", PRESS))
    play.hear(TaskArrived(agent(attempt=2)))

    later = play.again().online()
    [result] = results(later.hear(TaskArrived(agent(attempt=2))))

    assert (result.state, result.attempt) == (State.UNKNOWN, 2)
    assert result.error == WireError(ErrorCode.INTERRUPTED, "the node restarted in the middle of the task")
    assert [(one.name, one.ok) for one in result.tool_calls] == [("read", False), ("press", None)]
    assert only(later.hear(TaskArrived(agent(attempt=3))), StartTool) == []


def test_after_a_crash_what_may_be_repeated_is_offered_again_with_what_was_done() -> None:
    """The new attempt begins with a clean sheet."""
    play = running(retry="safe")
    play.hear(CallBegun("t1", "c1", PRESS))

    later = play.again().online()
    [result] = results(later.hear(TaskArrived(agent(retry="safe"))))
    assert (result.state, result.error and result.error.retryable) == (State.UNKNOWN, True)
    assert result.tool_calls == (PRESS,)

    assert only(later.hear(TaskArrived(agent(retry="safe", attempt=2))), StartTool) != []
    assert results(later.hear(ended(tool_calls=None)))[0].tool_calls == ()


# How it ends


def test_the_runs_own_account_stands_in_the_result() -> None:
    """What it said, its calls and what it used."""
    play = running()
    calls = (ToolCall("read", {}, True, "read"),)

    [result] = results(play.hear(ended(tool_calls=calls, usage=Usage(1, 0, 2))))

    assert (result.state, result.output.text, result.tool_calls) == (State.COMPLETED, "done", calls)
    assert result.usage == Usage(1, 0, 2)


@pytest.mark.parametrize("record", [READ, PRESS])
def test_a_run_that_broke_is_accounted_for_by_what_it_told(record: ToolCall) -> None:
    """Where it was about to change something, nobody knows whether it did."""
    play = running()
    play.hear(CallBegun("t1", "c1", record))

    error = WireError(ErrorCode.INTERNAL, "the run broke")
    [result] = results(play.hear(ended(State.FAILED, error=error, tool_calls=None)))

    assert result.state is (State.FAILED if record is READ else State.UNKNOWN)
    assert (result.error, result.tool_calls) == (error, (record,))


@pytest.mark.parametrize(
    ("why", "state", "code"),
    [
        (control("cancel", reason="too loud"), State.CANCELED, ErrorCode.CANCELED),
        (StopSeen(True), State.FAILED, ErrorCode.STOPPED),
    ],
)
def test_an_ended_run_keeps_what_it_has(why: Any, state: State, code: str) -> None:
    """The text so far, the calls that were made, and what it used."""
    play = running()
    [end] = only(play.hear(why), EndTool)
    assert end.task.id == "t1"
    calls = (ToolCall("press", {}, True, "actuate"),)

    [result] = results(play.hear(ended(State.CANCELED, output=Output("Well"), tool_calls=calls, usage=Usage(1))))

    assert (result.state, result.error and result.error.code) == (state, code)
    assert (result.output.text, result.tool_calls, result.usage) == ("Well", calls, Usage(1))


def test_an_end_of_which_nobody_knows_what_it_left_says_why_it_was_ended() -> None:
    """In the run's own words, which name the tool."""
    play = running(timeout_s=3)
    play.wait(3)

    error = WireError(ErrorCode.CANCELED, "not finished within 3 s; press did not heed its end")
    [result] = results(play.hear(ended(State.UNKNOWN, error=error, tool_calls=(PRESS,))))

    assert (result.state, result.tool_calls) == (State.UNKNOWN, (PRESS,))
    assert result.error == WireError(ErrorCode.TIMEOUT, "not finished within 3 s; press did not heed its end")


def test_a_run_has_longer_to_end_than_a_tool() -> None:
    """Its own tools get a part of that."""
    play = running()
    play.hear(control("cancel"))

    assert results(play.wait((GRACE_S + AGENT_GRACE_S) / 2)) == []
    assert results(play.wait(AGENT_GRACE_S)) != []


@pytest.mark.parametrize(
    ("record", "ok", "state"),
    [(READ, None, State.CANCELED), (PRESS, True, State.CANCELED), (PRESS, None, State.UNKNOWN)],
)
def test_a_run_that_does_not_end_is_left_behind_with_what_it_told(
    record: ToolCall, ok: bool | None, state: State
) -> None:
    """It is unknown only where a call is under way that changes something: another one nobody lets."""
    play = running()
    play.hear(CallBegun("t1", "c1", record))
    if ok is not None:
        play.hear(CallEnded("t1", "c1", ok))
    play.hear(control("cancel", reason="too loud"))

    effects = play.wait(AGENT_GRACE_S)

    [result] = results(effects)
    assert (result.state, result.error) == (state, WireError(ErrorCode.CANCELED, "too loud"))
    assert [one.ok for one in result.tool_calls] == [ok]
    assert "left behind" in only(effects, Note)[0].text


def test_hundreds_of_calls_stand_in_the_result_as_far_as_it_has_room() -> None:
    """Those that changed something are the last to go."""
    play = running()
    calls = tuple(ToolCall("read", {"value": "x" * 400}, True, "read") for _ in range(300))
    for number, one in enumerate((ToolCall("note", {"value": "y"}, None, "write"), *calls)):
        play.hear(CallBegun("t1", f"c{number}", one))

    assert len(encode(play.journal["t1"])) < 30_000
    [result] = results(play.hear(ended(tool_calls=None)))
    assert "note" in {one.name for one in result.tool_calls}
    encode(result)


# Steered


def test_a_run_is_steered() -> None:
    """With the words of whoever asked."""
    assert running().hear(control("steer", text="faster")) == [SteerRun("t1", "faster")]


def test_who_steers_without_a_word_or_too_late_is_noted() -> None:
    """And nothing happens."""
    play = running()

    assert "text is missing" in notes(play.hear(control("steer")))
    play.hear(control("cancel"))
    assert "being ended" in notes(play.hear(control("steer", text="faster")))
    assert "for a node" in notes(play.hear(control("reload")))


# Approved


def test_an_answer_is_passed_on_to_the_call_that_waits() -> None:
    """With the reason that was given, or one that says who it was."""
    play = running()
    play.hear(ApprovalAwaited("t1", "c1"))

    assert play.hear(control("approve", call="c1")) == [AnswerApproval("t1", "c1", True, "a person approved it")]
    assert play.hear(control("deny", call="c1", reason="no")) == [AnswerApproval("t1", "c1", False, "no")]


def test_an_answer_for_what_does_not_wait_is_noted() -> None:
    """No call, another one, or one that was answered before."""
    play = running()
    play.hear(ApprovalAwaited("t1", "c1"))

    assert "name it in 'call'" in notes(play.hear(control("approve")))
    assert "call c2, which does not wait" in notes(play.hear(control("approve", call="c2")))
    play.hear(ApprovalAnswered("t1", "c1"))
    assert "call c1, which does not wait" in notes(play.hear(control("approve", call="c1")))


def test_a_call_task_takes_no_approval() -> None:
    """Who sends it has asked before."""
    play = Play().online()
    play.give(task())

    assert "takes only cancel" in notes(play.hear(control("approve", call="c1")))


def test_the_time_stands_still_while_a_person_is_waited_for() -> None:
    """However many calls wait at a time, and one after another."""
    play = running(timeout_s=10, ask_within_s=100)
    play.wait(4)
    play.hear(ApprovalAwaited("t1", "c1"))
    play.hear(ApprovalAwaited("t1", "c2"), after=50)
    play.hear(ApprovalAnswered("t1", "c1"), after=50)
    assert only(play.wait(49), EndTool) == []
    play.hear(ApprovalAnswered("t1", "c2"))

    assert only(play.wait(5.5), EndTool) == []
    assert only(play.wait(0.5), EndTool) != []


def test_a_run_that_never_says_what_was_answered_ends_all_the_same() -> None:
    """When nobody can be waiting any more, and its time is over."""
    play = running(timeout_s=10, ask_within_s=100)
    play.wait(4)
    play.hear(ApprovalAwaited("t1", "c1"))

    assert only(play.wait(105), EndTool) == []
    assert only(play.wait(1), EndTool) != []


def test_a_question_at_the_end_does_not_begin_a_new_time() -> None:
    """Neither its beginning nor its end wakes a run that is being ended."""
    play = running(timeout_s=10)
    play.hear(ApprovalAwaited("t1", "c1"))
    play.hear(control("cancel"))
    play.hear(ApprovalAnswered("t1", "c1"))
    play.hear(ApprovalAwaited("t1", "c2"))
    play.hear(ended(State.CANCELED))

    assert only(play.wait(200), EndTool) == []


def test_what_was_left_behind_does_not_speak_for_the_attempt_that_waits() -> None:
    """Neither its end nor its calls: the one that waits has not begun, and keeps its place in the queue."""
    play = Play(capacity=Capacity(1, 2)).online()
    play.give(task("t1", "read", timeout_s=5.0))
    play.wait(6)
    play.give(task("t2", "press"), task("t1", "read", attempt=2))

    late = [play.end("t1"), play.hear(CallBegun("t1", "c1", PRESS)), play.hear(RunTold("t1", "turn_start", {}))]
    effects = play.end("t2")

    assert [notes(effects) for effects in late] == ["an earlier attempt of task t1 is heard of: ignored"] * 3
    assert [started.task.id for started in only(effects, StartTool)] == ["t1"]
    assert [result.attempt for result in results(play.end("t1"))] == [2]
