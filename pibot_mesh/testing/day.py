"""A day in seconds: a loop whose time leaps, a witness of a node's outputs, and a diary of what was due.

Shells such as `Board` run on the loop as they are, with their timers; give them `DayLoop.time` for a clock. The witness
and the diary know the rules and what is seen from outside, and nothing of the code that keeps to them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_GRAIN_S = 0.001
"""What a time may be missed by, besides the lateness of the loop: clocks are floats."""


class DayLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: where nothing is to be done, its time leaps to the next timer.

    Each leap ends *lateness()* seconds after that timer, as on a busy machine, and then *looked* is called. Threads and
    sockets have no time of their own here: what must wait for one does not run on it.
    """

    def __init__(self, start_s: float, *, lateness: Callable[[], float], looked: Callable[[], None]) -> None:
        self._now = start_s
        self._lateness = lateness
        self._looked = looked
        self.late_s = 0.0
        """How late the last leap was."""
        super().__init__(_Leaping(self._leap))

    def time(self) -> float:
        """Simulated seconds."""
        return self._now

    def _leap(self, seconds: float) -> None:
        self.late_s = self._lateness()
        self._now += seconds + self.late_s
        self._looked()


class _Leaping(selectors.DefaultSelector):
    """Tells *leap* how long it would have waited, and does not."""

    def __init__(self, leap: Callable[[float], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(timeout if timeout is None else 0)
        if not events and timeout is not None and timeout > 0:
            self._leap(timeout)
        return events


@dataclass(frozen=True, slots=True)
class Limits:
    """What an output must keep to: seconds on at most, and off at least."""

    max_on_s: float | None = None
    min_off_s: float | None = None


@dataclass(slots=True)
class _Seen:
    """One output, as its pin shows it."""

    since: float
    """When it went on, or off."""
    is_on: bool = False
    until: float | None = None
    """When the time is over for which it was set."""
    set_at: float = 0.0
    is_by_reflex: bool = False


class Witness:
    """Somebody with a stop watch who looks at the pins of a node's outputs, and notes each promise that was broken.

    The outputs are off, and nobody is reached, from the start on. Of each of *interlocks* one at most may be on.
    Without a master for *lost_after_s* an output that no reflex set must be off. *late_s* tells how late the loop is:
    so much longer an output may be on.
    """

    def __init__(
        self,
        limits: Mapping[str, Limits],
        interlocks: Sequence[Sequence[str]],
        *,
        lost_after_s: float,
        clock: Callable[[], float],
        late_s: Callable[[], float],
    ) -> None:
        self.broken: list[str] = []
        self._limits = limits
        self._interlocks = interlocks
        self._lost_after_s = lost_after_s
        self._clock = clock
        self._late_s = late_s
        self._seen = {device: _Seen(clock()) for device in limits}
        self._is_held = False
        self._lost_at: float | None = clock()

    def wrote(self, device: str, is_on: bool) -> None:
        """The pin of *device* was written, and is on now, or off."""
        now, seen, limits = self._clock(), self._seen[device], self._limits[device]
        self._check_time(device, seen, now)
        if is_on and not seen.is_on and now - seen.since < (limits.min_off_s or 0.0) - _GRAIN_S:
            self.broken.append(f"{device} went on again after {now - seen.since:g} s, not {limits.min_off_s:g} s")
        if is_on != seen.is_on:
            seen.is_on, seen.since = is_on, now
        self._check_together()

    def set_by(self, device: str, *, is_by_reflex: bool, for_s: float | None) -> None:
        """What was written last to *device* came of a reflex, or not; for *for_s* seconds, or for good."""
        now, seen = self._clock(), self._seen[device]
        seen.until = None if for_s is None else now + for_s
        seen.set_at, seen.is_by_reflex = now, is_by_reflex

    def hold(self, is_held: bool) -> None:
        """The emergency stop was obeyed, or has ended."""
        self._is_held = is_held
        self._check_together()

    def reach(self, is_reached: bool) -> None:
        """The master is reached, or is not any more."""
        self._lost_at = None if is_reached else self._clock()

    def look(self) -> None:
        """Look at all outputs: none may be on that must not."""
        now = self._clock()
        for device, seen in self._seen.items():
            self._check_time(device, seen, now)
        self._check_together()

    def _check_time(self, device: str, seen: _Seen, now: float) -> None:
        """*device* is on, or was until now."""
        if not seen.is_on:
            return
        ends = {"its time was over": seen.until}
        max_on_s = self._limits[device].max_on_s
        if max_on_s is not None:
            ends[f"it was on for {max_on_s:g} s"] = seen.since + max_on_s
        if self._lost_at is not None and not seen.is_by_reflex:
            ends[f"nobody was reached for {self._lost_after_s:g} s"] = (
                max(self._lost_at, seen.set_at) + self._lost_after_s
            )
        for why, end in ends.items():
            if end is not None and now > end + self._late_s() + _GRAIN_S:
                self.broken.append(f"{device} was still on {now - end:g} s after {why}")

    def _check_together(self) -> None:
        on = [device for device, seen in self._seen.items() if seen.is_on]
        if self._is_held and on:
            self.broken.append(f"{' and '.join(on)} on in the emergency stop")
        for group in self._interlocks:
            together = [device for device in group if device in on]
            if len(together) > 1:
                self.broken.append(f"{' and '.join(together)} on together")


@dataclass(frozen=True, slots=True)
class Due:
    """When a schedule is due, in Unix seconds, known to *within_s*.

    So many seconds later it may still be made: *late_s*. Where *is_made_up*, it must be, if a master runs then.
    """

    times: Sequence[float]
    late_s: float = 60.0
    within_s: float = 0.0
    is_made_up: bool = False


class Diary:
    """What was due by the clock on the wall while a master ran, and what was made of it.

    Within *notice_s* seconds the master must make what is due, whatever the clock was set to.
    """

    def __init__(self, dues: Mapping[str, Due], *, notice_s: float) -> None:
        self.broken: list[str] = []
        self._dues = dues
        self._notice_s = notice_s
        self._made: Counter[tuple[str, float]] = Counter()
        self._spans: list[tuple[float, float]] = []
        self._began: float | None = None

    def begin(self, wall: float) -> None:
        """From *wall* on the clock goes on evenly, and a master looks at it."""
        self._began = wall

    def end(self, wall: float) -> None:
        """Until *wall* that was so."""
        if self._began is not None:
            self._spans.append((self._began, wall))
        self._began = None

    def made(self, schedule: str, wall: float) -> None:
        """A request of *schedule* was made when the clock on the wall was at *wall*."""
        due = self._dues[schedule]
        times = [at for at in due.times if at - due.within_s <= wall <= at + due.late_s + due.within_s]
        if not times:
            self.broken.append(f"{schedule} was made at {_at(wall)}, where it was not due")
            return
        self._made[schedule, times[-1]] += 1
        if self._made[schedule, times[-1]] > 1:
            self.broken.append(f"{schedule}, which was due at {_at(times[-1])}, was made again at {_at(wall)}")

    def count(self, schedule: str) -> int:
        """How many due times of *schedule* were made."""
        return sum(name == schedule for name, _ in self._made)

    def missing(self, wall: float) -> list[str]:
        """What was due until *wall*, which it is now, and had to be made, and was not."""
        spans = [*self._spans, *([] if self._began is None else [(self._began, wall)])]
        return [
            f"{name} was due at {_at(at)}, and was not made"
            for name, due in self._dues.items()
            for at in due.times
            if self._must_be(due, at, spans) and (name, at) not in self._made
        ]

    def _must_be(self, due: Due, at: float, spans: Sequence[tuple[float, float]]) -> bool:
        is_made_up = due.is_made_up and bool(spans) and at > spans[0][0]
        latest_s = due.late_s - self._notice_s if is_made_up else 0.0
        return any(
            begin < at + latest_s - due.within_s and at + due.within_s + self._notice_s < end
            for begin, end in spans
            if end - begin > self._notice_s
        )


def _at(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S} UTC"
