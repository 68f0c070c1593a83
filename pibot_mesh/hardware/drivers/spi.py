"""Converters on the SPI bus, through gpiozero."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError, ToolError
from pibot_mesh.hardware.kinds import option
from pibot_mesh.hardware.pins import open_factory
from pibot_mesh.hardware.sensor_kinds import quantity


@functools.cache
def _real_pins() -> Any:
    """One factory for all converters, as long as the process lives: gpiozero shares a chip among its inputs."""
    return open_factory(simulate=False)


class Mcp3xxx:
    """One input of a converter of the MCP3xxx family, against ground. Opened at the first reading."""

    def __init__(self, device: DeviceSettings, *, factory: Callable[[], Any] = _real_pins) -> None:
        self._device = device
        self._factory = factory
        self._input: Any = None

    def read(self) -> dict[str, float]:
        """The voltage now, as what it stands for. A chip that is not there cannot be told from one at 0 V."""
        try:
            if self._input is None:
                self._input = self._open()
            return quantity(self._device, float(self._input.voltage))
        except ConfigError as error:
            raise ToolError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the bus back. May be called at any time."""
        held, self._input = self._input, None
        if held is not None:
            held.close()

    def _open(self) -> Any:
        import gpiozero

        chip = getattr(gpiozero, str(option(self._device, "model")).upper())
        return chip(
            channel=int(cast(int, option(self._device, "channel"))),
            max_voltage=float(cast(float, option(self._device, "volts"))),
            port=0,
            device=int(cast(int, option(self._device, "select"))),
            pin_factory=self._factory(),
        )
