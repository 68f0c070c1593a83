"""What a node does with a task: take it, refuse it, run it, end it."""

from __future__ import annotations

import math

import pytest

from pibot_mesh.errors import ErrorCode, ProtocolError
from pibot_mesh.node.core import MAX_UNFORGOTTEN
from pibot_mesh.node.events import (
    Disconnected,
    EndTool,
    Entry,
    NodeControlled,
    Note,
    Remembered,
    Save,
    SendEvent,
    SendResult,
    StartTool,
    StopSeen,
    TaskArrived,
    TaskControlled,
    TaskMalformed,
    ToolEnded,
)
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.messages import Capacity, Control, Output, Result, State, Task, ToolCall, WireError
from tests.unit.node.play import Play, only, results, said, task


def refusal(play: Play, refused: Task) -> dict[str, JSON]:
    """The error with which *refused* is rejected, and nothing else happens."""
    [effect] = play.hear(TaskArrived(refused))
    assert isinstance(effect, SendEvent)
    assert (effect.task, effect.event.type) == (refused.id, "task_rejected")
    assert effect.event.data["attempt"] == refused.attempt
    error: dict[str, JSON] = effect.event.data["error"]
    return error


def test_a_task_is_stored_before_its_tool_runs() -> None:
    """First the journal, then the effect (promise 2)."""
    assert [type(effect) for effect in Play().online().hear(TaskArrived(task()))] == [Save, StartTool]


@pytest.mark.parametrize(("tool", "is_synced"), [("read", False), ("note", True), ("press", True)])
def test_what_changes_something_is_synced_to_disk_before(tool: str, is_synced: bool) -> None:
    """A tool that reads survives a kill; one that writes or actuates survives a pulled plug, too."""
    [save] = only(Play().online().hear(TaskArrived(task(tool=tool))), Save)

    assert save.is_durable is is_synced


def test_a_quick_task_costs_two_messages() -> None:
    """Done within 0.2 s: the result stands for `task_accepted` too (promise 4)."""
    play = Play().online()
    play.give(task())

    effects = play.end(after=0.1) + play.wait(0.5)

    assert said(effects) == []
    [result] = results(effects)
    assert (result.state, result.output, result.attempt, result.boot) == (State.COMPLETED, Output("done"), 1, "b1")
    assert (result.timing.waited_s, result.timing.ran_s) == (0.0, 0.1)
    assert result.tool_calls == (ToolCall("read", {}, True, "read"),)


def test_a_task_that_takes_longer_than_a_fifth_of_a_second_is_accepted_in_words() -> None:
    """`task_accepted` says that it runs, once."""
    play = Play().online()
    play.give(task(attempt=3))

    [effect] = play.wait(5)

    assert isinstance(effect, SendEvent)
    assert effect.event.type == "task_accepted"
    assert effect.event.data == {"attempt": 3, "running": True}
    assert results(play.end())[0].seq == 1, "the result comes behind the event"


def test_a_task_delivered_twice_runs_once() -> None:
    """The second copy is answered with `task_accepted`, at once (promise 2)."""
    play = Play().online()
    play.give(task())

    effects = play.hear(TaskArrived(task()))

    assert [type(effect) for effect in effects] == [SendEvent]
    assert said(effects) == ["task_accepted"]
    assert said(play.wait(5)) == [], "it was accepted already"


def test_a_task_delivered_again_after_its_end_gives_the_stored_result() -> None:
    """It does not run again; the same result is sent again (promise 2)."""
    play = Play().online()
    play.give(task())
    first = results(play.end())

    effects = play.hear(TaskArrived(task()), after=0.3)

    assert results(effects) == first
    assert only(effects, StartTool) == []


def test_a_task_waits_where_all_places_are_taken() -> None:
    """It is stored as queued, accepted in words, and begins when a place is free."""
    play = Play().online()
    play.give(task("t1"))

    [save] = play.hear(TaskArrived(task("t2")))
    assert isinstance(save, Save)
    assert save.entry == Entry(task("t2"), "queued")
    assert (play.core.running, play.core.queued) == (1, 1)
    accepted = play.wait(1)
    assert [effect.event.data["running"] for effect in only(accepted, SendEvent)] == [True, False]

    effects = play.end("t1")

    assert [started.task.id for started in only(effects, StartTool)] == ["t2"]
    [waited] = results(play.end("t2"))
    assert waited.timing.waited_s == 1.0


def test_busy_where_places_and_queue_are_full() -> None:
    """Refused, and worth trying again (promise 7); nothing is stored."""
    play = Play().online()
    play.give(task("t1"), task("t2"))

    error = refusal(play, task("t3"))

    assert error == {"code": "busy", "message": "1 tasks run and 1 wait", "retryable": True}
    assert "t3" not in play.journal


def test_busy_where_the_master_takes_no_results() -> None:
    """What waits to be forgotten is bounded, too (promise 7)."""
    ended = [Entry(task(f"t{i}"), "ended", Result(f"t{i}", "r1", 1, State.COMPLETED)) for i in range(MAX_UNFORGOTTEN)]
    play = Play(Remembered(tuple(ended)))

    error = refusal(play, task("new"))

    assert (error["code"], error["retryable"]) == ("busy", True)


@pytest.mark.parametrize(
    ("refused", "code", "says"),
    [
        (task(tool="fly"), ErrorCode.UNKNOWN_TOOL, "this node has no tool named 'fly'"),
        (task(args={"value": 5}), ErrorCode.BAD_ARGUMENTS, "read: value: 5 is not of type 'string'"),
    ],
)
def test_a_task_that_cannot_be_done_is_rejected_in_words(refused: Task, code: str, says: str) -> None:
    """The code for programs, the words for people; it is not worth trying again."""
    error = refusal(Play().online(), refused)

    assert error["code"] == code
    assert says in error["message"]
    assert error["retryable"] is False


def test_a_rejection_always_fits_into_a_message() -> None:
    """A schema quotes the arguments that it refuses, however long they are."""
    [effect] = Play().online().hear(TaskArrived(task(args={"value": ["x" * 60_000]})))

    assert isinstance(effect, SendEvent)
    assert len(encode(effect.event)) < 10_000


def test_a_malformed_task_is_answered_where_its_id_can_be_read() -> None:
    """And is not where it cannot: there is nobody to answer."""
    play = Play().online()

    [effect] = play.hear(TaskMalformed(ProtocolError("Task", ["kind: is missing"], id="t9")))

    assert isinstance(effect, SendEvent)
    assert (effect.task, effect.event.type) == ("t9", "task_rejected")
    assert effect.event.data == {
        "error": {"code": "bad_request", "message": "Task: kind: is missing", "retryable": False}
    }
    assert play.hear(TaskMalformed(ProtocolError("Task", ["kind: is missing"]))) == []


def test_a_retained_task_is_refused() -> None:
    """It may be from long ago (promise 3): it does not run, and the log says why."""
    [note] = Play().online().hear(TaskArrived(task(), is_retained=True))

    assert isinstance(note, Note)
    assert "retained" in note.text


def test_a_task_that_does_not_begin_within_its_ttl_is_rejected() -> None:
    """Acting on it later could surprise somebody (promise 3); nothing was done, so it is worth trying again."""
    play = Play().online()
    play.give(task("t1"), task("t2", ttl_s=10))

    [result] = results(play.wait(10.5))

    assert result.state is State.REJECTED
    assert result.error == WireError(ErrorCode.EXPIRED, "not started within 10 s", retryable=True)
    assert result.tool_calls == ()
    assert only(play.end("t1"), StartTool) == []


def test_a_place_that_is_free_too_late_does_not_begin_an_expired_task() -> None:
    """Although the clock was not looked at in between."""
    play = Play(capacity=Capacity(1, 2)).online()
    play.give(task("t1"), task("t2", ttl_s=10), task("t3", ttl_s=20))

    effects = play.end("t1", after=10)

    assert [started.task.id for started in only(effects, StartTool)] == ["t3"]
    assert [(result.id, result.state) for result in results(effects)] == [
        ("t1", State.COMPLETED),
        ("t2", State.REJECTED),
    ]


def test_a_start_says_until_when_it_may_be_made() -> None:
    """A full disk may hold it up: then it must not be made an hour later (promise 3)."""
    play = Play().online()

    [start] = only(play.hear(TaskArrived(task(ttl_s=7))), StartTool)

    assert start.by == play.now + 7


def test_a_tool_that_was_not_started_in_time_made_no_call() -> None:
    """The shell says `rejected`: the result does not list a call that was never made."""
    play = Play().online()
    play.give(task(tool="press"))

    error = WireError(ErrorCode.EXPIRED, "not started within 30 s", retryable=True)
    [result] = results(play.hear(ToolEnded("t1", State.REJECTED, error=error)))

    assert (result.state, result.tool_calls) == (State.REJECTED, ())


def test_one_tick_that_is_late_does_everything_that_is_due() -> None:
    """What one deadline ends, a later one does not stumble over."""
    play = Play(capacity=Capacity(1, 3)).online()
    play.give(task("t1", timeout_s=1), task("t2", ttl_s=0.1), task("t3", ttl_s=1.55))
    play.wait(1.2)

    play.now += 60
    effects = play._checked(play.core.tick(play.now))

    assert {(result.id, result.state) for result in results(effects)} >= {
        ("t1", State.FAILED),
        ("t3", State.REJECTED),
    }
    assert (play.core.running, play.core.queued) == (0, 0)


def test_a_tool_that_fails_gives_a_failed_result() -> None:
    """With its error, and the call that failed."""
    play = Play().online()
    play.give(task())

    error = WireError("tool_failed", "the sensor is silent")
    [result] = results(play.hear(ToolEnded("t1", State.FAILED, error=error)))

    assert (result.state, result.error) == (State.FAILED, error)
    assert result.tool_calls == (ToolCall("read", {}, False, "read"),)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (Output("x" * 70_000), "bytes left out"),
        (Output("ok", {"value": math.nan}), "Out of range float values are not JSON compliant"),
        (Output("ok", {"names": {1, 2}}), "not JSON serializable"),
        (Output("half a pair: \ud800"), "\\ud800"),
    ],
)
def test_an_output_that_no_message_can_carry_is_cut_in_words(output: Output, says: str) -> None:
    """The task ends all the same, and its result says what was left out."""
    play = Play().online()
    play.give(task())

    [result] = results(play.hear(ToolEnded("t1", State.COMPLETED, output)))

    assert result.state is State.COMPLETED
    assert says in result.output.text + str(result.output.data)
    encode(result)


# Time-outs and cancellation


def test_a_tool_that_takes_too_long_is_told_to_end_and_gives_timeout() -> None:
    """The words name the limit."""
    play = Play().online()
    play.give(task(timeout_s=3))

    [end] = only(play.wait(3), EndTool)
    error = WireError(ErrorCode.CANCELED, "the tool was ended")
    [result] = results(play.hear(ToolEnded(end.task.id, State.CANCELED, error=error)))

    assert result.state is State.FAILED
    assert result.error == WireError(ErrorCode.TIMEOUT, "not finished within 3 s")


@pytest.mark.parametrize(("tool", "state"), [("read", State.FAILED), ("press", State.UNKNOWN)])
def test_a_tool_that_does_not_end_is_left_behind(tool: str, state: State) -> None:
    """Half a second after it was told: what it still changes nobody knows. Its place is free again."""
    play = Play().online()
    play.give(task(tool=tool, timeout_s=3), task("t2"))

    effects = play.wait(3.5)

    [result] = results(effects)
    assert (result.id, result.state) == ("t1", state)
    assert result.tool_calls[0].ok is (False if tool == "read" else None)
    assert "left behind" in only(effects, Note)[0].text
    assert only(effects, StartTool)[0].task.id == "t2"
    [note] = play.end("t1")
    assert isinstance(note, Note), "its end comes too late for anything"


def test_a_running_task_is_cancelled() -> None:
    """The tool is told to end, once; the result is `canceled` with the reason of who asked."""
    play = Play().online()
    play.give(task())

    effects = play.hear(TaskControlled("t1", Control("cancel", reason="too loud")))
    assert [type(effect) for effect in effects] == [EndTool]
    assert play.hear(TaskControlled("t1", Control("cancel"))) == []
    [result] = results(play.hear(ToolEnded("t1", State.CANCELED)))

    assert result.state is State.CANCELED
    assert result.error == WireError(ErrorCode.CANCELED, "too loud")


def test_a_tool_that_was_quicker_than_its_cancellation_has_completed() -> None:
    """What was done is said to be done."""
    play = Play().online()
    play.give(task())
    play.hear(TaskControlled("t1", Control("cancel")))

    [result] = results(play.end())

    assert (result.state, result.error) == (State.COMPLETED, None)


def test_a_tool_of_which_nobody_knows_what_it_did_stays_unknown() -> None:
    """Also where it was cancelled: `canceled` would claim that it was stopped."""
    play = Play().online()
    play.give(task(tool="press"))
    play.hear(TaskControlled("t1", Control("cancel")))

    [result] = results(play.hear(ToolEnded("t1", State.UNKNOWN)))

    assert result.state is State.UNKNOWN


def test_a_waiting_task_is_cancelled_and_never_runs() -> None:
    """Nothing was done: no call stands in its result."""
    play = Play().online()
    play.give(task("t1"), task("t2"))

    [result] = results(play.hear(TaskControlled("t2", Control("cancel"))))

    assert (result.id, result.state, result.tool_calls) == ("t2", State.CANCELED, ())
    assert result.error == WireError(ErrorCode.CANCELED, "cancelled")
    assert only(play.end("t1"), StartTool) == []


@pytest.mark.parametrize(
    "controlled",
    [
        TaskControlled("t9", Control("cancel")),
        TaskControlled("t1", Control("steer", text="left")),
        TaskControlled("t1", Control("cancel"), is_retained=True),
        NodeControlled(Control("steer", text="left")),
        NodeControlled(Control("forget", tasks=("t1",)), is_retained=True),
    ],
)
def test_a_control_that_fits_nothing_is_noted_and_nothing_happens(controlled: TaskControlled | NodeControlled) -> None:
    """For a task that is not here, for what a call does not take, or retained from long ago (promise 3)."""
    play = Play().online()
    play.give(task())

    assert [type(effect) for effect in play.hear(controlled)] == [Note]
    assert results(play.end()) != []


# Attempts


def test_a_new_attempt_of_what_still_runs_goes_on_under_its_number() -> None:
    """The master lost patience, not the task: it does not run twice."""
    play = Play().online()
    play.give(task())

    effects = play.hear(TaskArrived(task(attempt=2)))

    assert only(effects, StartTool) == []
    assert [effect.event.data["attempt"] for effect in only(effects, SendEvent)] == [2]
    assert results(play.end())[0].attempt == 2


@pytest.mark.parametrize("state", [State.COMPLETED, State.UNKNOWN, State.FAILED])
def test_a_new_attempt_of_what_may_not_be_repeated_gives_the_old_result(state: State) -> None:
    """Under the new attempt's number, so that the master takes it (promise 2)."""
    play = Play().online()
    play.give(task(tool="press"))
    play.hear(ToolEnded("t1", state))  # type: ignore[arg-type]  # each is a state of a task's end

    effects = play.hear(TaskArrived(task(tool="press", attempt=2)))

    assert only(effects, StartTool) == []
    assert [(result.state, result.attempt) for result in results(effects)] == [(state, 2)]


def test_a_new_attempt_of_what_failed_and_may_be_repeated_runs() -> None:
    """Its result is the new attempt's, and the old one is not sent again."""
    play = Play().online()
    play.give(task())
    play.hear(ToolEnded("t1", State.FAILED))

    effects = play.hear(TaskArrived(task(attempt=2)))

    assert [started.task.attempt for started in only(effects, StartTool)] == [2]
    assert results(play.wait(10)) == []


def test_a_new_attempt_of_what_never_began_runs() -> None:
    """Also where it may run only once: it did not run yet."""
    play = Play().online()
    play.give(task("t1"), task("t2", tool="press", ttl_s=1))
    play.wait(2)
    play.end("t1")

    effects = play.hear(TaskArrived(task("t2", tool="press", attempt=2)))

    assert [started.task.attempt for started in only(effects, StartTool)] == [2]


def test_an_older_attempt_is_ignored() -> None:
    """It came late: the newer one counts."""
    play = Play().online()
    play.give(task(attempt=2))

    [note] = play.hear(TaskArrived(task(attempt=1)))

    assert isinstance(note, Note)


def test_nothing_is_said_of_a_result_while_the_master_is_away() -> None:
    """It is stored, and waits."""
    play = Play().online()
    play.give(task())
    play.hear(Disconnected())

    effects = play.end()

    assert [type(effect) for effect in effects] == [Save]
    assert SendResult(play.journal["t1"].result) in play.online().hear(TaskArrived(task()))  # type: ignore[arg-type]


# The emergency stop holds


def test_a_stopped_node_rejects_what_would_move_something_and_remembers_that_it_did() -> None:
    """A copy that comes after the stop was cleared does not run: its asker was told that it did not."""
    play = Play().online()
    play.hear(StopSeen(True))

    [result] = results(play.hear(TaskArrived(task(tool="press"))))
    play.hear(StopSeen(False))
    effects = play.hear(TaskArrived(task(tool="press")))

    assert result.state is State.REJECTED
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == (ErrorCode.STOPPED, False)
    assert only(effects, StartTool) == []
    assert results(effects) == [result]
