"""Sensors on the I2C bus, over ``smbus2``."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.kinds import option
from pibot_mesh.hardware.sensor_kinds import quantity

Sleep = Callable[[float], None]


class Chip(Protocol):
    """A chip that was found and set up. It raises OSError where it does not answer any more."""

    def read(self) -> dict[str, float]: ...


class I2CDriver:
    """One chip on an I2C bus: found at the first reading, and looked for again after one that failed."""

    def __init__(self, device: DeviceSettings, *, sleep: Sleep = time.sleep) -> None:
        self._device = device
        self._address = int(cast(int, option(device, "address")))
        self._number = int(cast(int, option(device, "bus")))
        self._sleep = sleep
        self._bus: Any = None
        self._chip: Chip | None = None

    def read(self) -> dict[str, float]:
        """What the chip measures now. Raises ToolError where the bus is off, or nothing answers at its address."""
        try:
            if self._chip is None:
                self._bus = open_bus(self._number)
                self._chip = _CHIPS[self._device.kind](self._bus, self._address, self._device, self._sleep)
            return self._chip.read()
        except OSError as error:
            self.close()
            raise ToolError(
                f"nothing answers at {self._address:#x} on I2C bus {self._number} ({error.strerror or error}): check "
                f"wires and address ('i2cdetect -y {self._number}' shows who is there)",
                retryable=True,
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the bus. May be called at any time."""
        bus, self._bus, self._chip = self._bus, None, None
        if bus is not None:
            bus.close()


def open_bus(number: int) -> Any:
    """The bus ``/dev/i2c-{number}``. Raises ToolError where it cannot be had."""
    smbus2: Any = importlib.import_module("smbus2")
    path = f"/dev/i2c-{number}"
    try:
        return smbus2.SMBus(number)
    except FileNotFoundError as error:
        raise ToolError(f"there is no {path}: turn on I2C: sudo raspi-config nonint do_i2c 0") from error
    except PermissionError as error:
        who = "the user that the node runs as"
        raise ToolError(f"{path} may not be used: add {who} to the group i2c: sudo usermod -aG i2c USER") from error


class Bosch280:
    """A BME280, or a BMP280, which is the same without humidity. ``RPi.bme280`` does the arithmetic."""

    def __init__(self, bus: Any, address: int, device: DeviceSettings, sleep: Sleep) -> None:  # noqa: ARG002 - as all chips
        bme280: Any = importlib.import_module("bme280")
        chip = bus.read_byte_data(address, 0xD0)
        known = {0x60: "BME280", 0x58: "BMP280"}
        if chip not in known:
            text = f"what answers at {address:#x} is no {device.kind.upper()}: it says to be {chip:#x}"
            raise ToolError(f"{text}; check the address and the kind")
        if device.kind == "bme280" and known[chip] == "BMP280":
            raise ToolError(f"there is a BMP280 at {address:#x}, which measures no humidity: use 'kind: bmp280'")
        self._bus, self._address, self._bme280 = bus, address, bme280
        self._has_humidity = device.kind == "bme280"
        self._calibration = bme280.load_calibration_params(bus, address)

    def read(self) -> dict[str, float]:
        """°C, percent and hPa, measured now: the chip sleeps in between."""
        sample = self._bme280.sample(self._bus, self._address, self._calibration)
        values = {"temperature": round(sample.temperature, 2), "pressure": round(sample.pressure, 2)}
        return values | ({"humidity": round(sample.humidity, 2)} if self._has_humidity else {})


class Bh1750:
    """A BH1750. It has no registers: one is told to measure, and gives two bytes (its datasheet, page 5 and 7)."""

    ONCE_TO_ONE_LUX: Final = 0x20
    WORST_CASE_S: Final = 0.18
    COUNTS_PER_LUX: Final = 1.2

    def __init__(self, bus: Any, address: int, device: DeviceSettings, sleep: Sleep) -> None:  # noqa: ARG002 - as all chips
        self._bus, self._address, self._sleep = bus, address, sleep

    def read(self) -> dict[str, float]:
        """Lux, measured now: the chip sleeps in between."""
        smbus2: Any = importlib.import_module("smbus2")
        self._bus.write_byte(self._address, self.ONCE_TO_ONE_LUX)
        self._sleep(self.WORST_CASE_S)
        message = smbus2.i2c_msg.read(self._address, 2)
        self._bus.i2c_rdwr(message)
        return {"illuminance": round(int.from_bytes(bytes(message), "big") / self.COUNTS_PER_LUX, 1)}


class Ads1115:
    """One input of an ADS1115, against ground. Its registers: SBAS444 (its datasheet), section 8.1."""

    CONVERSION: Final = 0
    CONFIG: Final = 1
    RANGES: Final = {6.144: 0, 4.096: 1, 2.048: 2, 1.024: 3, 0.512: 4, 0.256: 5}
    START: Final = 0x8000
    SINGLE_ENDED: Final = 0x4000
    """Single shot (0x0100) at 128 a second (0x0080), without the comparator (0x0003)."""
    ONE_SHOT: Final = 0x0183
    CONVERTS_IN_S: Final = 0.009
    TRIES: Final = 5

    def __init__(self, bus: Any, address: int, device: DeviceSettings, sleep: Sleep) -> None:
        self._bus, self._address, self._device, self._sleep = bus, address, device, sleep
        self._full_scale_v = float(cast(float, option(device, "full_scale_v")))
        channel = int(cast(int, option(device, "channel")))
        self._config = (
            self.START | self.SINGLE_ENDED | channel << 12 | self.RANGES[self._full_scale_v] << 9 | self.ONE_SHOT
        )

    def read(self) -> dict[str, float]:
        """The voltage now, as what it stands for."""
        self._bus.write_i2c_block_data(self._address, self.CONFIG, list(self._config.to_bytes(2, "big")))
        for _ in range(self.TRIES):
            self._sleep(self.CONVERTS_IN_S)
            if self._register(self.CONFIG) & self.START:
                break
        else:
            raise ToolError("the ADS1115 does not come to an end with its measurement", retryable=True)
        counts = self._register(self.CONVERSION)
        signed = counts - 0x10000 if counts & 0x8000 else counts
        if signed == 0x7FFF:
            higher = "divide the voltage" if self._full_scale_v == max(self.RANGES) else "choose a higher full_scale_v"
            raise ToolError(f"the voltage is above {self._full_scale_v:g} V, which it can tell at most: {higher}")
        return quantity(self._device, signed * self._full_scale_v / 0x8000)

    def _register(self, number: int) -> int:
        return int.from_bytes(bytes(self._bus.read_i2c_block_data(self._address, number, 2)), "big")


_CHIPS: Final[dict[str, Callable[[Any, int, DeviceSettings, Sleep], Chip]]] = {
    "bme280": Bosch280,
    "bmp280": Bosch280,
    "bh1750": Bh1750,
    "ads1115": Ads1115,
}
