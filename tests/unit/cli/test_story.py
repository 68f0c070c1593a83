"""Events and replies as lines for people."""

from __future__ import annotations

import pytest

from pibot_mesh.cli.story import event_lines, progress, reply_line
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.messages import Event, Plan, Reply, State, Step, WireError


def event(kind: str, **facts: JSON) -> Event:
    """An event of a request."""
    return Event("r1", kind, "b", 0, 0.0, facts)


def texts(kind: str, **facts: JSON) -> list[str]:
    """The lines that an event gives."""
    return [line.text for line in event_lines(event(kind, **facts))]


def test_a_plan_is_shown_one_line_a_step() -> None:
    """Node, tool and arguments of each step."""
    plan = Plan(
        "offline",
        (
            Step("s1", node="attic", tool="output_set", args={"device": "fan", "value": "ON"}),
            Step("s2", node="hall", tool="sensor_read"),
        ),
    )

    heading, first, second = texts("request_planned", plan=to_dict(plan))

    assert heading == "plan:"
    assert "s1: attic: output_set" in first
    assert "s2: hall: sensor_read" in second


def test_a_plan_of_another_version_does_not_stop_the_show() -> None:
    """A newer master may send what this program cannot read."""
    [line] = texts("request_planned", plan={"steps": "?"})

    assert "cannot show" in line


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"step": "s1", "state": "completed", "node": "attic", "text": "fan is on"}, "✓ s1 on attic: fan is on"),
        ({"step": "s1", "state": "completed", "node": "attic"}, "✓ s1 on attic: done"),
        ({"step": "s2", "state": "skipped"}, "– s2: not needed"),
        (
            {"step": "s1", "state": "failed", "node": "attic", "error": {"code": "x", "message": "no such pin"}},
            "✗ s1 on attic failed: no such pin",
        ),
        ({"step": "s1", "state": "canceled"}, "✗ s1 canceled"),
    ],
)
def test_the_end_of_a_step_tells_how_and_where(facts: dict[str, JSON], expected: str) -> None:
    """A mark, the step, its node and what it said."""
    assert texts("step_ended", **facts) == [expected]


def test_a_second_attempt_is_told() -> None:
    """The first is not counted aloud."""
    assert texts("task_submitted", step="s1", node="attic", attempt=1) == ["→ s1 to attic"]
    assert texts("task_submitted", step="s1", node="attic", attempt=2) == ["→ s1 to attic, attempt 2"]


def test_an_event_of_an_unknown_type_is_shown_as_it_is() -> None:
    """New types of later versions are not lost."""
    assert texts("tool_started", tool="read", nested={"a": 1}) == ["· tool_started tool=read"]


def test_what_other_lines_say_is_not_said_twice() -> None:
    """A quick task's acceptance and the end of the request give no line."""
    assert not texts("task_accepted", step="s1", node="attic")
    assert not texts("request_ended", state="completed")


def test_progress_follows_the_tasks() -> None:
    """What a spinner says."""
    assert progress(event("request_accepted")) == "planning"
    assert progress(event("task_submitted", step="s1", node="attic")) == "attic works on s1"
    assert progress(event("step_ended", step="s1")) is None


@pytest.mark.parametrize(
    ("state", "tone"), [(State.COMPLETED, ""), (State.REJECTED, "odd"), (State.CANCELED, "odd"), (State.FAILED, "bad")]
)
def test_an_answer_shows_whether_it_worked(state: State, tone: str) -> None:
    """Only a completed one is plain."""
    line = reply_line(Reply("r1", state, "so it is"))

    assert (line.text, line.tone) == ("so it is", tone)


def test_a_reply_without_words_shows_its_error() -> None:
    """Something is always said."""
    assert reply_line(Reply("r1", State.FAILED, "", error=WireError("x", "it broke"))).text == "it broke"
    assert reply_line(Reply("r1", State.FAILED, "")).text == "failed"
