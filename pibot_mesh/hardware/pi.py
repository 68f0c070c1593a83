"""The Pi's own pins, where gpiozero falls short: which chip the header hangs on, and pulses finer than a percent."""

from __future__ import annotations

import fcntl
import importlib
import re
import struct
from pathlib import Path
from typing import Any, Final

_CHIP_INFO: Final = struct.Struct("=32s32sI")
"""``struct gpiochip_info`` of Linux: name, label, number of lines."""
_GET_CHIP_INFO: Final = 0x8044B401
_HEADER_LABELS: Final = ("pinctrl-rp1", "pinctrl-bcm2835", "pinctrl-bcm2711")
"""What the kernel calls the chip of the 40-pin header: of a Pi 5, of those before the 4, and of a 4."""


def header_chip(devices: Path = Path("/dev")) -> int | None:
    """The number of the GPIO chip with the 40-pin header, or None where none of *devices* says that it is that.

    On a Pi 5 it was 4, is 0 with kernels since 6.6.45, and has been others: only its label is sure.
    """
    numbers = [re.fullmatch(r"gpiochip(\d+)", path.name) for path in devices.glob("gpiochip*")]
    for number in sorted(int(found[1]) for found in numbers if found is not None):
        try:
            with (devices / f"gpiochip{number}").open("rb") as chip:
                info = fcntl.ioctl(chip, _GET_CHIP_INFO, bytes(_CHIP_INFO.size))
        except OSError:
            continue
        if _CHIP_INFO.unpack(info)[1].rstrip(b"\0").decode("ascii", "replace") in _HEADER_LABELS:
            return number
    return None


def with_fine_pulses(pin_class: type[Any]) -> type[Any]:
    """gpiozero's pin on lgpio, but with duty cycles as they are given.

    It cuts them to whole percent (gpiozero issue 1209): of a servo's travel, which is 5 of its 100, six positions stay.
    """

    class FinePin(pin_class):  # type: ignore[misc]  # gpiozero has no types
        def _set_state(self, value: float) -> None:
            pulses = getattr(self, "_pwm", None)
            if not pulses:
                super()._set_state(value)
                return
            lgpio: Any = importlib.import_module("lgpio")
            frequency, _ = pulses
            lgpio.tx_pwm(self.factory._handle, self._number, frequency, value * 100)
            self._pwm = (frequency, value * 100)

    return FinePin
