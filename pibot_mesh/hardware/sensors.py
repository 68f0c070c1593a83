"""What a sensor is, and simulated ones that move believably."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.kinds import KINDS

DAY_S: Final = 86_400.0


class Sensor(Protocol):
    """Something that measures. `read` gives one number for each of the kind's measures.

    It raises ToolError where the sensor does not answer, and must not block the loop.
    """

    async def read(self) -> dict[str, float]: ...


class Walk:
    """A random walk that is drawn back to 0 (an Ornstein-Uhlenbeck process): smooth, and bounded at three *spread*.

    Its value in an hour hardly depends on its value now; its step depends on the time that went by, not on how often
    it is asked.
    """

    def __init__(self, spread: float, relaxation_s: float, chance: random.Random) -> None:
        self._spread = spread
        self._relaxation_s = relaxation_s
        self._chance = chance
        self._value = chance.gauss(0.0, spread / 2)
        self._at: float | None = None

    def at(self, now: float) -> float:
        """The value at *now* seconds, which must not run backwards."""
        elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        kept = math.exp(-elapsed / self._relaxation_s)
        self._value = self._value * kept + self._spread * math.sqrt(1 - kept * kept) * self._chance.gauss(0.0, 1.0)
        self._value = max(-3 * self._spread, min(3 * self._spread, self._value))
        return self._value


class SimulatedSensor:
    """The weather of a room: warmest once a day, damper when cooler, brightest at noon. Rounded as sensors do."""

    def __init__(self, measures: Mapping[str, object], now: Callable[[], float], chance: random.Random) -> None:
        self._measures = tuple(measures)
        self._now = now
        self._phase = chance.uniform(0.0, 1.0)
        self._warmth = Walk(0.8, 1800.0, chance)
        self._damp = Walk(2.0, 1800.0, chance)
        self._clouds = Walk(0.25, 600.0, chance)

    async def read(self) -> dict[str, float]:
        """The values now."""
        now = self._now()
        day = math.sin(2 * math.pi * (now / DAY_S + self._phase))
        warmer = 2.5 * day + self._warmth.at(now)
        brightness = max(0.0, 0.3 + 0.7 * day) * max(0.05, 1 + self._clouds.at(now))
        values = {
            "temperature": round(22.5 + warmer, 1),
            "humidity": round(max(15.0, min(95.0, 48.0 - 2.2 * warmer + self._damp.at(now))), 1),
            "illuminance": round(800.0 * brightness + 1),
        }
        return {measure: float(values[measure]) for measure in self._measures}


def simulated_sensor(device: DeviceSettings, now: Callable[[], float], seed: int | None) -> Sensor:
    """A simulated sensor for *device*. The same *seed* (and clock) gives the same values."""
    chance = random.Random() if seed is None else random.Random(f"{seed}:{device.id}")
    return SimulatedSensor(KINDS[device.kind].measures, now, chance)
