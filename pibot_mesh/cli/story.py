"""A request's events and reply as lines for people. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON, from_dict
from pibot_mesh.protocol.messages import Event, Plan, Reply, State

_MARKS: Final = {"completed": "✓", "skipped": "–"}
_TONES: Final = {"completed": "good", "skipped": ""}
_QUIET: Final = ("request_ended", "task_accepted")
"""What the lines around it say already."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line (or a few, of one kind), with its tone (see `screen.say`)."""

    text: str
    tone: str = ""
    dim: bool = False


def event_lines(event: Event) -> list[Line]:
    """What *event* tells; nothing where another line tells it as well."""
    facts = event.data
    step, node = _word(facts, "step"), _word(facts, "node")
    match event.type:
        case "request_accepted":
            return [Line("accepted", dim=True)]
        case "request_planned":
            return _plan_lines(facts.get("plan"))
        case "task_submitted":
            attempt = facts.get("attempt")
            again = f", attempt {attempt}" if isinstance(attempt, int) and attempt > 1 else ""
            return [Line(f"→ {step} to {node}{again}", dim=True)]
        case "task_rejected":
            return [Line(f"! {step}: {node} refuses: {_error(facts)}", "odd")]
        case "step_ended":
            return [_step_line(facts, step, node)]
        case "node_lost":
            return [Line(f"! {node} is lost, with {step}", "odd")]
        case "cancel_requested":
            return [Line("! cancelling", "odd")]
        case kind if kind in _QUIET:
            return []
    about = " ".join(f"{key}={value}" for key, value in facts.items() if isinstance(value, (str, int, float)))
    return [Line(f"· {event.type} {about}".rstrip(), dim=True)]


def progress(event: Event) -> str | None:
    """What is being done after *event*, in a few words, or None where that did not change."""
    match event.type:
        case "request_accepted":
            return "planning"
        case "task_submitted" | "task_accepted":
            return f"{_word(event.data, 'node')} works on {_word(event.data, 'step')}"
        case "cancel_requested":
            return "cancelling"
    return None


def reply_line(reply: Reply) -> Line:
    """The answer."""
    if reply.state is State.COMPLETED:
        return Line(reply.text)
    text = reply.text or (reply.error.message if reply.error else reply.state.value)
    return Line(text, "odd" if reply.state in (State.REJECTED, State.CANCELED) else "bad")


def plan_lines(plan: Plan) -> list[Line]:
    """A heading, and one line a step."""
    from pibot_mesh.master.plans import describe

    return [Line("plan:"), *(Line(f"  {line}", "key") for line in describe(plan).splitlines())]


def _plan_lines(value: JSON) -> list[Line]:
    try:
        return plan_lines(from_dict(Plan, value))
    except ProtocolError:
        return [Line("a plan was made that this version cannot show", dim=True)]


def _step_line(facts: Mapping[str, JSON], step: str, node: str) -> Line:
    state = _word(facts, "state")
    where = f"{step} on {node}" if node else step
    said = _word(facts, "text") or _error(facts)
    if state not in _MARKS:
        return Line(f"✗ {where} {state}: {said}" if said else f"✗ {where} {state}", "bad")
    what = said or ("not needed" if state == "skipped" else "done")
    return Line(f"{_MARKS[state]} {where}: {what}", _TONES[state])


def _word(facts: Mapping[str, JSON], key: str) -> str:
    value = facts.get(key)
    return value if isinstance(value, str) else ""


def _error(facts: Mapping[str, JSON]) -> str:
    error = facts.get("error")
    return _word(error, "message") if isinstance(error, dict) else ""
