"""The kinds of sensors, what each measures, what it can be told, and what it cannot have read. Pure: no drivers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import Problem
from pibot_mesh.hardware.kind import Bus, Kind, Schema
from pibot_mesh.protocol.messages import Measure

_FILTER: Final[Schema] = {
    "type": "object",
    "properties": {
        "average": {
            "type": "integer",
            "minimum": 2,
            "maximum": 100,
            "description": "Each measure is the average of so many last readings.",
        },
        "median": {
            "type": "integer",
            "minimum": 2,
            "maximum": 100,
            "description": "Or their median, which does not see a spike.",
        },
        "change": {
            "type": ["number", "object"],
            "minimum": 0,
            "additionalProperties": {"type": "number", "minimum": 0},
            "x-expects": "a number from 0, or numbers by measure ({temperature: 0.5})",
            "description": "The least change that is published; without it every reading is.",
        },
        "at_least_every_s": {
            "type": "number",
            "minimum": 1,
            "maximum": 86_400,
            "description": "With change: seconds after which a reading is published anyway; 300 if not set.",
        },
    },
    "additionalProperties": False,
    "default": {},
    "description": "What is done with its readings before they are published.",
}
_TEMPERATURE: Final = Measure("°C", "temperature")
_HUMIDITY: Final = Measure("%", "humidity")
_PRESSURE: Final = Measure("hPa", "atmospheric_pressure")
_ILLUMINANCE: Final = Measure("lx", "illuminance")

_CHANNELS: Final = {"mcp3002": 2, "mcp3004": 4, "mcp3008": 8, "mcp3202": 2, "mcp3204": 4, "mcp3208": 8}
"""How many channels each converter has that gpiozero drives."""

_LIMITS: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "ds18b20": {"temperature": (-55, 125)},
    # A frame of nothing but zeros has a right checksum; air without any water has no place on Earth.
    "dht22": {"temperature": (-40, 80), "humidity": (0.1, 100)},
    "bme280": {"temperature": (-40, 85), "humidity": (0, 100), "pressure": (300, 1100)},
    "bmp280": {"temperature": (-40, 85), "pressure": (300, 1100)},
    "bh1750": {"illuminance": (0, 54_613)},
    "cpu": {"temperature": (-40, 125)},
}
"""Kind → measure → the lowest and highest number that it can give, by the datasheets."""


def _sensed(interval_s: float = 10, shortest_s: float = 0.1) -> Mapping[str, Schema]:
    return {
        "interval_s": {
            "type": "number",
            "minimum": shortest_s,
            "maximum": 86_400,
            "default": interval_s,
            "description": "Seconds between two readings.",
        },
        "filter": _FILTER,
    }


def _on_i2c(*addresses: int) -> Mapping[str, Schema]:
    words = " or ".join(hex(address) for address in addresses)
    return {
        "address": {
            "anyOf": [{"const": address} for address in addresses],
            "x-expects": words,
            "default": addresses[0],
            "description": f"Its I2C address; {hex(addresses[0])} if not set.",
        },
        "bus": {
            "type": "integer",
            "minimum": 0,
            "maximum": 31,
            "default": 1,
            "description": "The number of the I2C bus: 1 is `/dev/i2c-1`, on GPIO 2 and 3.",
        },
    }


def _of_a_voltage(channels: int) -> Mapping[str, Schema]:
    return {
        "channel": {
            "type": "integer",
            "minimum": 0,
            "maximum": channels - 1,
            "default": 0,
            "description": "Which input of the chip.",
        },
        "measure": {
            "type": "string",
            "pattern": "^[a-z][a-z0-9_]{0,31}$(?!\\n)",
            "x-expects": "the name of a quantity in small letters, such as moisture",
            "default": "voltage",
            "description": "What the voltage stands for.",
        },
        "unit": {
            "type": "string",
            "maxLength": 16,
            "default": "V",
            "description": "The unit of what it stands for.",
        },
        "scale": {"type": "number", "default": 1, "description": "The quantity is volts * scale + offset."},
        "offset": {"type": "number", "default": 0, "description": "What is added to that, in the quantity's unit."},
    }


def _kind(
    name: str,
    says: str,
    measures: Mapping[str, Measure],
    options: Mapping[str, Schema],
    *,
    bus: Bus = "",
    needs_pin: bool = False,
    has_driver: bool = True,
) -> Kind:
    return Kind(name, says, "sensor", options, needs_pin=needs_pin, bus=bus, has_driver=has_driver, measures=measures)


SENSOR_KINDS: Final = (
    _kind(
        "ds18b20",
        "A thermometer on the 1-Wire bus.",
        {"temperature": _TEMPERATURE},
        {
            **_sensed(),
            "address": {
                "type": "string",
                "pattern": "^((10|22|28|3b|42)-[0-9a-f]{12})?$(?!\\n)",
                "x-expects": "a name in /sys/bus/w1/devices such as 28-0316a2794bff",
                "default": "",
                "description": "Its name in `/sys/bus/w1/devices`; not needed where it is the only one.",
            },
        },
        bus="w1",
    ),
    _kind(
        "dht22",
        "Temperature and humidity, on a pin of its own (also DHT21 and AM2302).",
        {"temperature": _TEMPERATURE, "humidity": _HUMIDITY},
        _sensed(30, shortest_s=10),
        needs_pin=True,
    ),
    _kind(
        "bme280",
        "Temperature, humidity and air pressure.",
        {"temperature": _TEMPERATURE, "humidity": _HUMIDITY, "pressure": _PRESSURE},
        {**_sensed(), **_on_i2c(0x76, 0x77)},
        bus="i2c",
    ),
    _kind(
        "bmp280",
        "Temperature and air pressure.",
        {"temperature": _TEMPERATURE, "pressure": _PRESSURE},
        {**_sensed(), **_on_i2c(0x76, 0x77)},
        bus="i2c",
    ),
    _kind(
        "bh1750",
        "How bright it is.",
        {"illuminance": _ILLUMINANCE},
        {**_sensed(), **_on_i2c(0x23, 0x5C)},
        bus="i2c",
    ),
    _kind(
        "ads1115",
        "A voltage, or what it stands for (16 bits, I2C).",
        {"voltage": Measure("V", "voltage")},
        {
            **_sensed(),
            **_on_i2c(0x48, 0x49, 0x4A, 0x4B),
            **_of_a_voltage(4),
            "full_scale_v": {
                "enum": [6.144, 4.096, 2.048, 1.024, 0.512, 0.256],
                "default": 4.096,
                "description": "The highest voltage that it can tell; never feed it more than its own supply.",
            },
        },
        bus="i2c",
    ),
    _kind(
        "mcp3xxx",
        "A voltage, or what it stands for (10 or 12 bits, SPI).",
        {"voltage": Measure("V", "voltage")},
        {
            **_sensed(),
            **_of_a_voltage(8),
            "model": {"enum": list(_CHANNELS), "default": "mcp3008", "description": "Which chip it is."},
            "volts": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 5.5,
                "default": 3.3,
                "description": "The voltage at its pin VREF.",
            },
            "select": {"enum": [0, 1], "default": 0, "description": "Which select pin: 0 is GPIO 8, 1 is GPIO 7."},
        },
        bus="spi",
    ),
    _kind(
        "cpu",
        "This machine's CPU: its temperature, how busy it is, and its load.",
        {"temperature": _TEMPERATURE, "use": Measure("%"), "load": Measure("")},
        _sensed(60, shortest_s=1),
    ),
    _kind(
        "system",
        "This machine: free memory and disk, uptime and Wi-Fi signal.",
        {
            "memory_free": Measure("MiB", "data_size"),
            "disk_free": Measure("MiB", "data_size"),
            "uptime": Measure("s", "duration"),
            "signal": Measure("dBm", "signal_strength"),
        },
        _sensed(60, shortest_s=1),
    ),
    _kind(
        "climate",
        "Temperature and humidity, simulated.",
        {"temperature": _TEMPERATURE, "humidity": _HUMIDITY},
        _sensed(),
        has_driver=False,
    ),
    _kind("temperature", "Temperature, simulated.", {"temperature": _TEMPERATURE}, _sensed(), has_driver=False),
    _kind("light_level", "How bright it is, simulated.", {"illuminance": _ILLUMINANCE}, _sensed(), has_driver=False),
)
_KINDS: Final = {kind.name: kind for kind in SENSOR_KINDS}


def is_converter(device: DeviceSettings) -> bool:
    """Whether a sensor measures a voltage that may stand for something else."""
    return "measure" in _KINDS[device.kind].options


def measures_of(device: DeviceSettings) -> Mapping[str, Measure]:
    """What a sensor measures: quantity → unit and device class.

    Where its kind measures a voltage that stands for something else, that is named by the device's options, and its
    device class is the device's own.
    """
    kind = _KINDS[device.kind]
    if not is_converter(device):
        return kind.measures
    name, unit = str(kind.option(device, "measure")), str(kind.option(device, "unit"))
    is_plain = (name, unit) == ("voltage", "V")
    return {name: Measure(unit, device.device_class or ("voltage" if is_plain else None))}


def quantity(device: DeviceSettings, volts: float) -> dict[str, float]:
    """What *volts* at a device that measures a voltage stand for."""
    kind = _KINDS[device.kind]
    scale, offset = (float(cast(float, kind.option(device, key))) for key in ("scale", "offset"))
    return {str(kind.option(device, "measure")): round(volts * scale + offset, 4)}


def implausible(device: DeviceSettings, values: Mapping[str, float]) -> str | None:
    """Why *values* cannot be what a sensor measured, as the end of a sentence about it; None where they can."""
    if not values:
        return "gave no numbers"
    for measure, value in values.items():
        low, high = _LIMITS.get(device.kind, {}).get(measure, (-math.inf, math.inf))
        if not math.isfinite(value):
            return f"gave what is no number: {measure} {value}"
        if not low <= value <= high:
            return f"gave {measure} {value:g}, which it cannot measure ({low:g} to {high:g})"
    return None


def sensor_problems(devices: Sequence[DeviceSettings]) -> Iterator[Problem]:
    """What is wrong with sensors beyond the schema of each option: options that do not go together."""
    for device in devices:
        at = ("devices", device.id)
        chosen = device.options.get("filter")
        if device.kind in _KINDS and isinstance(chosen, Mapping):
            if {"average", "median"} <= chosen.keys():
                yield Problem((*at, "filter"), "takes average or median, not both: take one of them out")
            yield from _unknown_measures(device, chosen.get("change"))
        if device.kind == "mcp3xxx":
            model, channel = (_KINDS["mcp3xxx"].option(device, key) for key in ("model", "channel"))
            channels = _CHANNELS.get(str(model), 8)
            if isinstance(channel, int) and channels <= channel < max(_CHANNELS.values()):
                text = f"a {model} has the channels 0 to {channels - 1}, not {channel}"
                yield Problem((*at, "channel"), text)


def _unknown_measures(device: DeviceSettings, change: object) -> Iterator[Problem]:
    measures = measures_of(device)
    for name in change if isinstance(change, Mapping) else ():
        if name not in measures:
            text = f"this sensor does not measure it; it measures {', '.join(measures)}"
            yield Problem(("devices", device.id, "filter", "change", str(name)), text)
