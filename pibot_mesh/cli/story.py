"""A request's events and reply as lines for people. Pure: no I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON, from_dict
from pibot_mesh.protocol.messages import Event, Plan, Reply, State

_MARKS: Final = {"completed": "✓", "skipped": "–"}
_TONES: Final = {"completed": "good", "skipped": ""}
_QUIET: Final = frozenset(
    [
        "request_ended",
        "task_accepted",
        "run_start",
        "turn_start",
        "message_start",
        "message_delta",
        "turn_end",
        "run_end",
    ]
)
"""What the lines around it say already, and what flows (see `Progress`)."""
_JUST_NO: Final = ("", "not approved", "a person denied it")
"""Reasons that say no more than no."""
_WIDTH: Final = 100
"""Characters of what a tool is given, or gives, that are shown."""
_TAIL: Final = 60
"""Characters of what an agent is saying that are shown while it does."""
_DATA: Final = re.compile(r'<data from="[^"\n]*">\n(.*)\n</data>', re.DOTALL)
"""How a tool's output is marked for a model (`pibot_mesh.agent.data_marks`)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line (or a few, of one kind), with its tone (see `screen.say`)."""

    text: str
    tone: str = ""
    dim: bool = False


def event_lines(event: Event, *, options: str | None = "") -> list[Line]:
    """What *event* tells; nothing where another line tells it as well.

    *options* are what a ``pibot`` of another terminal needs to find this mesh, such as ``--broker hub.local:1884``;
    None where questions are answered right here.
    """
    facts = event.data
    step, node = _word(facts, "step"), _word(facts, "node")
    match event.type:
        case "request_accepted":
            return [Line(f"accepted as {event.run}", dim=True)]
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
        case "delegated":
            return [Line(f"→ {step} besides, as the master's agent wants it", dim=True)]
        case kind if kind in _QUIET:
            return []
    lines = _person_lines(event, options)
    lines = _agent_lines(event) if lines is None else lines
    return _unknown_lines(event) if lines is None else lines


def _person_lines(event: Event, options: str | None) -> list[Line] | None:
    """What a person is asked or has said; None where it is none of that."""
    facts = event.data
    match event.type:
        case "cancel_requested":
            return [Line(f"! cancelling{cancelling_words(event)}", "odd")]
        case "control_refused":
            return [Line(f"! {_word(facts, 'action')} is refused: {_word(facts, 'reason')}", "odd")]
        case "steered":
            return [Line(f"> {_word(facts, 'text')}", dim=True)]
        case "approval_required":
            return _question_lines(event, options)
        case "approval_answered":
            return [_answer_line(facts)]
    return None


def _unknown_lines(event: Event) -> list[Line]:
    about = " ".join(f"{key}={value}" for key, value in event.data.items() if isinstance(value, (str, int, float)))
    return [Line(f"· {event.type} {about}".rstrip(), dim=True)]


def cancelling_words(event: Event) -> str:
    """Who wants a request to be cancelled, and why, where that is known: `` (ann@porch, pibot cancel: too loud)``."""
    said = ": ".join(words for words in (_word(event.data, "by"), _word(event.data, "reason")) if words)
    return f" ({said})" if said else ""


def progress(event: Event) -> str | None:
    """What is being done after *event*, in a few words, or None where that did not change."""
    facts = event.data
    match event.type:
        case "request_accepted":
            return "planning"
        case "task_submitted" | "task_accepted" | "tool_end" | "retry":
            return f"{_word(facts, 'node')} works on {_word(facts, 'step')}"
        case "tool_start":
            return f"{_word(facts, 'node')} calls {_word(facts, 'name')}"
        case "approval_required":
            return f"{_word(facts, 'node')} waits for a person's word"
        case "cancel_requested":
            return "cancelling"
    return None


class Progress:
    """What is being done, as `progress` says it; and while an agent speaks, the end of what it has said so far."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._doing: str | None = None

    def after(self, event: Event) -> str | None:
        """What is being done after *event*, or None where that did not change.

        A request that is accepted once more (its master was started anew) is not planned again: what was being done is.
        """
        if event.type == "request_accepted" and self._doing is not None:
            return self._doing
        doing = self._after(event)
        self._doing = doing or self._doing
        return doing

    def _after(self, event: Event) -> str | None:
        facts, task = event.data, _word(event.data, "task")
        if event.type == "message_start":
            self._said.pop(task, None)
        if event.type != "message_delta":
            return progress(event)
        if facts.get("kind") == "reasoning":
            return f"{_word(facts, 'node')} thinks"
        self._said[task] = said = (self._said.get(task, "") + _word(facts, "text"))[-10 * _TAIL :]
        tail = " ".join(said.split())
        return f"{_word(facts, 'node')}: {tail if len(tail) <= _TAIL else '…' + tail[-_TAIL:]}"


def approval_question(event: Event) -> str:
    """What ``approval_required`` asks, to be answered with yes or no: the very call, with all its arguments."""
    return f"{_word(event.data, 'node') or 'the master'} wants to call {_asked_call(event.data)}"


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
    said = _word(facts, "text").strip() or _error(facts)
    if state not in _MARKS:
        return Line(f"✗ {where} {state}: {said}" if said else f"✗ {where} {state}", "bad")
    what = said or ("not needed" if state == "skipped" else "done")
    return Line(f"{_MARKS[state]} {where}: {what}", _TONES[state])


def _question_lines(event: Event, options: str | None) -> list[Line]:
    within_s = event.data.get("within_s")
    until = f" within {within_s:g} s" if isinstance(within_s, (int, float)) else ""
    question = [Line(f"? {approval_question(event)}", "odd"), Line(f"  No answer{until} means no.", dim=True)]
    if options is None:
        return question
    call = f"{event.run} {_word(event.data, 'call')} {options}".rstrip()
    return [
        *question,
        Line("  To answer, in another terminal:", dim=True),
        Line(f"    pibot approve {call}", "key"),
        Line(f"    pibot deny {call}", "key"),
    ]


def _answer_line(facts: Mapping[str, JSON]) -> Line:
    node, reason = _word(facts, "node"), _word(facts, "reason")
    tool = f"{_word(facts, 'tool')} on {node}" if node else _word(facts, "tool")
    is_granted = facts.get("granted") is True
    if is_granted:
        return Line(f"✓ approved: {tool}", "good")
    return Line(f"✗ not approved: {tool}{f': {reason}' if reason not in _JUST_NO else ''}", "odd")


def _agent_lines(event: Event) -> list[Line] | None:
    """What an agent does, one line each; None where it is none of that."""
    facts = event.data
    who, text = _word(facts, "node") or "master", _word(facts, "text")
    match event.type:
        case "tool_start":
            return [Line(f"{who}: {_short_call(_word(facts, 'name'), _word(facts, 'arguments'))}", "key")]
        case "tool_update":
            return [Line(f"{who}: {short(text)}", dim=True)]
        case "tool_end":
            return [_tool_end_line(facts, who)]
        case "message_end":
            return _said_lines(facts, who)
        case "message_taken":
            return [Line(f"{who}: was told: {short(text)}", dim=True)]
        case "retry":
            delay_s = facts.get("delay_s")
            again = f"; again in {delay_s:.1f} s" if isinstance(delay_s, (int, float)) else ""
            return [Line(f"! {who}: {text}{again}", "odd")]
        case "compacted":
            return [Line(f"{who}: it has read much: older turns were summarised", dim=True)]
    return None


def _tool_end_line(facts: Mapping[str, JSON], who: str) -> Line:
    name, text = _word(facts, "name"), _word(facts, "text")
    marked = _DATA.fullmatch(text)
    said = short(marked[1] if marked else text)
    if facts.get("is_error") is True:
        return Line(f"{who}: {name} failed: {said}", "bad")
    return Line(f"{who}: {name} gave: {said}" if said else f"{who}: {name} is done", dim=True)


def _said_lines(facts: Mapping[str, JSON], who: str) -> list[Line]:
    """What an agent says between its calls. Its last words are the answer, and come as such."""
    if facts.get("is_whole") is False:
        return [Line(f"! {who}: the answer broke off", "odd")]
    message = facts.get("message")
    if not isinstance(message, dict) or not message.get("calls") or not _word(message, "text").strip():
        return []
    return [Line(f"{who}: {short(_word(message, 'text'))}")]


def short(text: str) -> str:
    """The first line of *text*, cut, with a word on what is left out."""
    first, _, rest = text.strip().partition("\n")
    lines = rest.count("\n") + 1 if rest else 0
    cut = first if len(first) <= _WIDTH else f"{first[: _WIDTH - 1]}…"
    return f"{cut} (+{lines} lines)" if lines else cut


def _asked_call(facts: Mapping[str, JSON]) -> str:
    """The call, whole: who approves it must have seen all of it."""
    tool, args = _word(facts, "tool"), facts.get("args")
    if not isinstance(args, dict):
        return f"{tool} with arguments that are too long to be shown: do not approve what you cannot see"
    return f"{tool}({', '.join(f'{key}={_json(value)}' for key, value in args.items())})"


def _short_call(name: str, arguments: str) -> str:
    """The call as the model wrote it, shortened."""
    try:
        args = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        args = None
    inside = ", ".join(f"{key}={_json(value)}" for key, value in args.items()) if isinstance(args, dict) else arguments
    return f"{name}({short(inside)})"


def _json(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False)


def _word(facts: Mapping[str, JSON], key: str) -> str:
    value = facts.get(key)
    return value if isinstance(value, str) else ""


def _error(facts: Mapping[str, JSON]) -> str:
    error = facts.get("error")
    return _word(error, "message") if isinstance(error, dict) else ""
