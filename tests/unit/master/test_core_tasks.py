"""Steps become tasks: sent, heard of, sent again, moved, given up; and nodes that come and go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.core import FORGET_AT_ONCE, MAX_ATTEMPTS
from pibot_mesh.master.events import (
    CardSeen,
    Connected,
    Disconnected,
    HealthSeen,
    NodeSeen,
    Note,
    Refusal,
    RequestControlled,
    RunHere,
    Save,
    SendForget,
    SendReply,
    SendTask,
    SendTaskControl,
    TaskEventSeen,
    TaskResultSeen,
)
from pibot_mesh.protocol.messages import Condition, Control, Event, Output, Result, State, Step, ToolSpec, WireError
from tests.unit.master.play import Play, card, only, plan, replies, said, sent, step

INTERRUPTED = WireError(ErrorCode.INTERRUPTED, "the node restarted", retryable=True)


def started(tool: str = "read", node: str | None = "n1", nodes: tuple[str, ...] = ("n1", "n2")) -> Play:
    """A master with one request whose one task was sent."""
    play = Play()
    play.connect(*nodes)
    play.ask(plan(step(tool=tool, node=node)))
    return play


def sent_at(play: Play, seconds: float) -> list[float]:
    """When tasks are sent, within the next *seconds*."""
    begin, times = play.now, list[float]()
    for tenth in range(1, round(seconds * 10) + 1):
        times += [tenth / 10] * len(sent(play.wait(begin + tenth / 10 - play.now)))
    return times


# Steps (what begins when)


def test_steps_that_wait_for_nothing_begin_together() -> None:
    """On the nodes that the plan names."""
    play = Play()
    play.connect("n1", "n2")

    effects = play.ask(plan(step(), step("s2", node="n2")))

    assert [(node, task.id) for node, task in sent(effects)] == [("n1", "r1-s1"), ("n2", "r1-s2")]


def test_a_step_begins_when_what_it_waits_for_is_there() -> None:
    """With its references replaced by what they stand for."""
    play = Play()
    play.connect("n1", "n2")
    effects = play.ask(plan(step(), step("s2", tool="set", node="n2", args={"value": {"$ref": "s1.value"}})))
    assert [task.id for _, task in sent(effects)] == ["r1-s1"]

    [(node, task)] = sent(play.result(data={"value": 21.5}))

    assert (node, task.args, task.retry) == ("n2", {"value": 21.5}, "safe")


@pytest.mark.parametrize(("value", "state"), [(30, State.COMPLETED), (20, State.SKIPPED)])
def test_a_step_with_a_condition_runs_only_where_it_is_true(value: float, state: State) -> None:
    """Where it is false, the step was not needed, and the request completed all the same."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2", tool="press", when=Condition("s1.value", "above", 28))))

    effects = play.result(data={"value": value})
    if state is State.COMPLETED:
        effects += play.result("r1-s2")

    [reply] = replies(effects)
    assert (reply.state, reply.results[1].state, reply.error) == (State.COMPLETED, state, None)


def test_what_waits_for_a_failed_step_is_skipped_with_the_reason() -> None:
    """And what waits for that, too."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2", after=("s1",)), step("s3", after=("s2",))))

    [reply] = replies(play.result(state=State.FAILED, error=WireError("tool_failed", "the sensor is silent")))

    assert reply.state is State.FAILED
    assert reply.error == WireError("tool_failed", "the sensor is silent")
    assert [result.state for result in reply.results] == [State.FAILED, State.SKIPPED, State.SKIPPED]
    assert reply.results[1].error == WireError(ErrorCode.CANCELED, "s1, which it waits for, was failed")
    assert reply.results[2].error == WireError(ErrorCode.CANCELED, "s2, which it waits for, was skipped")


def test_what_only_comes_after_a_step_that_was_not_needed_runs() -> None:
    """What refers to it cannot."""
    play = Play()
    play.connect("n1")
    never = Condition("s1.value", "above", 100)
    play.ask(
        plan(
            step(),
            step("s2", when=never),
            step("s3", after=("s2",)),
            step("s4", args={"value": {"$ref": "s2.value"}}),
            step("s5", when=Condition("s2.value", "above", 1)),
        )
    )

    effects = play.result(data={"value": 1})

    assert [task.id for _, task in sent(effects)] == ["r1-s3"]
    [reply] = replies(play.result("r1-s3"))
    assert [result.state.value for result in reply.results] == [
        "completed",
        "skipped",
        "completed",
        "skipped",
        "skipped",
    ]


@pytest.mark.parametrize(
    "second",
    [
        step("s2", args={"value": {"$ref": "s1.humidity"}}),
        step("s2", when=Condition("s1.humidity", "above", 28)),
    ],
)
def test_a_reference_that_leads_nowhere_fails_its_step_in_words(second: Step) -> None:
    """The plan was made for another result."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), second))

    [reply] = replies(play.result(data={"value": 21}))

    assert reply.results[1].error == WireError(ErrorCode.BAD_PLAN, "the result of s1 has no 'humidity'")


def test_arguments_are_judged_again_when_references_are_known() -> None:
    """By the tool's schema."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2", tool="set", args={"value": {"$ref": "s1.value"}})))

    [reply] = replies(play.result(data={"value": "warm"}))

    assert reply.results[1].error == WireError(ErrorCode.BAD_ARGUMENTS, "set: value: 'warm' is not of type 'number'")


def test_a_task_that_no_message_can_carry_fails_its_step_at_once() -> None:
    """References can make it larger than 64 KiB."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2", args={"a": {"$ref": "s1.text"}, "b": {"$ref": "s1.text"}})))

    [reply] = replies(play.result(data={"text": "x" * 40_000}))

    assert reply.results[1].state is State.FAILED
    assert reply.results[1].error is not None
    assert "the task cannot be sent" in reply.results[1].error.message


def test_a_step_without_a_node_goes_to_the_one_with_the_least_to_do() -> None:
    """For its size, among those with the labels."""
    play = Play()
    play.hear(Connected())
    for node, label, running in (("n1", "attic", 4), ("n2", "attic", 2), ("n3", "cellar", 4)):
        play.hear(CardSeen(node, card(node, labels=(label,), running=running)))
        play.hear(NodeSeen(node, True))
    steps = [step(f"s{i}", node=None, labels=("attic",)) for i in range(1, 7)]

    nodes = [node for node, _ in sent(play.ask(plan(*steps)))]

    assert sorted(nodes) == ["n1", "n1", "n1", "n1", "n2", "n2"]


def test_a_step_that_no_node_can_do_any_more_fails_and_is_worth_trying_again() -> None:
    """The node that could went away between plan and step."""
    play = Play()
    play.connect("n1", "n2")
    play.ask(plan(step(), step("s2", node=None, labels=("n2",), after=("s1",))))
    play.hear(NodeSeen("n2", False))

    [reply] = replies(play.result())

    assert reply.results[1].error == WireError(ErrorCode.OFFLINE, "no node that could do read is online", True)


def test_an_agent_step_goes_out_as_an_instruction() -> None:
    """It may take what the request has, save a little time in which to say how far it came."""
    play = Play()
    play.connect("n1")

    [(_, task)] = sent(play.ask(plan(Step("s1", "agent", node="n1", instruction="look around"))))

    assert (task.kind, task.instruction, task.tool, task.retry, task.timeout_s) == (
        "agent",
        "look around",
        None,
        "never",
        95,
    )


# The master's own tools


def test_the_masters_own_tools_run_here() -> None:
    """No node is asked, and nothing is to be forgotten."""
    play = Play()

    [here] = only(play.ask(plan(step(tool="mesh_status", node="master"))), RunHere)
    assert (here.task.id, here.task.retry) == ("r1-s1", "safe")
    effects = play.hear(TaskResultSeen("master", Result("r1-s1", "r1", 1, State.COMPLETED, Output("all is well"))))

    assert replies(effects)[0].state is State.COMPLETED
    assert only(play.wait(10), SendForget) == []


def test_what_the_masters_own_tool_gave_is_cut_to_what_a_message_carries() -> None:
    """It was never on a wire."""
    play = Play()
    play.ask(plan(step(tool="mesh_status", node="master")))

    output = Output("ok", {"value": float("nan")})
    [reply] = replies(play.hear(TaskResultSeen("master", Result("r1-s1", "r1", 1, State.COMPLETED, output))))

    assert "left_out" in reply.results[0].output.data


def test_after_a_restart_the_masters_own_tool_runs_again_only_where_it_may() -> None:
    """What may not be repeated ends as `unknown` (promise 2)."""
    play = Play()
    play.ask(plan(step(tool="mesh_status", node="master")), "r1")
    play.ask(plan(step(tool="wipe", node="master")), "r2")

    later = play.again()

    assert [here.task.request for here in only(later.first, RunHere)] == ["r1"]
    [reply] = replies(later.first)
    assert (reply.id, reply.state) == ("r2", State.UNKNOWN)
    assert reply.error == WireError(ErrorCode.INTERRUPTED, "the master restarted in the middle of it")


def test_a_cancelled_request_waits_for_the_masters_own_tool() -> None:
    """It is told to end; where it does not, nobody knows how far it came."""
    play = Play()
    play.ask(plan(step(tool="wipe", node="master")))
    effects = play.hear(RequestControlled("r1", Control("cancel")))

    assert only(effects, SendTaskControl) == [SendTaskControl("master", "r1-s1", Control("cancel"), "r1")]
    [reply] = replies(play.wait(6))
    assert reply.results[0].state is State.UNKNOWN


# Hand-shakes (promise 4)


def test_a_task_of_which_nothing_is_heard_is_sent_again() -> None:
    """After 2 s, then 1, 2, 4 s and so on, until it counts as lost."""
    assert sent_at(started(), 30) == [2, 3, 5, 9, 17]


def test_an_accepted_task_is_not_sent_again() -> None:
    """The acceptance is stored: the step works."""
    play = started()

    effects = play.accept()

    [save] = only(effects, Save)
    assert save.record.steps[0].state is State.WORKING
    assert said(effects) == ["task_accepted"]
    assert sent_at(play, 30) == []


def test_a_result_that_comes_first_stands_for_the_acceptance() -> None:
    """A quick task costs two messages."""
    play = started()
    assert replies(play.result()) != []

    assert sent_at(play, 30) == []


def test_an_accepted_task_that_was_sent_again_is_quiet_when_it_is_accepted_again() -> None:
    """After a reconnect the node says so once more."""
    play = started()
    play.accept()
    play.hear(Disconnected())
    assert sent(play.hear(Connected())) != []

    effects = play.accept()

    assert said(effects) == ["task_accepted"]
    assert sent_at(play, 30) == []


def test_a_task_waits_for_its_node() -> None:
    """It is sent when the node is there (again)."""
    play = started()
    play.hear(NodeSeen("n1", False))
    assert sent_at(play, 20) == []

    assert [task.id for _, task in sent(play.hear(NodeSeen("n1", True)))] == ["r1-s1"]


def test_a_task_waits_for_the_broker() -> None:
    """Nothing is sent while there is none."""
    play = started()
    play.hear(Disconnected())
    assert sent_at(play, 20) == []

    assert [task.id for _, task in sent(play.hear(Connected()))] == ["r1-s1"]


def test_events_of_a_task_are_passed_on_with_node_and_step() -> None:
    """One subscription tells the whole story."""
    play = started()

    [effect] = play.event("tool_start", name="read")

    assert effect.event.run == "r1"  # type: ignore[union-attr]
    assert effect.event.data == {"name": "read", "node": "n1", "task": "r1-s1", "step": "s1"}  # type: ignore[union-attr]


def test_what_another_node_says_of_a_task_is_not_believed() -> None:
    """It is told, once, to end what is not its own (any more); its result is forgotten, or it came for ever."""
    play = started()

    stray = [play.accept(node="n2"), play.accept(node="n2"), play.event("message_delta", node="n2", text="hm")]
    effects = play.result(node="n2")

    cancel = Control("cancel", reason="nobody waits for it any more")
    assert stray == [[SendTaskControl("n2", "r1-s1", cancel)], [], []]
    assert [type(effect) for effect in effects] == [Note]
    assert only(play.wait(0.1), SendForget) == [SendForget("n2", ("r1-s1",))]
    assert play.core.open_requests == 1


def test_a_result_of_another_request_is_dropped() -> None:
    """The task's id is right, the request's is not."""
    play = started()

    assert [type(effect) for effect in play.result(request="r9")] == [Note]
    assert play.core.open_requests == 1


# Forgetting


def test_results_are_forgotten_together_once_they_are_stored() -> None:
    """One message for many."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2")))
    play.result("r1-s1")
    play.result("r1-s2")
    play.result("r1-s2")

    assert only(play.wait(0.05), SendForget) == [SendForget("n1", ("r1-s1", "r1-s2"))]
    assert only(play.wait(1), SendForget) == []


def test_many_results_are_forgotten_at_once() -> None:
    """A message holds so many ids and no more."""
    play = Play()
    play.connect("n1")

    for i in range(FORGET_AT_ONCE - 1):
        play.result(f"old-{i}", request="old")
    assert only(play.wait(0), SendForget) == []
    play.result("old-last", request="old")

    assert [len(forget.tasks) for forget in only(play.wait(0), SendForget)] == [FORGET_AT_ONCE]
    assert only(play.wait(1), SendForget) == []


def test_a_result_of_an_older_attempt_is_dropped_and_not_forgotten() -> None:
    """To forget it would forget the attempt that the node works on now (promise 2)."""
    play = started(nodes=("n1",))
    play.result(state=State.UNKNOWN, error=INTERRUPTED)

    effects = play.result(state=State.UNKNOWN, error=INTERRUPTED)

    assert [type(effect) for effect in effects] == [Note]
    assert only(play.wait(1), SendForget) == []
    assert replies(play.result(attempt=2)) != []
    assert only(play.wait(1), SendForget) == [SendForget("n1", ("r1-s1",))]


def test_a_task_that_comes_back_to_a_node_is_not_forgotten_there() -> None:
    """It was elsewhere when an old result of it came; its new attempt would be forgotten with that (promise 2)."""
    play = started(node=None)
    play.result(state=State.UNKNOWN, error=INTERRUPTED)
    play.result(state=State.COMPLETED)
    [(node, task)] = sent(play.result(node="n2", attempt=2, state=State.UNKNOWN, error=INTERRUPTED))
    assert (node, task.attempt) == ("n1", 3)

    assert [forget for forget in only(play.wait(1), SendForget) if forget.node == "n1"] == []
    assert replies(play.result(attempt=3)) != []
    assert [forget for forget in only(play.wait(1), SendForget) if forget.node == "n1"] == [
        SendForget("n1", ("r1-s1",))
    ]


# Again, and elsewhere


def test_what_may_be_repeated_is_sent_again_with_its_attempt_raised() -> None:
    """The node died in the middle: elsewhere, if there is another (promise 2)."""
    play = started(node=None)

    [(node, task)] = sent(play.result(state=State.UNKNOWN, error=INTERRUPTED))

    assert (node, task.id, task.attempt) == ("n2", "r1-s1", 2)
    assert replies(play.result(node="n2", attempt=2))[0].results[0].attempt == 2


def test_what_may_not_be_repeated_ends_as_unknown() -> None:
    """And so does its request (promise 2)."""
    error = WireError(ErrorCode.INTERRUPTED, "the node restarted in the middle of the task")

    effects = started("press").result(state=State.UNKNOWN, error=error)

    assert sent(effects) == []
    [reply] = replies(effects)
    assert (reply.state, reply.error) == (State.UNKNOWN, error)


def test_what_never_began_is_sent_again_whatever_its_tool_does() -> None:
    """It had waited at the node, or came too late there."""
    error = WireError(ErrorCode.EXPIRED, "not started within 30 s", retryable=True)

    [(_, task)] = sent(started("press").result(state=State.REJECTED, error=error))

    assert task.attempt == 2


def test_attempts_come_to_an_end() -> None:
    """What goes wrong ten times goes wrong."""
    play = started(nodes=("n1",))
    effects = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        effects = play.result(state=State.UNKNOWN, error=INTERRUPTED, attempt=attempt)

    assert replies(effects)[0].state is State.UNKNOWN


def test_a_step_that_nobody_can_take_over_lets_what_waits_for_it_end() -> None:
    """The request ends at once, not at its time-out."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(node=None), step("s2", after=("s1",))))
    play.hear(NodeSeen("n1", False))

    [reply] = replies(play.result(state=State.UNKNOWN, error=INTERRUPTED))

    assert [result.state for result in reply.results] == [State.FAILED, State.SKIPPED]


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.FAILED, WireError("tool_failed", "no", retryable=True)),
        (State.UNKNOWN, WireError(ErrorCode.TIMEOUT, "left behind")),
        (State.REJECTED, WireError(ErrorCode.STOPPED, "the emergency stop holds")),
        (State.REJECTED, None),
    ],
)
def test_what_went_wrong_otherwise_is_not_tried_again(state: State, error: WireError | None) -> None:
    """A tool that ran and failed would most likely fail again, and a stop is a stop."""
    effects = started().result(state=state, error=error)

    assert sent(effects) == []
    assert len(replies(effects)) == 1


def test_a_rejection_ends_the_step_in_the_nodes_words() -> None:
    """`task_rejected` with whatever error stands there."""
    [reply] = replies(started().reject("no_model"))
    assert (reply.state, reply.results[0].error) == (State.FAILED, WireError("no_model", "no"))

    [reply] = replies(started().event("task_rejected", error="garbled"))
    assert reply.results[0].error == WireError(ErrorCode.INTERNAL, "the node rejected the task and did not say why")


def test_a_silent_task_is_given_up_with_the_limits_named() -> None:
    """Its time to begin, its time to run, and a margin; then its node is told to end it."""
    play = started("press")
    play.accept()

    effects = play.wait(66)

    assert only(effects, SendTaskControl) == [
        SendTaskControl("n1", "r1-s1", only(effects, SendTaskControl)[0].control, "r1")
    ]
    [reply] = replies(effects)
    assert (reply.state, reply.text) == (State.UNKNOWN, "s1 unknown")
    assert reply.error == WireError(ErrorCode.TIMEOUT, "no result from 'n1' for task r1-s1 within 65 s")


def test_a_silent_task_that_only_reads_has_failed() -> None:
    """Nothing can have moved."""
    [reply] = replies(started().wait(66))

    assert reply.state is State.FAILED


# Back-pressure (promise 7)


def test_a_busy_node_gets_its_task_again_later() -> None:
    """The master holds it in its ledger, for longer than a task may be silent: after 2, 4, 8 s and so on."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step()), timeout_s=1000)
    gaps = []
    for _ in range(7):
        assert said(play.reject("busy", retryable=True)) == ["task_rejected"]
        for gap in range(1, 40):
            play.hear(HealthSeen("n1", {}))
            if sent(play.wait(1)):
                gaps.append(gap)
                break

    assert gaps == [2, 4, 8, 16, 32, 32, 32]
    assert play.core.open_requests == 1
    assert replies(play.result()) != []


def test_no_more_is_sent_than_a_node_may_hold() -> None:
    """The rest follows as places come free, the oldest first."""
    play = Play()
    play.hear(Connected())
    play.come("n1", running=1, queued=1)

    effects = play.ask(plan(*[step(f"s{i}") for i in range(1, 5)]))

    assert [task.id for _, task in sent(effects)] == ["r1-s1", "r1-s2"]
    assert [task.id for _, task in sent(play.result("r1-s2"))] == ["r1-s3"]
    assert [task.id for _, task in sent(play.result("r1-s1"))] == ["r1-s4"]


def test_what_is_held_back_at_a_crash_is_sent_after_it() -> None:
    """The ledger has it."""
    play = Play()
    play.hear(Connected())
    play.come("n1", running=1, queued=0)
    play.ask(plan(step(), step("s2")))

    later = play.again()
    later.hear(Connected())
    effects = later.come("n1", running=1, queued=0) + later.result("r1-s1")

    assert "r1-s2" in [task.id for _, task in sent(effects)]


# After a crash of the master


def test_a_request_goes_on_after_a_crash() -> None:
    """Its task is sent again: the node's journal makes a second copy harmless."""
    play = started("press")

    later = play.again()
    effects = later.connect("n1")

    assert [(node, task.id, task.attempt) for node, task in sent(effects)] == [("n1", "r1-s1", 1)]
    assert replies(later.result())[0].state is State.COMPLETED


def test_what_may_have_been_sent_before_the_crash_may_have_moved_something() -> None:
    """Its node never comes back: `unknown`, not `failed`."""
    later = started("press").again()

    [reply] = replies(later.wait(101))

    assert reply.state is State.UNKNOWN


def test_what_may_have_been_sent_before_the_crash_is_not_given_to_another_node() -> None:
    """It could be done twice (promise 2)."""
    later = started("press", node=None).again()
    later.connect("n1", "n2")

    assert sent(later.hear(NodeSeen("n1", False))) == []


def test_a_task_that_worked_at_the_crash_and_may_not_be_repeated_waits_for_its_node() -> None:
    """The node's journal answers, or it ends as unknown."""
    play = started("press")
    play.accept()

    later = play.again()
    assert sent(later.connect("n1")) == []

    [reply] = replies(later.wait(36))
    assert reply.state is State.UNKNOWN
    assert reply.error is not None
    assert reply.error.code == ErrorCode.TIMEOUT


def test_a_step_that_had_ended_before_the_crash_is_not_run_again() -> None:
    """Only what is open goes on."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2", after=("s1",))))
    play.result()

    later = play.again()

    assert [task.id for _, task in sent(later.connect("n1"))] == ["r1-s2"]


# Nodes that go (promise 6)


def test_what_may_be_repeated_moves_when_its_node_is_lost() -> None:
    """To another node that can do it, with its attempt raised; the word is passed on."""
    play = started(node=None)

    effects = play.hear(NodeSeen("n1", False))

    assert "node_lost" in said(effects)
    assert [(node, task.attempt) for node, task in sent(effects)] == [("n2", 2)]


@pytest.mark.parametrize(("tool", "node"), [("read", "n1"), ("press", None)])
def test_what_is_meant_for_one_node_or_may_not_be_repeated_waits_for_it(tool: str, node: str | None) -> None:
    """The node comes back, and is asked again."""
    play = started(tool, node)

    effects = play.hear(NodeSeen("n1", False))

    assert said(effects) == ["node_lost"]
    assert [task.attempt for _, task in sent(play.hear(NodeSeen("n1", True)))] == [1]


def test_what_was_never_sent_moves_whatever_its_tool_does() -> None:
    """Nothing can have happened."""
    play = Play()
    play.connect("n1", "n2")
    play.hear(Disconnected())
    play.ask(plan(step(tool="press", node=None)))

    play.hear(NodeSeen("n1", False))
    effects = play.hear(Connected())

    assert [(node, task.attempt) for node, task in sent(effects)] == [("n2", 2)]


def test_nothing_moves_where_there_is_nobody_to_take_it() -> None:
    """It waits."""
    play = started(node=None, nodes=("n1",))

    assert sent(play.hear(NodeSeen("n1", False))) == []
    assert play.core.open_requests == 1


def test_a_step_does_not_move_for_ever() -> None:
    """Nodes that come and go in turn come to an end, too."""
    play = started(node=None)
    nodes = ["n1", "n2"]
    for i in range(2 * MAX_ATTEMPTS):
        play.hear(NodeSeen(nodes[i % 2], False))
        play.hear(NodeSeen(nodes[i % 2], True))

    assert play.ledger["r1"].steps[0].attempt == MAX_ATTEMPTS


def test_a_step_that_fits_the_other_node_no_better_ends_and_so_does_its_request() -> None:
    """The other node's tool takes other arguments."""
    play = Play()
    play.connect("n1")
    strict = replace(card("n2"), tools=(ToolSpec("read", parameters={"required": ["unit"]}),))
    play.ask(plan(step(node=None), step("s2", after=("s1",))))
    play.hear(CardSeen("n2", strict))
    play.hear(NodeSeen("n2", True))

    [reply] = replies(play.hear(NodeSeen("n1", False)))

    assert [result.state for result in reply.results] == [State.FAILED, State.SKIPPED]


def test_a_node_that_says_nothing_for_three_health_periods_is_lost() -> None:
    """Where the broker does not notice; whatever it says counts as a word."""
    play = started(node=None)
    play.wait(20)
    play.hear(HealthSeen("n1", {"load1": 1.0}))
    play.hear(TaskEventSeen("n2", "x", Event("x", "tool_start", "b1", 0)))

    assert "node_lost" not in said(play.wait(29))
    effects = play.wait(2)

    assert [note.text for note in only(effects, Note)] == [
        "n1 has said nothing for 30 s: it counts as offline",
        "n2 has said nothing for 30 s: it counts as offline",
    ]
    assert play.core.pool.online() == {}


def test_a_silent_node_that_speaks_again_is_there() -> None:
    """A retained health is an old word, and none."""
    play = Play()
    play.connect("n1")
    play.wait(40)
    assert play.core.pool.online() == {}

    play.hear(HealthSeen("n1", {"load1": 1.0}, is_retained=True))
    assert play.core.pool.online() == {}
    play.hear(HealthSeen("n1", {"load1": 2.0}))
    assert list(play.core.pool.online()) == ["n1"]
    assert play.core.pool["n1"].health == {"load1": 2.0}


def test_nobody_counts_as_silent_while_the_master_hears_nothing() -> None:
    """The silence is its own."""
    play = Play()
    play.connect("n1")
    play.hear(Disconnected())
    play.wait(100)
    assert list(play.core.pool.online()) == ["n1"]

    play.hear(Connected())
    play.wait(29)
    assert list(play.core.pool.online()) == ["n1"]
    play.wait(2)
    assert play.core.pool.online() == {}


def test_a_node_that_the_broker_called_offline_is_not_called_silent() -> None:
    """Once is enough."""
    play = Play()
    play.connect("n1")
    play.hear(NodeSeen("n1", False))
    assert play.hear(NodeSeen("n1", False)) == []

    assert play.wait(100) == []


def test_a_node_that_restarted_unseen_is_sent_its_tasks_again() -> None:
    """Its card has a new boot: its memory is empty, its journal is not."""
    play = started()

    assert sent(play.hear(CardSeen("n1", card("n1", "b1")))) == []
    assert [task.id for _, task in sent(play.hear(CardSeen("n1", card("n1", "b2"))))] == ["r1-s1"]


def test_a_node_whose_card_was_taken_away_is_forgotten() -> None:
    """For good; one that has tasks, when the last of them has ended."""
    play = started()
    play.hear(CardSeen("n1", None))
    play.hear(CardSeen("n2", None))
    waiting = list(play.core.pool.members)

    play.control("cancel")
    play.wait(100)

    assert waiting == ["n1"]
    assert list(play.core.pool.members) == []


def test_a_node_that_was_forgotten_and_shows_itself_again_is_one_again() -> None:
    """Somebody forgot one that was alive, in the middle of its task."""
    play = started()
    play.hear(CardSeen("n1", None))
    play.hear(CardSeen("n1", card("n1", "b1")))

    play.control("cancel")
    play.wait(100)

    assert "n1" in play.core.pool.members


def test_a_refusal_says_nothing_of_steps() -> None:
    """There was no plan."""
    play = Play()

    [reply] = only(play.ask(Refusal(WireError("x", "no"))), SendReply)

    assert reply.reply.results == ()
    assert only(play.wait(100), SendTask) == []
