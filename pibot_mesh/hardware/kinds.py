"""The kinds of devices that a node knows, and what each can be told. Pure: no pins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import Problem, suggestion
from pibot_mesh.config.words import schema_problems, unknown_key
from pibot_mesh.protocol.messages import DeviceSpec, Measure

Schema: TypeAlias = Mapping[str, object]

FIXED_PULL_UP: Final = (2, 3)
"""BCM pins with a pull-up resistor soldered to them (they are the I2C bus)."""


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
    """What a kind of device is. *options* are JSON Schemas of the keys that only this kind has."""

    name: str
    says: str
    direction: Literal["in", "out", "sensor"]
    options: Mapping[str, Schema]
    is_dimmable: bool = False
    needs_pin: bool = True
    has_driver: bool = True
    words: InputWords | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict)


def _flag(default: bool, description: str) -> Schema:
    return {"type": "boolean", "default": default, "description": description}


def _level(description: str) -> Schema:
    return {
        "type": ["boolean", "number"],
        "minimum": 0,
        "maximum": 100,
        "x-expects": "true, false or a number from 0 to 100",
        "default": 0,
        "description": description,
    }


_ACTIVE_HIGH = _flag(True, "false: the pin is low when the device is on, as with most relay boards.")
_SWITCHED: Final[Mapping[str, Schema]] = {
    "active_high": _ACTIVE_HIGH,
    "initial": _flag(False, "Its state after the node's start."),
    "safe": _flag(False, "Its state when the node stops, or in an emergency."),
}
_DIMMED: Final[Mapping[str, Schema]] = {
    "active_high": _ACTIVE_HIGH,
    "initial": _level("Its level after the node's start, in percent."),
    "safe": _level("Its level when the node stops, or in an emergency, in percent."),
    "frequency_hz": {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "default": 100,
        "description": "Pulses in a second.",
    },
}


def _input(pull: str) -> Mapping[str, Schema]:
    return {
        "pull": {
            "enum": ["up", "down", "none"],
            "default": pull,
            "description": "The resistor inside the Pi. up: the pin is low when active.",
        },
        "active_high": _flag(True, "With 'pull: none': whether the pin is high when active."),
        "bounce_s": {
            "type": "number",
            "minimum": 0,
            "maximum": 10,
            "default": 0.05,
            "description": "Seconds after a change in which further ones are ignored.",
        },
    }


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
_BUTTON: Final = InputWords("pressed", "released", "pressed", "not pressed", "up")
_MOTION: Final = InputWords("motion", "motion_ended", "seeing motion", "seeing no motion", "down")
_CONTACT: Final = InputWords("opened", "closed", "open", "closed", "up", is_on_when_active=False)

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("switch", "Anything that is on or off.", "out", _SWITCHED),
        Kind("relay", "A relay board.", "out", _SWITCHED),
        Kind("light", "A light with brightness (PWM).", "out", _DIMMED, is_dimmable=True),
        Kind("lamp", "The same as light.", "out", _DIMMED, is_dimmable=True),
        Kind("fan", "A fan with speed (PWM).", "out", _DIMMED, is_dimmable=True),
        Kind("pwm", "Any other output that takes 0 to 100 percent (PWM).", "out", _DIMMED, is_dimmable=True),
        Kind("button", "A push button, to ground.", "in", _input("up"), words=_BUTTON),
        Kind("motion", "A motion sensor with a digital output.", "in", _input("down"), words=_MOTION),
        Kind("contact", "A door or window contact to ground, closed when shut.", "in", _input("up"), words=_CONTACT),
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
}
"""Every kind by name. Those without a driver can only be simulated."""


def options_schema(kind: Kind) -> Schema:
    """The JSON Schema of the options of *kind*."""
    return {"type": "object", "properties": dict(kind.options), "additionalProperties": False}


def option(device: DeviceSettings, key: str) -> object:
    """An option of *device* as set, or its kind's default."""
    return device.options.get(key, KINDS[device.kind].options[key]["default"])


def spec(device: DeviceSettings) -> DeviceSpec:
    """*device* as the node's card shows it. Its kind must be known."""
    kind = KINDS[device.kind]
    return DeviceSpec(
        id=device.id,
        direction=kind.direction,
        kind=device.kind,
        name=device.name or device.id.replace("-", " ").replace("_", " "),
        room=device.room,
        dimmable=kind.is_dimmable,
        measures=kind.measures,
    )


def check(devices: Sequence[DeviceSettings], *, simulate: bool) -> list[Problem]:
    """What is wrong with *devices* beyond the file's schema, at paths below ``devices``. Empty where nothing is."""
    problems: list[Problem] = []
    holders: dict[int, str] = {}
    for device in devices:
        problems += _check_device(device, simulate=simulate)
        if device.pin is not None:
            holder = holders.setdefault(device.pin, device.id)
            if holder != device.id:
                text = f"GPIO {device.pin} is already used by devices.{holder}"
                problems.append(Problem(("devices", device.id, "pin"), f"{text}: wire one of them to another pin"))
    return problems


def _check_device(device: DeviceSettings, *, simulate: bool) -> list[Problem]:
    at = ("devices", device.id)
    kind = KINDS.get(device.kind)
    if kind is None:
        near = suggestion(device.kind, KINDS)
        return [Problem((*at, "kind"), f"there is no kind {device.kind!r}{near}; known are: {', '.join(KINDS)}")]
    problems: list[Problem] = []
    if kind.needs_pin and device.pin is None:
        problems.append(Problem((*at, "pin"), f"is missing: give the BCM number of the pin of this {kind.name}"))
    if not kind.needs_pin and device.pin is not None:
        problems.append(Problem((*at, "pin"), f"a {kind.name} hangs on no single pin: leave it out"))
    if not kind.has_driver and not simulate:
        text = f"a {kind.name} can only be simulated yet: set 'simulate: true' under node, or take the device out"
        problems.append(Problem((*at, "kind"), text))
    known = ("kind", "pin", "name", "room", *kind.options)
    problems += [Problem((*at, key), unknown_key(key, known)) for key in device.options if key not in kind.options]
    options = {key: value for key, value in device.options.items() if key in kind.options}
    problems += schema_problems(options_schema(kind), options, at)
    if kind.direction == "in" and device.pin in FIXED_PULL_UP and option(device, "pull") != "up":
        text = f"GPIO {device.pin} has a pull-up resistor that cannot be turned off: use 'pull: up' or another pin"
        problems.append(Problem((*at, "pull"), text))
    return problems
