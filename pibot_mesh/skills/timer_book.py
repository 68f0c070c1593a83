"""Timers by name: what is due when, and how that is written down for a restart. Pure: no clock, no I/O.

*now* is seconds on any monotonic clock and decides while the process lives; *wall* is Unix seconds and counts across a
restart only, since no other clock does.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Final

from pibot_mesh.errors import ErrorCode, StoreError, ToolError

MAX_TIMERS: Final = 50
MIN_S: Final = 1.0
MAX_S: Final = 7 * 24 * 3600.0
MAX_NAME: Final = 64
"""Characters."""
MAX_TEXT: Final = 500
"""Characters."""
_CLOCK_MOVED_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that runs for *length_s* and ends at *due*, on the monotonic clock."""

    name: str
    text: str
    length_s: float
    due: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A timer that ended, *late_s* seconds ago: more than a moment only where nobody was there to see it."""

    name: str
    text: str
    length_s: float
    late_s: float


class TimerBook:
    """The timers that run. A name has one timer at most."""

    def __init__(self) -> None:
        self._timers: dict[str, Timer] = {}
        self._offset: float | None = None

    def __len__(self) -> int:
        return len(self._timers)

    def set(self, name: str, length_s: float, text: str, *, now: float) -> None:
        """Begin a timer, in the place of one of the same name. Raises ToolError at `MAX_TIMERS`."""
        if name not in self._timers and len(self._timers) >= MAX_TIMERS:
            raise ToolError(f"{MAX_TIMERS} timers run already: cancel one first", code=ErrorCode.BUSY, retryable=True)
        self._timers[name] = Timer(name, text, length_s, now + length_s)

    def get(self, name: str) -> Timer | None:
        """The timer *name*, or None."""
        return self._timers.get(name)

    def put_back(self, name: str, *, old: Timer | None, new: Timer | None) -> None:
        """Undo a change from *old* to *new*, unless the timer *name* was changed again meanwhile."""
        if self._timers.get(name) != new:
            return
        self._timers.pop(name, None)
        if old is not None:
            self._timers[name] = old

    def cancel(self, name: str) -> Timer:
        """Take the timer away. Raises ToolError, naming those that run, where there is none of that name."""
        if name not in self._timers:
            there = f"there are {', '.join(sorted(self._timers))}" if self._timers else "none runs"
            raise ToolError(f"no timer is named {name!r}: {there}", code=ErrorCode.BAD_ARGUMENTS)
        return self._timers.pop(name)

    def running(self) -> list[Timer]:
        """All of them, the next one first."""
        return sorted(self._timers.values(), key=lambda timer: (timer.due, timer.name))

    def next_at(self) -> float | None:
        """When the next one ends, or None."""
        return min((timer.due for timer in self._timers.values()), default=None)

    def pop_due(self, now: float) -> list[Finished]:
        """Take out those that have ended, the earliest first."""
        due = [timer for timer in self.running() if timer.due <= now]
        for timer in due:
            del self._timers[timer.name]
        return [Finished(timer.name, timer.text, timer.length_s, now - timer.due) for timer in due]

    def dump(self, *, now: float, wall: float) -> str:
        """All of them as JSON, each with the Unix time at which it ends by the clock of this moment."""
        self._offset = wall - now
        timers = [
            {"name": timer.name, "text": timer.text, "for_s": timer.length_s, "ends_at": timer.due + self._offset}
            for timer in self.running()
        ]
        return json.dumps({"v": 1, "timers": timers}, ensure_ascii=False, indent=1) + "\n"

    def is_written_wrong(self, *, now: float, wall: float) -> bool:
        """Whether the wall clock was set since the last `dump`, as NTP does: what is written down is wrong by that."""
        return bool(self._timers) and self._offset is not None and abs(wall - now - self._offset) > _CLOCK_MOVED_S

    def load(self, text: str, *, now: float, wall: float) -> None:
        """Take in what `dump` wrote in another life. What ended meanwhile is due at once.

        A wall clock that was set back in between makes no timer longer than it was from its start. Raises StoreError,
        and takes in nothing, for text that is not of `dump`.
        """
        try:
            timers = [_timer(entry, now, wall) for entry in json.loads(text)["timers"]]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StoreError(f"these are no timers: {type(error).__name__}: {error}") from error
        self._timers |= {timer.name: timer for timer in timers[:MAX_TIMERS]}
        self._offset = wall - now


def _timer(entry: dict[str, str | float], now: float, wall: float) -> Timer:
    length_s, left_s = float(entry["for_s"]), float(entry["ends_at"]) - wall
    if not (MIN_S <= length_s <= MAX_S and math.isfinite(left_s)):
        raise ValueError(f"for_s {length_s} with {left_s} s left")
    return Timer(str(entry["name"])[:MAX_NAME], str(entry["text"])[:MAX_TEXT], length_s, now + min(left_s, length_s))
