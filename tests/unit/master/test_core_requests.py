"""From a request to its one reply (promise 1): accepted, refused, known already, planned, cancelled, out of time."""

from __future__ import annotations

import random

import pytest

from pibot_mesh.errors import ErrorCode, ProtocolError
from pibot_mesh.master.core import COPY_WITHIN_S, KEPT_REPLIES, SETTLE_S, MasterCore
from pibot_mesh.master.events import (
    Announce,
    Connected,
    Disconnected,
    MakePlan,
    NodeSeen,
    Note,
    Origin,
    OwnStatusSeen,
    Planned,
    Refusal,
    ReplyDelivered,
    RequestArrived,
    RequestControlled,
    RequestMalformed,
    Save,
    SendEvent,
    SendReply,
    SendTask,
    SendTaskControl,
)
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Control, NodeCard, Reply, Request, State, WireError
from tests.unit.master.play import BUDGET, Play, only, plan, replies, said, sent, step

PLAIN = Origin(is_plain=True, delivery=7)


def cancel(request: str = "r1", reason: str | None = None) -> RequestControlled:
    return RequestControlled(request, Control("cancel", reason=reason))


# Accepted


def test_a_request_is_stored_before_it_is_accepted() -> None:
    """First the ledger, then the word, then the work."""
    effects = Play().ask()

    assert [type(effect) for effect in effects] == [Save, SendEvent, MakePlan]
    assert said(effects) == ["request_accepted"]


def test_an_accepted_request_ends_in_exactly_one_reply() -> None:
    """With what happened, who said so, and how long it took."""
    play = Play()
    play.connect("n1")
    effects = play.ask(plan(step()))
    play.now += 2
    effects += play.result(data={"value": 21})
    effects += play.hear(ReplyDelivered("r1"))
    effects += play.wait(300)

    [reply] = replies(effects)
    assert (reply.id, reply.state, reply.text, reply.engine) == ("r1", State.COMPLETED, "s1 completed", "offline")
    assert (reply.results[0].node, reply.results[0].output.data) == ("n1", {"value": 21})
    assert (reply.boot, reply.ts, reply.timing.total_s) == ("m1", 5000.0, 2.0)


def test_a_reply_that_the_broker_does_not_take_is_said_again() -> None:
    """It may have had too much to take, or refused it: the same reply comes every 10 s until it is acknowledged."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step()))
    [reply] = replies(play.result())

    assert replies(play.wait(9)) == []
    assert replies(play.wait(21)) == [reply] * 3

    play.hear(ReplyDelivered("r1"))
    assert replies(play.wait(300)) == []


def test_events_and_reply_are_numbered_without_a_gap() -> None:
    """A gap would say that something was dropped."""
    play = Play()
    play.connect("n1")
    effects = play.ask(plan(step()))
    effects += play.event("tool_start", attempt=9, name="of an older attempt: not passed on")
    effects += play.accept()
    effects += play.result()

    assert [effect.event.seq for effect in only(effects, SendEvent)] == list(range(6))
    assert replies(effects)[0].seq == 6
    assert said(effects) == [
        "request_accepted",
        "request_planned",
        "task_submitted",
        "task_accepted",
        "step_ended",
        "request_ended",
    ]


def test_a_request_that_is_known_is_not_run_again() -> None:
    """While it is open, its state is said again: `request_accepted`."""
    play = Play()
    play.ask()

    effects = play.ask()

    assert [type(effect) for effect in effects] == [SendEvent]
    assert said(effects) == ["request_accepted"]


def test_a_known_request_that_has_ended_gives_the_same_reply_again() -> None:
    """Also after a restart, when only the ledger knows it."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step()))
    [first] = replies(play.result())
    play.hear(ReplyDelivered("r1"))

    assert play.ask() == [SendReply(first, Origin(), is_final=False)]

    later = play.again()
    assert later.core.held("r1") is None
    asked_again = RequestArrived(Request("r1", "do it"), known=later.ledger["r1"])
    assert later.hear(asked_again) == [SendReply(first, Origin(), is_final=False)]
    assert later.core.held("r1") is not None


def test_a_reply_is_said_at_every_connect_until_the_broker_has_it() -> None:
    """And after a restart, too; then it stands in the ledger that it was."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step()))
    [first] = only(play.result(), SendReply)
    assert first.is_final

    play.hear(Disconnected())
    assert only(play.hear(Connected()), SendReply) == [first]
    later = play.again()
    assert only(later.hear(Connected()), SendReply) == [first]
    assert only(later.ask(), SendReply) == [first], "asked again meanwhile"

    [save] = later.hear(ReplyDelivered("r1"))
    assert isinstance(save, Save)
    assert save.record.is_sent
    assert later.hear(ReplyDelivered("r1")) == [], "once is enough"
    assert only(later.hear(Connected()), SendReply) == []


def test_a_plain_text_that_the_broker_brings_twice_runs_once() -> None:
    """It has no id: a copy is marked by MQTT, and has the packet id of the first (promise 1)."""
    play = Play()
    play.connect("n1")
    play.hear(RequestArrived(Request("p1", "turn on the fan"), PLAIN))

    open_still = play.hear(RequestArrived(Request("p2", "turn on the fan"), PLAIN, is_copy=True))
    assert only(open_still, MakePlan) == []
    play.hear(Planned("p1", plan(step())))
    [reply] = replies(play.result("p1-s1"))
    unsent = play.hear(RequestArrived(Request("p3", "turn on the fan"), PLAIN, is_copy=True))
    assert replies(unsent) == [reply]
    play.hear(ReplyDelivered("p1"))
    closed = play.hear(RequestArrived(Request("p4", "turn on the fan"), PLAIN, is_copy=True))
    assert replies(closed) == [reply]


@pytest.mark.parametrize(
    "other",
    [
        RequestArrived(Request("p2", "turn on the fan"), PLAIN),
        RequestArrived(Request("p2", "turn off the fan"), PLAIN, is_copy=True),
        RequestArrived(Request("p2", "turn on the fan"), Origin(is_plain=True, delivery=8), is_copy=True),
        RequestArrived(Request("p2", "turn on the fan"), Origin(is_plain=True, topic="pibot/reply/a"), is_copy=True),
    ],
)
def test_a_plain_text_that_only_resembles_an_earlier_one_runs(other: RequestArrived) -> None:
    """A person may say the same again."""
    play = Play()
    play.hear(RequestArrived(Request("p1", "turn on the fan"), PLAIN))

    assert only(play.hear(other), MakePlan) != []


def test_a_packet_id_that_comes_round_again_is_no_copy() -> None:
    """The broker counts from 1 after each restart: an answer of ten minutes ago is none to this."""
    play = Play()
    play.hear(RequestArrived(Request("p1", "turn on the fan"), PLAIN))
    play.wait(COPY_WITHIN_S + 1)

    effects = play.hear(RequestArrived(Request("p2", "turn on the fan"), PLAIN, is_copy=True))

    assert only(effects, MakePlan) == [MakePlan(Request("p2", "turn on the fan", limits=BUDGET))]


def test_a_copy_after_a_restart_is_recognised_while_its_request_is_open() -> None:
    """The kill came between the ledger and the acknowledgement."""
    play = Play()
    play.hear(RequestArrived(Request("p1", "turn on the fan"), PLAIN))

    effects = play.again().hear(RequestArrived(Request("p2", "turn on the fan"), PLAIN, is_copy=True))

    assert said(effects) == ["request_accepted"]
    assert only(effects, MakePlan) == []


def test_the_replies_in_memory_are_bounded() -> None:
    """The oldest goes; the ledger has it."""
    play = Play()
    for i in range(KEPT_REPLIES + 1):
        play.ask(Refusal(WireError("not_understood", "what?")), f"r{i}")
        play.hear(ReplyDelivered(f"r{i}"))

    assert play.core.held("r0") is None
    assert play.core.held("r1") is not None


def test_a_copy_that_waited_while_its_reply_left_the_memory_is_no_new_request() -> None:
    """It brings its record along, as the core held it when it came."""
    play = Play()
    play.ask(Refusal(WireError("not_understood", "what?")), "r0")
    play.hear(ReplyDelivered("r0"))
    held = play.core.held("r0")
    assert held is not None
    for i in range(1, KEPT_REPLIES + 1):
        play.ask(Refusal(WireError("not_understood", "what?")), f"r{i}")
        play.hear(ReplyDelivered(f"r{i}"))

    effects = play.hear(RequestArrived(held.request, known=held))

    assert [effect.reply for effect in only(effects, SendReply)] == [held.reply]
    assert only(effects, Save) == []


# Refused


def test_a_retained_request_is_refused() -> None:
    """It may be from long ago (promise 3)."""
    [note] = Play().hear(RequestArrived(Request("r1", "do it"), is_retained=True))

    assert isinstance(note, Note)
    assert "retained" in note.text


def test_a_master_over_its_limit_says_overloaded() -> None:
    """Rejected, and worth asking again later (promise 7); it is not stored."""
    play = Play(open_requests=1)
    play.ask(name="r1")

    [reply] = replies(play.ask(name="r2"))

    assert reply.state is State.REJECTED
    assert reply.error == WireError(ErrorCode.OVERLOADED, "1 requests are open already: ask again later", True)
    assert "r2" not in play.ledger
    assert play.core.open_requests == 1


def test_a_master_whose_replies_nobody_takes_says_overloaded() -> None:
    """Replies that wait for the broker are bounded, too (promise 7)."""
    play = Play()
    for i in range(KEPT_REPLIES):
        play.ask(Refusal(WireError("not_understood", "what?")), f"r{i}")

    [reply] = replies(play.ask(name="one-more"))

    assert reply.error is not None
    assert (reply.error.code, reply.error.retryable) == (ErrorCode.OVERLOADED, True)


@pytest.mark.parametrize(
    ("request_", "origin"),
    [
        (Request("r1", "do it", reply_to="pibot/node/n1/task"), Origin()),
        (Request("r1", "do it"), Origin(topic="pibot/node/n1/task")),
    ],
)
def test_a_reply_may_not_be_sent_just_anywhere(request_: Request, origin: Origin) -> None:
    """Or the master could be made to publish a task for its asker."""
    [reply] = replies(Play().hear(RequestArrived(request_, origin)))

    assert reply.state is State.REJECTED
    assert reply.error is not None
    assert reply.error.code == ErrorCode.BAD_REQUEST
    assert "pibot/node/n1/task" in reply.text


def test_a_reply_goes_where_the_request_wants_it() -> None:
    """Below `reply/`."""
    play = Play()
    request = Request("r1", "do it", reply_to="pibot/reply/me")
    play.hear(RequestArrived(request, Origin(topic="pibot/reply/you", correlation="eA==")))

    [said_reply] = only(play.hear(Planned("r1", Refusal(WireError("x", "no")))), SendReply)

    assert (said_reply.reply_to, said_reply.origin.topic) == ("pibot/reply/me", "pibot/reply/you")


def test_a_request_for_a_node_that_was_never_there_is_refused_in_words() -> None:
    """With the nodes that are."""
    play = Play()

    assert replies(play.ask(node="attic"))[0].text == "no node named 'attic' is known (online: none)"
    play.connect("n1", "n2")
    [reply] = replies(play.ask(name="r2", node="attic"))
    assert reply.text == "no node named 'attic' is known (online: n1, n2)"
    assert reply.error is not None
    assert reply.error.code == ErrorCode.OFFLINE
    assert only(play.ask(name="r3", node="n1"), MakePlan) != []


def test_a_malformed_request_is_answered_where_its_id_can_be_read() -> None:
    """Not where it cannot, nor where that id is an open request's: that one gets its own reply."""
    play = Play()
    error = ProtocolError("Request", ["text: is missing"], id="r1")

    [effect] = play.hear(RequestMalformed(error))

    assert isinstance(effect, SendReply)
    assert not effect.is_final
    assert (effect.reply.id, effect.reply.state) == ("r1", State.REJECTED)
    assert effect.reply.error == WireError(ErrorCode.BAD_REQUEST, "Request: text: is missing")
    assert play.hear(RequestMalformed(ProtocolError("Request", ["not valid JSON"]))) == []
    play.ask()
    assert play.hear(RequestMalformed(error)) == []


def test_what_the_planner_refuses_is_the_reply() -> None:
    """In its words."""
    [reply] = replies(Play().ask(Refusal(WireError(ErrorCode.NOT_UNDERSTOOD, "I know: turn on the fan"))))

    assert (reply.state, reply.text) == (State.REJECTED, "I know: turn on the fan")
    assert (reply.plan, reply.engine) == (None, None)


def test_a_plan_that_does_not_fit_the_mesh_moves_nothing() -> None:
    """Every violation is named."""
    play = Play()
    play.connect("n1")

    effects = play.ask(plan(step(), step("s2", tool="fly"), step("s3", node="n9")))

    assert sent(effects) == []
    [reply] = replies(effects)
    assert reply.error is not None
    assert reply.error.code == ErrorCode.BAD_PLAN
    assert "step s2: there is no tool 'fly' on n1" in reply.text
    assert "step s3: there is no node 'n9' online" in reply.text


def test_a_reply_always_fits_into_a_message() -> None:
    """However much there is to say."""
    play = Play()
    play.connect("n1")

    [huge] = replies(play.ask(Refusal(WireError("x", "\x00" * 100_000))))

    encode(huge)


def test_an_event_always_fits_into_a_message() -> None:
    """What is too long is left out, in words."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step()))

    [event] = [effect.event for effect in only(play.event("tool_update", text="x" * 65_500, name="x"), SendEvent)]

    assert (event.data["node"], event.data["name"]) == ("n1", "x")
    assert "65536" in event.data["left_out"]


# Planned


def test_plan_only_shows_the_plan_and_moves_nothing() -> None:
    """The steps were not needed: skipped."""
    play = Play()
    play.connect("n1")

    effects = play.ask(plan(step(args={"value": 3}), step("s2", tool="press", after=("s1",))), mode="plan_only")

    assert only(effects, SendTask) == []
    [reply] = replies(effects)
    assert (reply.state, reply.text) == (State.COMPLETED, "s1: n1: read(value=3)\ns2: n1: press(), after s1")
    assert reply.plan is not None
    assert [result.state for result in reply.results] == [State.SKIPPED, State.SKIPPED]


def test_a_second_plan_for_one_request_is_ignored() -> None:
    """And one for a request that has ended."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step()))

    assert play.hear(Planned("r1", plan(step(tool="press")))) == []
    play.result()
    assert play.hear(Planned("r1", plan(step()))) == []


def test_a_request_that_was_not_planned_at_the_crash_is_planned_again() -> None:
    """Nothing had moved. Its nodes are heard first, or the plan would be made for none."""
    play = Play()
    play.ask()

    later = play.again()
    later.connect("n1")

    assert only(later.first, MakePlan) == []
    assert later.wait(SETTLE_S) == [MakePlan(Request("r1", "do it", limits=BUDGET))]
    assert sent(later.hear(Planned("r1", plan(step())))) != []


# Cancelled


def test_a_request_is_cancelled_before_its_plan_stands() -> None:
    """At once: nothing was done."""
    play = Play()
    play.ask()

    [reply] = replies(play.hear(cancel()))

    assert reply.state is State.CANCELED
    assert reply.error == WireError(ErrorCode.CANCELED, "cancelled before anything was done")
    assert play.hear(Planned("r1", plan(step()))) == [], "the plan comes too late"
    play.hear(ReplyDelivered("r1"))
    assert play.wait(300) == []


def test_a_running_request_is_cancelled_and_says_what_was_done() -> None:
    """The node is told; what waited does not begin; the reply comes with the node's last word."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2", after=("s1",))))

    effects = play.hear(cancel(reason="enough"))

    assert only(effects, SendTaskControl) == [SendTaskControl("n1", "r1-s1", Control("cancel", reason="enough"), "r1")]
    assert replies(effects) == []
    assert "cancel_requested" in said(effects)
    assert play.hear(cancel()) == [], "once is enough"
    [reply] = replies(play.result(state=State.CANCELED, error=WireError(ErrorCode.CANCELED, "enough")))
    assert reply.state is State.CANCELED
    assert [result.state for result in reply.results] == [State.CANCELED, State.CANCELED]


@pytest.mark.parametrize(("tool", "state"), [("press", State.UNKNOWN), ("read", State.CANCELED)])
def test_a_cancelled_request_whose_node_is_silent_ends_all_the_same(tool: str, state: State) -> None:
    """After five seconds: `unknown` where something may have moved."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(tool=tool)))
    play.hear(cancel())

    assert replies(play.wait(4.9)) == []
    [reply] = replies(play.wait(0.2))
    assert reply.state is state
    assert reply.error is not None
    assert reply.error.message == "cancelled, and its node did not say how far it was"


def test_a_cancelled_task_is_not_sent_again() -> None:
    """A copy that comes behind its cancellation would run: the cancellation is sent again instead."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step()))
    play.hear(cancel())

    effects = play.wait(4)

    assert sent(effects) == []
    assert only(effects, SendTaskControl) != []


def test_a_cancelled_task_that_its_node_has_no_room_for_is_over() -> None:
    """It will not be held for later."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step()))
    play.hear(cancel())

    [reply] = replies(play.reject("busy", retryable=True))

    assert reply.state is State.CANCELED


def test_a_cancelled_task_is_not_begun_again() -> None:
    """Neither where its node restarted, nor on another node."""
    play = Play()
    play.connect("n1", "n2")
    play.ask(plan(step(node=None), step("s2", node=None)))
    play.hear(cancel())

    error = WireError(ErrorCode.INTERRUPTED, "the node restarted", retryable=True)
    effects = play.result(state=State.UNKNOWN, error=error)

    assert sent(effects) == []


def test_a_task_of_a_node_that_is_away_is_cancelled_at_once() -> None:
    """It was never sent, so nothing can have happened."""
    play = Play()
    play.connect("n1", "n2")
    play.hear(Disconnected())
    play.ask(plan(step()))

    [reply] = replies(play.hear(cancel()))

    assert (reply.state, reply.results[0].state) == (State.CANCELED, State.CANCELED)


def test_a_control_that_fits_nothing_is_answered_or_noted() -> None:
    """For a request that is not open, that nothing waits for, or retained from long ago (promise 3)."""
    play = Play()

    assert [type(effect) for effect in play.hear(cancel("r9"))] == [Note]
    play.ask()
    refused = play.hear(RequestControlled("r1", Control("steer", text="left")))
    assert said(refused) == ["control_refused"]
    [note] = play.hear(RequestControlled("r1", Control("cancel"), is_retained=True))
    assert isinstance(note, Note)
    assert "retained" in note.text
    assert play.core.open_requests == 1


# Out of time


@pytest.mark.parametrize(("timeout_s", "seconds"), [(None, 100), (7, 7)])
def test_a_request_without_a_plan_times_out(timeout_s: float | None, seconds: float) -> None:
    """After its own limit, or else the master's."""
    play = Play()
    play.ask(timeout_s=timeout_s)

    assert replies(play.wait(seconds - 0.1)) == []
    [reply] = replies(play.wait(0.2))
    assert reply.state is State.FAILED
    assert reply.error == WireError(ErrorCode.TIMEOUT, f"not finished within {seconds} s")


@pytest.mark.parametrize(("tool", "state"), [("press", State.UNKNOWN), ("read", State.FAILED)])
def test_a_request_whose_task_runs_on_times_out(tool: str, state: State) -> None:
    """The node is told to end; `unknown` where something may have moved."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step("s0"), step(tool=tool)), timeout_s=3)
    play.result("r1-s0")
    play.accept()

    effects = play.wait(4)

    assert only(effects, SendTaskControl) == [
        SendTaskControl("n1", "r1-s1", Control("cancel", reason="the request timed out"), "r1")
    ]
    [reply] = replies(effects)
    assert reply.state is state


def test_a_request_whose_node_is_away_times_out_and_says_so() -> None:
    """It was never sent: `failed`, whatever its tool does."""
    play = Play()
    play.connect("n1")
    play.hear(Disconnected())
    play.ask(plan(step(tool="press")), timeout_s=3)
    play.hear(NodeSeen("n1", False))

    [reply] = replies(play.wait(4))

    assert reply.state is State.FAILED
    assert reply.error is not None
    assert reply.error.message == "not finished within 3 s; n1 is offline"


def test_one_tick_that_is_late_does_everything_that_is_due() -> None:
    """What one deadline ends, a later one does not stumble over."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2")), timeout_s=60)
    play.ask(name="r2")
    play.hear(cancel())

    effects = play.late(1000)

    assert {reply.id for reply in replies(effects)} == {"r1", "r2"}
    assert play.core.open_requests == 0


def test_the_time_of_a_request_begins_anew_after_a_restart() -> None:
    """Nobody knows how long the master was away."""
    play = Play()
    play.ask(timeout_s=10)
    play.wait(9)

    later = play.again()

    assert replies(later.wait(9)) == []
    assert len(replies(later.wait(2))) == 1


# Presence (promise 5)


def test_a_master_announces_itself_at_every_connect() -> None:
    """And where it reads its own `offline` while connected: an old will came late."""
    play = Play()

    assert play.hear(OwnStatusSeen(False)) == []
    assert play.hear(Connected()) == [Announce()]
    assert play.hear(OwnStatusSeen(True)) == []
    assert play.hear(OwnStatusSeen(False)) == [Announce()]


def test_a_master_gives_no_times_where_nobody_asked_for_the_wall_clock() -> None:
    """`ts` is for people; without a clock it is zero."""
    core = MasterCore(
        boot="b",
        own_card=NodeCard("master", "b", "1"),
        answer=lambda plan, steps: "",
        may_reply_to=lambda topic: True,
        request_timeout_s=1,
        open_requests=1,
        jitter=random.Random(0),
    )
    core.handle(RequestArrived(Request("r1", "do it")), 0.0)

    [reply] = replies(core.handle(cancel(), 0.0))

    assert isinstance(reply, Reply)
    assert reply.ts == 0.0


def test_a_copy_of_a_request_that_was_refused_is_refused_with_the_same_words() -> None:
    """Whatever became free in between: its sender was told no, and may have asked anew under another id."""
    play = Play(open_requests=1)
    play.connect("n1")
    play.ask(plan(step()), "r0")
    [first] = replies(play.ask())
    play.result("r0-s1")

    again = play.ask()
    assert replies(again) == [first]
    assert said(again) == []
    assert [effect.is_final for effect in only(again, SendReply)] == [False]


def test_a_refusal_does_not_hold_for_ever() -> None:
    """After two minutes no copy is on its way any more."""
    play = Play(open_requests=1)
    play.connect("n1")
    play.ask(plan(step()), "r0")
    play.ask()
    play.result("r0-s1")
    play.wait(121)

    assert [effect.request.id for effect in only(play.ask(), MakePlan)] == ["r1"]


def test_a_copy_of_an_open_request_is_told_that_it_is_accepted_and_its_history_is_not() -> None:
    """The ledger keeps that once."""
    play = Play()
    play.connect("n1")
    [once] = only(play.ask(), SendEvent)
    [again] = only(play.ask(), SendEvent)

    assert (once.event.type, once.is_kept) == ("request_accepted", True)
    assert (again.event.type, again.is_kept) == ("request_accepted", False)
