"""What the output pins are at before a node sets them: what an earlier process left there, when it was killed.

Raspberry Pi OS leaves an output as it is when the process that drove it ends; other kernels make it an input, which
floats and says nothing of what it was. gpiozero makes each pin an input as it takes it, so it must be asked before.
"""

from __future__ import annotations

import importlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import StoreError
from pibot_mesh.hardware.kind import pins_of
from pibot_mesh.hardware.kinds import option
from pibot_mesh.hardware.levels import is_pulsed, value_at
from pibot_mesh.protocol.messages import OutputValue

_LEVEL: Final = struct.Struct("<d")
"""One more than the level, so that a hole in the file is a pin that is not driven."""


def driven_levels(chip: int, pins: Iterable[int]) -> dict[int, bool]:
    """Whether each of *pins* of ``/dev/gpiochip{chip}`` is high, of those that are driven still. Changes no pin.

    libgpiod asks the kernel; where it is not installed, or a pin belongs to somebody else, nothing is known.
    """
    try:
        gpiod: Any = importlib.import_module("gpiod")
    except ImportError:
        return {}
    levels: dict[int, bool] = {}
    for pin in pins:
        try:
            with (
                gpiod.Chip(f"/dev/gpiochip{chip}") as lines,
                lines.request_lines(config={pin: None}, consumer="pibot-mesh") as request,
            ):
                # Only once a line is requested does the kernel look at the hardware for its direction.
                if lines.get_line_info(pin).direction is gpiod.line.Direction.OUTPUT:
                    levels[pin] = bool(request.get_value(pin))
        except OSError:
            continue
    return levels


def driven_values(chip: int, outputs: Iterable[DeviceSettings]) -> dict[str, OutputValue]:
    """What each of *outputs* is at, by its id, of those that are driven still. One driven by pulses says nothing."""
    pins = {device.id: device for device in outputs if not is_pulsed(device)}
    high = driven_levels(chip, (pin for device in pins.values() for pin in pins_of(device).values()))
    return {
        id_: high[device.pin] == option(device, "active_high")
        for id_, device in pins.items()
        if device.pin is not None and device.pin in high
    }


class SimulatedLevels:
    """What simulated outputs are at, in percent, in a file: they outlive a killed process, as those of real pins do.

    Raises StoreError where the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be opened: {error.strerror}") from error

    def read(self, pin: int) -> float | None:
        """The level of *pin*; None where it is not driven."""
        found = os.pread(self._file, _LEVEL.size, pin * _LEVEL.size)
        level = _LEVEL.unpack(found)[0] - 1 if len(found) == _LEVEL.size else -1.0
        return float(level) if 0 <= level <= 100 else None

    def values(self, outputs: Iterable[DeviceSettings]) -> dict[str, OutputValue]:
        """What each of *outputs* is at, by its id, of those that are driven."""
        found: dict[str, OutputValue] = {}
        for device in outputs:
            read = {pin: self.read(pin) for pin in pins_of(device).values()}
            value = value_at(device, {pin: level for pin, level in read.items() if level is not None})
            if value is not None:
                found[device.id] = value
        return found

    def keep(self, pin: int, level: float | None) -> None:
        """*pin* is at *level* now; None: it is not driven any more."""
        os.pwrite(self._file, _LEVEL.pack(0.0 if level is None else level + 1), pin * _LEVEL.size)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
