"""What a driver is, which kind has which, and what must be installed for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pibot_mesh.config.settings import DeviceSettings


class Driver(Protocol):
    """What reads one sensor. It is called in one thread at a time, never in the event loop's: it may block.

    Making one touches nothing: `read` opens what it needs, and opens it anew after it failed, so that a sensor may be
    plugged in later. `read` raises ToolError with what to do, or whatever a library raises.
    """

    def read(self) -> dict[str, float]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Package:
    """What a driver imports: *modules*, which come with the extra *extra* of this package."""

    modules: tuple[str, ...]
    extra: str


_PACKAGES: Final = {
    "bme280": Package(("smbus2", "bme280"), "sensors"),
    "bmp280": Package(("smbus2", "bme280"), "sensors"),
    "bh1750": Package(("smbus2",), "sensors"),
    "ads1115": Package(("smbus2",), "sensors"),
    "mcp3xxx": Package(("gpiozero", "lgpio"), "gpio"),
}


def missing_package(
    kind: str, is_installed: Callable[[str], bool] = lambda module: importlib.util.find_spec(module) is not None
) -> str | None:
    """What to install for the driver of *kind*, as a sentence; None where all is there, or nothing is needed."""
    package = _PACKAGES.get(kind)
    if package is None or all(map(is_installed, package.modules)):
        return None
    return f"the driver for {kind} is not installed: run pip install 'pibot-mesh[{package.extra}]'"


def driver_for(device: DeviceSettings) -> Driver:
    """The driver of a sensor whose kind has one."""
    from pibot_mesh.hardware.drivers import i2c, spi, sysfs

    match device.kind:
        case "ds18b20":
            return sysfs.Ds18b20(device)
        case "dht22":
            return sysfs.Dht22(device)
        case "mcp3xxx":
            return spi.Mcp3xxx(device)
        case _:
            return i2c.I2CDriver(device)
