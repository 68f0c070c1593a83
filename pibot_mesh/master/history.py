"""A request's story, from what the ledger keeps of it, in the order in which it happened. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pibot_mesh.master.events import Record
from pibot_mesh.master.store import Story
from pibot_mesh.master.usage import UsageRow, sums
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.messages import Event


@dataclass(frozen=True, slots=True)
class Moment:
    """One event of a request, *at_s* seconds after the request was accepted, by the master's clock.

    *is_anew*: it is the first that another process tells, the master after a restart, or another master.
    """

    at_s: float
    event: Event
    is_anew: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one step: on which *node*, from when to when (seconds after the request was accepted), and its end.

    *outcome* is the step's state in the protocol's words, ``lost`` where the node vanished with it, ``refused`` where
    the node did not take it, ``given up`` where another attempt began before it ended, and empty while it is open.
    """

    step: str
    number: int
    node: str
    task: str
    began_s: float
    ended_s: float | None = None
    outcome: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Cancelling:
    """Who cancelled a request, as they call themselves, and why; both may be empty."""

    at_s: float
    by: str
    reason: str


def took_s(record: Record) -> float | None:
    """How long the request took, in seconds, restarts of the master included; None while it is open."""
    reply = record.reply
    if reply is None:
        return None
    # A master that was started anew does not know how long nobody was there: the clock does.
    return round(max(reply.timing.total_s, reply.ts - record.accepted_ts), 3)


def moments(story: Story) -> list[Moment]:
    """The events of a story. A time before the request's own (a clock that was set) counts as the beginning."""
    told: list[Moment] = []
    boot = ""
    for event in story.events:
        at_s = round(max(0.0, event.ts - story.record.accepted_ts), 3)
        told.append(Moment(at_s, event, is_anew=boot not in ("", event.boot)))
        boot = event.boot
    return told


def attempts(story: Story) -> list[Attempt]:
    """Every attempt of every step, in the order in which they began."""
    book = _Attempts()
    for moment in moments(story):
        book.see(moment)
    return book.all


class _Attempts:
    def __init__(self) -> None:
        self.all: list[Attempt] = []
        self._last: dict[str, int] = {}

    def see(self, moment: Moment) -> None:
        facts, step = moment.event.data, _text(moment.event, "step")
        match moment.event.type:
            case "task_submitted":
                self._begin(step, moment)
            case "task_rejected":
                self._end(step, moment, "refused", _why(facts.get("error")))
            case "node_lost":
                self._end(step, moment, "lost", "")
            case "step_ended" if "task" in facts:  # else it ended without another attempt
                self._end(step, moment, _text(moment.event, "state"), _why(facts.get("error")))

    def _begin(self, step: str, moment: Moment) -> None:
        event = moment.event
        number = event.data.get("attempt")
        new = Attempt(
            step,
            number if isinstance(number, int) else 1,
            _text(event, "node"),
            _text(event, "task"),
            moment.at_s,
        )
        if step in self._last and self.all[self._last[step]].outcome == "":
            self._end(step, moment, "given up", "")
        self._last[step] = len(self.all)
        self.all.append(new)

    def _end(self, step: str, moment: Moment, outcome: str, why: str) -> None:
        """The last word counts: a node that was lost may come back with the result."""
        if step in self._last:
            index = self._last[step]
            self.all[index] = replace(self.all[index], ended_s=moment.at_s, outcome=outcome, why=why)


def cancelling(story: Story) -> Cancelling | None:
    """Who cancelled the request; None where nobody did."""
    for moment in moments(story):
        if moment.event.type == "cancel_requested":
            return Cancelling(moment.at_s, _text(moment.event, "by"), _text(moment.event, "reason"))
    return None


def usage_of(request_id: str, rows: Sequence[UsageRow]) -> list[dict[str, JSON]]:
    """What each node used of the model for one request, of all *rows*: the node, the calls, and the tokens."""
    own = [row for row in rows if row.request == request_id]
    return [{"node": line.name, "calls": line.calls, **to_dict(line.usage)} for line in sums(own, "node")]


def summary_json(record: Record) -> dict[str, JSON]:
    """One request of a list, for programs."""
    return {
        "id": record.request.id,
        "accepted_ts": record.accepted_ts,
        "state": record.state.value,
        "text": record.request.text,
        "took_s": took_s(record),
    }


def story_json(story: Story, rows: Sequence[UsageRow]) -> dict[str, JSON]:
    """A whole story, for programs. *rows* are the ledger's rows of usage; those of other requests are left out."""
    record, cancelled = story.record, cancelling(story)
    return {
        **summary_json(record),
        "request": to_dict(record.request),
        "plan": to_dict(record.plan) if record.plan is not None else None,
        "attempts": [to_dict(attempt) for attempt in attempts(story)],
        "events": [
            {**to_dict(moment.event), "at_s": moment.at_s, "is_anew": moment.is_anew} for moment in moments(story)
        ],
        "results": [to_dict(result) for result in record.steps],
        "cancelled": to_dict(cancelled) if cancelled is not None else None,
        "reply": to_dict(record.reply) if record.reply is not None else None,
        "is_sent": record.is_sent,
        "usage": list(usage_of(record.request.id, rows)),
    }


def _text(event: Event, key: str) -> str:
    value = event.data.get(key)
    return value if isinstance(value, str) else ""


def _why(error: JSON) -> str:
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else ""
