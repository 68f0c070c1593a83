"""Requests that no person makes: at a time, or when something happens. Pure: no sockets, threads or clocks.

What keeps one from being made twice is its id: it follows from the time that is due, or from the event, so the ledger
knows the second one, of whichever master, for the same. What is remembered here only spares the ledger the question.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias

from pibot_mesh.config.settings import Place, ScheduleSettings, TriggerSettings
from pibot_mesh.master.events import Note
from pibot_mesh.master.ledger import STAYS_S
from pibot_mesh.master.schedule_times import DueTimes, latest
from pibot_mesh.protocol.codec import ID_PATTERN, from_dict
from pibot_mesh.protocol.messages import MAX_WORDS, NodeEvent, Request, RoutineState

CLOCK_SET_TS: Final = 1_704_067_200.0
"""The beginning of 2024: a clock that shows less has not been set, and nothing is due by it."""
ON_TIME_S: Final = 60.0
"""Seconds after its time within which a request is no missed one: a master may start anew, or another take over."""
_JUMP_S: Final = 2.0
"""By so much the wall clock does not drift from one tick to the next: it was set."""
_SETTLES_S: Final = 3600.0
"""A clock that shows a wrong time after the start (a Pi has none that runs on) is put right within so long."""
_REMEMBERED: Final = 200
"""Request ids of one routine that are kept."""
_LONG_S: Final = 2 * 24 * 3600.0
"""Without a sunrise for so long, somebody may wonder."""


@dataclass(frozen=True, slots=True)
class Make:
    """Make *request*, unless the ledger knows it. *due_ts* is the time of a schedule. *is_by_hand*: for a person."""

    routine: str
    request: Request
    due_ts: float | None = None
    is_by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Miss:
    """The time *due_ts* passed, and what was due is not made up for. For the log, unless the ledger knows it."""

    routine: str
    request_id: str
    due_ts: float


@dataclass(frozen=True, slots=True)
class Say:
    """Publish *state*, retained; None: the routine is gone, and so must be what is retained of it."""

    routine: str
    state: RoutineState | None


@dataclass(frozen=True, slots=True)
class Keep:
    """Store what must survive of the routine."""

    routine: str
    text: str


RoutineEffect: TypeAlias = Make | Miss | Say | Keep | Note


@dataclass(frozen=True, slots=True)
class Kept:
    """What survives of a routine. *mark* tells whether it is still the same one; times are Unix seconds.

    *since_ts* is when a schedule was first known, or switched on: what was due before is none of its business. *due_ts*
    is the last due time that was made.
    """

    mark: str
    is_on: bool
    since_ts: float | None = None
    due_ts: float | None = None
    last_ts: float | None = None


@dataclass(slots=True)
class _Routine:
    """A routine as it is now."""

    id: str
    request: str
    kept: Kept
    says: str
    schedule: ScheduleSettings | None = None
    times: DueTimes | None = None
    trigger: TriggerSettings | None = None
    next_ts: float | None = None
    rests_until: float = 0.0
    new_until: float = 0.0
    """Until then (monotonic) the clock by which `since_ts` was noted may be put right."""
    told_of: float | None = None
    """The end of the absence of the sun that was noted."""
    missed_ts: float | None = None
    """The due time that was told as missed. By a clock that is set back it comes again, and is made then."""
    made: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def is_made(self, request_id: str) -> bool:
        """Whether it was made before; from now on it was."""
        if request_id in self.made:
            return True
        self.made[request_id] = None
        if len(self.made) > _REMEMBERED:
            self.made.popitem(last=False)
        return False

    def state(self) -> RoutineState:
        """As it is published, but for boot and seq."""
        return RoutineState(
            self.id,
            "trigger" if self.schedule is None else "schedule",
            self.says[:MAX_WORDS],
            self.request,
            self.kept.is_on,
            last_ts=self.kept.last_ts,
            next_ts=self.next_ts,
        )


class Routines:
    """The schedules and triggers of a master: which requests they make, and when.

    `load` what was kept before anything else; then `tick` at the latest at `wake_at`, and at least every 30 seconds:
    that is how a clock that was set is noticed. *wall_ts* is the wall clock in Unix seconds, *now* a monotonic one, in
    seconds. *times* are those of each schedule, and *new_id* makes ids of 12 letters or digits.

    A `Make` that cannot be compared with the ledger is given back by `not_made`, and a `Keep` that cannot be stored by
    `not_kept`: they come again.
    """

    def __init__(
        self,
        schedules: Sequence[ScheduleSettings],
        triggers: Sequence[TriggerSettings],
        place: Place,
        *,
        times: Mapping[str, DueTimes],
        new_id: Callable[[], str],
    ) -> None:
        self._new_id = new_id
        self._usual: dict[str, Kept] = {}
        self._routines: dict[str, _Routine] = {}
        for schedule in schedules:
            due = times[schedule.id]
            mark = _mark(schedule.at, schedule.offset_s, schedule.request, schedule.is_on, place)
            kept = self._usual[schedule.id] = Kept(mark, schedule.is_on)
            self._routines[schedule.id] = _Routine(schedule.id, schedule.request, kept, due.says, schedule, due)
        for trigger in triggers:
            mark = _mark(trigger.node, trigger.device, trigger.event, trigger.request, trigger.is_on)
            kept = self._usual[trigger.id] = Kept(mark, trigger.is_on)
            says = f"When {trigger.device} of {trigger.node} sends {trigger.event!r}"
            self._routines[trigger.id] = _Routine(trigger.id, trigger.request, kept, says, trigger=trigger)
        self._stored: dict[str, str] = {}
        self._said: dict[str, RoutineState] = {}
        self._offset: float | None = None
        """Wall clock minus monotonic clock at the last tick."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of all routines."""
        return tuple(self._routines)

    def is_on(self, name: str) -> bool:
        """Whether the routine *name* is on."""
        return self._routines[name].kept.is_on

    def load(self, stored: Mapping[str, str]) -> list[RoutineEffect]:
        """Go on from what was *stored*: routine → text of a `Keep`. Also when this master begins to lead.

        A routine whose words, request, place or switch in the file has changed is a new one; one that the file does not
        name any more is taken away. Everything is said.
        """
        for routine in self._routines.values():
            kept = _read(stored.get(routine.id, ""))
            usual = self._usual[routine.id]
            routine.kept = kept if kept is not None and kept.mark == usual.mark else usual
            routine.next_ts = None
        self._stored = {name: text for name, text in stored.items() if name in self._routines}
        self._said = {}
        return [Say(name, None) for name in stored if name not in self._routines] + self._changes()

    def tick(self, wall_ts: float, now: float) -> list[RoutineEffect]:
        """What is due, and what was missed: of each schedule only the latest."""
        schedules = [routine for routine in self._routines.values() if routine.schedule is not None]
        if wall_ts < CLOCK_SET_TS:
            self._offset = None
            for routine in schedules:
                routine.next_ts = None
            return self._changes()
        self._heed_jump(schedules, wall_ts, now)
        effects: list[RoutineEffect] = []
        for routine in schedules:
            if routine.kept.is_on:
                effects += self._due(routine, wall_ts, now)
        return effects + self._changes()

    def event(self, node: str, event: NodeEvent, wall_ts: float, now: float) -> list[Make]:
        """What comes of an *event* of *node*. One that is delivered again comes to nothing, as one during a rest.

        What it changes is said and kept with the next tick.
        """
        makes: list[Make] = []
        for routine in self._routines.values():
            trigger = routine.trigger
            if trigger is None or (trigger.node, trigger.device, trigger.event) != (
                node,
                event.device,
                event.event_type,
            ):
                continue
            request_id = _event_id(routine.id, node, event)
            if not routine.kept.is_on or now < routine.rests_until or routine.is_made(request_id):
                continue
            routine.rests_until = now + trigger.rest_s
            makes.append(self._made(routine, request_id, wall_ts))
        return makes

    def switch(self, name: str, is_on: bool) -> list[RoutineEffect]:
        """Switch the routine *name*; what was due while it was off is not missed. The state is said in any case."""
        routine = self._routines[name]
        if is_on and not routine.kept.is_on:
            routine.kept = replace(routine.kept, since_ts=None)
        routine.kept = replace(routine.kept, is_on=is_on)
        routine.next_ts = None
        self._said.pop(name, None)
        return self._changes()

    def run(self, name: str, wall_ts: float) -> list[RoutineEffect]:
        """Make the request of the routine *name* now, whether it is on or off."""
        routine = self._routines[name]
        make = self._made(routine, f"run-{name}-{self._new_id()}", wall_ts)
        return [replace(make, is_by_hand=True), *self._changes()]

    def not_made(self, make: Make) -> None:
        """Take back what could not be looked up. What a schedule is due for comes with the next tick again."""
        routine = self._routines[make.routine]
        routine.made.pop(make.request.id, None)
        routine.kept = replace(routine.kept, due_ts=None)
        routine.next_ts = None

    def not_kept(self, name: str) -> None:
        """What was to be stored of the routine *name* was not: it comes with the next tick again."""
        self._stored.pop(name, None)

    def states(self) -> list[Say]:
        """All that is to be said after a connection was made."""
        return [Say(name, routine.state()) for name, routine in self._routines.items()]

    def wake_at(self) -> float | None:
        """When the next one is due, in Unix seconds."""
        return min((each.next_ts for each in self._routines.values() if each.next_ts is not None), default=None)

    def _heed_jump(self, schedules: Iterable[_Routine], wall_ts: float, now: float) -> None:
        """Where the clock was set, begin anew by it; what was first known just before is put right."""
        before, self._offset = self._offset, wall_ts - now
        jump = 0.0 if before is None else self._offset - before
        if abs(jump) <= _JUMP_S:
            return
        for routine in schedules:
            routine.next_ts = None
            if now < routine.new_until and routine.kept.since_ts is not None:
                routine.kept = replace(routine.kept, since_ts=routine.kept.since_ts + jump)

    def _due(self, routine: _Routine, wall_ts: float, now: float) -> list[RoutineEffect]:
        schedule, times, since_ts = routine.schedule, routine.times, routine.kept.since_ts
        assert schedule is not None
        assert times is not None
        if since_ts is None or since_ts > wall_ts:  # later than now: by a clock that was wrong
            since_ts = wall_ts
            routine.new_until = now + _SETTLES_S
            routine.kept = replace(routine.kept, since_ts=since_ts)
        if routine.next_ts is not None and wall_ts < routine.next_ts:
            return []
        due_ts = latest(times, max(since_ts, wall_ts - max(schedule.late_s, ON_TIME_S)), wall_ts)
        effects = [] if due_ts is None else self._made_at(routine, schedule, due_ts, wall_ts)
        routine.next_ts = times.first_after(wall_ts)
        return effects + _absence(routine, times, wall_ts)

    def _made_at(
        self, routine: _Routine, schedule: ScheduleSettings, due_ts: float, wall_ts: float
    ) -> list[RoutineEffect]:
        """The request for one due time; nothing where it was made."""
        request_id = f"sch-{routine.id}-{datetime.fromtimestamp(due_ts, UTC):%Y%m%dT%H%M%SZ}"
        made_ts, age_s = routine.kept.due_ts, wall_ts - due_ts
        if made_ts is not None and due_ts <= made_ts and age_s > STAYS_S:
            return []  # the ledger may have forgotten it
        if age_s > ON_TIME_S and schedule.missed == "skip" and request_id not in routine.made:
            is_told, routine.missed_ts = routine.missed_ts == due_ts, due_ts
            return [] if is_told else [Miss(routine.id, request_id, due_ts)]
        if routine.is_made(request_id):
            return []
        if made_ts == due_ts:  # it may have been made before the end of an earlier process, which said when
            return [Make(routine.id, Request(request_id, routine.request), due_ts)]
        routine.kept = replace(routine.kept, due_ts=due_ts)
        return [replace(self._made(routine, request_id, wall_ts), due_ts=due_ts)]

    def _made(self, routine: _Routine, request_id: str, wall_ts: float) -> Make:
        if wall_ts >= CLOCK_SET_TS:
            routine.kept = replace(routine.kept, last_ts=wall_ts)
        return Make(routine.id, Request(request_id, routine.request))

    def _changes(self) -> list[RoutineEffect]:
        """What is to be stored and said now, and was not yet."""
        effects: list[RoutineEffect] = []
        for name, routine in self._routines.items():
            text, state = json.dumps(asdict(routine.kept)), routine.state()
            if self._stored.get(name) != text:
                self._stored[name] = text
                effects.append(Keep(name, text))
            if self._said.get(name) != state:
                self._said[name] = state
                effects.append(Say(name, state))
        return effects


def _absence(routine: _Routine, times: DueTimes, wall_ts: float) -> list[RoutineEffect]:
    """A word, once, where the sun stays away."""
    next_ts = routine.next_ts
    if not times.absence or (next_ts is not None and next_ts - wall_ts < _LONG_S):
        return []
    until_ts = float("inf") if next_ts is None else next_ts
    if routine.told_of == until_ts:
        return []
    routine.told_of = until_ts
    until = "" if next_ts is None else f" until {datetime.fromtimestamp(next_ts, UTC):%Y-%m-%d}"
    return [Note(f"schedule {routine.id}: {times.absence}{until}: it is skipped", "info")]


def _event_id(name: str, node: str, event: NodeEvent) -> str:
    """The id that follows from the event. What a node says of its boot may be anything: then a digest of it all."""
    request_id = f"trg-{name}-{event.boot}-{event.seq}"
    if event.boot.isalnum() and re.fullmatch(ID_PATTERN, request_id):
        return request_id
    return f"trg-{name}-{_mark(node, event.boot, event.seq, event.ts, event.device, event.event_type)}"


def _mark(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _read(text: str) -> Kept | None:
    try:
        return from_dict(Kept, json.loads(text))
    except ValueError:
        return None
