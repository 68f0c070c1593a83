"""What is wrong with a node's devices beyond the file's schema, all of it at once, before a pin is touched. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import KeyPath, Problem, suggestion
from pibot_mesh.config.words import schema_problems, unknown_key
from pibot_mesh.hardware.kind import Bus, Kind, options_schema, pins_of

COMMON_KEYS: Final = ("kind", "pin", "name", "label", "room", "device_class")
"""The keys that every device may have; ``pin`` where its kind has a single one."""
FIXED_PULL_UP: Final = (2, 3)
"""BCM pins with a pull-up resistor soldered to them (they are the I2C bus)."""
BUS_PINS: Final[Mapping[Bus, tuple[int, ...]]] = {"i2c": (2, 3), "spi": (7, 8, 9, 10, 11), "w1": (4,)}
"""BCM pins that the Pi's buses need."""
BUS_NAMES: Final[Mapping[Bus, str]] = {"i2c": "I2C", "spi": "SPI", "w1": "1-Wire"}


def device_problems(devices: Sequence[DeviceSettings], kinds: Mapping[str, Kind], *, simulate: bool) -> list[Problem]:
    """What is wrong with *devices*, whose kinds stand in *kinds*, at paths below ``devices``; empty: nothing."""
    problems: list[Problem] = []
    for device in devices:
        kind = kinds.get(device.kind)
        if kind is None:
            near = suggestion(device.kind, kinds)
            text = f"there is no kind {device.kind!r}{near}; known are: {', '.join(kinds)}"
            problems.append(Problem(("devices", device.id, "kind"), text))
        else:
            problems += _check_kind(device, kind, kinds, simulate=simulate)
            problems += _check_options(device, kind, kinds)
    problems += _check_sharing(devices)
    problems += _check_buses(devices, kinds)
    place = {device.id: index for index, device in enumerate(devices)}
    return sorted(problems, key=lambda problem: place[str(problem.path[1])])


def _check_kind(device: DeviceSettings, kind: Kind, kinds: Mapping[str, Kind], *, simulate: bool) -> Iterator[Problem]:
    at = ("devices", device.id)
    if kind.pin_roles:
        if device.pin is not None:
            roles = ", ".join(f"{role}: ..." for role in kind.pin_roles)
            yield Problem((*at, "pin"), f"this {kind.name} hangs on several pins: write 'pins: {{{roles}}}' instead")
    elif kind.needs_pin and device.pin is None:
        yield Problem((*at, "pin"), f"is missing: give the BCM number of the pin of this {kind.name}")
    elif not kind.needs_pin and device.pin is not None:
        yield Problem((*at, "pin"), f"this {kind.name} hangs on no single pin: leave it out")
    if not kind.has_driver and not simulate:
        text = f"a {kind.name} can only be simulated yet: set 'simulate: true' under node"
        yield Problem((*at, "kind"), f"{text}, or {_driven_words(kind, kinds)}")


def _driven_words(kind: Kind, kinds: Mapping[str, Kind]) -> str:
    """What to have instead of a *kind* without a driver: one that measures the same."""
    driven = [
        other.name
        for other in kinds.values()
        if other.has_driver and kind.measures and kind.measures.keys() <= other.measures.keys()
    ]
    return f"use a kind that has a driver: {', '.join(driven)}" if driven else "take the device out"


_VALUES = ("initial", "safe", "on_lost")


def _check_options(device: DeviceSettings, kind: Kind, kinds: Mapping[str, Kind]) -> Iterator[Problem]:
    at = ("devices", device.id)
    schema = options_schema(kind)
    known = schema["properties"]
    assert isinstance(known, Mapping)
    for key in device.options:
        if key not in known:
            yield Problem((*at, key), _foreign_words(key, kind, tuple(known), kinds))
    for problem in schema_problems(schema, {key: device.options[key] for key in device.options if key in known}, at):
        key = str(problem.path[2])
        is_dimmed = _is_switched(kind) and key in _VALUES and _is_level(device.options.get(key))
        yield Problem(problem.path, _undimmed_words(kind)) if is_dimmed else problem
    yield from _check_pulled_down(device, kind)
    if "pull" in kind.options:
        yield from _check_pull(device, kind)
    if kind.is_position:
        yield from _check_pulses(device, kind)


def _foreign_words(key: str, kind: Kind, known: Sequence[str], kinds: Mapping[str, Kind]) -> str:
    """What to say of an option that *kind* has not."""
    if key == "pins":
        return f"this {kind.name} hangs on one pin: write 'pin: ...' instead"
    if key == "frequency_hz" and _is_switched(kind):
        return _undimmed_words(kind)
    having = [other.name for other in kinds.values() if key in other.options]
    if not having:
        return unknown_key(key, (*COMMON_KEYS, *known))
    shown = having[0] if len(having) == 1 else f"{', '.join(having[:-1])} and {having[-1]}"
    return f"is an option of {shown}, not of {kind.name}: take it out, or change the kind"


def _undimmed_words(kind: Kind) -> str:
    return f"this {kind.name} cannot be dimmed, it is on or off: for a level use 'kind: light' or 'kind: pwm'"


def _is_switched(kind: Kind) -> bool:
    return kind.direction == "out" and not kind.is_dimmable and not kind.has_color


def _is_level(value: object) -> bool:
    """Whether somebody wrote a level between off and on."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value not in (0, 1)


def _check_pull(device: DeviceSettings, kind: Kind) -> Iterator[Problem]:
    at = ("devices", device.id)
    pull = kind.option(device, "pull")
    for pin in pins_of(device).values():
        if pin in FIXED_PULL_UP and pull != "up":
            text = f"GPIO {pin} has a pull-up resistor that cannot be turned off: use 'pull: up' or another pin"
            yield Problem((*at, "pull"), text)
    if pull == "none" and "active_high" in kind.options and "active_high" not in device.options:
        text = "is missing: with 'pull: none' say whether the pin is high when active (true) or low (false)"
        yield Problem((*at, "active_high"), text)


def _check_pulled_down(device: DeviceSettings, kind: Kind) -> Iterator[Problem]:
    for role, pin in pins_of(device).items():
        if role in kind.pulled_down and pin in FIXED_PULL_UP:
            text = f"GPIO {pin} has a pull-up resistor that cannot be turned off: use another pin"
            yield Problem(_pin_path(device, role), text)


def _check_pulses(device: DeviceSettings, kind: Kind) -> Iterator[Problem]:
    shortest, longest = (kind.option(device, key) for key in ("min_pulse_ms", "max_pulse_ms"))
    if isinstance(shortest, (int, float)) and isinstance(longest, (int, float)) and shortest >= longest:
        text = f"must be below max_pulse_ms ({longest:g}), not {shortest:g}"
        yield Problem(("devices", device.id, "min_pulse_ms"), text)


def _check_sharing(devices: Sequence[DeviceSettings]) -> Iterator[Problem]:
    """A pin belongs to one role of one device."""
    holders: dict[int, str] = {}
    for device in devices:
        for role, pin in pins_of(device).items():
            if pin in holders:
                text = f"GPIO {pin} is already used by devices.{holders[pin]}: wire one of them to another pin"
                yield Problem(_pin_path(device, role), text)
            holders.setdefault(pin, device.id if role == "pin" else f"{device.id}.pins.{role}")


def _check_buses(devices: Sequence[DeviceSettings], kinds: Mapping[str, Kind]) -> Iterator[Problem]:
    """A pin of a bus that a device needs cannot be used by itself."""
    users = {_bus_of(device, kinds): device.id for device in reversed(devices)}
    users.pop("", None)
    for bus, user in users.items():
        for device in devices:
            for role, pin in pins_of(device).items():
                if pin in BUS_PINS[bus] and device.id != user:
                    text = f"GPIO {pin} is the {BUS_NAMES[bus]} bus, which devices.{user} needs: use another pin"
                    yield Problem(_pin_path(device, role), text)


def _bus_of(device: DeviceSettings, kinds: Mapping[str, Kind]) -> Bus:
    """The bus on the Pi's usual pins that *device* needs; I2C buses other than number 1 are elsewhere."""
    kind = kinds.get(device.kind)
    if kind is None or (kind.bus == "i2c" and device.options.get("bus", 1) != 1):
        return ""
    return kind.bus


def _pin_path(device: DeviceSettings, role: str) -> KeyPath:
    return ("devices", device.id, "pin") if role == "pin" else ("devices", device.id, "pins", role)
