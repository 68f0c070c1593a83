"""What a node owes the mesh besides its tasks: results until they are taken, a truthful restart, presence, the stop."""

from __future__ import annotations

import itertools
import random

import pytest

from pibot_mesh.errors import ErrorCode
from pibot_mesh.node.core import MAX_FORGOTTEN, MAX_ORDER_IDS, NodeCore
from pibot_mesh.node.events import (
    Announce,
    Connected,
    Disconnected,
    EndTool,
    Entry,
    Forgotten,
    HoldOutputs,
    MasterSeen,
    NodeControlled,
    Note,
    OutputNoted,
    OutputOrdered,
    OwnStatusSeen,
    ReloadSkills,
    Remembered,
    SaveOutput,
    SaveStop,
    SendResult,
    SetOutput,
    StartTool,
    StopSeen,
    TaskArrived,
    ToolEnded,
)
from pibot_mesh.protocol.messages import Capacity, Cause, Control, OutputSet, Result, State, ToolCall, WireError
from tests.unit.node.play import Play, only, registry, results, task


def forget(*names: str) -> NodeControlled:
    return NodeControlled(Control("forget", tasks=names))


# Results, until the master has them (promise 4)


def test_a_result_is_sent_again_until_it_is_forgotten() -> None:
    """After 1, 2, 4 s and so on, at most every minute."""
    play = Play().online()
    play.give(task())
    sent_at = [play.now for _ in results(play.end())]
    while len(sent_at) < 10:
        wake_at = play.core.wake_at()
        assert wake_at is not None
        sent_at += [play.now for _ in results(play.wait(wake_at - play.now))]

    gaps = [round(later - earlier) for earlier, later in itertools.pairwise(sent_at)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    [forgotten] = play.hear(forget("t1"))
    assert forgotten == Forgotten({"t1": 1})
    assert play.core.wake_at() is None


def test_forget_keeps_a_tombstone_so_that_a_late_copy_does_not_run() -> None:
    """Also after a restart (promise 2)."""
    play = Play().online()
    play.give(task())
    play.end()
    play.hear(forget("t1"))

    for node in (play, play.again().online()):
        [note] = node.hear(TaskArrived(task()))
        assert isinstance(note, Note)


def test_a_new_attempt_of_a_forgotten_task_runs() -> None:
    """The master raises the attempt only where it wants it done again."""
    play = Play().online()
    play.give(task())
    play.end()
    play.hear(forget("t1"))

    assert only(play.hear(TaskArrived(task(attempt=2))), StartTool) != []


def test_forget_takes_many_and_passes_over_what_has_not_ended() -> None:
    """A task that still runs is not forgotten, nor one that was never here."""
    play = Play(capacity=Capacity(3, 0)).online()
    play.give(task("t1"), task("t2"), task("t3"))
    play.end("t1")
    play.end("t2")

    assert play.hear(forget("t1", "t2", "t3", "t4")) == [Forgotten({"t1": 1, "t2": 1})]
    assert play.hear(forget("t3")) == []
    assert results(play.end("t3")) != []


def test_the_tombstones_are_bounded() -> None:
    """The oldest goes first."""
    many = {f"old{i}": 1 for i in range(MAX_FORGOTTEN)}
    play = Play(Remembered(forgotten=many)).online()
    play.give(task())
    play.end()
    play.hear(forget("t1"))
    play.give(task("t2"))

    assert only(play.hear(TaskArrived(task("old1"))), Note) != []
    play.end("t2")
    assert only(play.hear(TaskArrived(task("old0"))), StartTool) != []


def test_results_are_sent_again_when_the_master_comes_back() -> None:
    """And at every reconnect of the node's own; not twice for one coming (promise 4)."""
    play = Play(capacity=Capacity(2, 0)).online()
    play.give(task("t1"), task("t2", timeout_s=1000))
    play.end("t1")

    play.hear(MasterSeen(False))
    assert results(play.wait(20)) == []
    assert [result.id for result in results(play.hear(MasterSeen(True)))] == ["t1"]
    assert play.hear(MasterSeen(True)) == []

    play.hear(Disconnected())
    assert results(play.wait(100)) == []
    assert results(play.hear(Connected())) == []
    assert [result.id for result in results(play.hear(MasterSeen(True)))] == ["t1"]
    assert [result.id for result in results(play.wait(1))] == ["t1"], "the schedule begins anew"


# After a crash (promise 2)


def test_what_may_be_repeated_is_offered_for_another_attempt_after_a_crash() -> None:
    """`unknown`, retryable; the new attempt runs."""
    play = Play().online()
    play.give(task())

    later = play.again()
    [result] = results(later.online().hear(TaskArrived(task())))

    assert result.state is State.UNKNOWN
    assert result.error == WireError(ErrorCode.INTERRUPTED, "the node restarted in the middle of the task", True)
    assert only(later.hear(TaskArrived(task(attempt=2))), StartTool) != []


def test_what_may_not_be_repeated_ends_as_unknown_and_says_which_call_was_under_way() -> None:
    """Nobody knows whether the button was pressed: it is not pressed again."""
    play = Play().online()
    play.give(task(tool="press", args={"value": "x"}))

    later = play.again()
    [result] = results([*later.hear(Connected()), *later.hear(MasterSeen(True))])

    assert (result.state, result.boot) == (State.UNKNOWN, "b2")
    assert result.error is not None
    assert (result.error.code, result.error.retryable) == (ErrorCode.INTERRUPTED, False)
    assert result.tool_calls == (ToolCall("press", {"value": "x"}, None, "actuate"),)
    assert only(later.hear(TaskArrived(task(tool="press", attempt=2))), StartTool) == []


def test_a_task_that_waited_at_the_crash_was_not_begun_and_may_be_tried_again() -> None:
    """Whatever its retry says."""
    play = Play().online()
    play.give(task("t1"), task("t2", tool="press"))

    later = play.again()
    [result] = results(later.online().hear(TaskArrived(task("t2", tool="press"))))

    assert result.state is State.REJECTED
    assert result.error == WireError(ErrorCode.INTERRUPTED, "the node restarted before the task began", True)
    assert result.tool_calls == ()


def test_a_restart_with_a_tool_gone_assumes_the_gravest() -> None:
    """The tool that was under way is unknown now: its call counts as one that moved something."""
    play = Play(Remembered((Entry(task(tool="vanished"), "running"),)))

    play.start()

    result = play.journal["t1"].result
    assert result is not None
    assert result.tool_calls[0].effect == "actuate"


def test_a_finished_task_stays_finished_over_a_restart() -> None:
    """Its result waits for the master, as before."""
    play = Play().online()
    play.give(task())
    before = results(play.end())

    later = play.again()

    assert later.start_effects == []
    assert results([*later.hear(Connected()), *later.hear(MasterSeen(True))]) == before


def test_a_node_gives_no_times_where_nobody_asked_for_the_wall_clock() -> None:
    """`ts` is for people; without a clock it is zero."""
    core = NodeCore(boot="b", tools=registry(), capacity=Capacity(), jitter=random.Random(0))
    core.handle(TaskArrived(task()), 1.0)
    [save] = core.handle(ToolEnded("t1", State.COMPLETED), 2.0)

    assert isinstance(save.entry.result, Result)  # type: ignore[union-attr]
    assert save.entry.result.ts == 0.0  # type: ignore[union-attr]


# Presence (promise 5)


def test_a_node_announces_itself_at_every_connect() -> None:
    """Card, states and presence, by the shell."""
    play = Play()

    assert play.hear(Connected()) == [Announce()]
    play.hear(Disconnected())
    assert play.hear(Connected()) == [Announce()]


@pytest.mark.parametrize(
    ("is_connected", "is_online", "announces"), [(True, False, 1), (True, True, 0), (False, False, 0)]
)
def test_a_node_that_reads_its_own_offline_while_connected_announces_itself(
    is_connected: bool, is_online: bool, announces: int
) -> None:
    """An old will came late."""
    play = Play()
    if is_connected:
        play.hear(Connected())

    assert len(play.hear(OwnStatusSeen(is_online))) == announces


def test_reload_loads_the_skills_and_announces_the_node_again() -> None:
    """The card is published anew."""
    assert Play().online().hear(NodeControlled(Control("reload"))) == [ReloadSkills(), Announce()]


# The emergency stop


def test_the_stop_is_stored_and_held_and_ends_what_moves() -> None:
    """What only reads goes on; what waits is rejected, what runs is told to end."""
    play = Play(capacity=Capacity(2, 2)).online()
    play.give(task("p1", tool="press"), task("r1"), task("p2", tool="press"), task("r2"))

    effects = play.hear(StopSeen(True))

    assert effects[:2] == [SaveStop(True), HoldOutputs(True)]
    assert [end.task.id for end in only(effects, EndTool)] == ["p1"]
    assert [(result.id, result.state) for result in results(effects)] == [("p2", State.REJECTED)]
    ended = play.hear(ToolEnded("p1", State.CANCELED))
    assert [(result.id, result.state) for result in results(ended)] == [("p1", State.FAILED)]
    assert results(ended)[0].error == WireError(ErrorCode.STOPPED, "the emergency stop was pulled")
    assert [start.task.id for start in only(ended, StartTool)] == ["r2"], "what only reads goes on"


def test_the_stop_holds_over_a_restart_until_it_is_released() -> None:
    """It is a state, not a command."""
    play = Play().online()
    play.hear(StopSeen(True))

    later = play.again()

    assert later.start_effects == [HoldOutputs(True)]
    assert later.core.is_stopped
    assert later.hear(StopSeen(True)) == [], "it holds already"
    assert later.hear(StopSeen(False)) == [SaveStop(False), HoldOutputs(False)]
    assert later.hear(StopSeen(False)) == []
    assert only(later.online().hear(TaskArrived(task(tool="press"))), StartTool) != []


def test_a_stopped_node_still_reads() -> None:
    """The stop is for what moves."""
    play = Play().online()
    play.hear(StopSeen(True))

    assert only(play.hear(TaskArrived(task())), StartTool) != []


# Orders for outputs


def test_an_order_for_an_output_is_passed_on() -> None:
    """An order without an id is obeyed each time: it is absolute."""
    order = OutputOrdered("fan", OutputSet(True))
    play = Play()

    assert play.hear(order) == [SetOutput("fan", OutputSet(True))]
    assert play.hear(order) == [SetOutput("fan", OutputSet(True))]


def test_an_order_with_an_id_is_obeyed_once() -> None:
    """A late copy must not prolong a time that was asked for."""
    order = OutputOrdered("fan", OutputSet(True, 10, "o1"))
    play = Play()

    assert play.hear(order) == [SetOutput("fan", order.order)]
    assert play.hear(order) == []


def test_the_ids_of_orders_are_bounded() -> None:
    """The oldest is forgotten first."""
    play = Play()
    for i in range(MAX_ORDER_IDS + 1):
        play.hear(OutputOrdered("fan", OutputSet(True, None, f"o{i}")))

    assert play.hear(OutputOrdered("fan", OutputSet(True, None, "o1"))) == []
    assert play.hear(OutputOrdered("fan", OutputSet(True, None, "o0"))) != []


def test_what_an_output_was_set_to_is_written_down() -> None:
    """By whomever: the journal knows what each is at."""
    cause = Cause("rule", "cool")

    assert Play().hear(OutputNoted("fan", True, cause)) == [SaveOutput("fan", True, cause)]


def test_a_retained_order_is_refused() -> None:
    """It may be from long ago (promise 3)."""
    [note] = Play().hear(OutputOrdered("fan", OutputSet(True), is_retained=True))

    assert isinstance(note, Note)
    assert "retained" in note.text


def test_a_result_that_nobody_can_hear_is_not_sent() -> None:
    """Neither without a broker nor without a master."""
    play = Play()
    play.give(task())

    assert only(play.end(), SendResult) == []
    assert play.core.wake_at() is None
