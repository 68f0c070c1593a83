"""What a sensor is: on a driver in a thread, in this machine, or simulated so that it moves believably."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from statistics import median
from typing import Final, Protocol

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.drivers.driver import Driver
from pibot_mesh.hardware.machine import CpuMeter, read_health
from pibot_mesh.hardware.sensor_kinds import implausible, is_converter, measures_of, quantity

DAY_S: Final = 86_400.0
MACHINE_KINDS: Final = ("cpu", "system")
"""What needs neither wires nor a driver."""
SIMULATED_VOLTS: Final = 3.0
"""What a simulated voltage stays below, as behind a divider on the Pi's 3.3 V."""


class Sensor(Protocol):
    """Something that measures. `read` gives a number for each of the device's measures that can be had.

    It raises ToolError where the sensor does not answer, and must not block the loop.
    """

    async def read(self) -> dict[str, float]: ...


class DrivenSensor:
    """A sensor behind a driver, which is called in *thread*. Sensors of one bus share theirs: one speaks at a time."""

    TIMEOUT_S: Final = 8.0
    """Far above what any driver takes. The thread of one that hangs is not free before it ends."""

    def __init__(self, driver: Driver, thread: Executor) -> None:
        self._driver = driver
        self._thread = thread

    async def read(self) -> dict[str, float]:
        """Ask the driver. Raises ToolError after TIMEOUT_S seconds, and whatever the driver raises."""
        reading = asyncio.get_running_loop().run_in_executor(self._thread, self._driver.read)
        try:
            return await asyncio.wait_for(reading, self.TIMEOUT_S)
        except TimeoutError as error:
            raise ToolError(f"it gave no answer within {self.TIMEOUT_S:g} s", retryable=True) from error


class MedianSensor:
    """A sensor that often fails, or gives a wrong number with a right checksum: the median of several tries.

    It ends at the third that is plausible, and has four. One in five of a DHT22's may fail on a busy Pi.
    """

    TRIES: Final = 4
    WANTED: Final = 3
    PAUSE_S: Final = 2.1
    """A DHT22 cannot measure more often than every 2 s (its datasheet)."""

    def __init__(self, sensor: Sensor, device: DeviceSettings, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sensor = sensor
        self._device = device
        self._sleep = sleep

    async def read(self) -> dict[str, float]:
        """Takes a few seconds. Raises the last try's ToolError where none succeeded."""
        found: list[Mapping[str, float]] = []
        failure = ToolError("it was not asked")
        for attempt in range(self.TRIES):
            if attempt:
                await self._sleep(self.PAUSE_S)
            try:
                found.append(checked(self._device, await self._sensor.read()))
            except ToolError as error:
                failure = error
            if len(found) == self.WANTED:
                break
        if not found:
            raise failure
        return {measure: median(values[measure] for values in found) for measure in found[0]}


class MachineSensor:
    """The machine that the node runs on, as the kinds ``cpu`` and ``system``. It reads a few small files: no thread."""

    _NAMES: Final[Mapping[str, str]] = {
        "temperature": "cpu_temp_c",
        "use": "cpu_percent",
        "load": "load1",
        "memory_free": "mem_free_mb",
        "disk_free": "disk_free_mb",
        "uptime": "uptime_s",
        "signal": "rssi_dbm",
    }

    def __init__(
        self,
        device: DeviceSettings,
        *,
        health: Callable[[], Mapping[str, float]] = read_health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._measures = tuple(measures_of(device))
        self._health = health
        self._cpu = CpuMeter(clock=clock)

    async def read(self) -> dict[str, float]:
        """What can be read of it. The CPU's use is that since the last reading; the first one has none."""
        health = dict(self._health())
        percent = self._cpu.percent() if "use" in self._measures else None
        if percent is not None:
            health["cpu_percent"] = percent
        names = {measure: self._NAMES[measure] for measure in self._measures}
        return {measure: health[name] for measure, name in names.items() if name in health}


def checked(device: DeviceSettings, values: dict[str, float]) -> dict[str, float]:
    """*values*, if *device* can have measured them; else raises ToolError, for another try."""
    problem = implausible(device, values)
    if problem is not None:
        raise ToolError(f"it {problem}", retryable=True)
    return values


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

    def __init__(self, device: DeviceSettings, now: Callable[[], float], chance: random.Random) -> None:
        self._device = device
        self._measures = tuple(measures_of(device))
        self._now = now
        self._phase = chance.uniform(0.0, 1.0)
        self._warmth = Walk(0.8, 1800.0, chance)
        self._damp = Walk(2.0, 1800.0, chance)
        self._clouds = Walk(0.25, 600.0, chance)
        self._weather = Walk(6.0, DAY_S, chance)
        self._drift = Walk(0.2, 7200.0, chance)

    async def read(self) -> dict[str, float]:
        """The values now."""
        now = self._now()
        if is_converter(self._device):
            return quantity(self._device, self._volts(now))
        day = self._day(now)
        warmer = 2.5 * day + self._warmth.at(now)
        brightness = max(0.0, 0.3 + 0.7 * day) * max(0.05, 1 + self._clouds.at(now))
        values = {
            "temperature": round(22.5 + warmer, 1),
            "humidity": round(max(15.0, min(95.0, 48.0 - 2.2 * warmer + self._damp.at(now))), 1),
            "illuminance": round(800.0 * brightness + 1),
            "pressure": round(1013.0 + self._weather.at(now), 1),
        }
        return {measure: float(values[measure]) for measure in self._measures}

    def _day(self, now: float) -> float:
        """From -1 at night to 1 at noon."""
        return math.sin(2 * math.pi * (now / DAY_S + self._phase))

    def _volts(self, now: float) -> float:
        return SIMULATED_VOLTS * max(0.0, min(1.0, 0.5 + 0.2 * self._day(now) + self._drift.at(now)))


def simulated_sensor(device: DeviceSettings, now: Callable[[], float], seed: int | None) -> Sensor:
    """A simulated sensor for *device*. The same *seed* (and clock) gives the same values.

    What the machine says of itself is true here as well.
    """
    if device.kind in MACHINE_KINDS:
        return MachineSensor(device)
    chance = random.Random() if seed is None else random.Random(f"{seed}:{device.id}")
    return SimulatedSensor(device, now, chance)
