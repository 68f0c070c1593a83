"""What a kind of device is, and what can be read from a device's settings with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.protocol.messages import Measure

Schema: TypeAlias = Mapping[str, object]
Bus: TypeAlias = Literal["", "i2c", "spi", "w1"]

MAX_PIN: Final = 27
"""The highest BCM number on the 40-pin header."""


@dataclass(frozen=True, slots=True)
class InputWords:
    """How an input of a kind speaks: its events, and its state in sentences. *on* is what its state ``ON`` means."""

    on_event: str
    off_event: str
    on: str
    off: str
    pull: Literal["up", "down"]
    is_on_when_active: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of device is. *options* are JSON Schemas of the keys that only this kind has, each with a default.

    One that *needs_pin* hangs on GPIO pins: on one, named by ``pin``, or on one for each of *pin_roles*, named in
    ``pins``; those of the roles *pulled_down* bear no pull-up. One on a *bus* needs the pins of that as well. An output
    is switched, unless it *is_dimmable* (0 to 100 percent; a servo's percent *is_position*, which is never off) or
    *has_color*.

    An input has *words* for ON and OFF, or its state is a number, in *unit*. *events* are those that it may send beside
    those of its words.
    """

    name: str
    says: str
    direction: Literal["in", "out", "sensor"]
    options: Mapping[str, Schema]
    is_dimmable: bool = False
    has_color: bool = False
    is_position: bool = False
    needs_pin: bool = True
    pin_roles: tuple[str, ...] = ()
    pulled_down: tuple[str, ...] = ()
    bus: Bus = ""
    has_driver: bool = True
    words: InputWords | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict)
    unit: str = ""
    events: tuple[str, ...] = ()

    def option(self, device: DeviceSettings, key: str) -> object:
        """An option of a *device* of this kind as set, or its default."""
        return device.options.get(key, self.options[key]["default"])


def pins_of(device: DeviceSettings) -> Mapping[str, int]:
    """Role → BCM number of every GPIO pin that *device* names; the role of a single pin is ``pin``.

    What is no number is left out, so that it may be asked of settings that were not checked yet.
    """
    named = device.options.get("pins", {})
    pins = cast(Mapping[str, object], named) if isinstance(named, Mapping) else {}
    found = {"pin": device.pin, **pins}
    return {role: pin for role, pin in found.items() if isinstance(pin, int) and not isinstance(pin, bool)}


def pin_words(device: DeviceSettings) -> str:
    """The pins of *device* for people: ``GPIO 17``, ``GPIO 17, 27 and 22``."""
    *others, last = pins_of(device).values()
    return f"GPIO {', '.join(map(str, others))} and {last}" if others else f"GPIO {last}"


def options_schema(kind: Kind) -> Schema:
    """The JSON Schema of the options of *kind*, with ``pins`` where it has more than one."""
    options: dict[str, object] = dict(kind.options)
    schema: dict[str, object] = {"type": "object", "properties": options, "additionalProperties": False}
    if kind.pin_roles:
        pin = {"type": "integer", "minimum": 0, "maximum": MAX_PIN}
        options["pins"] = {
            "type": "object",
            "properties": dict.fromkeys(kind.pin_roles, pin),
            "required": list(kind.pin_roles),
            "additionalProperties": False,
            "x-expects": f"pins such as {{{', '.join(f'{role}: ...' for role in kind.pin_roles)}}}",
            "description": f"The BCM numbers of its pins: {', '.join(kind.pin_roles)}.",
        }
        schema["required"] = ["pins"]
    return schema


def flag(default: bool, description: str) -> Schema:
    """The schema of an option that is true or false."""
    return {"type": "boolean", "default": default, "description": description}


def level(description: str) -> Schema:
    """The schema of a level in percent; true and false are 100 and 0."""
    return {
        "type": ["boolean", "number"],
        "minimum": 0,
        "maximum": 100,
        "x-expects": "true, false or a number from 0 to 100",
        "default": 0,
        "description": description,
    }


def color(description: str) -> Schema:
    """The schema of a color; true and false are white and black, a number is so many percent of white."""
    return {
        "type": ["boolean", "number", "string"],
        "minimum": 0,
        "maximum": 100,
        "pattern": "^#[0-9A-Fa-f]{6}$(?!\\n)",
        "x-expects": "true, false, a number from 0 to 100 or a color such as '#ff8800' (in quotes)",
        "default": "#000000",
        "description": description,
    }
