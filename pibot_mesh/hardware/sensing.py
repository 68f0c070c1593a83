"""The sensors of one node: read at their intervals and whenever somebody asks, and each failure said once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError, ToolError
from pibot_mesh.hardware.changes import Change, SensorRead
from pibot_mesh.hardware.drivers.driver import Driver, driver_for, missing_package
from pibot_mesh.hardware.filters import Filter, Novelty, Smoothing, filter_of
from pibot_mesh.hardware.kinds import KINDS, option, spec
from pibot_mesh.hardware.sensor_kinds import measures_of
from pibot_mesh.hardware.sensors import (
    MACHINE_KINDS,
    DrivenSensor,
    MedianSensor,
    Sensor,
    checked,
    simulated_sensor,
)
from pibot_mesh.hardware.thresholds import Thresholds

_log = logging.getLogger(__name__)

CLOSE_WITHIN_S: Final = 3.0
"""Seconds that a driver has to let go when the node stops; a stop must not hang on a bus that does."""


class Sensing:
    """*tell* hears of every reading that is worth it (see `filters`), and of every threshold that one crosses.

    It is called in the loop's thread.

    A sensor that does not answer keeps nobody from anything: it is asked again at its interval, and `silent` names it.
    *seed* makes simulated sensors repeatable; with *simulate* all are. Raises ConfigError where a driver is not
    installed, with all that are not.
    """

    def __init__(
        self,
        devices: Iterable[DeviceSettings],
        *,
        simulate: bool,
        tell: Callable[[Change], None],
        now: Callable[[], float],
        seed: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        drivers: Callable[[DeviceSettings], Driver] = driver_for,
    ) -> None:
        self._devices = {device.id: device for device in devices}
        self._names = {id_: spec(device).name for id_, device in self._devices.items()}
        self._intervals_s = {id_: float(str(option(device, "interval_s"))) for id_, device in self._devices.items()}
        self._tell = tell
        self._now = now
        self._sleep = sleep
        self._seed = seed
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._drivers: dict[str, tuple[ThreadPoolExecutor, Driver]] = {}
        if not simulate:
            self._open_drivers(drivers)
        self._sensors = {id_: self._sensor(device) for id_, device in self._devices.items()}
        filters = {id_: _filter(device) for id_, device in self._devices.items()}
        self._smoothing = {id_: Smoothing(rule, self._intervals_s[id_]) for id_, rule in filters.items()}
        self._novelty = {id_: Novelty(rule) for id_, rule in filters.items()}
        self._thresholds = {
            id_: Thresholds(device, tuple(measures_of(device))) for id_, device in self._devices.items()
        }
        self._readings: dict[str, Mapping[str, float]] = {}
        self._silent: set[str] = set()
        self._under_way: dict[str, asyncio.Task[dict[str, float]]] = {}
        self._polls: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to read, each sensor at its interval."""
        loop = asyncio.get_running_loop()
        self._polls = [loop.create_task(self._poll(device)) for device in self._devices]

    async def stop(self) -> None:
        """Read no more, and let go of the buses. May be called twice or without a start."""
        tasks = [*self._polls, *self._under_way.values()]
        self._polls = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        closing = [loop.run_in_executor(thread, driver.close) for thread, driver in self._drivers.values()]
        self._drivers.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), CLOSE_WITHIN_S)
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    async def read(self, device: str) -> dict[str, float]:
        """Read *device* (one of these) now: quantity → number, smoothed as its filter says.

        Who asks while it is being read gets that reading. Raises ToolError where it does not answer, or gives what it
        cannot have measured.
        """
        reading = self._under_way.get(device)
        if reading is None:
            reading = asyncio.get_running_loop().create_task(self._read(device))
            self._under_way[device] = reading
            reading.add_done_callback(lambda done: self._ended(device, done))
        try:
            return dict(await asyncio.shield(reading))
        except asyncio.CancelledError:
            # Either the asker was cancelled, or the sensors were stopped under him.
            asker = asyncio.current_task()
            if reading.cancelled() and asker is not None and not asker.cancelling():
                raise ToolError("the node's sensors were stopped", retryable=True) from None
            raise

    def readings(self) -> Mapping[str, Mapping[str, float]]:
        """What each sensor gave last; a sensor that never answered is missing."""
        return dict(self._readings)

    def silent(self) -> tuple[str, ...]:
        """The sensors that did not answer when they were last asked."""
        return tuple(device for device in self._devices if device in self._silent)

    def _open_drivers(self, drivers: Callable[[DeviceSettings], Driver]) -> None:
        driven = [device for device in self._devices.values() if device.kind not in MACHINE_KINDS]
        missing = {device.id: missing_package(device.kind) for device in driven}
        problems = [f"devices.{id_}.kind: {text}" for id_, text in missing.items() if text is not None]
        if problems:
            raise ConfigError(problems)
        for device in driven:
            name = KINDS[device.kind].bus or device.id
            thread = self._threads.setdefault(name, ThreadPoolExecutor(1, f"sensor-{name}"))
            self._drivers[device.id] = (thread, drivers(device))

    def _sensor(self, device: DeviceSettings) -> Sensor:
        if device.id not in self._drivers:
            return simulated_sensor(device, self._now, self._seed)
        thread, driver = self._drivers[device.id]
        sensor = DrivenSensor(driver, thread)
        return MedianSensor(sensor, device, self._sleep) if device.kind == "dht22" else sensor

    async def _poll(self, device: str) -> None:
        interval_s, due = self._intervals_s[device], self._now()
        while True:
            with contextlib.suppress(ToolError):
                await self.read(device)
            # By the clock, not by the end of the reading: what is measured every minute stays on the minute.
            due = max(due + interval_s, self._now())
            await self._sleep(due - self._now())

    async def _read(self, device: str) -> dict[str, float]:
        try:
            values = checked(self._devices[device], await self._sensors[device].read())
        except Exception as error:  # drivers raise what they like
            failure = error if isinstance(error, ToolError) else _failure(error)
            if device not in self._silent:
                _log.warning("%s does not answer: %s", self._names[device], failure)
            self._silent.add(device)
            raise failure from error
        if device in self._silent:
            self._silent.discard(device)
            _log.info("%s answers again", self._names[device])
        now = self._now()
        smooth = self._smoothing[device].add(values, now)
        self._readings[device] = smooth
        if self._novelty[device].is_worth_telling(smooth, now):
            self._tell(SensorRead(device, smooth))
        for event in self._thresholds[device].read(smooth, now):
            self._tell(event)
        return smooth

    def _ended(self, device: str, reading: asyncio.Task[dict[str, float]]) -> None:
        """A reading is over, perhaps with nobody left who waits for it."""
        self._under_way.pop(device, None)
        if not reading.cancelled():
            reading.exception()


def _filter(device: DeviceSettings) -> Filter:
    return filter_of(cast(Mapping[str, object], option(device, "filter")))


def _failure(error: Exception) -> ToolError:
    return ToolError(f"its driver failed ({type(error).__name__}: {error})", retryable=True)
