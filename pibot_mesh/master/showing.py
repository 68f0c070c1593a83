"""What the master publishes of itself: info, health, state and presence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from pibot_mesh import __version__
from pibot_mesh.master.core import MasterCore
from pibot_mesh.master.events import CountUsage, Record
from pibot_mesh.master.ledger import day_of
from pibot_mesh.master.open_request import tokens_of
from pibot_mesh.master.own_state import OwnState
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Event, MasterEvent, MasterInfo, Reply, encode_health
from pibot_mesh.protocol.topics import Kind

_HEALTH_SOON_S: Final = 0.2
_STATE_SOON_S: Final = 0.1
"""What changes within so long is shown once."""


class Showing:
    """Publishes on *link* what *core* is like; all methods belong to the event loop.

    Where several masters share a ledger, *is_leader* tells whether this one speaks for all. *tokens_today* are those
    that were used before the start.
    """

    def __init__(
        self,
        core: MasterCore,
        link: Link,
        *,
        boot: str,
        engines: tuple[str, ...],
        interval_s: float,
        is_leader: Callable[[], bool],
        tokens_today: int = 0,
    ) -> None:
        self._core = core
        self._link = link
        self._boot = boot
        self._engines = engines
        self._interval_s = interval_s
        self._is_leader = is_leader
        self._state = OwnState(core, boot=boot)
        self._tokens = (day_of(time.time()), tokens_today)
        self._seq = 0
        self._health_due: asyncio.TimerHandle | None = None
        self._state_due: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """For ever: say how the master is, every *interval_s* seconds."""
        while True:
            await asyncio.sleep(self._interval_s)
            if self._is_leader():
                self._say_health()
                self._say_state()
            else:
                self._state.forget_said()  # what the leader says meanwhile is not known here

    def stop(self) -> None:
        """What was to be said soon is not said any more."""
        for due in (self._health_due, self._state_due):
            if due is not None:
                due.cancel()

    def announce(self) -> None:
        """Info, health and state, then ``online`` last (promise 5)."""
        self._seq += 1
        self._link.send(Kind.MASTER_INFO, encode(self.info(self._seq)))
        self._say_health()
        self._state.forget_said()
        self._say_state()
        self._link.send_presence(True)

    def info(self, seq: int = 0) -> MasterInfo:
        """What the master is."""
        return MasterInfo(self._boot, __version__, engines=self._engines, seq=seq)

    def recall(self, records: Sequence[Record]) -> None:
        """What was asked and answered before the start: the last *records*, the newest first."""
        self._state.recall(records)

    def hear(self, event: Event) -> None:
        """An event of a request was published."""
        self._tell(self._state.hear(event, time.time()))

    def replied(self, reply: Reply) -> None:
        """A reply was published."""
        self._tell(self._state.replied(reply, time.time()))

    def stopped(self, is_stopped: bool) -> None:
        """The emergency stop holds, or not."""
        self._state.stop(is_stopped)
        self._say_state_soon()

    def count(self, counted: CountUsage) -> None:
        """A model was used."""
        day, tokens = self._tokens
        today = day_of(counted.ts)
        self._tokens = (today, (tokens if day == today else 0) + tokens_of(counted.usage))

    def say_health_soon(self) -> None:
        """A node has come: what the broker kept is no sign to it that a master lives. One word serves all that come."""
        if self._health_due is None and self._is_leader():
            self._health_due = asyncio.get_running_loop().call_later(_HEALTH_SOON_S, self._say_health)

    def _tell(self, event: MasterEvent | None) -> None:
        if event is not None:
            self._link.send(Kind.MASTER_EVENT, encode(event))
        self._say_state_soon()

    def _say_state_soon(self) -> None:
        if self._state_due is None:
            self._state_due = asyncio.get_running_loop().call_later(_STATE_SOON_S, self._say_state)

    def _say_state(self) -> None:
        """Say what the master is doing, where that is news."""
        if self._state_due is not None:
            self._state_due.cancel()
            self._state_due = None
        if self._link.is_connected and self._is_leader() and (state := self._state.news()) is not None:
            self._link.send(Kind.MASTER_STATE, encode(state))

    def _say_health(self) -> None:
        if self._health_due is not None:
            self._health_due.cancel()
            self._health_due = None
        day, tokens = self._tokens
        self._seq += 1
        numbers = {
            "interval_s": self._interval_s,
            "open_requests": float(self._core.open_requests),
            "nodes_online": float(len(self._core.pool.online())),
            "nodes_offline": float(len(self._core.pool.offline())),
            "rejected_messages": float(self._link.rejections.total),
            "tokens_today": float(tokens if day == day_of(time.time()) else 0),
            "seq": float(self._seq),
        }
        self._link.send(Kind.MASTER_HEALTH, encode_health(numbers))
