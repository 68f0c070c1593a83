"""The kinds of inputs, how each speaks, and what it can be told. Pure: no pins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pibot_mesh.hardware.kind import InputWords, Kind, Schema, flag


def _input(pull: str) -> Mapping[str, Schema]:
    return {
        "pull": {
            "enum": ["up", "down", "none"],
            "default": pull,
            "description": "The resistor inside the Pi. up: the pin is low when active.",
        },
        "active_high": flag(True, "With 'pull: none': whether the pin is high when active."),
        "bounce_s": {
            "type": "number",
            "minimum": 0,
            "maximum": 10,
            "default": 0.05,
            "description": "Seconds after a change in which further ones are ignored.",
        },
    }


_BUTTON: Final = InputWords("pressed", "released", "pressed", "not pressed", "up")
_MOTION: Final = InputWords("motion", "motion_ended", "seeing motion", "seeing no motion", "down")
_CONTACT: Final = InputWords("opened", "closed", "open", "closed", "up", is_on_when_active=False)

INPUT_KINDS: Final = (
    Kind("button", "A push button, to ground.", "in", _input("up"), words=_BUTTON),
    Kind("motion", "A motion sensor with a digital output.", "in", _input("down"), words=_MOTION),
    Kind("contact", "A door or window contact to ground, closed when shut.", "in", _input("up"), words=_CONTACT),
)
