"""The devices of one machine, as its pins and sensors show them. Pure: no pins, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pibot_mesh.cli.values import value_text
from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent, SensorRead
from pibot_mesh.hardware.kind import pins_of
from pibot_mesh.hardware.kinds import spec
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, OutputValue

NOT_READ: Final = "not read"
"""What is shown for an output that nobody drives: to take its pin would set it."""
NO_ANSWER: Final = "no reading yet"


@dataclass(frozen=True, slots=True)
class Row:
    """One device in words. *is_missing*: nothing was read of it, though it can be."""

    device: str
    kind: str
    pins: str
    value: str
    event: str
    age: str
    is_missing: bool


@dataclass(slots=True)
class _Seen:
    value: OutputValue | None = None
    measures: Mapping[str, float] | None = None
    read_at: float | None = None
    event: str = ""
    event_at: float = 0.0

    @property
    def is_read(self) -> bool:
        return self.value is not None or self.measures is not None


class PinView:
    """What is known of *devices*; *found* is what the pins of driven outputs were at."""

    def __init__(self, devices: Sequence[DeviceSettings], found: Mapping[str, OutputValue]) -> None:
        self._devices = tuple(devices)
        self._specs = {device.id: spec(device) for device in devices}
        self._seen = {device.id: _Seen(found.get(device.id)) for device in devices}

    def see(self, change: Change, now: float) -> None:
        """Take in a change that a board reports at *now*, seconds on any clock."""
        seen = self._seen[change.device]
        match change:
            case InputChanged(_, value):
                seen.value, seen.read_at = value, now
            case InputEvent(_, event_type):
                seen.event, seen.event_at = event_type, now
            case SensorRead(_, values):
                seen.measures, seen.read_at = values, now
            case _:  # an output: what it was set to is no reading
                pass

    @property
    def is_complete(self) -> bool:
        """Whether every input and sensor has been read."""
        return not self.missing

    @property
    def missing(self) -> list[str]:
        """The inputs and sensors of which nothing was read yet."""
        return [id_ for id_, seen in self._seen.items() if self._specs[id_].direction != "out" and not seen.is_read]

    def rows(self, now: float) -> list[Row]:
        """A row for each device, in the order of the file."""
        return [self._row(device, now) for device in self._devices]

    def to_json(self, now: float) -> dict[str, JSON]:
        """What ``pibot gpio read --json`` prints: value or measures, and how many seconds ago they were read."""
        return {device.id: self._json(device, now) for device in self._devices}

    def _row(self, device: DeviceSettings, now: float) -> Row:
        shown, seen = self._specs[device.id], self._seen[device.id]
        event = f"{seen.event} {_age(now - seen.event_at)} ago" if seen.event else ""
        age = _age(now - seen.read_at) if shown.direction == "sensor" and seen.read_at is not None else ""
        value = _value(shown, seen)
        is_missing = device.id in self.missing
        return Row(device.id, device.kind, _pins(device), value, event, age, is_missing)

    def _json(self, device: DeviceSettings, now: float) -> dict[str, JSON]:
        seen = self._seen[device.id]
        return {
            "kind": device.kind,
            "pins": dict(pins_of(device)),
            "value": seen.value,
            "measures": dict(seen.measures) if seen.measures is not None else None,
            "event": seen.event or None,
            "age_s": round(now - seen.read_at, 3) if seen.read_at is not None else None,
        }


def measures_text(shown: DeviceSpec, values: Mapping[str, float]) -> str:
    """What a sensor gave, with units: ``temperature 21.5 °C, humidity 40 %``."""
    units = {quantity: measure.unit for quantity, measure in shown.measures.items()}
    return ", ".join(f"{quantity} {value:g} {units.get(quantity, '')}".rstrip() for quantity, value in values.items())


def _value(shown: DeviceSpec, seen: _Seen) -> str:
    if seen.measures is not None:
        return measures_text(shown, seen.measures)
    if seen.value is not None:
        return value_text(seen.value, shown)
    return NOT_READ if shown.direction == "out" else NO_ANSWER


def _pins(device: DeviceSettings) -> str:
    pins = pins_of(device)
    return ", ".join(str(pin) if role == "pin" else f"{role} {pin}" for role, pin in pins.items())


def _age(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
