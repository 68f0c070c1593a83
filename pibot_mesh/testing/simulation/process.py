"""A process that lives, freezes and dies around a pure core, as `pibot_mesh.actor` would have it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Literal, TypeVar

from pibot_mesh.errors import StoreError
from pibot_mesh.testing.simulation.client import Client
from pibot_mesh.testing.simulation.disk import Disk
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.network import Broker, Line, Message

E = TypeVar("E")
F = TypeVar("F")

_BATCH: Final = 64
_CAPACITY: Final = 10_000
_STORE_AGAIN_S: Final = 1.0
_TICK_S: Final = 1e-6
"""An alarm rings a little later than asked: sums of floats must not make it ring a little before."""
_BEFORE_THE_STORE: Final = -1
FREEZES_S: Final = (0.5, 3.0, 8.0, 45.0)
"""How long a process may stand still."""


class Process(ABC, Generic[E, F]):
    """Feeds a core in order, stores for a whole batch of events, and only then performs effect after effect.

    It can be told to die, or to stand still, at a point of its next batch that chance chooses.
    """

    core: Any

    def __init__(self, nature: Nature, broker: Broker, name: str) -> None:
        self.nature = nature
        self.broker = broker
        self.name = name
        self.disk = Disk(nature)
        self.life = 0
        """Grows at each start, and at each end."""
        self.is_up = False
        self.is_gone = False
        """Whether it never comes back."""
        self.is_frozen = False
        self.stuck: StoreError | None = None
        self.client: Client
        self.wall_offset = nature.between(0.0, 2e9)
        self._clock = nature.between(0.0, 1e5)
        self._waiting: deque[tuple[E, Callable[[], None] | None, float]] = deque()
        self._stalled: list[tuple[int, Callable[..., object], tuple[object, ...]]] = []
        self._batch: list[tuple[E, Callable[[], None] | None, float]] = []
        self._is_working = False
        self._alarm_at: float | None = None
        self._fate: Literal["die", "freeze"] | None = None

    # What it is made of

    @abstractmethod
    def make(self) -> Sequence[F]:
        """Begin a life: a new core, from what was stored. Returns what it does first."""

    @abstractmethod
    def connected(self) -> None: ...

    @abstractmethod
    def disconnected(self) -> None: ...

    @abstractmethod
    def received(self, message: Message) -> None: ...

    @abstractmethod
    def is_stored(self, effects: Sequence[F]) -> bool:
        """Whether one of *effects* must be written."""

    @abstractmethod
    def write(self, effects: Sequence[F]) -> Sequence[F]:
        """Store; returns what may be performed. Raises StoreError."""

    @abstractmethod
    def perform(self, effect: F) -> None:
        """Do it."""

    @abstractmethod
    def forget_unsynced(self) -> None:
        """The machine has lost power."""

    def decide(self, event: E, at: float) -> Sequence[F]:
        """What the core makes of *event*, which came at *at* on its clock."""
        effects: Sequence[F] = self.core.handle(event, at)
        return effects

    def decide_due(self) -> Sequence[F]:
        """What the core does because of the time."""
        effects: Sequence[F] = self.core.tick(self.mono)
        return effects

    # Time

    @property
    def mono(self) -> float:
        """The process's own monotonic clock."""
        return self.nature.now + self._clock

    def wall(self) -> float:
        """What it believes to be Unix time."""
        return self.nature.now + self.wall_offset

    def soon(self, action: Callable[..., object], *args: object) -> None:
        """Do it now; where it stands still, when it goes on; where it has died, never."""
        if self.is_frozen:
            self._stalled.append((self.life, action, args))
        elif self.is_up:
            action(*args)

    def later(self, delay_s: float, action: Callable[..., object], *args: object) -> None:
        """Do it in *delay_s*, in this life."""
        self.nature.after(delay_s, self._in_life, self.life, action, args)

    def _in_life(self, life: int, action: Callable[..., object], args: tuple[object, ...]) -> None:
        if self.life == life:
            self.soon(action, *args)

    # Life

    def start(self) -> None:
        """A new process, with what was stored by those before it."""
        if self.is_gone or self.is_up:
            return
        self.life += 1
        self.is_up = True
        self.stuck = None
        self._waiting.clear()
        self._stalled.clear()
        self._is_working = False
        self._alarm_at = None
        effects = self.make()
        self.nature.note(self.name, f"starts, life {self.life}", "")
        try:
            effects = self.write(effects)
        except StoreError:
            self.die()
            return
        self._batch = []
        self._is_working = True
        self._perform(self.life, effects, 0, len(effects) + 1)
        if self.is_up:
            self.client.connect_soon()

    def die(self, *, is_plug: bool = False) -> None:
        """It ends at once; the machine with it, where its plug is pulled. It comes again some time later."""
        if not self.is_up:
            return
        self.nature.note(self.name, "DIES", "", "no power" if is_plug else "")
        line = self._end()
        if is_plug:
            self.forget_unsynced()
        if line is not None:
            line.die()
            if is_plug or self.nature.happens(self.nature.faults.mute):
                self.nature.after(self.nature.between(15.0, 60.0), self.broker.lost, line)
            else:
                self.nature.after(self.nature.between(0.001, 0.2), self.broker.lost, line)
        if not self.is_gone:
            self.nature.after(self.nature.between(0.1, 20.0), self.start)

    def _end(self) -> Line | None:
        self.is_up = self.is_frozen = False
        self._fate = None
        self.life += 1
        return self.client.end()

    def doom(self, fate: Literal["die", "freeze"]) -> None:
        """It meets its *fate* at some point of its next batch that has effects."""
        self._fate = fate

    def spare(self) -> None:
        """It does not meet the fate that it was to meet."""
        self._fate = None

    def freeze(self, for_s: float, *, is_clock_stopped: bool) -> None:
        """It stands still: stopped (its clock goes on), or with its whole machine (its clock stands still too)."""
        if not self.is_up or self.is_frozen:
            return
        self.is_frozen = True
        self.nature.note(self.name, "FREEZES", "", f"for {for_s:.1f} s")
        self.client.fall_silent(for_s, up=False, down=False)
        self.nature.after(for_s, self._thaw, self.life, for_s if is_clock_stopped else 0.0)

    def _thaw(self, life: int, lost_s: float) -> None:
        if self.life != life:
            return
        self._clock -= lost_s
        self.is_frozen = False
        self.nature.note(self.name, "goes on", "")
        stalled, self._stalled = self._stalled, []
        for index, (then, action, args) in enumerate(stalled):
            if self.is_frozen:
                self._stalled += stalled[index:]
                return
            if self.life == then:
                action(*args)
        self._turn()

    # Work

    def post(
        self, event: E, then: Callable[[], None] | None = None, *, is_own: bool = False, is_first: bool = False
    ) -> bool:
        """As `pibot_mesh.actor.Actor.post`."""
        if len(self._waiting) >= _CAPACITY and not is_own:
            self.nature.tally["dropped by a full process"] += 1
            return False
        add = self._waiting.appendleft if is_first else self._waiting.append
        add((event, then, self.mono))
        self._turn()
        return True

    def _turn(self) -> None:
        """Work off what waits, and what is due."""
        while self.is_up and not self.is_frozen and not self._is_working and (self._waiting or self._is_due()):
            self._work()
        self._set_alarm()

    def _is_due(self) -> bool:
        wake_at = self.core.wake_at()
        return wake_at is not None and wake_at <= self.mono

    def _set_alarm(self) -> None:
        if not self.is_up or self._is_working or self.is_frozen:
            return
        wake_at = self.core.wake_at()
        if wake_at is not None and (self._alarm_at is None or wake_at < self._alarm_at):
            self._alarm_at = wake_at
            self.nature.after(max(0.0, wake_at - self.mono) + _TICK_S, self._ring, self.life, wake_at)

    def _ring(self, life: int, alarm_at: float) -> None:
        if self.life == life and self._alarm_at == alarm_at:
            self._alarm_at = None
            self._turn()

    def _work(self) -> None:
        self._is_working = True
        self._batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        effects: list[F] = []
        for event, _, at in self._batch:
            effects += self.decide(event, at)
        effects += self.decide_due()
        fate_at = len(effects) + 1
        if self._fate is not None and effects:
            fate_at = self.nature.chance.randint(_BEFORE_THE_STORE, len(effects))
        if fate_at == _BEFORE_THE_STORE:
            self._meet_fate(self.life, effects, 0, "before the store")
        else:
            self._store(self.life, effects, fate_at)

    def _store(self, life: int, effects: Sequence[F], fate_at: int) -> None:
        if not self.is_stored(effects):
            self._perform(life, effects, 0, fate_at)
        elif (delay_s := self.disk.write_s()) > 0:
            self.later(delay_s, self._write, life, effects, fate_at)
        else:
            self._write(life, effects, fate_at)

    def _write(self, life: int, effects: Sequence[F], fate_at: int) -> None:
        try:
            allowed = self.write(effects)
        except StoreError as error:
            self.stuck = error
            self.later(_STORE_AGAIN_S, self._write, life, effects, fate_at)
            return
        self.stuck = None
        self._perform(life, allowed, 0, fate_at)
        self._turn()

    def _perform(self, life: int, effects: Sequence[F], begin: int, fate_at: int) -> None:
        for index in range(begin, len(effects) + 1):
            if index == fate_at:
                is_last = index == len(effects)
                self._meet_fate(life, effects, index, "behind the last effect" if is_last else "between two effects")
                return
            if index < len(effects):
                self.perform(effects[index])
                if self.life != life:
                    return
        for _, then, _ in self._batch:
            if then is not None:
                then()
        self._batch = []
        self._is_working = False

    def _meet_fate(self, life: int, effects: Sequence[F], index: int, where: str) -> None:
        fate, self._fate = self._fate, None
        if fate == "die":
            self.nature.fault(f"crash {where}", self.name, f"at {index} of {len(effects)}")
            self.die()
            return
        self.nature.fault(f"freeze {where}", self.name, f"at {index} of {len(effects)}")
        is_clock_stopped = self.nature.happens(0.5)
        self.freeze(self.nature.chance.choice(FREEZES_S), is_clock_stopped=is_clock_stopped)
        self.soon(self._go_on, life, effects, index, where != "before the store")

    def _go_on(self, life: int, effects: Sequence[F], index: int, is_stored: bool) -> None:
        if is_stored:
            self._perform(life, effects, index, len(effects) + 1)
        else:
            self._store(life, effects, len(effects) + 1)
        self._turn()
