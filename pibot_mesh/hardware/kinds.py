"""The kinds of devices that a node knows, and what is wrong with devices beyond the file's schema. Pure: no pins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import Problem, suggestion
from pibot_mesh.config.words import schema_problems, unknown_key
from pibot_mesh.hardware.input_kinds import INPUT_KINDS
from pibot_mesh.hardware.kind import Kind, Schema
from pibot_mesh.hardware.output_kinds import OUTPUT_KINDS
from pibot_mesh.hardware.sensor_kinds import SENSOR_KINDS
from pibot_mesh.protocol.messages import DeviceSpec

FIXED_PULL_UP: Final = (2, 3)
"""BCM pins with a pull-up resistor soldered to them (they are the I2C bus)."""

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (*OUTPUT_KINDS, *INPUT_KINDS, *SENSOR_KINDS)}
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
