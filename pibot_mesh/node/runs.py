"""What a node knows of its open tasks in this process only. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pibot_mesh.agent.call_records import fit_calls
from pibot_mesh.protocol.messages import Effect as ToolEffect, Timing, ToolCall, WireError

MAX_CALLS: Final = 100
"""Calls of an agent that the journal keeps while it runs; it is written anew at each."""
_GRAVITY: Final[tuple[ToolEffect, ...]] = ("read", "write", "actuate")


@dataclass(slots=True)
class OpenRun:
    """An open task: when it came and began, what it may do, and what it has done so far."""

    arrived_at: float
    started_at: float | None = None
    seq: int = 0
    effect: ToolEffect | None = None
    """The gravest effect of its tools as they were when it began: a skill may be changed or removed in the middle."""
    ending: WireError | None = None
    """Why it was told to end."""
    said: list[str] = field(default_factory=list)
    """What an agent is to be told when it begins."""
    calls: dict[str, ToolCall] = field(default_factory=dict)
    """The calls that an agent has begun, by id; one that is under way has ``ok`` None."""
    asked: set[str] = field(default_factory=set)
    """The calls that wait for a person."""
    left_s: float = 0.0
    """What there was of its time when it began to wait for a person."""

    def note(self, call: str, record: ToolCall) -> None:
        """Write down a call; of more than `MAX_CALLS`, those that only read, and then the oldest, are forgotten."""
        self.calls[call] = record
        if len(self.calls) > MAX_CALLS:
            reads = (name for name, one in self.calls.items() if one.effect == "read")
            del self.calls[next(reads, next(iter(self.calls)))]

    @property
    def records(self) -> tuple[ToolCall, ...]:
        """Its calls, as many and as whole as a result has room for."""
        return fit_calls(self.calls.values())

    def timing(self, now: float) -> Timing:
        """How long it waited, and how long it has run."""
        started_at = now if self.started_at is None else self.started_at
        return Timing(waited_s=round(started_at - self.arrived_at, 3), ran_s=round(now - started_at, 3))


def gravest(effects: Iterable[ToolEffect]) -> ToolEffect:
    """The gravest of *effects*; ``read`` where there are none."""
    return max(effects, key=_GRAVITY.index, default="read")


def is_unsure(calls: Iterable[ToolCall]) -> bool:
    """Whether one of *calls* may have changed something, and nobody knows whether it did."""
    return any(call.ok is None and call.effect != "read" for call in calls)
