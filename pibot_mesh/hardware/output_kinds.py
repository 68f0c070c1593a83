"""The kinds of outputs, and what each can be told. Pure: no pins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pibot_mesh.hardware.kind import Kind, Schema, flag, level

_ACTIVE_HIGH = flag(True, "false: the pin is low when the device is on, as with most relay boards.")
_SWITCHED: Final[Mapping[str, Schema]] = {
    "active_high": _ACTIVE_HIGH,
    "initial": flag(False, "Its state after the node's start."),
    "safe": flag(False, "Its state when the node stops, or in an emergency."),
}
_DIMMED: Final[Mapping[str, Schema]] = {
    "active_high": _ACTIVE_HIGH,
    "initial": level("Its level after the node's start, in percent."),
    "safe": level("Its level when the node stops, or in an emergency, in percent."),
    "frequency_hz": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "default": 100,
        "description": "Pulses in a second.",
    },
}

OUTPUT_KINDS: Final = (
    Kind("switch", "Anything that is on or off.", "out", _SWITCHED),
    Kind("relay", "A relay board.", "out", _SWITCHED),
    Kind("light", "A light with brightness (PWM).", "out", _DIMMED, is_dimmable=True),
    Kind("lamp", "The same as light.", "out", _DIMMED, is_dimmable=True),
    Kind("fan", "A fan with speed (PWM).", "out", _DIMMED, is_dimmable=True),
    Kind("pwm", "Any other output that takes 0 to 100 percent (PWM).", "out", _DIMMED, is_dimmable=True),
)
