"""Requests that were, as lines for people. Pure: no I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from pibot_mesh.cli.story import Line, cancelling_words, event_lines, plan_lines, reply_line, short
from pibot_mesh.master.events import Record
from pibot_mesh.master.history import Attempt, Moment, attempts, moments, took_s, usage_of
from pibot_mesh.master.store import Story
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import State

_TONES: Final = {
    State.COMPLETED: "good",
    State.FAILED: "bad",
    State.UNKNOWN: "bad",
    State.REJECTED: "odd",
    State.CANCELED: "odd",
}
_SHORT_ID: Final = 8
"""Characters of an id that are shown, where they are enough to tell the ids of a list apart."""
_ANEW: Final = "= the master was started anew"
_ANEW_SHARED: Final = "= another master went on with it, or the same one, started anew"


def list_lines(records: Sequence[Record], *, columns: int | None = None) -> list[Line]:
    """One line a request, the newest last, as a terminal is read. Texts are cut where lines have so many *columns*."""
    ids = _short_ids([record.request.id for record in records])
    width = max(map(len, ids.values()), default=0)
    lines = []
    for record in reversed(records):
        took = took_s(record)
        clock, name = _clock(record.accepted_ts), ids[record.request.id]
        facts = f"{clock}  {name:<{width}}  {record.state.value:<14}  {_seconds(took) if took is not None else '':>9}"
        text = short(record.request.text)
        room = len(text) if columns is None else max(columns - len(facts) - 3, 10)
        cut = text if len(text) <= room else f"{text[: room - 1]}…"
        lines.append(Line(f"{facts}  {cut}", _TONES.get(record.state, "key")))
    return lines


def story_lines(story: Story, rows: Sequence[UsageRow]) -> list[Line]:
    """A whole story: the request, its plan, attempts and events, the reply, and what the model was used for."""
    record = story.record
    lines = [Line(f"request {record.request.id}"), Line(f"  {record.request.text}", "key"), *_fact_lines(record)]
    if record.plan is not None:
        lines += plan_lines(record.plan)
    lines += _under("attempts:", [_attempt_line(attempt) for attempt in attempts(story)])
    lines += _under("events:", [line for moment in _telling(moments(story)) for line in _event_lines(record, moment)])
    if record.reply is not None:
        answer = reply_line(record.reply)
        lines += [Line("reply:"), *(Line(f"  {text}", answer.tone) for text in answer.text.splitlines())]
    return lines + _under("used:", [_usage_line(used) for used in usage_of(record.request.id, rows)])


def _under(heading: str, lines: list[Line]) -> list[Line]:
    return [Line(heading), *lines] if lines else []


def _fact_lines(record: Record) -> list[Line]:
    took, reply = took_s(record), record.reply
    how = f"{record.state.value} after {_seconds(took)}" if took is not None else f"{record.state.value} still"
    engine = {"llm": ", planned by the model", "offline": ", planned by the offline engine"}
    words = engine.get(reply.engine or "", "") if reply is not None else ""
    lines = [Line(f"  accepted {_clock(record.accepted_ts)}, {how}{words}", _TONES.get(record.state, "key"))]
    if record.request.session is not None:
        lines.append(Line(f"  in the conversation {record.request.session}", dim=True))
    if reply is not None and not record.is_sent:
        lines.append(Line("  no broker has acknowledged the reply yet", "odd"))
    return lines


def _attempt_line(attempt: Attempt) -> Line:
    again = f", attempt {attempt.number}" if attempt.number > 1 else ""
    end = f"{attempt.ended_s:.2f} s" if attempt.ended_s is not None else "now"
    why = f": {short(attempt.why)}" if attempt.why else ""
    outcome = attempt.outcome or "under way"
    tone = "good" if outcome == "completed" else "key" if not attempt.outcome else "odd"
    return Line(f"  {attempt.step} on {attempt.node}{again}, {attempt.began_s:.2f} s to {end}: {outcome}{why}", tone)


def _telling(told: Sequence[Moment]) -> Iterator[Moment]:
    """Without the copies of a request that is sent again and again to a master that has just come back."""
    before = ""
    for moment in told:
        is_copy = moment.event.type == before == "request_accepted" and not moment.is_anew
        before = moment.event.type
        if not is_copy:
            yield moment


def _event_lines(record: Record, moment: Moment) -> list[Line]:
    told = [Line(_ANEW_SHARED if record.epoch else _ANEW, "odd")] if moment.is_anew else []
    told += _words(moment)
    clock = f"{moment.at_s:.2f}"
    return [Line(f"  {clock:>9} s  {line.text}", line.tone, line.dim) for line in told]


def _words(moment: Moment) -> list[Line]:
    """What an event says, where the reader has the plan and the answer before and behind it."""
    event = moment.event
    facts = event.data
    match event.type:
        case "request_accepted":
            return [Line("accepted" if event.seq == 0 and not moment.is_anew else "accepted again", dim=True)]
        case "request_planned":
            return [Line("planned", dim=True)]
        case "request_ended":
            return [Line(f"ended: {_text(facts.get('state'))}", dim=True)]
        case "task_accepted":
            return [Line(f"{_text(facts.get('node'))} takes {_text(facts.get('step'))}", dim=True)]
        case "cancel_requested":
            return [Line(f"! cancelled{cancelling_words(event)}", "odd")]
        case "approval_required":
            return event_lines(event, options=None)[:1]
    return event_lines(event, options=None)


def _usage_line(used: dict[str, JSON]) -> Line:
    calls = "1 call" if used["calls"] == 1 else f"{used['calls']} calls"
    return Line(f"  {used['node']}: {calls}, {used['input']} tokens in, {used['output']} out")


def _short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Each id with the part of it that is shown: the beginning that tells it apart from the others."""
    length = _SHORT_ID
    while len({name[:length] for name in ids}) < len(set(ids)):
        length += 1
    return {name: name[:length] for name in ids}


def _clock(ts: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ts))


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else ""
