"""A master that shares its ledger with others: what it takes over, what it loses, and what it leaves to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import (
    AskLedger,
    Connected,
    CountUsage,
    Lost,
    MakePlan,
    MasterEffect,
    NobodyWaits,
    Note,
    Origin,
    Record,
    ReplyDelivered,
    RequestArrived,
    RunHere,
    Save,
    SendEvent,
    SendForget,
    SendReply,
    SendTask,
    SendTaskControl,
    TakenOver,
    TellDelegate,
    WriteAnswer,
    request_of,
)
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.messages import Control, Event, Plan, Reply, Request, State, StepResult, Task, Usage
from tests.unit.master.play import Play, facts, only, plan, replies, said, sent, step


def shared(**fields: object) -> Play:
    """A master of several, connected, with two nodes."""
    play = Play(is_shared=True, **fields)  # type: ignore[arg-type]
    play.start()
    play.connect("n1", "n2")
    return play


def abandoned(dead: Play, name: str = "r1") -> TakenOver:
    """What another master finds when this one has died."""
    return TakenOver((replace(dead.ledger[name], epoch=2),))


def test_a_request_begins_with_the_first_epoch_and_its_tasks_and_orders_carry_it() -> None:
    """A node can tell by it which master lost the request."""
    play = shared()
    [(_, task)] = sent(play.ask(plan(step())))
    [cancel] = only(play.control("cancel"), SendTaskControl)

    assert (play.ledger["r1"].epoch, task.epoch, cancel.control.epoch) == (1, 1, 1)


def test_a_master_alone_has_no_epochs() -> None:
    """Its tasks look as they always did."""
    play = Play()
    play.connect("n1")
    [(_, task)] = sent(play.ask(plan(step())))

    assert (play.ledger["r1"].epoch, task.epoch) == (0, 0)


def test_a_request_of_a_master_that_fell_silent_goes_on_here() -> None:
    """Its task is sent again, by the same id and attempt and under the later epoch, and its reply is ours to say."""
    dead, play = shared(), shared(boot="m2")
    [(node, first)] = sent(dead.ask(plan(step(tool="press"))))

    effects = play.hear(abandoned(dead))

    [(again, task)] = sent(effects)
    assert (again, task) == (node, replace(first, epoch=2))
    assert only(effects, Note)[0].text == "1 requests of a master that fell silent go on here"
    assert [reply.state for reply in replies(play.result())] == [State.COMPLETED]


def test_what_a_silent_master_had_not_planned_is_planned_here() -> None:
    """At once: this master knows its nodes."""
    dead, play = shared(), shared(boot="m2")
    dead.ask()

    assert [effect.request.id for effect in only(play.hear(abandoned(dead)), MakePlan)] == ["r1"]


def test_what_is_taken_over_right_after_a_start_waits_until_the_nodes_are_heard() -> None:
    """As what this master had begun itself."""
    dead = shared()
    dead.ask()
    dead.ask(name="r2")
    first = dead.ledger["r2"]
    play = Play({"r2": first}, is_shared=True, boot="m2")
    play.start()

    assert only(play.hear(abandoned(dead)), MakePlan) == []
    play.hear(Connected())
    assert {effect.request.id for effect in only(play.wait(2), MakePlan)} == {"r1", "r2"}


def test_a_reply_that_a_silent_master_could_not_say_is_said_here() -> None:
    """The very same."""
    dead, play = shared(), shared(boot="m2")
    dead.ask(plan(step()))
    [reply] = replies(dead.result())
    play.ledger |= {record.request.id: record for record in abandoned(dead).records}

    assert replies(play.hear(abandoned(dead))) == [reply]
    assert only(play.hear(ReplyDelivered("r1")), Save)[0].record.is_sent


def test_a_task_on_a_node_that_is_away_waits_for_it_after_a_take_over() -> None:
    """No time runs for it meanwhile."""
    dead, play = shared(), Play(is_shared=True, boot="m2")
    dead.ask(plan(step(tool="press")))
    dead.accept()
    play.start()
    play.connect("n2")

    play.hear(abandoned(dead))
    assert replies(play.wait(60)) == []
    play.come("n1")
    assert [reply.state for reply in replies(play.result())] == [State.COMPLETED]


def test_a_request_that_was_lost_is_not_worked_on_any_more() -> None:
    """No task, no timer, no question, no reply: whatever comes of it is another master's."""
    play = shared(ask=("press",))
    play.ask(plan(step(tool="read"), step("s2", node="n2", tool="press"), step("s3", "wipe", node=MASTER)))

    effects = play.hear(Lost(frozenset({"r1", "r9"})))

    assert [effect.task for effect in only(effects, SendTaskControl)] == ["r1-s3"]
    assert play.core.open_requests == 0
    assert play.core.held("r1") is None
    assert [effect for effect in play.wait(500) if not isinstance(effect, Note)] == []
    assert play.control("cancel") == [Note("cancel for request r1, which is not open: ignored", "info")]


def test_a_lost_request_makes_room_for_what_waited_for_its_node() -> None:
    """Its place on the node is free, as far as this master knows."""
    play = shared()
    play.come("n1", running=1, queued=0)
    play.ask(plan(step()))
    assert sent(play.ask(plan(step()), "r2")) == []

    assert [task.id for _, task in sent(play.hear(Lost(frozenset({"r1"}))))] == ["r2-s1"]


def test_a_reply_that_is_not_stored_is_not_said_again_and_its_results_are_not_forgotten() -> None:
    """It was lost in the moment in which it ended."""
    play = shared()
    play.ask(plan(step()))
    play.result()

    assert play.hear(Lost(frozenset({"r1"}))) == []
    assert [effect for effect in play.wait(100) if isinstance(effect, (SendForget, SendReply))] == []


def test_a_request_can_come_back() -> None:
    """Lost, and taken over again, before anybody noticed: it begins anew from its record."""
    play = shared()
    play.ask(plan(step(tool="press")))

    effects = play.hear(TakenOver((replace(play.ledger["r1"], epoch=3),)))

    assert [task.epoch for _, task in sent(effects)] == [3]
    assert play.core.open_requests == 1


def test_a_result_that_nobody_here_waits_for_is_not_forgotten_before_the_ledger_was_asked() -> None:
    """Another master may wait for it."""
    play = shared()

    assert play.result("r7-s1", request="r7") == [AskLedger("n1", "r7-s1", "r7")]
    assert play.wait(1) == []
    play.hear(NobodyWaits("n1", "r7-s1"))
    assert only(play.wait(1), SendForget) == [SendForget("n1", ("r7-s1",))]


def test_what_the_ledger_said_of_a_task_does_not_hold_once_it_is_ours() -> None:
    """It was taken over while the ledger was being asked."""
    play = shared()
    play.ask(plan(step()))

    assert play.hear(NobodyWaits("n1", "r1-s1")) == []
    assert play.wait(1) == []


def test_a_late_copy_of_a_result_that_was_ours_is_forgotten_at_once() -> None:
    """The ledger need not be asked."""
    play = shared()
    play.ask(plan(step()))
    play.result()
    play.wait(1)

    play.result()
    assert only(play.wait(1), SendForget) == [SendForget("n1", ("r1-s1",))]


def test_work_for_another_master_is_not_ended_here() -> None:
    """Only a task that was ours, and is over, is told to end."""
    play = shared()
    play.ask(plan(step(tool="press")))
    play.result()

    assert play.accept("r7-s1") == []
    assert [effect.task for effect in only(play.accept(), SendTaskControl)] == ["r1-s1"]


def test_a_request_that_is_open_elsewhere_is_answered_there() -> None:
    """One that has its reply is answered by whoever is asked."""
    play = shared()
    record = Record(Request("r5", "x"), Origin(), State.WORKING, epoch=1)
    done = replace(record, reply=Reply("r5", State.COMPLETED, "done"), is_sent=True)

    assert play.hear(RequestArrived(record.request, known=record)) == []
    [said_again] = only(play.hear(RequestArrived(record.request, known=done)), SendReply)
    assert (said_again.reply, said_again.is_final) == (done.reply, False)


def test_a_request_that_cannot_be_taken_is_left_to_the_others_for_a_moment() -> None:
    """Then it is refused for all, stored: the ledger lets one master only say what becomes of it."""
    play = shared(open_requests=1)
    play.ask(name="r0")

    assert play.ask() == []
    assert play.ask() == []
    effects = play.wait(0.5)
    [reply] = replies(effects)
    assert reply.error is not None
    assert reply.error.code == ErrorCode.OVERLOADED
    assert [effect.record.reply for effect in only(effects, Save)] == [reply]
    assert only(effects, SendReply)[0].is_final


def test_a_refusal_that_the_ledger_did_not_take_is_not_said() -> None:
    """Another master has taken the request."""
    play = shared(open_requests=1)
    play.ask(name="r0")
    play.ask()
    assert play.hear(Lost(frozenset({"r1"}))) == []
    play.ask(name="r2")
    play.wait(0.5)

    assert play.hear(Lost(frozenset({"r2"}))) == []
    assert replies(play.wait(60)) == []


def test_a_copy_that_can_be_taken_makes_good_for_one_that_could_not() -> None:
    """A place became free in between: the request runs, and is not refused as well."""
    play = shared(open_requests=1)
    play.ask(plan(step()), "r0")
    play.ask()
    play.result("r0-s1")

    assert [effect.request.id for effect in only(play.ask(), MakePlan)] == ["r1"]
    assert replies(play.wait(5)) == []


def test_a_request_that_another_master_took_meanwhile_is_not_refused() -> None:
    """A copy of it comes, and the ledger knows it."""
    play = shared(open_requests=1)
    play.ask(name="r0")
    play.ask()
    play.hear(RequestArrived(Request("r1", "x"), known=Record(Request("r1", "x"), Origin(), State.WORKING, epoch=1)))

    assert replies(play.wait(5)) == []


def test_what_cannot_be_taken_has_an_end_too() -> None:
    """A thousand wait to be refused; of more nothing is said, and they are asked for again."""
    play = shared(open_requests=1)
    play.ask(name="r0")
    for number in range(1002):
        play.ask(name=f"q{number}")

    assert len(replies(play.wait(0.5))) == 1000


def test_a_cancel_that_comes_before_the_take_over_holds() -> None:
    """The master that held the request had fallen silent, and nobody held it when somebody said so."""
    dead, play = shared(), shared(boot="m2")
    dead.ask(plan(step(tool="press")))

    play.control("cancel", reason="stop it")
    effects = play.hear(abandoned(dead))

    assert facts(effects, "cancel_requested")["reason"] == "stop it"
    assert sent(effects) == []


def test_a_cancel_from_before_is_not_kept_for_ever() -> None:
    """Nor more of them than a thousand."""
    dead, play = shared(), shared(boot="m2")
    dead.ask(plan(step(tool="press")))
    play.control("cancel")
    play.wait(16)
    assert "cancel_requested" not in said(play.hear(abandoned(dead)))

    for number in range(1001):
        play.control("cancel", f"q{number}")
    assert len(play.core._early) == 1000


def test_a_copy_of_a_plain_text_that_went_to_another_master_is_nobodys() -> None:
    """The very delivery was taken here once."""
    play = shared()
    origin = Origin(is_plain=True, delivery=7)
    play.hear(RequestArrived(Request("r1", "do it"), origin))
    play.hear(Lost(frozenset({"r1"})))

    assert play.hear(RequestArrived(Request("r2", "do it"), origin, is_copy=True)) == []


def test_who_cancelled_stands_in_the_event() -> None:
    """Where it was said."""
    play = shared()
    play.ask(plan(step(tool="press")))
    effects = play.control("cancel", reason="too loud", by="a person at the hub")

    assert facts(effects, "cancel_requested") == {"reason": "too loud", "by": "a person at the hub"}
    assert said(effects) == ["cancel_requested"]


_TASK = Task("r1-s1", "r1", "call", tool="read")
_REQUEST = Request("r1", "x")
_OF_R1: list[MasterEffect] = [
    Save(Record(_REQUEST, Origin(), State.SUBMITTED)),
    MakePlan(_REQUEST),
    WriteAnswer(_REQUEST, Plan("offline", ()), ()),
    SendTask("n1", _TASK),
    RunHere(_TASK),
    SendTaskControl("n1", "r1-s1", Control("cancel"), "r1"),
    SendEvent(Event("r1", "x", "b", 0)),
    SendReply(Reply("r1", State.COMPLETED, ""), Origin()),
]
_OF_NONE: list[MasterEffect] = [
    SendForget("n1", ("r1-s1",)),
    SendTaskControl("n1", "t", Control("cancel")),
    TellDelegate("k", StepResult("s1", State.COMPLETED)),
    CountUsage("n1", "r1", "m", Usage(), 0.0),
    Note("x"),
]


@pytest.mark.parametrize("effect", _OF_R1)
def test_an_effect_says_which_request_it_is_about(effect: MasterEffect) -> None:
    """So that it can be held back where that is another master's."""
    assert request_of(effect) == "r1"


@pytest.mark.parametrize("effect", _OF_NONE)
def test_an_effect_for_several_requests_or_none_names_none(effect: MasterEffect) -> None:
    """What was used was used, whoever holds the request."""
    assert request_of(effect) is None
