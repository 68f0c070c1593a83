"""From signals to numbers: pulses of a meter, steps of a dial, echoes of a distance sensor. Pure.

Times are as in `presses`.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import Final

from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent
from pibot_mesh.hardware.presses import Debounce, earliest

CLOCKWISE: Final = "turned_clockwise"
COUNTER_CLOCKWISE: Final = "turned_counter_clockwise"
SOUND_CM_S: Final = 34_326.0
"""Centimetres that sound goes in a second, in air of 20 °C."""
_ECHOES: Final = 3
"""Echoes of which the one in the middle counts: a lone wrong one is not seen."""
_SILENT_AFTER: Final = 3
"""Pings without an echo after which a distance sensor counts as silent."""


class Pulses:
    """A meter that closes a contact once for each unit: every pulse counts *per_pulse*, from 0 at the start.

    No pulse is lost that is longer than *bounce_s* away from the one before; only telling the sum is paced, to once in
    *interval_s* seconds, and the last sum is always told.
    """

    def __init__(self, device: str, *, is_active: bool, bounce_s: float, per_pulse: float, interval_s: float) -> None:
        self._device = device
        self._pin = Debounce(bounce_s, is_active)
        self._per_pulse = per_pulse
        self._interval_s = interval_s
        self._pulses = 0
        self._told = 0
        self._next_at = float("-inf")

    def edge(self, is_active: bool, at: float) -> list[Change]:
        """The pin has this level at *at*. Returns the sum, where it is due."""
        return self._heard(self._pin.edge(is_active, at), at)

    def tick(self, now: float, reads: bool | None = None) -> list[Change]:
        """The sum, where it is due; the pin *reads* this now."""
        return self._heard(self._pin.tick(now, reads), now)

    def wake_at(self) -> float | None:
        """When to tick next. None: only an edge matters."""
        return earliest(self._pin.wake_at(), self._next_at if self._pulses != self._told else None)

    def state(self, is_active: bool, now: float) -> float:  # noqa: ARG002 - as every rule's for a pin
        """The sum now, told or not."""
        return self._sum()

    def _sum(self) -> float:
        return round(self._pulses * self._per_pulse, 9)

    def _heard(self, levels: list[tuple[bool, float]], now: float) -> list[Change]:
        self._pulses += sum(is_active for is_active, _ in levels)
        if self._pulses == self._told or now < self._next_at:
            return []
        self._told = self._pulses
        self._next_at = now + self._interval_s
        return [InputChanged(self._device, self._sum())]


class Turns:
    """A rotary encoder: its state is the steps clockwise since the start, less those the other way.

    The first step is told at once; those that follow within *interval_s* seconds are told together, with how many they
    were in ``steps``, in the order in which the dial was turned.
    """

    def __init__(self, device: str, *, interval_s: float) -> None:
        self._device = device
        self._interval_s = interval_s
        self._steps = 0
        self._waiting: list[tuple[bool, int]] = []
        self._next_at = float("-inf")

    def step(self, is_clockwise: bool, at: float) -> list[Change]:
        """One step at *at*. Returns what is to be told."""
        self._steps += 1 if is_clockwise else -1
        if self._waiting and self._waiting[-1][0] is is_clockwise:
            self._waiting[-1] = (is_clockwise, self._waiting[-1][1] + 1)
        else:
            self._waiting.append((is_clockwise, 1))
        return self.tick(at)

    def tick(self, now: float) -> list[Change]:
        """The steps that were not told, where they are due."""
        if not self._waiting or now < self._next_at:
            return []
        waiting, self._waiting = self._waiting, []
        self._next_at = now + self._interval_s
        told: list[Change] = [InputChanged(self._device, float(self._steps))]
        for is_clockwise, steps in waiting:
            event = CLOCKWISE if is_clockwise else COUNTER_CLOCKWISE
            told.append(InputEvent(self._device, event, {"steps": float(steps)}))
        return told

    def wake_at(self) -> float | None:
        """When to tick next. None: only a step matters."""
        return self._next_at if self._waiting else None

    def state(self) -> float:
        """The steps now, told or not."""
        return float(self._steps)


class Distance:
    """An ultrasonic distance sensor, which is to be pinged at every `wake_at`, *interval_s* seconds apart.

    Its state are centimetres, *max_cm* where nothing is nearer: the median of the last three echoes, told where it is
    at least *change_cm* off what was told before.
    """

    def __init__(self, device: str, *, change_cm: float, interval_s: float, max_cm: float, now: float) -> None:
        self._device = device
        self._change_cm = change_cm
        self._interval_s = interval_s
        self._max_cm = max_cm
        self._ping_at = now
        self._unanswered = 0
        self._echoes: deque[float] = deque(maxlen=_ECHOES)
        self._told: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether the sensor has not answered several times: it is broken, or not connected."""
        return self._unanswered > _SILENT_AFTER

    def echo(self, echo_s: float) -> list[Change]:
        """An echo came after *echo_s* seconds. Returns the distance, where it is another one."""
        if self.is_silent:
            self._echoes.clear()
        self._unanswered = 0
        self._echoes.append(min(self._max_cm, echo_s * SOUND_CM_S / 2))
        cm = round(statistics.median(self._echoes), 1)
        if self._told is not None and abs(cm - self._told) < self._change_cm:
            return []
        self._told = cm
        return [InputChanged(self._device, cm)]

    def pinged(self, now: float) -> None:
        """It was pinged at *now*."""
        self._unanswered += 1
        self._ping_at = now + self._interval_s

    def wake_at(self) -> float:
        """When to ping next."""
        return self._ping_at

    def state(self) -> float | None:
        """The distance that was told last. None before the first echo."""
        return self._told
