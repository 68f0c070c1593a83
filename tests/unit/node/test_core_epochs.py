"""A master that lost a request is not obeyed any more, whatever it still sends of it."""

from __future__ import annotations

import pytest

from pibot_mesh.node.epochs import MAX_EPOCHS, Epochs
from pibot_mesh.node.events import (
    EndTool,
    Forgotten,
    NodeControlled,
    NodeEffect,
    Note,
    Save,
    StartTool,
    SteerRun,
    TaskArrived,
    TaskControlled,
)
from pibot_mesh.protocol.messages import Capacity, Control
from tests.unit.node.play import Play, agent, only, results, said, task


def is_refused(effects: list[NodeEffect]) -> bool:
    """Nothing is done and nothing said, but in the log."""
    return [type(effect) for effect in effects] == [Note]


def order(action: str, epoch: int, **fields: object) -> TaskControlled:
    return TaskControlled("t1", Control(action, epoch=epoch, **fields))  # type: ignore[arg-type]


def test_a_task_of_a_master_that_lost_the_request_is_not_taken() -> None:
    """It says nothing of it either: the master that has the request now must not hear of another's task."""
    play = Play(capacity=Capacity(3, 0)).online()
    play.give(task("t1", epoch=2))

    assert is_refused(play.hear(TaskArrived(task("t2", epoch=1))))
    assert is_refused(play.hear(TaskArrived(task("t2", tool="nothing", epoch=1))))
    assert only(play.hear(TaskArrived(task("t2", epoch=2))), StartTool) != []
    assert only(play.hear(TaskArrived(task("t3", request="r2", epoch=1))), StartTool) != [], "another request"


def test_a_task_that_was_refused_counts_as_seen() -> None:
    """The node is full: what it says of that goes to the master that has the request now."""
    play = Play(capacity=Capacity(1, 0)).online()
    play.give(task("t1", request="r2"))

    assert said(play.hear(TaskArrived(task("t2", epoch=3)))) == ["task_rejected"]
    assert is_refused(play.hear(TaskArrived(task("t2", epoch=2))))


def test_what_runs_goes_on_under_the_new_master() -> None:
    """It is not begun again, the journal learns whose it is now, and the old master cannot end it."""
    play = Play().online()
    play.give(task(tool="press", epoch=1))

    effects = play.hear(TaskArrived(task(tool="press", epoch=2)))

    [save] = only(effects, Save)
    assert (save.entry.phase, save.entry.task.epoch, save.is_durable) == ("running", 2, True)
    assert only(effects, StartTool) == []
    assert said(effects) == ["task_accepted"]
    assert is_refused(play.hear(order("cancel", 1)))
    assert [result.id for result in results(play.end())] == ["t1"]
    assert is_refused(play.hear(TaskArrived(task(tool="press", epoch=1))))


def test_a_result_is_said_again_to_the_new_master() -> None:
    """The task is done and stays done."""
    play = Play().online()
    play.give(task(epoch=1))
    play.end()

    effects = play.hear(TaskArrived(task(epoch=2)))

    assert [result.id for result in results(effects)] == ["t1"]
    assert play.journal["t1"].task.epoch == 2


@pytest.mark.parametrize(
    ("action", "fields"),
    [("cancel", {}), ("steer", {"text": "left"}), ("approve", {"call": "c1"}), ("deny", {"call": "c1"})],
)
def test_no_order_of_a_master_that_lost_the_request_is_obeyed(action: str, fields: dict[str, object]) -> None:
    """Whatever it is."""
    play = Play().online()
    play.give(agent(epoch=2))

    assert is_refused(play.hear(order(action, 1, **fields)))


def test_an_order_shows_that_the_request_has_passed_on() -> None:
    """One without an epoch (there is one master, or it is for several requests) is not judged."""
    play = Play().online()
    play.give(agent(epoch=1))

    assert play.hear(order("steer", 2, text="left")) == [SteerRun("t1", "left")]
    assert is_refused(play.hear(order("steer", 1, text="right")))
    assert is_refused(play.hear(TaskArrived(agent(epoch=1))))
    assert play.hear(order("steer", 0, text="on")) == [SteerRun("t1", "on")]
    assert only(play.hear(order("cancel", 0)), EndTool) != []


def test_forget_takes_those_whose_request_has_not_passed_on() -> None:
    """It goes to a node, with tasks of many requests; usually without an epoch."""
    play = Play(capacity=Capacity(3, 0)).online()
    play.give(task("t1", epoch=2), task("t2", request="r2", epoch=1), task("t3", epoch=2))
    for name in ("t1", "t2", "t3"):
        play.end(name)

    assert play.hear(NodeControlled(Control("forget", tasks=("t1", "t2"), epoch=1))) == [Forgotten({"t2": 1})]
    assert play.hear(NodeControlled(Control("forget", tasks=("t1", "t3")))) == [Forgotten({"t1": 1, "t3": 1})]


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_restart_does_not_make_it_obey_the_old_master_again(is_forgotten: bool) -> None:
    """The journal knows the epochs, also where the tasks are forgotten."""
    play = Play().online()
    play.give(task(epoch=1))
    play.hear(TaskArrived(task(epoch=2)))
    play.end()
    if is_forgotten:
        play.hear(NodeControlled(Control("forget", tasks=("t1",))))

    later = play.again().online()

    assert is_refused(later.hear(TaskArrived(task("t2", epoch=1))))
    assert only(later.hear(TaskArrived(task("t2", epoch=2))), StartTool) != []


def test_an_older_attempt_of_the_new_master_is_ignored_all_the_same() -> None:
    """Attempts are counted over all masters."""
    play = Play().online()
    play.give(task(attempt=2, epoch=1))

    assert is_refused(play.hear(TaskArrived(task(attempt=1, epoch=2))))


def test_the_epochs_are_bounded() -> None:
    """The one that was heard of longest ago goes first; one without an epoch takes no place."""
    epochs = Epochs({f"r{number}": 2 for number in range(MAX_EPOCHS)})
    epochs.note("plain", 0)
    epochs.note("r0", 1)
    epochs.note("new", 5)

    assert epochs.is_past("r0", 1), "it was heard of again, and did not go back"
    assert not epochs.is_past("r1", 1)
    assert epochs.is_past("new", 4)
    assert not epochs.is_past("new", 5)
