"""The sensors of one node: read at their intervals and whenever somebody asks, and each failure said once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.changes import Change, SensorRead
from pibot_mesh.hardware.kinds import option, spec
from pibot_mesh.hardware.sensors import Sensor, simulated_sensor

_log = logging.getLogger(__name__)


class Sensing:
    """*tell* hears of every reading, in the loop's thread. *seed* makes simulated sensors repeatable."""

    def __init__(
        self,
        devices: Iterable[DeviceSettings],
        *,
        tell: Callable[[Change], None],
        now: Callable[[], float],
        seed: int | None = None,
    ) -> None:
        self._devices = {device.id: device for device in devices}
        self._specs = {id_: spec(device) for id_, device in self._devices.items()}
        self._tell = tell
        self._sensors: dict[str, Sensor] = {
            id_: simulated_sensor(device, now, seed) for id_, device in self._devices.items()
        }
        self._readings: dict[str, Mapping[str, float]] = {}
        self._polls: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to read, each sensor at its interval."""
        loop = asyncio.get_running_loop()
        self._polls = [loop.create_task(self._poll(device)) for device in self._devices.values()]

    async def stop(self) -> None:
        """Read no more. May be called twice or without a start."""
        polls, self._polls = self._polls, []
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)

    async def read(self, device: str) -> dict[str, float]:
        """Read *device* (one of these) now: quantity → number. Raises ToolError where it does not answer."""
        values = await self._sensors[device].read()
        if not all(map(math.isfinite, values.values())):
            raise ToolError(f"{self._specs[device].name} gave what is no number: {values}", retryable=True)
        self._readings[device] = values
        self._tell(SensorRead(device, values))
        return dict(values)

    def readings(self) -> Mapping[str, Mapping[str, float]]:
        """What each sensor gave last; a sensor that never answered is missing."""
        return dict(self._readings)

    async def _poll(self, device: DeviceSettings) -> None:
        interval_s = float(str(option(device, "interval_s")))
        is_answering = True
        while True:
            try:
                await self.read(device.id)
                is_answering = True
            except Exception as error:  # noqa: BLE001 - drivers raise what they like
                if is_answering:
                    what = str(error) if isinstance(error, ToolError) else f"{type(error).__name__}: {error}"
                    _log.warning("%s does not answer: %s", self._specs[device.id].name, what)
                is_answering = False
            await asyncio.sleep(interval_s)
