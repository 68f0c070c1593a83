"""The kinds of outputs, and what each can be told. Pure: no pins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pibot_mesh.hardware.kind import Kind, Schema, color, flag, level
from pibot_mesh.hardware.safety_rules import SAFETY_OPTIONS

_ACTIVE_HIGH = flag(True, "false: the pin is low when the device is on, as with most relay boards.")
_SWITCHED: Final[Mapping[str, Schema]] = {
    "active_high": _ACTIVE_HIGH,
    "initial": flag(False, "Its state after the node's start."),
    "safe": flag(False, "Its state when the node stops, or in an emergency."),
    **SAFETY_OPTIONS,
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
    **SAFETY_OPTIONS,
}
_COLORED: Final[Mapping[str, Schema]] = {
    "active_high": flag(True, "false: its pins are low when it is lit (a common anode)."),
    "initial": color("Its color after the node's start."),
    "safe": color("Its color when the node stops, or in an emergency."),
    **SAFETY_OPTIONS,
}
_PLACED: Final[Mapping[str, Schema]] = {
    "initial": level("Its position after the node's start, in percent of its travel."),
    "safe": level("Its position when the node stops, or in an emergency, in percent of its travel."),
    "min_pulse_ms": {
        "type": "number",
        "minimum": 0.3,
        "maximum": 3,
        "default": 1,
        "description": "The pulse at 0 percent, in milliseconds.",
    },
    "max_pulse_ms": {
        "type": "number",
        "minimum": 0.3,
        "maximum": 3,
        "default": 2,
        "description": "The pulse at 100 percent, in milliseconds; longer than min_pulse_ms.",
    },
    "is_reversed": flag(False, "true: 0 percent is at max_pulse_ms."),
    **SAFETY_OPTIONS,
}
_SOUNDING: Final[Mapping[str, Schema]] = {
    **_SWITCHED,
    "frequency_hz": {
        "type": "integer",
        "minimum": 0,
        "maximum": 10_000,
        "default": 0,
        "description": "Its tone, for a passive buzzer, which needs pulses; 0: an active one, which sounds by itself.",
    },
}

OUTPUT_KINDS: Final = (
    Kind("switch", "Anything that is on or off.", "out", _SWITCHED),
    Kind("relay", "A relay board.", "out", _SWITCHED),
    Kind("output", "A bare digital output: the pin is high or low.", "out", _SWITCHED),
    Kind("buzzer", "A buzzer, active or passive.", "out", _SOUNDING),
    Kind("light", "A light with brightness (PWM).", "out", _DIMMED, is_dimmable=True),
    Kind("lamp", "The same as light.", "out", _DIMMED, is_dimmable=True),
    Kind("led", "An LED with its resistor, with brightness (PWM).", "out", _DIMMED, is_dimmable=True),
    Kind("fan", "A fan with speed (PWM).", "out", _DIMMED, is_dimmable=True),
    Kind("motor", "A motor with speed, in one direction (PWM, by a driver).", "out", _DIMMED, is_dimmable=True),
    Kind("pwm", "Any other output that takes 0 to 100 percent (PWM).", "out", _DIMMED, is_dimmable=True),
    Kind("rgb_led", "An LED in any color (PWM).", "out", _COLORED, has_color=True, pin_roles=("red", "green", "blue")),
    Kind("servo", "A servo: a position in percent of its travel.", "out", _PLACED, is_dimmable=True, is_position=True),
)
