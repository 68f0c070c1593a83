"""Instructions for agents: their budget, what a person says to them, and what becomes of their results."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.core import ANSWER_WITHIN_S, MAX_STEPS, SETTLE_LATEST_S, SETTLE_S
from pibot_mesh.master.events import (
    AnswerWritten,
    CardSeen,
    CountUsage,
    Delegated,
    Disconnected,
    MasterEffect,
    ModelUsed,
    NodeSeen,
    Planned,
    Refusal,
    ReplyDelivered,
    RunHere,
    SendTaskControl,
    TellDelegate,
    WriteAnswer,
)
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.messages import (
    Condition,
    Control,
    Limits,
    Plan,
    State,
    Step,
    StepResult,
    ToolCall,
    Usage,
    WireError,
)
from tests.unit.master.play import BUDGET, Play, card, facts, only, plan, replies, said, sent, step

USED = Usage(100, 10, 20, 5)


def agent(name: str = "s1", node: str | None = "n1", **fields: object) -> Step:
    return Step(**{"id": name, "kind": "agent", "node": node, "instruction": "look around", **fields})  # type: ignore[arg-type]


def thought(*steps: Step, complexity: str = "moderate") -> Plan:
    """A plan of the model."""
    return Plan("llm", steps, complexity=complexity)  # type: ignore[arg-type]


def working(*steps: Step, ask: tuple[str, ...] = (), budget: Limits = BUDGET) -> Play:
    """A request whose first step's node works on it."""
    play = Play(ask=ask, budget=budget)
    play.connect("n1", "n2")
    play.ask(plan(*steps))
    play.accept()
    return play


# Budgets


def test_a_request_may_ask_for_less_than_it_may_have_and_not_for_more() -> None:
    """What it does not say is the master's own limit."""
    play = Play(budget=Limits(50, 100, 10_000))
    play.connect("n1")

    [(_, task)] = sent(play.ask(plan(agent()), limits=Limits(turns=3, tokens=99_999_999)))

    assert task.limits == Limits(3, 100, 10_000)


def test_what_is_left_is_parted_among_the_agents_that_have_not_begun() -> None:
    """And what one does not use is there for the next."""
    play = Play(budget=Limits(50, 100, 9_000))
    play.connect("n1", "n2")
    first, second = sent(play.ask(plan(agent(), agent("s2", "n2"), agent("s3", after=("s1", "s2")))))
    play.result(usage=Usage(500, 0, 500))
    later = play.result("r1-s2", node="n2", usage=Usage(900, 0, 100), calls=(ToolCall("read"),) * 10)

    assert [first[1].limits.tokens, second[1].limits.tokens] == [3_000, 3_000]
    assert [first[1].limits.tool_calls, second[1].limits.tool_calls] == [33, 33]
    [(_, third)] = sent(later)
    assert third.limits == Limits(50, 90, 7_000)


def test_calls_of_the_plan_count_as_tool_calls() -> None:
    """Whoever makes them."""
    play = Play(budget=Limits(50, 3, 9_000))
    play.connect("n1")
    play.ask(plan(step(), step("s2"), agent("s3", after=("s1", "s2"))))
    play.result()

    [(_, task)] = sent(play.result("r1-s2"))

    assert task.limits.tool_calls == 1


def test_where_nothing_is_left_an_agent_does_not_begin() -> None:
    """The reply says so, and what the request could have used."""
    play = Play(budget=Limits(50, 100, 1_000))
    play.connect("n1")
    play.ask(plan(agent(), agent("s2", after=("s1",))))

    [reply] = replies(play.result(usage=Usage(1_500, 0, 10)))

    assert (reply.state, reply.results[1].state) == (State.FAILED, State.FAILED)
    assert reply.error is not None
    assert reply.error.code == ErrorCode.BUDGET
    assert "1000 tokens" in reply.error.message
    assert reply.usage == Usage(1_500, 0, 10)


def test_planning_is_paid_from_the_same_budget() -> None:
    """And stands in the reply, and in the book of usage under the master's name."""
    play = Play(budget=Limits(50, 100, 1_000))
    play.connect("n1")
    play.ask()

    effects = play.hear(Planned("r1", plan(agent()), USED))

    [(_, task)] = sent(effects)
    assert task.limits.tokens == 1_000 - 120
    assert only(effects, CountUsage) == [CountUsage(MASTER, "r1", "m", USED, 5000.0)]
    [reply] = replies(play.result(usage=USED))
    assert reply.usage == Usage(200, 20, 40, 10)
    assert reply.results[0].usage == USED


def test_planning_for_nothing_is_counted_too() -> None:
    """The tokens are gone, whether anybody still waits for the plan or not."""
    play = Play()
    play.ask()
    play.control("cancel")

    assert only(play.hear(Planned("r1", plan(step()), USED)), CountUsage) != []
    assert only(play.hear(AnswerWritten("r1", "done", USED)), CountUsage) != []
    assert play.hear(AnswerWritten("r9", "done")) == []


def test_an_agent_ends_before_its_request_does() -> None:
    """So that it can say how far it came; its own limit counts where it is shorter."""
    play = Play()
    play.connect("n1", "n2")

    tasks = sent(play.ask(plan(agent(), agent("s2", "n2", timeout_s=20.0)), timeout_s=60.0))

    assert [task.timeout_s for _, task in tasks] == [55, 20]


def test_the_gateway_asks_what_a_task_may_still_use() -> None:
    """Only of open agent tasks, and only for the node that has it."""
    play = working(agent(), step("s2", node="n2"))
    effects = play.hear(ModelUsed("n1", "r1-s1", USED))

    assert only(effects, CountUsage) == [CountUsage("n1", "r1", "m", USED, 5000.0)]
    assert play.core.tokens_left("n1", "r1-s1") == 10_000 - 120
    assert play.core.tokens_left("n2", "r1-s1") is None
    assert play.core.tokens_left("n2", "r1-s2") is None
    assert play.core.tokens_left("n1", "nobody") is None


def test_what_the_gateway_saw_is_counted_once() -> None:
    """The node's own word on it adds nothing; what is larger stands in the reply."""
    play = working(agent())
    for _ in range(2):
        assert play.core.tokens_left("n1", "r1-s1")
        play.hear(ModelUsed("n1", "r1-s1", USED))

    effects = play.result(usage=USED)

    assert only(effects, CountUsage) == []
    assert replies(effects)[0].usage == Usage(200, 20, 40, 10)


def test_a_node_with_a_key_of_its_own_says_what_it_used() -> None:
    """It is counted when its result comes."""
    assert only(working(agent()).result(usage=USED), CountUsage) == [CountUsage("n1", "r1", "m", USED, 5000.0)]


def test_what_a_lost_task_has_used_stays_in_the_reply() -> None:
    """And what the gateway counts for a task that has ended is still counted."""
    play = working(agent())
    play.hear(ModelUsed("n1", "r1-s1", USED))

    assert replies(play.wait(200))[0].usage == USED
    assert only(play.hear(ModelUsed("n1", "r1-s1", USED)), CountUsage) == [CountUsage("n1", "r1", "m", USED, 5000.0)]
    assert only(play.hear(ModelUsed("n1", "nobody", USED)), CountUsage) == [CountUsage("n1", "", "m", USED, 5000.0)]


def test_a_new_attempt_gets_a_new_share() -> None:
    """What the lost one had been given is free again."""
    play = Play(budget=Limits(50, 100, 1_000))
    play.connect("n1", "n2")
    play.ask(plan(agent(node=None, tools=("read",))))
    play.accept()
    error = WireError(ErrorCode.INTERRUPTED, "restarted", retryable=True)

    [(node, task)] = sent(play.result(state=State.UNKNOWN, error=error))

    assert (node, task.attempt, task.limits.tokens) == ("n2", 2, 1_000)


# What an agent is told


def test_an_agent_is_told_what_the_steps_before_it_gave() -> None:
    """With what was asked, and its own arguments; it knows nothing else."""
    play = working(step(), agent("s2", args={"limit": {"$ref": "s1.value"}}, after=("s1",)))

    [(_, task)] = sent(play.result(data={"value": 21}))

    assert task.context is not None
    assert '"request": "do it"' in task.context
    assert '"args": {"limit": 21}' in task.context
    assert '"s1": {"text": "ok", "data": {"value": 21}}' in task.context


def test_a_step_that_was_skipped_is_not_told_of() -> None:
    """There is nothing to tell."""
    play = Play()
    play.connect("n1")
    hot = Condition("s1.value", "above", 30.0)
    play.ask(plan(step(), step("s2", when=hot), agent("s3", after=("s2",))))

    [(_, task)] = sent(play.result(data={"value": 21}))

    assert task.context == '{"request": "do it"}'


def test_who_does_the_request_as_it_stands_needs_no_context() -> None:
    """The instruction is the request."""
    play = Play()
    [started] = only(play.ask(plan(agent(node=MASTER, instruction="do it"))), RunHere)

    assert started.task.context is None


def test_an_agent_may_only_be_repeated_where_all_its_tools_may() -> None:
    """With all tools of the node, or with one that presses a button, it may not."""
    play = Play()
    play.connect("n1")
    tasks = sent(play.ask(plan(agent(), agent("s2", tools=("read", "set")), agent("s3", tools=("read", "press")))))

    assert [task.retry for _, task in tasks] == ["never", "safe", "never"]
    assert [task.tools for _, task in tasks] == [(), ("read", "set"), ("read", "press")]


def test_what_an_agent_tells_is_passed_on() -> None:
    """Also where its own fields have the names of a task's: the model was asked a second time."""
    play = working(agent())

    effects = play.event("retry", attempt=2, delay_s=0.5, text="cut off")

    assert facts(effects, "retry") == {
        "attempt": 2,
        "delay_s": 0.5,
        "text": "cut off",
        "node": "n1",
        "task": "r1-s1",
        "step": "s1",
    }


# Steering


def test_what_a_person_says_reaches_the_agents_at_work() -> None:
    """All of the request's, or those that are named; calls hear nothing."""
    play = working(agent(), agent("s2", "n2"), step("s3"))

    effects = play.control("steer", text="the other one")
    one = play.control("steer", text="you there", tasks=("r1-s2",))

    assert only(effects, SendTaskControl) == [
        SendTaskControl("n1", "r1-s1", Control("steer", text="the other one"), "r1"),
        SendTaskControl("n2", "r1-s2", Control("steer", text="the other one"), "r1"),
    ]
    assert facts(effects, "steered") == {"text": "the other one", "tasks": ["r1-s1", "r1-s2"]}
    assert [effect.task for effect in only(one, SendTaskControl)] == ["r1-s2"]


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        ({"action": "steer"}, "its text is missing"),
        ({"action": "steer", "text": "hi"}, "no agent works on it now"),
        ({"action": "approve", "call": "c1"}, "no such call waits for it"),
        ({"action": "approve"}, "no call waits for it"),
        ({"action": "reload"}, "it is not for a request"),
    ],
)
def test_a_control_that_nothing_waits_for_is_refused_in_words(control: dict[str, str], reason: str) -> None:
    """Whoever said it sees why."""
    assert facts(working(step()).control(**control), "control_refused")["reason"] == reason


# A person's approval


def test_a_tool_that_has_gone_since_the_plan_was_made_is_not_called() -> None:
    """The step says so; nothing is sent."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), step("s2", after=("s1",))))
    play.hear(CardSeen("n1", replace(card("n1"), tools=())))

    effects = play.result()

    assert sent(effects) == []
    [reply] = replies(effects)
    assert reply.error == WireError(ErrorCode.UNKNOWN_TOOL, "n1 has no tool 'read' any more")


def test_other_requests_do_not_mind_a_card_that_one_waits_for() -> None:
    """Only what waited for it goes on."""
    play = Play()
    play.connect("n1", "n2")
    play.ask(plan(step()))
    play.ask(plan(step("s1", "read", "n2"), step("s2", "press", after=("s1",))), name="r2")
    later = play.again()
    assert sent(later.connect("n2")) != []
    later.result("r2-s1", node="n2")

    effects = later.come("n1")

    assert [task.id for _, task in sent(effects)] == ["r1-s1", "r2-s2"]


def test_a_call_that_must_be_approved_waits_for_a_person() -> None:
    """The event has the exact call, with what references stand for."""
    play = working(step(), step("s2", "set", args={"value": {"$ref": "s1.value"}}), ask=("actuate",))

    effects = play.result(data={"value": 21})

    assert sent(effects) == []
    asked = facts(effects, "approval_required")
    assert asked.pop("call")
    assert asked == {"tool": "set", "args": {"value": 21}, "within_s": 60, "node": "n1", "step": "s2"}


def waiting(ask: tuple[str, ...] = ("set",)) -> tuple[Play, str]:
    """A request that waits for a person's word on its only step."""
    play = Play(ask=ask)
    play.connect("n1")
    effects = play.ask(plan(step(tool="set", args={"value": 1})))
    return play, str(facts(effects, "approval_required")["call"])


def test_once_approved_the_very_call_is_sent() -> None:
    """With the arguments that were shown."""
    play, call = waiting()

    effects = play.control("approve", call=call)

    assert facts(effects, "approval_answered") == {
        "call": call,
        "tool": "set",
        "granted": True,
        "reason": "approved",
        "node": "n1",
        "step": "s1",
    }
    [(_, task)] = sent(effects)
    assert (task.tool, task.args) == ("set", {"value": 1})


def test_what_a_person_denies_is_not_done() -> None:
    """The reply says why."""
    play, call = waiting()

    effects = play.control("deny", call=call, reason="the baby sleeps")

    assert sent(effects) == []
    [reply] = replies(effects)
    assert (reply.state, reply.results[0].state) == (State.FAILED, State.REJECTED)
    assert reply.error == WireError(ErrorCode.DENIED, "a person denied it: the baby sleeps")


def test_a_person_need_not_say_why() -> None:
    """The reply says who."""
    play, call = waiting()

    [reply] = replies(play.control("deny", call=call))

    assert reply.error == WireError(ErrorCode.DENIED, "a person denied it")


def test_what_nobody_approves_in_time_is_not_done() -> None:
    """The time for a person's answer is not the request's; a late word is refused."""
    play, call = waiting()

    effects = play.wait(61)

    [reply] = replies(effects)
    assert reply.error == WireError(ErrorCode.DENIED, "nobody approved it within 60 s")
    assert sent(play.control("approve", call=call)) == []


def test_an_approval_holds_once() -> None:
    """The same word again, or for another request, sends nothing."""
    play, call = waiting()
    play.control("approve", call=call)

    again = play.control("approve", call=call)

    assert sent(again) == []
    assert facts(again, "control_refused")["call"] == call


def test_which_call_is_meant_must_be_said() -> None:
    """The refusal names what waits. So a copy of a word about one call is no word about the next."""
    play, call = waiting()

    effects = play.control("approve")

    assert sent(effects) == []
    assert facts(effects, "control_refused")["reason"] == f"say which call is meant: {call} (set)"


def test_the_time_that_a_person_takes_is_not_the_requests() -> None:
    """Only the waiting itself is given on top."""
    play = Play(ask=("set",))
    play.connect("n1")
    play.ask(plan(step(), step("s2", "set", args={"value": 1}, after=("s1",))), timeout_s=50.0)
    play.wait(20)
    call = facts(play.result(), "approval_required")["call"]
    play.wait(55)
    play.control("approve", call=call)
    play.accept("r1-s2")
    assert replies(play.wait(29)) == []

    [reply] = replies(play.wait(2))

    assert reply.error is not None
    assert reply.error.code == ErrorCode.TIMEOUT


def test_a_request_that_is_cancelled_asks_nobody_any_more() -> None:
    """Nothing had been done."""
    play, call = waiting()

    [reply] = replies(play.control("cancel"))

    assert (reply.state, reply.results[0].state) == (State.CANCELED, State.CANCELED)
    assert "approval_answered" not in said(play.wait(100))
    assert sent(play.control("approve", call=call)) == []


def test_after_a_restart_a_person_is_asked_again() -> None:
    """Nobody knows whether an answer was under way; the old id means nothing."""
    play, call = waiting()
    later = play.again()
    asked = facts(later.connect("n1"), "approval_required")

    assert sent(later.first) == []
    assert sent(later.control("approve", call=call if call != asked["call"] else "old")) == []
    assert sent(later.control("approve", call=str(asked["call"]))) != []


def test_a_call_too_long_to_be_shown_is_refused() -> None:
    """Nobody can approve what they cannot read."""
    play = Play(ask=("press",))
    play.connect("n1")

    [reply] = replies(play.ask(plan(step(tool="press", args={"text": "x" * 9_000}))))

    assert reply.error is not None
    assert (reply.error.code, reply.results[0].state) == (ErrorCode.DENIED, State.REJECTED)


def test_an_agents_task_names_the_tools_that_ask() -> None:
    """By name or by effect: so a tool that comes later asks too."""
    play = Play(ask=("actuate",))
    play.connect("n1")

    [(_, task)] = sent(play.ask(plan(agent())))

    assert (task.ask, task.ask_within_s) == (("actuate",), 60)


def asking() -> Play:
    """An agent on n1 asks for a call of a tool."""
    play = working(agent(), agent("s2", "n2"))
    effects = play.event("approval_required", call="c1", tool="press", args={}, within_s=60)
    assert facts(effects, "approval_required")["step"] == "s1"
    return play


def test_a_persons_word_reaches_the_agent_that_asks() -> None:
    """And no other."""
    play = asking()

    assert only(play.control("approve", call="c1"), SendTaskControl) == [
        SendTaskControl("n1", "r1-s1", Control("approve", call="c1"), "r1")
    ]
    assert only(play.control("deny", call="c1", reason="no"), SendTaskControl) == [
        SendTaskControl("n1", "r1-s1", Control("deny", call="c1", reason="no"), "r1")
    ]


def test_a_word_about_a_call_that_no_agent_asked_about_is_refused_at_once() -> None:
    """Nobody waits to see whether something comes of it."""
    effects = asking().control("approve", call="c9")

    assert only(effects, SendTaskControl) == []
    assert facts(effects, "control_refused") == {
        "action": "approve",
        "reason": "no such call waits for it",
        "call": "c9",
    }


def test_while_an_agent_waits_for_a_person_no_clock_runs() -> None:
    """Neither its task's nor the request's; afterwards both go on."""
    play = asking()
    play.event("approval_required", call="c1", tool="press", args={}, within_s=60)
    play.accept("r1-s2", node="n2")
    assert replies(play.wait(110)) == []

    effects = play.event("approval_answered", call="c1", tool="press", granted=True)

    assert said(effects) == ["approval_answered"]
    reply = replies(play.wait(120))[0]
    assert reply.error is not None
    assert reply.error.code == ErrorCode.TIMEOUT


def test_the_masters_own_agent_asks_as_any_other() -> None:
    """Its word is passed on within the master."""
    play = Play()
    play.ask(plan(agent(node=MASTER)))
    play.accept(node=MASTER)
    play.event("approval_required", node=MASTER, call="c1", tool="wipe")

    assert only(play.control("approve", call="c1"), SendTaskControl) == [
        SendTaskControl(MASTER, "r1-s1", Control("approve", call="c1"), "r1")
    ]
    play.event("approval_answered", node=MASTER, call="c1", granted=True)
    assert replies(play.result(node=MASTER)) != []


def test_what_an_agent_asks_twice_waits_for_both_words() -> None:
    """And odd events change nothing."""
    play = asking()
    play.event("approval_required", call="c2", tool="press")
    play.event("approval_required", tool="press")
    play.event("approval_answered", call="c1", granted=True)
    play.event("approval_answered", call="c1", granted=True)
    play.event("approval_answered", "r1-s2", node="n2", call="c2", granted=True)

    assert only(play.control("approve", call="c1"), SendTaskControl) == []
    assert only(play.control("approve", call="c2"), SendTaskControl)[0].control.call == "c2"


def test_a_word_for_an_agent_whose_question_was_before_the_restart_goes_to_all() -> None:
    """They know their own calls, and let others go by."""
    play = asking()
    later = play.again()
    later.connect("n1", "n2")

    effects = later.control("approve", call="c1")

    assert [(sent.node, sent.control.call) for sent in only(effects, SendTaskControl)] == [("n1", "c1"), ("n2", "c1")]


def test_with_its_task_an_agents_question_ends() -> None:
    """A late word is refused."""
    play = asking()
    play.result()

    effects = play.control("approve", call="c1")

    assert facts(effects, "control_refused")["reason"] == "no such call waits for it"


# The answer in words


def answering(*steps: Step, complexity: str = "moderate") -> tuple[Play, list[MasterEffect]]:
    """A model's plan whose first step is done."""
    play = Play()
    play.connect("n1")
    play.ask(thought(*steps, complexity=complexity))
    return play, play.result(usage=USED)


def test_the_results_of_a_models_plan_are_put_in_words() -> None:
    """By the model, once; what that takes is in the reply."""
    play, effects = answering(step())
    [asked] = only(effects, WriteAnswer)
    assert replies(effects) == []

    effects = play.hear(AnswerWritten("r1", "It is warm.", USED))

    assert (asked.request.id, asked.results[0].state) == ("r1", State.COMPLETED)
    [reply] = replies(effects)
    assert (reply.text, reply.state, reply.usage) == ("It is warm.", State.COMPLETED, Usage(200, 20, 40, 10))
    assert play.hear(AnswerWritten("r1", "again")) == []


def test_a_model_that_finds_no_words_is_not_waited_for() -> None:
    """The plain words are the answer."""
    play, _ = answering(step())

    [reply] = replies(play.wait(ANSWER_WITHIN_S + 1))

    assert (reply.text, reply.state) == ("s1 completed", State.COMPLETED)


@pytest.mark.parametrize("way", ["cancel", "time-out"])
def test_who_will_not_wait_for_words_gets_plain_ones(way: str) -> None:
    """At once."""
    play = Play()
    play.connect("n1")
    play.ask(thought(step()), timeout_s=20.0)
    play.result()

    [reply] = replies(play.control("cancel") if way == "cancel" else play.wait(21))

    assert reply.text == "s1 completed"


def test_an_agent_that_did_a_simple_request_has_answered_already() -> None:
    """Its own words are the answer."""
    play = Play()
    play.ask(thought(agent(node=MASTER), complexity="simple"))

    effects = play.result(node=MASTER)

    assert only(effects, WriteAnswer) == []
    assert replies(effects)[0].text == "ok"


def test_what_did_not_go_well_is_said_in_plain_words() -> None:
    """From the results alone; so it is where nothing is left of the budget."""
    play = Play()
    play.connect("n1")
    play.ask(thought(step()))
    effects = play.result(state=State.FAILED, error=WireError("tool_failed", "no"))
    poor = Play(budget=Limits(50, 100, 50))
    poor.connect("n1")
    poor.ask(thought(step()))

    assert (only(effects, WriteAnswer), len(replies(effects))) == ([], 1)
    assert replies(poor.result(usage=USED)) != []


def test_the_words_are_asked_for_again_after_a_restart() -> None:
    """The results are in the ledger."""
    play, _ = answering(step())

    later = play.again()

    assert only(later.first, WriteAnswer) != []


# Delegation


def delegating() -> Play:
    """The master's own agent works on the request."""
    play = Play(budget=Limits(50, 100, 8_000))
    play.connect("n1")
    [started] = only(play.ask(thought(agent(node=MASTER), complexity="simple")), RunHere)
    assert started.task.limits == Limits(50, 50, 4_000)
    return play


def test_what_is_delegated_is_a_step_of_the_same_request() -> None:
    """With a task, and a place in the reply; who delegated hears how it ended."""
    play = delegating()

    effects = play.hear(Delegated("r1-s1", "k1", step("s0", "set", args={"value": 1})))
    [(node, task)] = sent(effects)
    ended = play.result("r1-s2")

    assert facts(effects, "delegated") == {"step": "s2", "by": "r1-s1", "node": "n1", "tool": "set"}
    assert (node, task.id, task.tool) == ("n1", "r1-s2", "set")
    [told] = only(ended, TellDelegate)
    assert (told.key, told.result.step, told.result.state) == ("k1", "s2", State.COMPLETED)
    [reply] = replies(play.result(node=MASTER))
    assert [one.step for one in reply.results] == ["s1", "s2"]
    assert reply.plan is not None
    assert [one.id for one in reply.plan.steps] == ["s1", "s2"]


def test_an_agent_that_is_delegated_to_gets_a_share_too() -> None:
    """Half of what is left, since more may follow."""
    play = delegating()

    effects = play.hear(Delegated("r1-s1", "k1", agent("s0", node=None)))

    [(_, task)] = sent(effects)
    assert facts(effects, "delegated") == {"step": "s2", "by": "r1-s1", "instruction": "look around"}
    assert task.limits == Limits(50, 25, 2_000)


def told(effects: list[MasterEffect]) -> StepResult:
    [found] = only(effects, TellDelegate)
    return found.result


def test_what_cannot_be_delegated_is_said_to_who_wanted_it() -> None:
    """With all that is wrong; the request goes on."""
    play = delegating()

    result = told(play.hear(Delegated("r1-s1", "k1", step("s0", "dance", "n9"))))

    assert result.error is not None
    assert (result.state, result.error.code) == (State.FAILED, ErrorCode.BAD_PLAN)
    assert replies(play.result(node=MASTER)) != []


def test_a_request_for_one_node_is_not_delegated_to_another() -> None:
    """The pin holds."""
    play = Play()
    play.connect("n1", "n2")
    play.ask(thought(agent(node=MASTER), complexity="simple"), node="n1")

    assert told(play.hear(Delegated("r1-s1", "k1", step("s0", node="n2")))).state is State.FAILED


def test_delegation_has_an_end() -> None:
    """A model that goes round in circles fills neither ledger nor reply."""
    play = delegating()
    for number in range(MAX_STEPS - 1):
        play.hear(Delegated("r1-s1", f"k{number}", step("s0")))

    result = told(play.hear(Delegated("r1-s1", "last", step("s0"))))

    assert result.error is not None
    assert result.error.message == "the request has 100 steps already"


def test_nothing_is_delegated_for_a_request_that_ends() -> None:
    """Nor for one that nobody knows."""
    play = delegating()
    play.control("cancel")

    assert told(play.hear(Delegated("r1-s1", "k1", step("s0")))).state is State.CANCELED
    assert told(play.hear(Delegated("r9-s1", "k1", step("s0")))).state is State.CANCELED


def test_a_refusal_of_the_planner_counts_what_it_took() -> None:
    """Three bad plans are not free."""
    play = Play()
    play.ask()

    effects = play.hear(Planned("r1", Refusal(WireError(ErrorCode.BAD_PLAN, "no plan")), USED))

    [reply] = replies(effects)
    assert (reply.state, reply.usage) == (State.REJECTED, USED)
    assert only(effects, CountUsage) != []


# What a review found


def lose(play: Play, task: str = "r1-s1", *, retryable: bool = True) -> list[MasterEffect]:
    """The node says that it was restarted in the middle of *task*."""
    error = WireError(ErrorCode.INTERRUPTED, "restarted", retryable=retryable)
    return play.result(task, state=State.UNKNOWN, error=error)


def test_what_is_delegated_never_takes_the_place_of_a_step_that_is_planned() -> None:
    """A model may leave gaps between the ids of its steps."""
    play = Play(ask=("press",))
    play.connect("n1")
    play.ask(thought(agent(node=MASTER), step("s3", "press", after=("s1",))))

    effects = play.hear(Delegated("r1-s1", "k1", step("s0")))

    assert [task.id for _, task in sent(effects)] == ["r1-s4"]


def test_an_approval_is_for_the_node_that_was_shown() -> None:
    """Where another would do it, a person is asked again."""
    play = Play(ask=("press",))
    play.connect("n1", "n2")
    asked = facts(play.ask(plan(step(tool="press", node=None, args={"door": 1}))), "approval_required")
    play.hear(NodeSeen(str(asked["node"]), False))

    effects = play.control("approve", call=asked["call"])

    assert sent(effects) == []
    again = facts(effects, "approval_required")
    assert again["node"] != asked["node"]
    assert sent(play.control("approve", call=again["call"])) != []


def test_whether_an_agent_may_begin_again_is_judged_by_the_tools_that_it_had() -> None:
    """A card without the tool that pressed does not make pressing harmless."""
    play = working(agent(node=None, tools=("press",)))
    play.hear(CardSeen("n1", replace(card("n1", "b2"), tools=())))

    [reply] = replies(lose(play))

    assert reply.state is State.UNKNOWN


def test_a_node_that_says_that_it_may_not_be_repeated_is_believed() -> None:
    """It knows which calls were under way."""
    play = working(agent(node=None, tools=("read",)))

    assert replies(lose(play, retryable=False))[0].state is State.UNKNOWN


def test_a_cancelled_request_stays_cancelled_over_a_restart() -> None:
    """Its node is told again, its own work is not begun again, and the reply comes in time."""
    play = working(agent(), step("s2", "mesh_status", MASTER))
    play.control("cancel")
    later = play.again()

    effects = [*later.first, *later.connect("n1")]
    [reply] = replies(later.wait(6))

    assert only(effects, RunHere) == []
    assert set(map(str, only(effects, SendTaskControl))) == {
        str(SendTaskControl("n1", "r1-s1", Control("cancel"), "r1"))
    }
    assert reply.state is State.UNKNOWN


def test_a_request_that_was_cancelled_while_it_was_planned_is_not_planned_again() -> None:
    """The cancel may have been the last thing that was stored."""
    play = Play()
    play.ask()
    record = replace(play.ledger["r1"], is_canceled=True)
    later = Play({"r1": record}, boot="m2", at=play.now)
    later.start()

    [reply] = replies(later.connect() + later.wait(6))

    assert reply.state is State.CANCELED


def test_after_a_restart_nodes_are_heard_before_a_step_is_given_up() -> None:
    """Any node may take it; none is known in the first moment."""
    play = Play(ask=("press",))
    play.connect("n1")
    play.ask(plan(step(tool="press", node=None)))
    later = play.again()

    effects = later.connect("n1") + later.wait(SETTLE_S)

    assert facts(effects, "approval_required")["node"] == "n1"


def test_without_a_broker_a_restarted_master_goes_on_nevertheless() -> None:
    """And says what it could not do."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step("s1", "mesh_status", MASTER), step("s2", node=None, after=("s1",))))
    later = play.again()
    assert replies(later.result(node=MASTER)) == []

    [reply] = replies(later.wait(SETTLE_LATEST_S))

    assert reply.error is not None
    assert reply.error.code == ErrorCode.OFFLINE


def test_a_node_cannot_hold_a_request_with_questions_for_ever() -> None:
    """Neither with many nor with one after another; and odd ids are none."""
    play = working(agent(timeout_s=50.0))
    for number in range(2_000):
        play.event("approval_required", call=f"c{number}", tool="press")
    play.event("approval_required", call="no id!", tool="press")
    reason = str(facts(play.control("approve"), "control_refused")["reason"])

    assert reason.count("press") == 32
    assert replies(play.wait(2_000)) != []


def test_a_copy_of_a_question_that_was_answered_asks_nothing() -> None:
    """QoS 1 may bring it again."""
    play = asking()
    play.event("approval_answered", call="c1", granted=False)
    play.event("approval_required", call="c1", tool="press")

    assert facts(play.control("approve", call="c1"), "control_refused")["reason"] == "no such call waits for it"


def test_a_question_that_ends_with_its_step_gives_no_time_away() -> None:
    """The request has what it had."""
    play = asking()
    play.wait(5)
    play.result()
    play.accept("r1-s2", node="n2")
    assert replies(play.wait(94)) == []

    assert replies(play.wait(7)) != []


def test_what_an_agent_still_waited_for_ends_with_it() -> None:
    """What is not sent is not sent any more; what is at work is told to end."""
    play = Play(ask=("press",))
    play.connect("n1")
    play.ask(thought(agent(node=MASTER), complexity="simple"))
    play.hear(Delegated("r1-s1", "k1", step("s0")))
    asked = facts(play.hear(Delegated("r1-s1", "k2", step("s0", "press"))), "approval_required")

    effects = play.result(node=MASTER, state=State.FAILED, error=WireError("model_failed", "no"))

    assert [control.task for control in only(effects, SendTaskControl)] == ["r1-s2"]
    assert [one.key for one in only(effects, TellDelegate)] == ["k2"]
    assert sent(play.control("approve", call=asked["call"])) == []


def test_a_request_is_what_its_own_agent_made_of_it() -> None:
    """A step that failed and that it made good is no failure; what nobody knows stays unknown."""
    good, bad = delegating(), delegating()
    for play in (good, bad):
        play.hear(Delegated("r1-s1", "k1", step("s0", "press")))
    good.result("r1-s2", state=State.FAILED, error=WireError("tool_failed", "no"))
    bad.result("r1-s2", state=State.UNKNOWN, error=WireError("interrupted", "?"))

    assert replies(good.result(node=MASTER))[0].state is State.COMPLETED
    assert replies(bad.result(node=MASTER))[0].state is State.UNKNOWN


def test_what_was_used_before_a_restart_is_used() -> None:
    """And it is booked once."""
    play = working(agent())
    play.core.tokens_left("n1", "r1-s1")
    play.hear(ModelUsed("n1", "r1-s1", USED))
    later = play.again()

    assert later.core.tokens_left("n1", "r1-s1") == 10_000 - 120
    assert only(later.result(usage=USED), CountUsage) == []


def test_what_comes_after_a_tasks_end_is_the_requests_still() -> None:
    """A call that was cancelled tells late what it took."""
    play = working(agent(), agent("s2", "n2"))
    play.core.tokens_left("n1", "r1-s1")
    play.result()

    effects = play.hear(ModelUsed("n1", "r1-s1", USED))

    assert only(effects, CountUsage) == [CountUsage("n1", "r1", "m", USED, 5000.0)]
    assert replies(play.result("r1-s2", node="n2"))[0].usage == USED


def test_the_plans_own_calls_are_bounded_too() -> None:
    """And what they need is not given to agents."""
    play = Play(budget=Limits(50, 3, 9_000))
    play.connect("n1")
    tasks = sent(play.ask(plan(agent(tools=("read",)), step("s2"), step("s3", after=("s2",)))))
    poor = Play(budget=Limits(50, 1, 9_000))
    poor.connect("n1")
    poor.ask(plan(step(), step("s2")))

    assert tasks[0][1].limits.tool_calls == 1
    [reply] = replies(poor.result())
    assert reply.error is not None
    assert reply.error.code == ErrorCode.BUDGET


def test_a_new_attempt_does_not_get_what_the_lost_one_has_used() -> None:
    """It is gone, and stands in the reply."""
    play = working(agent(node=None, tools=("read",)))
    play.core.tokens_left("n1", "r1-s1")
    play.hear(ModelUsed("n1", "r1-s1", USED))

    [(node, task)] = sent(lose(play))

    assert task.limits.tokens == 10_000 - 120
    assert replies(play.result(node=node, attempt=2))[0].usage == USED


def test_a_node_cannot_speak_for_the_master() -> None:
    """Neither its events nor its questions."""
    play = Play(ask=("set",))
    play.connect("n1", "n2")
    call = facts(play.ask(plan(step(tool="set", args={"value": 1}), agent("s2", "n2"))), "approval_required")["call"]

    false = play.event("request_ended", "r1-s2", node="n2", state="completed")
    other = play.event("approval_required", "r1-s2", node="n2", call=call, tool="read", args={})

    assert said([*false, *other]) == []


def test_an_agent_whose_task_is_not_sent_yet_cannot_be_steered() -> None:
    """Its node is away: the words would reach nobody."""
    play = Play()
    play.connect("n1")
    play.ask(plan(step(), agent("s2", after=("s1",))))
    play.hear(Disconnected())
    play.result()

    assert facts(play.control("steer", text="hurry"), "control_refused")["reason"] == "no agent works on it now"


def test_what_is_remembered_of_ended_tasks_is_bounded() -> None:
    """However many there were, and however many strangers speak."""
    play = Play()
    for number in range(1_100):
        play.ask(plan(step("s1", "mesh_status", MASTER)), name=f"q{number}")
        play.result(f"q{number}-s1", node=MASTER)
        play.event("tool_start", f"stray{number}", node="n9")
        play.hear(ReplyDelivered(f"q{number}"))

    assert len(play.core._ended_tasks) == len(play.core._told_to_end) == 1_000
