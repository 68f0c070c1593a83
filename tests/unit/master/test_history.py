"""Stories of requests, as they are told afterwards."""

from __future__ import annotations

import json
from dataclasses import replace

from pibot_mesh.master.events import Origin, Record
from pibot_mesh.master.history import (
    Attempt,
    Cancelling,
    attempts,
    cancelling,
    moments,
    story_json,
    summary_json,
    took_s,
    usage_of,
)
from pibot_mesh.master.store import Story
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Event, Plan, Reply, ReplyTiming, Request, State, Step, StepResult, Usage

OPEN = Record(Request("r1", "turn on the fan"), Origin(), State.WORKING, accepted_ts=1000.0)
ENDED = replace(
    OPEN,
    state=State.COMPLETED,
    plan=Plan("offline", (Step("s1", tool="t"),)),
    steps=(StepResult("s1", State.COMPLETED, "attic"),),
    reply=Reply("r1", State.COMPLETED, "done", timing=ReplyTiming(0.1, 2.5), ts=1002.5),
    is_sent=True,
)


def event(at_s: float, kind: str, /, boot: str = "b1", **facts: JSON) -> Event:
    return Event("r1", kind, boot, 0, 1000.0 + at_s, facts)


def given(at_s: float, node: str, attempt: JSON = 1, step: str = "s1") -> Event:
    """A step is given to a node."""
    return event(at_s, "task_submitted", node=node, step=step, attempt=attempt, task=f"r1-{step}")


def ended(at_s: float, node: str, state: str = "completed", **facts: JSON) -> Event:
    """A task has ended."""
    return event(at_s, "step_ended", node=node, step="s1", state=state, task="r1-s1", **facts)


def tries(*events: Event) -> list[Attempt]:
    return attempts(Story(OPEN, events))


def test_times_are_counted_from_the_requests_beginning() -> None:
    """A clock that was set back in between does not make them negative."""
    story = Story(OPEN, (event(0.25, "request_accepted"), event(-3600, "request_planned")))

    assert [moment.at_s for moment in moments(story)] == [0.25, 0.0]


def test_a_master_that_was_started_anew_shows_in_its_first_event() -> None:
    """However often; its events are numbered anew, and told in the order in which they were stored."""
    story = Story(OPEN, tuple(event(n, "x", boot) for n, boot in enumerate(["b1", "b1", "b2", "b2", "b3"])))

    assert [moment.is_anew for moment in moments(story)] == [False, False, True, False, True]


def test_an_attempt_has_a_node_a_beginning_and_an_end() -> None:
    """And the reason, where it failed."""
    error: JSON = {"code": "tool_failed", "message": "no such pin"}

    assert tries(given(0.5, "attic"), ended(1.5, "attic", "failed", error=error)) == [
        Attempt("s1", 1, "attic", "r1-s1", 0.5, 1.5, "failed", "no such pin")
    ]


def test_what_is_under_way_has_no_end_yet() -> None:
    """Neither a time nor an outcome."""
    assert tries(given(0.5, "attic")) == [Attempt("s1", 1, "attic", "r1-s1", 0.5)]


def test_each_attempt_of_a_step_is_told() -> None:
    """Refused here, lost there, given up, and done at last."""
    busy: JSON = {"code": "busy", "message": "2 tasks wait already"}
    told = tries(
        given(0, "attic"),
        event(1, "task_rejected", node="attic", step="s1", error=busy),
        given(2, "hall", 2),
        event(3, "node_lost", node="hall", step="s1"),
        given(4, "porch", 3),
        given(5, "cellar", 4),
        ended(6, "cellar"),
    )

    assert [(one.number, one.node, one.outcome, one.why, one.ended_s) for one in told] == [
        (1, "attic", "refused", "2 tasks wait already", 1),
        (2, "hall", "lost", "", 3),
        (3, "porch", "given up", "", 5),
        (4, "cellar", "completed", "", 6),
    ]


def test_a_lost_node_that_comes_back_with_the_result_has_the_last_word() -> None:
    """The attempt was not lost after all."""
    [one] = tries(given(0, "attic"), event(1, "node_lost", node="attic", step="s1"), ended(9, "attic"))

    assert (one.outcome, one.ended_s) == ("completed", 9)


def test_a_step_that_ends_without_another_attempt_leaves_the_last_one_as_it_was() -> None:
    """No node was left that could have tried again."""
    [one] = tries(
        given(0, "attic"),
        event(1, "node_lost", node="attic", step="s1"),
        event(1, "step_ended", step="s1", node="attic", state="failed"),
    )

    assert one.outcome == "lost"


def test_steps_that_were_never_given_to_a_node_are_no_attempts() -> None:
    """Skipped ones; and what a later version writes otherwise does no harm."""
    assert tries(ended(1, "attic", "skipped"), event(1, "node_lost", node="attic", step="s9")) == []
    assert [one.number for one in tries(given(0, "attic", attempt="first"))] == [1]
    assert [one.why for one in tries(given(0, "attic"), ended(1, "attic", "failed", error={"message": 1}))] == [""]


def test_who_cancelled_is_told() -> None:
    """In their own words; older masters wrote neither."""
    asked = event(2, "cancel_requested", by="ann@porch, pibot cancel", reason="too loud")

    assert cancelling(Story(OPEN, (event(0, "request_accepted"), asked))) == Cancelling(
        2, "ann@porch, pibot cancel", "too loud"
    )
    assert cancelling(Story(OPEN, (event(1, "cancel_requested"),))) == Cancelling(1, "", "")
    assert cancelling(Story(OPEN, (event(1, "request_accepted"),))) is None


def test_usage_is_told_by_node() -> None:
    """That of this request, over days and models."""
    rows = [
        UsageRow("2025-03-01", "attic", "r1", "m", Usage(10, 2, 3, 1), 1),
        UsageRow("2025-03-02", "attic", "r1", "n", Usage(1), 2),
        UsageRow("2025-03-02", "attic", "r2", "m", Usage(1000), 1),
    ]

    assert usage_of("r1", rows) == [
        {"node": "attic", "calls": 3, "input": 11, "cached": 2, "output": 3, "reasoning": 1}
    ]


def test_an_open_request_has_taken_no_time_yet() -> None:
    """A list says what is known."""
    assert took_s(OPEN) is None
    assert summary_json(ENDED) == {
        "id": "r1",
        "accepted_ts": 1000.0,
        "state": "completed",
        "text": "turn on the fan",
        "took_s": 2.5,
    }


def test_a_restart_counts_in_how_long_it_took() -> None:
    """The master that ended it had not known it for long; a clock that was set back counts for nothing."""
    reply = Reply("r1", State.COMPLETED, "done", timing=ReplyTiming(0.0, 0.03))

    assert took_s(replace(OPEN, reply=replace(reply, ts=1013.4))) == 13.4
    assert took_s(replace(OPEN, reply=replace(reply, ts=1.0))) == 0.03


def test_programs_get_the_whole_story_as_one_object() -> None:
    """Everything that people are shown, as values."""
    events = (given(0.5, "attic"), event(1, "cancel_requested", boot="b2", by="ann@porch"), ended(1.5, "attic"))
    rows = [UsageRow("2025-03-01", "attic", "r1", "m", Usage(10), 1)]

    told = json.loads(json.dumps(story_json(Story(ENDED, events), rows)))

    assert (told["id"], told["state"], told["took_s"], told["is_sent"]) == ("r1", "completed", 2.5, True)
    assert told["request"]["text"] == "turn on the fan"
    assert told["plan"]["steps"][0]["id"] == "s1"
    assert told["attempts"][0]["outcome"] == "completed"
    assert [(one["type"], one["at_s"], one["is_anew"]) for one in told["events"]] == [
        ("task_submitted", 0.5, False),
        ("cancel_requested", 1, True),
        ("step_ended", 1.5, True),
    ]
    assert told["results"][0]["node"] == "attic"
    assert told["cancelled"] == {"at_s": 1, "by": "ann@porch", "reason": ""}
    assert told["reply"]["text"] == "done"
    assert told["usage"] == [{"node": "attic", "calls": 1, "input": 10, "cached": 0, "output": 0, "reasoning": 0}]


def test_a_request_that_has_only_begun_has_nothing_else() -> None:
    """Null, not missing."""
    told = story_json(Story(OPEN), [])

    assert (told["plan"], told["cancelled"], told["reply"], told["attempts"], told["usage"]) == (
        None,
        None,
        None,
        [],
        [],
    )
