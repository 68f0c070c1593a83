"""The kinds of inputs, how each speaks, and what it can be told. Pure: no pins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pibot_mesh.hardware.counting import CLOCKWISE, COUNTER_CLOCKWISE
from pibot_mesh.hardware.kind import InputWords, Kind, Schema, flag
from pibot_mesh.hardware.presses import CLICKED, DOUBLE_PRESSED, HELD


def _number(default: float, minimum: float, maximum: float, description: str) -> Schema:
    return {
        "type": "number",
        "minimum": minimum,
        "maximum": maximum,
        "default": default,
        "description": description,
    }


def _input(pull: str, bounce_s: float = 0.05) -> Mapping[str, Schema]:
    settling = "Seconds after a change in which the contact may bounce; what it has settled on is told after these."
    return {
        "pull": {
            "enum": ["up", "down", "none"],
            "default": pull,
            "description": "The resistor inside the Pi. up: the pin is low when active.",
        },
        "active_high": flag(True, "With 'pull: none': whether the pin is high when active."),
        "bounce_s": _number(bounce_s, 0, 10, settling),
    }


_PRESSES: Final = {
    "hold_s": _number(1, 0, 60, "Seconds after which a button that is still down is held; 0: never."),
    "double_s": _number(0.4, 0, 5, "Seconds within which a second press makes a double one; 0: never."),
}
_LINGERS: Final = {
    "off_delay_s": _number(0, 0, 86_400, "Seconds without motion after which it has ended; motion starts them anew.")
}
_METER: Final = {
    "per_pulse": _number(1, 1e-9, 1e9, "What one pulse counts, such as 0.001 for a meter with 1000 of them for a kWh."),
    "unit": {
        "type": "string",
        "maxLength": 16,
        "default": "",
        "description": "The unit of the sum, such as kWh or m³.",
    },
    "interval_s": _number(1, 0, 86_400, "The sum is told at most once in so many seconds; no pulse is lost."),
}
_TURNED: Final = {"interval_s": _number(0.1, 0, 60, "Steps within so many seconds are told together.")}
_RANGING: Final = {
    "interval_s": _number(1, 0.1, 86_400, "Seconds between two measurements."),
    "change_cm": _number(1, 0, 1000, "A distance is told where it differs by so much from the one told before."),
    "max_cm": _number(400, 2, 1000, "The farthest that it is to see, in centimetres."),
}

_BUTTON: Final = InputWords("pressed", "released", "pressed", "not pressed", "up")
_MOTION: Final = InputWords("motion", "motion_ended", "seeing motion", "seeing no motion", "down")
_CONTACT: Final = InputWords("opened", "closed", "open", "closed", "up", is_on_when_active=False)
_INPUT: Final = InputWords("turned_on", "turned_off", "on", "off", "up")

INPUT_KINDS: Final = (
    Kind(
        "button",
        "A push button, to ground.",
        "in",
        {**_input("up"), **_PRESSES},
        words=_BUTTON,
        events=(CLICKED, DOUBLE_PRESSED, HELD),
    ),
    Kind("motion", "A motion sensor with a digital output.", "in", {**_input("down"), **_LINGERS}, words=_MOTION),
    Kind("contact", "A door or window contact to ground, closed when shut.", "in", _input("up"), words=_CONTACT),
    Kind("input", "Anything else that is on or off, to ground.", "in", _input("up"), words=_INPUT),
    Kind("counter", "The pulses of a meter, to ground.", "in", {**_input("up", 0.001), **_METER}),
    Kind(
        "encoder",
        "A rotary encoder, to ground: its steps.",
        "in",
        _TURNED,
        pin_roles=("a", "b"),
        unit="steps",
        events=(CLOCKWISE, COUNTER_CLOCKWISE),
    ),
    Kind(
        "distance",
        "An ultrasonic sensor (HC-SR04).",
        "in",
        _RANGING,
        pin_roles=("trigger", "echo"),
        pulled_down=("echo",),
        unit="cm",
    ),
)
