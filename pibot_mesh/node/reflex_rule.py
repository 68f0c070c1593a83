"""One reflex and how it stands. Pure: no clock, no pins; *now* is seconds on any monotonic clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pibot_mesh.config.settings import Action, ReflexSettings
from pibot_mesh.protocol.messages import OutputValue

TRY_AGAIN_S: Final = 5.0
"""Seconds after which what was refused is tried again, as long as it is still wanted."""


@dataclass(frozen=True, slots=True)
class Act:
    """Set the output *device* for the reflex *reflex*; *reason* says in words why."""

    reflex: str
    device: str
    value: OutputValue
    for_s: float | None
    reason: str


class Rule:
    """One reflex that is on. A new one knows nothing: the first value that it hears decides.

    It sets its outputs once when its condition has held long enough, and once when that ends. With *silent_after_s*,
    a condition of which nothing was heard for so long has ended.
    """

    def __init__(self, reflex: ReflexSettings, words: str, *, silent_after_s: float | None, now: float) -> None:
        self._reflex = reflex
        self._words = words
        self._silent_after_s = silent_after_s
        self._heard_at = now
        self._is_silent = False
        self._since: float | None = None
        self._is_then: bool | None = None
        self._waiting: dict[str, Action] = {}
        self._try_at: float | None = None
        self._refused: set[str] = set()

    def hear(self, value: OutputValue, now: float) -> list[Act]:
        """The device is at *value*. Says nothing to a reflex that waits for an event."""
        if self._reflex.when.event is not None:
            return []
        self._heard_at = now
        self._is_silent = False
        if not self._holds(value):
            self._since = None
            return self._turn(is_then=False)
        if self._since is None:
            self._since = now
        return self._ripen(now)

    def happened(self, event_type: str) -> list[Act]:
        """The device sent an event."""
        return self._acts(self._reflex.then) if event_type == self._reflex.when.event else []

    def tick(self, now: float) -> list[Act]:
        """What is due by *now*: the end of a wait, silence, another try."""
        silent_at = self._silent_at()
        if silent_at is not None and silent_at <= now:
            self._is_silent = True
            self._since = None
            return self._turn(is_then=False, because=f"{self._reflex.when.device} is silent; ")
        acts = self._ripen(now)
        if self._try_at is None or self._try_at > now:
            return acts
        again = list(self._waiting.values())
        self._waiting, self._try_at = {}, None
        return acts + self._acts(again)

    def wake_at(self) -> float | None:
        """When `tick` has something to do, or None."""
        times = (self._ripe_at(), self._silent_at(), self._try_at)
        return min((at for at in times if at is not None), default=None)

    def refused(self, device: str, now: float) -> bool:
        """The output could not be set: it is tried again while it is wanted. Whether that is news."""
        for action in self._wanted():
            if action.device == device:
                self._wait_for(action, now)
        is_news = device not in self._refused
        self._refused.add(device)
        return is_news

    def obeyed(self, device: str) -> None:
        """The output was set."""
        self._refused.discard(device)

    def overruled(self, device: str, now: float) -> None:
        """The emergency stop set the output: it is set again as soon as that may be. What is over by itself is not."""
        for action in self._wanted():
            if action.device == device and action.for_s is None:
                self._wait_for(action, now)

    def _holds(self, value: OutputValue) -> bool:
        when = self._reflex.when
        if when.state is not None:
            return value == when.state
        if isinstance(value, str):
            return False
        give = when.hysteresis if self._since is not None else 0.0
        if when.above is not None:
            return value > when.above - give
        return when.below is not None and value < when.below + give

    def _ripe_at(self) -> float | None:
        return self._since + self._reflex.when.for_s if self._since is not None and not self._is_then else None

    def _ripen(self, now: float) -> list[Act]:
        ripe_at = self._ripe_at()
        return self._turn(is_then=True) if ripe_at is not None and ripe_at <= now else []

    def _silent_at(self) -> float | None:
        return None if self._is_silent or self._silent_after_s is None else self._heard_at + self._silent_after_s

    def _turn(self, *, is_then: bool, because: str = "") -> list[Act]:
        if self._is_then is is_then:
            return []
        self._is_then = is_then
        self._waiting, self._try_at = {}, None
        return self._acts(self._wanted(), because)

    def _wanted(self) -> Sequence[Action]:
        if self._is_then is None:
            return ()
        return self._reflex.then if self._is_then else self._reflex.otherwise

    def _wait_for(self, action: Action, now: float) -> None:
        self._waiting[action.device] = action
        self._try_at = now + TRY_AGAIN_S

    def _acts(self, actions: Iterable[Action], because: str = "") -> list[Act]:
        reason = because + self._words
        return [Act(self._reflex.id, action.device, action.value, action.for_s, reason) for action in actions]
