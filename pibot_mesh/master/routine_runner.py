"""The master's routines in the world: the clock, the ledger, and the topics on which they are shown and switched."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC
from typing import Final, Protocol

from pibot_mesh.config.settings import MasterSettings
from pibot_mesh.errors import ProtocolError, StoreError
from pibot_mesh.master.events import Note, Origin, RequestArrived
from pibot_mesh.master.routines import Keep, Make, Miss, RoutineEffect, Routines, Say
from pibot_mesh.master.schedule_times import due_times, time_zone
from pibot_mesh.master.store import Known
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import NodeEvent, RoutineState, refuse_retained

_log = logging.getLogger(__name__)

WAKE_S: Final = 30.0
"""How often the clock is looked at: it may have been set."""
LEAD_S: Final = 1.0
"""How often it is looked at who leads, and how long a ledger that does not answer is left in peace."""
SETTLE_S: Final = 2.0
"""After the connection was made, the cards of the nodes come: before, no request could be planned."""
STALE_S: Final = 15.0
"""Nothing is made of an event that is older. So long, whoever may come to lead remembers what the leader heard."""
_HELD: Final = 1000
_PREFIX: Final = "routine/"
_WORDS: Final = {b"ON": True, b"OFF": False}
_RUN: Final = b"RUN"


def routines_of(settings: MasterSettings) -> Routines:
    """The schedules and triggers that *settings* name. A time zone that this machine does not know is said, and UTC."""
    try:
        zone = time_zone(settings.place)
    except (OSError, LookupError, ValueError) as error:
        _log.warning("the machine's time zone (TZ) cannot be used (%s): schedules go by UTC", error)
        zone = UTC
    return Routines(
        settings.schedules,
        settings.triggers,
        settings.place,
        times={schedule.id: due_times(schedule, settings.place, zone) for schedule in settings.schedules},
        new_id=lambda: uuid.uuid4().hex[:12],
    )


class RoutineBooks(Protocol):
    """What routines need of `pibot_mesh.master.books.Books`. The coroutines raise StoreError."""

    @property
    def is_shared(self) -> bool: ...

    @property
    def is_leader(self) -> bool: ...

    async def look_up(self, request_ids: Collection[str]) -> dict[str, Known]: ...

    async def read_settings(self, prefix: str) -> dict[str, str]: ...

    async def write_setting(self, name: str, value: str | None) -> None: ...


class RoutineRunner:
    """Runs *routines*, where this master leads; all methods belong to the event loop.

    *make* takes each request that is to be made, and *say* publishes a payload, retained, on the topic of a routine;
    the third argument of *say* is called once a broker has it. Other masters on the same ledger hear events and
    switches too, so that one that comes to lead goes on from there.
    """

    def __init__(
        self,
        routines: Routines,
        books: RoutineBooks,
        *,
        make: Callable[[RequestArrived], None],
        say: Callable[[str, bytes, Callable[[], None]], None],
        boot: str,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._routines = routines
        self._books = books
        self._make = make
        self._say = say
        self._boot = boot
        self._wall = wall
        self._clock = clock
        self._seq = 0
        self._is_loaded = False
        self._is_well = True
        self._has_failed = False
        self._connected_at: float | None = None
        self._orders: deque[tuple[str, bytes]] = deque(maxlen=_HELD)
        self._removed: set[str] = set()
        """Routines that are no more, and that the broker may keep."""
        self._gone: deque[str] = deque()
        """Those of them that it does not keep any more: to be forgotten."""
        self._held: deque[tuple[float, Make]] = deque(maxlen=_HELD)
        """What came of events, and when (monotonic)."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def states(self) -> list[RoutineState]:
        """All routines as they are now."""
        return [say.state for say in self._routines.states() if say.state is not None]

    async def start(self) -> None:
        """Begin, in a task of its own."""
        await self._turn()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End. What is due from now on is made up for after the next start, as configured."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def connected(self) -> None:
        """There is a broker (again): say how all routines are."""
        self._connected_at = self._clock()
        if self._is_loaded and self._books.is_leader:
            for effect in (*self._routines.states(), *(Say(name, None) for name in self._removed)):
                self._publish(effect)
        self._wake.set()

    def disconnected(self) -> None:
        """There is no broker: what is due waits, since no node could be told of it."""
        self._connected_at = None

    def hear_event(self, node: str, event: NodeEvent, *, is_retained: bool) -> None:
        """Something happened at a node. Raises ProtocolError for a retained event: nobody knows how old it is."""
        refuse_retained("NodeEvent", is_retained)
        now = self._clock()
        self._held += [(now, make) for make in self._routines.event(node, event, self._wall(), now)]
        self._wake.set()

    def hear_set(self, name: str, payload: bytes, *, is_retained: bool) -> None:
        """A person switches the routine *name*, or runs it: ``ON``, ``OFF`` or ``RUN``. Raises ProtocolError.

        Only the leader runs it, and tells and keeps the switch.
        """
        refuse_retained("routine", is_retained)
        if payload != _RUN and payload not in _WORDS:
            raise ProtocolError("routine", [f"ON, OFF or RUN is expected, not {payload[:40]!r}"])
        if name not in self._routines.ids:
            raise ProtocolError("routine", [f"there is none of the name {name!r}"])
        if self._books.is_leader:
            self._orders.append((name, payload))
            self._wake.set()
        elif payload in _WORDS:
            self._routines.switch(name, _WORDS[payload])

    async def _run(self) -> None:
        while True:
            await self._sleep()
            await self._turn()

    async def _sleep(self) -> None:
        """Until something is to be done, or may be."""
        can_work = self._is_loaded and self._is_well
        delay = WAKE_S if can_work and not self._books.is_shared else LEAD_S
        wake_at = self._routines.wake_at()
        if self._connected_at is not None and not self._is_settled():
            delay = min(delay, SETTLE_S)
        elif self._is_settled() and wake_at is not None and can_work:
            delay = min(delay, max(0.0, wake_at - self._wall()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wake.wait()
        self._wake.clear()

    async def _turn(self) -> None:
        self._has_failed = False
        try:
            await self._work()
        except Exception:  # noqa: BLE001 - the top of a service loop: the next turn may go well
            _log.exception("a bug: what is due could not be worked off")
            self._has_failed = True
        self._is_well = not self._has_failed

    async def _work(self) -> None:
        """Do what is to be done now, where this master leads; else only remember what may be for the next leader."""
        self._drop_stale()
        if not self._books.is_leader:
            self._is_loaded = False
            self._orders.clear()
            return
        if not self._is_loaded and not await self._load():
            return
        await self._perform_all(self._obeyed())
        if self._is_settled():
            held, self._held = self._held, deque(maxlen=_HELD)
            for heard_at, make in held:
                if make.is_by_hand or self._routines.is_on(make.routine):
                    await self._make_unless_known(make, heard_at)
            await self._perform_all(self._routines.tick(self._wall(), self._clock()))
        while self._gone:
            await self._keep(self._gone.popleft(), None)

    def _is_settled(self) -> bool:
        return self._connected_at is not None and self._clock() - self._connected_at >= SETTLE_S

    async def _load(self) -> bool:
        """Go on from what is stored. False where that cannot be read now."""
        try:
            stored = await self._books.read_settings(_PREFIX)
        except StoreError as error:
            self._complain(error)
            return False
        self._is_loaded = True
        await self._perform_all(self._routines.load({name[len(_PREFIX) :]: text for name, text in stored.items()}))
        return True

    def _obeyed(self) -> list[RoutineEffect]:
        """What comes of the orders of people."""
        effects: list[RoutineEffect] = []
        while self._orders:
            name, payload = self._orders.popleft()
            if payload == _RUN:
                effects += self._routines.run(name, self._wall())
            else:
                effects += self._routines.switch(name, _WORDS[payload])
                _log.info("routine %s was switched %s", name, payload.decode())
        return effects

    def _drop_stale(self) -> None:
        while self._held and self._clock() - self._held[0][0] > STALE_S:
            _, make = self._held.popleft()
            if self._books.is_leader:
                _log.warning(
                    "routine %s: nothing comes of request %s, which waited too long", make.routine, make.request.id
                )

    async def _perform_all(self, effects: Collection[RoutineEffect]) -> None:
        for effect in effects:
            await self._perform(effect)

    async def _perform(self, effect: RoutineEffect) -> None:
        match effect:
            case Make():
                await self._make_unless_known(effect, self._clock())
            case Miss():
                await self._tell_missed(effect)
            case Keep(name, text):
                await self._keep(name, text)
            case Say():
                self._publish(effect)
            case Note(text, level):
                _log.log(logging.getLevelName(level.upper()), "%s", text)

    async def _make_unless_known(self, make: Make, heard_at: float) -> None:
        """Also where it was made by another master, or before a restart."""
        request = make.request
        try:
            is_known = request.id in await self._books.look_up([request.id])
        except StoreError as error:
            self._complain(error)
            if make.due_ts is not None:
                self._routines.not_made(make)
            else:
                self._held.append((heard_at, make))
            return
        if not is_known:
            _log.info("routine %s: request %s: %s", make.routine, request.id, request.text)
            # An id of a run by hand is not known to another master for the same: only who leads may store it.
            self._make(RequestArrived(request, Origin(is_plain=make.is_by_hand)))

    async def _tell_missed(self, miss: Miss) -> None:
        with contextlib.suppress(StoreError):
            if miss.request_id in await self._books.look_up([miss.request_id]):
                return
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(miss.due_ts))
        _log.warning("routine %s: what was due at %s was missed, and is skipped", miss.routine, when)

    async def _keep(self, name: str, text: str | None) -> None:
        try:
            await self._books.write_setting(_PREFIX + name, text)
        except StoreError as error:
            self._complain(error)
            self._routines.not_kept(name)

    def _publish(self, say: Say) -> None:
        """Where there is no broker, all is said once there is."""
        if say.state is None:
            self._removed.add(say.routine)
        if self._connected_at is None:
            return
        if say.state is None:
            self._say(say.routine, b"", lambda: self._forget(say.routine))
            return
        self._seq += 1
        self._say(say.routine, encode(replace(say.state, boot=self._boot, seq=self._seq)), lambda: None)

    def _forget(self, name: str) -> None:
        """The broker keeps nothing of a routine that is no more."""
        self._removed.discard(name)
        self._gone.append(name)
        self._wake.set()

    def _complain(self, error: StoreError) -> None:
        if self._is_well and not self._has_failed:
            _log.warning("routines wait for the ledger: %s", error)
        self._has_failed = True
