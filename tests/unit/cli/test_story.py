"""Events and replies as lines for people."""

from __future__ import annotations

import pytest

from pibot_mesh.agent.data_marks import as_data
from pibot_mesh.cli.story import Progress, approval_question, event_lines, progress, reply_line, short
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.messages import Event, Plan, Reply, State, Step, WireError


def event(kind: str, /, **facts: JSON) -> Event:
    """An event of a request."""
    return Event("r1", kind, "b", 0, 0.0, facts)


def texts(kind: str, /, **facts: JSON) -> list[str]:
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


def test_what_goes_another_way_than_planned_is_told() -> None:
    """A node refuses, or is gone."""
    error: JSON = {"code": "busy", "message": "2 tasks wait already"}
    assert texts("request_accepted", text="turn it on") == ["accepted as r1"]
    assert texts("task_rejected", step="s1", node="attic", error=error) == ["! s1: attic refuses: 2 tasks wait already"]
    assert texts("node_lost", step="s1", node="attic") == ["! attic is lost, with s1"]


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
    assert progress(event("tool_start", node="attic", step="s1", name="file_read")) == "attic calls file_read"
    assert progress(event("tool_end", node="attic", step="s1", name="file_read")) == "attic works on s1"
    assert progress(event("approval_required", node="attic")) == "attic waits for a person's word"
    assert progress(event("cancel_requested")) == "cancelling"
    assert progress(event("step_ended", step="s1")) is None


def test_a_call_that_waits_for_a_person_is_shown_whole_with_what_to_type() -> None:
    """Nobody can approve what they have not seen; the commands lead to this very mesh."""
    args: dict[str, JSON] = {"program": "mail", "args": ["-s", "keys\n\x1b[2J"], "text": "x" * 500}
    asked = event(
        "approval_required", node="attic", step="s1", call="0a1b", tool="shell_exec", args=args, within_s=90.0
    )

    question, until, where, approve, deny = event_lines(asked, options="--broker hub:1884")

    call = f'shell_exec(program="mail", args=["-s", "keys\\n\\u001b[2J"], text="{"x" * 500}")'
    assert question.text == f"? attic wants to call {call}"
    assert question.text == f"? {approval_question(asked)}"
    assert question.tone == "odd"
    assert "No answer within 90 s means no" in until.text
    assert approve.text.strip() == "pibot approve r1 0a1b --broker hub:1884"
    assert deny.text.strip() == "pibot deny r1 0a1b --broker hub:1884"
    assert "in another terminal" in where.text
    assert event_lines(asked)[3].text.strip() == "pibot approve r1 0a1b"
    assert event_lines(asked, options=None) == [question, until]


def test_a_call_that_cannot_be_shown_is_not_made_to_look_harmless() -> None:
    """An event that was too large has lost its arguments."""
    asked = event("approval_required", node="attic", call="0a1b", tool="shell_exec", left_out="payload: too large")

    assert "too long to be shown: do not approve" in event_lines(asked)[0].text


@pytest.mark.parametrize(
    ("facts", "expected", "tone"),
    [
        ({"granted": True, "reason": "approved"}, "✓ approved: door_open", "good"),
        ({"granted": True, "reason": "a person approved it"}, "✓ approved: door_open", "good"),
        ({"granted": False, "reason": "not approved"}, "✗ not approved: door_open", "odd"),
        ({"granted": False, "reason": "nobody did"}, "✗ not approved: door_open: nobody did", "odd"),
        ({"granted": "yes"}, "✗ not approved: door_open", "odd"),
    ],
)
def test_an_answer_to_a_question_is_told(facts: dict[str, JSON], expected: str, tone: str) -> None:
    """With its reason, where that says more than yes or no."""
    [line] = event_lines(event("approval_answered", call="0a1b", tool="door_open", **facts))

    assert (line.text, line.tone) == (expected, tone)


@pytest.mark.parametrize(
    ("kind", "facts", "expected"),
    [
        ("tool_start", {"name": "file_read", "arguments": '{"path": "a b"}'}, 'attic: file_read(path="a b")'),
        ("tool_start", {"name": "look", "arguments": ""}, "attic: look()"),
        ("tool_start", {"name": "look", "arguments": '{"pa'}, 'attic: look({"pa)'),
        ("tool_start", {"name": "look", "arguments": "[1]"}, "attic: look([1])"),
        ("tool_update", {"text": "half of it"}, "attic: half of it"),
        ("tool_end", {"name": "look", "text": "22 °C"}, "attic: look gave: 22 °C"),
        ("tool_end", {"name": "look", "text": as_data("look", "22 °C\ndry")}, "attic: look gave: 22 °C (+1 lines)"),
        ("tool_end", {"name": "look", "text": ""}, "attic: look is done"),
        ("tool_end", {"name": "look", "text": "no light", "is_error": True}, "attic: look failed: no light"),
        ("message_taken", {"text": "not so loud", "kind": "steer"}, "attic: was told: not so loud"),
        ("retry", {"text": "no answer", "delay_s": 1.25, "attempt": 2}, "! attic: no answer; again in 1.2 s"),
        ("retry", {"text": "no answer"}, "! attic: no answer"),
        ("compacted", {"before": 9, "after": 3}, "attic: it has read much: older turns were summarised"),
        ("message_end", {"is_whole": False}, "! attic: the answer broke off"),
        ("message_end", {"message": {"text": "I look.", "calls": [{}]}}, "attic: I look."),
        ("delegated", {"by": "t1"}, "→ s1 besides, as the master's agent wants it"),
        ("steered", {"text": "not so loud", "tasks": ["t1"]}, "> not so loud"),
        ("control_refused", {"action": "steer", "reason": "no agent works"}, "! steer is refused: no agent works"),
        ("cancel_requested", {"reason": ""}, "! cancelling"),
    ],
)
def test_what_an_agent_does_is_one_line_each(kind: str, facts: dict[str, JSON], expected: str) -> None:
    """Who, and what."""
    assert texts(kind, node="attic", task="t1", step="s1", **facts) == [expected]


def test_an_agent_of_no_node_is_the_masters() -> None:
    """As it is called elsewhere."""
    assert texts("tool_start", name="look", arguments="") == ["master: look()"]


@pytest.mark.parametrize("kind", ["run_start", "turn_start", "message_start", "message_delta", "turn_end", "run_end"])
def test_what_only_frames_the_rest_is_not_shown(kind: str) -> None:
    """A line for each would hide the others."""
    assert not texts(kind, node="attic", turn=1, text="la")


def test_the_last_words_of_an_agent_come_as_the_answer() -> None:
    """And not twice; a message without words is none."""
    assert not texts("message_end", node="attic", message={"text": "It is 22 °C.", "calls": []}, is_whole=True)
    assert not texts("message_end", node="attic", message={"text": " ", "calls": [{}]})
    assert not texts("message_end", node="attic", message="?")


def test_what_an_agent_says_flows_by() -> None:
    """The end of it; each message begins anew, and each task has its own."""
    shown = Progress()

    def hear(type_: str, /, task: str = "t1", **facts: JSON) -> str | None:
        return shown.after(event(type_, node="attic", task=task, **facts))

    assert hear("message_start") is None
    assert hear("message_delta", text="Let me ", kind="text") == "attic: Let me"
    assert hear("message_delta", text="look\n at", kind="text") == "attic: Let me look at"
    assert hear("message_delta", task="t2", text="Hm", kind="text") == "attic: Hm"
    assert hear("message_delta", text="secret", kind="reasoning") == "attic thinks"
    long = hear("message_delta", text=" it" * 100, kind="text")
    assert long == "attic: …" + (" it" * 20)
    assert hear("message_start") is None
    assert hear("message_delta", text="Done", kind="text") == "attic: Done"
    assert hear("task_submitted", step="s1") == "attic works on s1"


def test_a_long_text_is_cut_to_a_line() -> None:
    """With a word on what is left out."""
    assert short("one\ntwo\nthree") == "one (+2 lines)"
    assert short("x" * 101) == "x" * 99 + "…"


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


def test_a_cancelled_request_says_who_wanted_it() -> None:
    """And why, as far as it was said; an older master says neither."""
    assert texts("cancel_requested", by="ann@porch, pibot cancel", reason="too loud") == [
        "! cancelling (ann@porch, pibot cancel: too loud)"
    ]
    assert texts("cancel_requested", reason="Ctrl-C") == ["! cancelling (Ctrl-C)"]
    assert texts("cancel_requested") == ["! cancelling"]


def test_what_is_accepted_again_is_not_planned_again() -> None:
    """A master that was started anew knows the request: what was under way still is."""
    shown = Progress()
    shown.after(event("request_accepted"))
    shown.after(event("task_submitted", node="attic", step="s1"))
    shown.after(event("turn_start"))

    assert shown.after(event("request_accepted")) == "attic works on s1"
