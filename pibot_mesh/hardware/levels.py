"""What the pins of an output are at, for each of its values, and how gpiozero says it. Pure: no pins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.kind import pins_of
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.protocol.messages import OutputValue


@dataclass(frozen=True, slots=True)
class Scale:
    """The values of an output, and the ``value`` of its gpiozero device."""

    to_driver: Callable[[OutputValue], object]
    from_driver: Callable[[Any], OutputValue]


def percent(value: OutputValue) -> float:
    """A level in percent; on and off are 100 and 0. Not for colors."""
    assert not isinstance(value, str), value
    return 100.0 * value if isinstance(value, bool) else float(value)


def fractions(color: OutputValue) -> tuple[float, float, float]:
    """How bright red, green and blue of ``#rrggbb`` are, from 0 to 1."""
    assert isinstance(color, str), color
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def color_of(parts: Iterable[float]) -> str:
    """``#rrggbb`` for red, green and blue from 0 to 1."""
    return "#" + "".join(f"{round(part * 255):02x}" for part in parts)


def white(level: float) -> str:
    """So many percent of white, as ``#rrggbb``; 0 is black."""
    return color_of((level / 100,) * 3)


_SWITCHED: Final = Scale(bool, bool)
_SOUNDING: Final = Scale(lambda value: 0.5 if value else 0.0, bool)
_DIMMED: Final = Scale(lambda value: percent(value) / 100, lambda read: round(100 * read, 2))
_COLORED: Final = Scale(fractions, color_of)
_PLACED: Final = Scale(lambda value: percent(value) / 50 - 1, lambda read: round(50 + 50 * read, 2))
_PLACED_BACKWARDS: Final = Scale(lambda value: 1 - percent(value) / 50, lambda read: round(50 - 50 * read, 2))


def scale_of(device: DeviceSettings) -> Scale:
    """How gpiozero says the values of an output. An alternating buzzer is half on while it sounds."""
    kind = KINDS[device.kind]
    if kind.is_position:
        return _PLACED_BACKWARDS if kind.option(device, "is_reversed") else _PLACED
    if kind.has_color:
        return _COLORED
    if kind.is_dimmable:
        return _DIMMED
    return _SOUNDING if is_pulsed(device) else _SWITCHED


def pin_levels(device: DeviceSettings, value: OutputValue) -> Mapping[int, float]:
    """BCM number → percent, for each pin of an output that is at *value*."""
    kind, pins = KINDS[device.kind], pins_of(device)
    if not kind.has_color:
        return {pins["pin"]: percent(value)}
    return {pins[role]: 100 * part for role, part in zip(kind.pin_roles, fractions(value), strict=True)}


def value_at(device: DeviceSettings, levels: Mapping[int, float]) -> OutputValue | None:
    """The value of an output whose pins are at *levels* (percent), or None where one of them is not known."""
    kind = KINDS[device.kind]
    pins = [pins_of(device)[role] for role in kind.pin_roles or ("pin",)]
    if not all(pin in levels for pin in pins):
        return None
    if kind.has_color:
        return color_of(levels[pin] / 100 for pin in pins)
    [pin] = pins
    return levels[pin] if kind.is_dimmable else levels[pin] > 0


def is_pulsed(device: DeviceSettings) -> bool:
    """Whether an output is driven by pulses, which end with the process that makes them."""
    kind = KINDS[device.kind]
    has_tone = "frequency_hz" in kind.options and kind.option(device, "frequency_hz") != 0
    return kind.is_dimmable or kind.has_color or has_tone
