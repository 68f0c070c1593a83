"""Sensors that the kernel itself reads: what it says of them in files below ``/sys``.

Its drivers are the best kept there are, meet the microseconds that a program in Python would miss, and need nothing
installed; but each must be told to the kernel in ``config.txt``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ToolError

_THERMOMETERS: Final = ("10-", "22-", "28-", "3b-", "42-")
"""How the names of thermometers on the 1-Wire bus begin: by their family."""
_POWER_ON: Final = 85_000
"""Millidegrees that a DS18B20 tells before it has measured anything (its datasheet, Table 1)."""


def _text(path: Path) -> str:
    return path.read_text("ascii", "replace")


class Ds18b20:
    """A thermometer on the 1-Wire bus, read by the kernel's ``w1_therm``. A reading takes it up to 0.75 s."""

    def __init__(self, device: DeviceSettings, *, root: Path = Path("/"), text: Callable[[Path], str] = _text) -> None:
        self._address = str(device.options.get("address", ""))
        self._bus = root / "sys/bus/w1/devices"
        self._text = text

    def read(self) -> dict[str, float]:
        """The temperature in °C."""
        name = self._address or self._only_one()
        try:
            text = self._text(self._bus / name / "w1_slave")
        except OSError as error:
            there = ", ".join(self._thermometers()) or "nothing"
            raise ToolError(
                f"{name} does not answer on the 1-Wire bus ({error.strerror}); there is {there}: check its wires",
                retryable=True,
            ) from error
        return {"temperature": w1_millidegrees(text) / 1000}

    def close(self) -> None:
        """Nothing is held."""

    def _thermometers(self) -> list[str]:
        return sorted(path.name for path in self._bus.glob("*") if path.name.startswith(_THERMOMETERS))

    def _only_one(self) -> str:
        if not self._bus.is_dir():
            raise ToolError("there is no 1-Wire bus: run 'sudo raspi-config nonint do_onewire 0', then reboot")
        match self._thermometers():
            case [name]:
                return name
            case []:
                text = "no thermometer answers on the 1-Wire bus: check its wires, and the resistor of 4.7 kΩ"
                raise ToolError(text, retryable=True)
            case names:
                raise ToolError(f"there are several thermometers: put one of {', '.join(names)} into 'address'")


def w1_millidegrees(text: str) -> int:
    """What ``w1_slave`` says. Raises ToolError where that is no measurement."""
    found = re.search(r"\bt=(-?\d+)", text)
    if found is None or "YES" not in text:
        raise ToolError("the checksum of what it sent is wrong: check the wires and their length", retryable=True)
    if text.startswith("00 00 00 00 00 00 00 00 00"):
        # Nine zeros have the right checksum: the data wire lies at ground.
        raise ToolError("it sends nothing but zeros: check the data wire and its resistor", retryable=True)
    if int(found[1]) == _POWER_ON:
        raise ToolError("it has not measured yet: it says the 85 °C with which it begins", retryable=True)
    return int(found[1])


class Dht22:
    """A DHT22 on a pin, read by the kernel's ``dht11``, which knows both.

    A reading takes 25 ms, or a second where nothing answers. It is one of two seconds ago at most: so long does the
    kernel keep one, since the sensor cannot give them faster.
    """

    def __init__(self, device: DeviceSettings, *, root: Path = Path("/"), text: Callable[[Path], str] = _text) -> None:
        self._pin = device.pin
        self._devices = root / "sys/bus/iio/devices"
        self._text = text

    def read(self) -> dict[str, float]:
        """Temperature in °C and humidity in percent, of one measurement."""
        files = {"temperature": "in_temp_input", "humidity": "in_humidityrelative_input"}
        folder = self._folder()
        try:
            return {measure: int(self._text(folder / file)) / 1000 for measure, file in files.items()}
        except (OSError, ValueError) as error:
            what = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ToolError(
                f"nothing useful came from the DHT22 on GPIO {self._pin} ({what})", retryable=True
            ) from error

    def close(self) -> None:
        """Nothing is held."""

    def _folder(self) -> Path:
        for folder in sorted(self._devices.glob("iio:device*")):
            if self._is_ours(folder):
                return folder
        line = f"dtoverlay=dht11,gpiopin={self._pin}"
        raise ToolError(
            f"the kernel knows of no DHT22 on GPIO {self._pin}: add the line '{line}' to "
            "/boot/firmware/config.txt, then reboot"
        )

    def _is_ours(self, folder: Path) -> bool:
        """Every DHT is named alike: its pin is the second of three numbers in the device tree."""
        try:
            is_dht = self._text(folder / "name").startswith("dht11")
            cells = (folder / "of_node/gpios").read_bytes()
        except OSError:
            return False
        return is_dht and len(cells) == 12 and struct.unpack(">III", cells)[1] == self._pin
