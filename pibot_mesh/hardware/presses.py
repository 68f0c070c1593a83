"""From the edges of a pin to what happened: contacts that bounce, presses that are held or doubled. Pure.

Times are seconds of one clock that does not run backwards. Whoever feeds a rule calls `tick` at `wake_at`, with what
the pin reads then: an edge that the driver did not tell is made good there.
"""

from __future__ import annotations

from typing import Final

from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent
from pibot_mesh.hardware.kind import InputWords

HELD: Final = "held"
CLICKED: Final = "clicked"
DOUBLE_PRESSED: Final = "double_pressed"


class Debounce:
    """A level without its bounces: what changes is told at once, and then nothing for *bounce_s* seconds.

    After these the level that the pin has settled on is told, where it is another one. So a contact that bounces
    changes once, a change shorter than *bounce_s* is told as two, and the last level told is the pin's.
    """

    def __init__(self, bounce_s: float, is_active: bool) -> None:
        self.is_active = is_active
        """The level that was told last."""
        self._bounce_s = bounce_s
        self._level = is_active
        self._quiet_until = float("-inf")

    def edge(self, is_active: bool, at: float) -> list[tuple[bool, float]]:
        """The pin has this level at *at*. Returns what is to be told, in order: levels, and since when."""
        told = self.tick(at)
        self._level = is_active
        if is_active != self.is_active and at >= self._quiet_until:
            told.append(self._tell(at))
        return told

    def tick(self, now: float, reads: bool | None = None) -> list[tuple[bool, float]]:
        """What is to be told because time went by, and the pin *reads* this now, whatever its edges told."""
        since = self._quiet_until
        if reads is not None and reads is not self._level:
            self._level, since = reads, now
        if self._level == self.is_active or now < self._quiet_until:
            return []
        return [self._tell(since)]

    def wake_at(self) -> float | None:
        """When to tick next. None: only an edge matters."""
        return None if self._level == self.is_active else self._quiet_until

    def state(self, is_active: bool, now: float) -> bool:
        """The level that counts at *now*, where the pin reads *is_active*: while it may bounce, what was told."""
        return self.is_active if now < self._quiet_until else is_active

    def _tell(self, since: float) -> tuple[bool, float]:
        self.is_active = self._level
        self._quiet_until = since + self._bounce_s
        return self.is_active, since


class Switching:
    """An input that is on or off, and says so in *words*. Off is told once it was off for *off_delay_s* seconds."""

    def __init__(
        self, device: str, words: InputWords, *, is_active: bool, bounce_s: float, off_delay_s: float = 0.0
    ) -> None:
        self._device = device
        self._words = words
        self._pin = Debounce(bounce_s, is_active)
        self._off_delay_s = off_delay_s
        self._off_at: float | None = None
        self._is_on = self._means(is_active)

    def edge(self, is_active: bool, at: float) -> list[Change]:
        """The pin has this level at *at*. Returns what happened until then, in order."""
        return self._heard(self._pin.edge(is_active, at), at)

    def tick(self, now: float, reads: bool | None = None) -> list[Change]:
        """What happened because time went by, and the pin *reads* this now."""
        return self._heard(self._pin.tick(now, reads), now)

    def wake_at(self) -> float | None:
        """When to tick next. None: only an edge matters."""
        return earliest(self._pin.wake_at(), self._off_at)

    def state(self, is_active: bool, now: float) -> bool:
        """Its state at *now*, where the pin reads *is_active*."""
        is_on = self._means(self._pin.state(is_active, now))
        return is_on or (self._is_on and self._off_delay_s > 0)

    def _means(self, is_active: bool) -> bool:
        return is_active == self._words.is_on_when_active

    def _heard(self, levels: list[tuple[bool, float]], now: float) -> list[Change]:
        told: list[Change] = []
        for is_active, since in levels:
            told += self._end(since)
            if self._means(is_active):
                self._off_at = None
                told += self._turn(True)
            else:
                self._off_at = since + self._off_delay_s
        return told + self._end(now)

    def _end(self, now: float) -> list[Change]:
        if self._off_at is None or now < self._off_at:
            return []
        self._off_at = None
        return self._turn(False)

    def _turn(self, is_on: bool) -> list[Change]:
        if is_on == self._is_on:
            return []
        self._is_on = is_on
        event = self._words.on_event if is_on else self._words.off_event
        return [InputChanged(self._device, is_on), InputEvent(self._device, event)]


class Presses:
    """A push button. Pressed and released are told at once, whatever comes of it.

    Once it is down for *hold_s* seconds it is ``held``; pressed a second time within *double_s* seconds of the first
    it is ``double_pressed``, at once, and a third press begins anew. It is ``clicked`` when it is certain that the
    press was neither: so *double_s* after it, or at its release where that is later. With a *hold_s* or *double_s* of 0
    there is no such thing. A button that is down from the start is neither held nor clicked: nobody saw the press.
    """

    def __init__(
        self, device: str, words: InputWords, *, is_active: bool, bounce_s: float, hold_s: float, double_s: float
    ) -> None:
        self._device = device
        self._words = words
        self._pin = Debounce(bounce_s, is_active)
        self._hold_s = hold_s
        self._double_s = double_s
        self._hold_at: float | None = None
        self._double_until: float | None = None
        """While a second press would be a double one, or a click is still to be told."""

    def edge(self, is_active: bool, at: float) -> list[Change]:
        """The pin has this level at *at*. Returns what happened until then, in order."""
        return self._heard(self._pin.edge(is_active, at), at)

    def tick(self, now: float, reads: bool | None = None) -> list[Change]:
        """What happened because time went by, and the pin *reads* this now."""
        return self._heard(self._pin.tick(now, reads), now)

    def wake_at(self) -> float | None:
        """When to tick next. None: only an edge matters."""
        return earliest(self._pin.wake_at(), self._hold_at, None if self._pin.is_active else self._double_until)

    def state(self, is_active: bool, now: float) -> bool:
        """Whether it is down at *now*, where the pin reads *is_active*."""
        return self._pin.state(is_active, now)

    def _heard(self, levels: list[tuple[bool, float]], now: float) -> list[Change]:
        told: list[Change] = []
        for is_down, since in levels:
            told += self._end(since, is_down=not is_down)
            event = self._words.on_event if is_down else self._words.off_event
            told += [InputChanged(self._device, is_down), InputEvent(self._device, event)]
            self._hold_at = since + self._hold_s if is_down and self._hold_s else None
            told += self._press(since) if is_down else []
        return told + self._end(now, is_down=self._pin.is_active)

    def _press(self, at: float) -> list[Change]:
        is_second, self._double_until = self._double_until is not None, None
        if is_second:
            return [InputEvent(self._device, DOUBLE_PRESSED)]
        self._double_until = at + self._double_s
        return []

    def _end(self, now: float, *, is_down: bool) -> list[Change]:
        """What was still open at *now*, and is certain since."""
        if self._hold_at is not None and now >= self._hold_at:
            self._hold_at = self._double_until = None
            return [InputEvent(self._device, HELD)]
        if self._double_until is not None and not is_down and now >= self._double_until:
            self._double_until = None
            return [InputEvent(self._device, CLICKED)]
        return []


def earliest(*times: float | None) -> float | None:
    """The first of *times*, where there is any."""
    return min((time for time in times if time is not None), default=None)
