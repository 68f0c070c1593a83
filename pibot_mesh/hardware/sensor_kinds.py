"""The kinds of sensors, what each measures, and what it can be told. Pure: no drivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pibot_mesh.hardware.kind import Kind, Schema
from pibot_mesh.protocol.messages import Measure

_SENSED: Final[Mapping[str, Schema]] = {
    "interval_s": {
        "type": "number",
        "minimum": 0.1,
        "maximum": 86_400,
        "default": 10,
        "description": "Seconds between two readings.",
    }
}
_TEMPERATURE: Final = Measure("°C", "temperature")
_HUMIDITY: Final = Measure("%", "humidity")

SENSOR_KINDS: Final = (
    Kind(
        "climate",
        "Temperature and humidity.",
        "sensor",
        _SENSED,
        needs_pin=False,
        has_driver=False,
        measures={"temperature": _TEMPERATURE, "humidity": _HUMIDITY},
    ),
    Kind(
        "temperature",
        "Temperature.",
        "sensor",
        _SENSED,
        needs_pin=False,
        has_driver=False,
        measures={"temperature": _TEMPERATURE},
    ),
    Kind(
        "light_level",
        "How bright it is.",
        "sensor",
        _SENSED,
        needs_pin=False,
        has_driver=False,
        measures={"illuminance": Measure("lx", "illuminance")},
    ),
)
