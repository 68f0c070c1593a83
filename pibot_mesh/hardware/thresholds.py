"""Thresholds of sensors: what a measure crosses is told once, when it begins and when it ends. Pure.

A sensor is told of them in its option ``thresholds``, a list of::

    {measure: temperature, above: 28, hysteresis: 1, for_s: 60, name: hot}

which gives the events ``hot`` and ``hot_ended``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import KeyPath, Problem, suggestion
from pibot_mesh.hardware.changes import InputEvent

OPTION: Final = "thresholds"
ENDED: Final = "_ended"
"""What follows the name of a threshold in the event of its end."""

THRESHOLDS_SCHEMA: Final[Mapping[str, object]] = {
    "type": "array",
    "default": [],
    "maxItems": 16,
    "x-expects": "a list of thresholds such as {measure: temperature, above: 28, name: hot}",
    "description": "Events when a measure crosses a number: its name, and its name with '_ended'.",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "x-expects": "a threshold such as {measure: temperature, above: 28, name: hot}",
        "properties": {
            "measure": {
                "type": "string",
                "minLength": 1,
                "maxLength": 64,
                "description": "Which of the sensor's measures; needed where it has several.",
            },
            "above": {"type": "number", "description": "It begins above this number."},
            "below": {"type": "number", "description": "Or below this number."},
            "hysteresis": {
                "type": "number",
                "minimum": 0,
                "default": 0,
                "description": "It ends once the measure is this much back on the other side.",
            },
            "for_s": {
                "type": "number",
                "minimum": 0,
                "maximum": 604_800,
                "default": 0,
                "description": "Seconds that it must be beyond the number, in all readings, before it begins.",
            },
            "name": {
                "type": "string",
                "pattern": "^[a-z][a-z0-9_]{0,31}$(?!\\n)",
                "x-expects": "1 to 32 small letters, digits or '_', a letter first",
                "description": "Its event. Without one: high (above) or low (below).",
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A number that a measure may cross: upwards, or, where it *is_below*, downwards."""

    measure: str
    limit: float
    is_below: bool
    name: str
    hysteresis: float = 0.0
    for_s: float = 0.0

    def is_beyond(self, value: float, *, is_begun: bool) -> bool:
        """Whether *value* is beyond it; once it *is_begun*, up to the far edge of the hysteresis."""
        over = self.limit - value if self.is_below else value - self.limit
        return over + self.hysteresis > 0 if is_begun else over > 0


class Thresholds:
    """The thresholds of one sensor, and which of them have begun.

    What is beyond its number in the very first reading begins there: whoever must know of it may have missed nothing.
    A reading without the measure (or one that fails) changes nothing.
    """

    def __init__(self, device: DeviceSettings, measures: Sequence[str]) -> None:
        self._device = device.id
        self._thresholds = thresholds_of(device, measures)
        self._begun: set[str] = set()
        self._since: dict[str, float] = {}

    def read(self, values: Mapping[str, float], now: float) -> list[InputEvent]:
        """What begins and ends with the reading *values* at *now* seconds."""
        events = []
        for threshold in self._thresholds:
            value = values.get(threshold.measure)
            if value is not None and self._has_turned(threshold, value, now):
                is_begun = threshold.name in self._begun
                event = threshold.name if is_begun else threshold.name + ENDED
                events.append(InputEvent(self._device, event, {threshold.measure: value}))
        return events

    def _has_turned(self, threshold: Threshold, value: float, now: float) -> bool:
        name = threshold.name
        is_begun = name in self._begun
        if not threshold.is_beyond(value, is_begun=is_begun):
            self._since.pop(name, None)
            self._begun.discard(name)
            return is_begun
        if is_begun or now < self._since.setdefault(name, now) + threshold.for_s:
            return False
        self._begun.add(name)
        return True


def thresholds_of(device: DeviceSettings, measures: Sequence[str]) -> tuple[Threshold, ...]:
    """The thresholds that *device*, a sensor of *measures*, was told of. They must have been checked."""
    return tuple(
        Threshold(
            str(written.get("measure", measures[0])),
            float(written["below"] if "below" in written else written["above"]),
            "below" in written,
            _name(written),
            float(written.get("hysteresis", 0.0)),
            float(written.get("for_s", 0.0)),
        )
        for written in _written(device)
    )


def threshold_events(device: DeviceSettings) -> tuple[str, ...]:
    """The types of the events that the thresholds of *device* give, in the order of its file."""
    return tuple(event for written in _written(device) for event in (_name(written), _name(written) + ENDED))


def threshold_problems(device: DeviceSettings, measures: Sequence[str]) -> Iterator[Problem]:
    """What is wrong with the thresholds of *device*, a sensor of *measures*, beyond their schema."""
    names: set[str] = set()
    for index, written in enumerate(_written(device)):
        at: KeyPath = ("devices", device.id, OPTION, index)
        if ("above" in written) == ("below" in written):
            yield Problem(at, "a threshold is either above or below a number: write one of the two")
        yield from _measure_problems(written.get("measure"), measures, at)
        name = _name(written)
        if name in names:
            yield Problem((*at, "name"), f"two thresholds have the name {name!r}: give each one of its own")
        names.add(name)


def _measure_problems(measure: object, measures: Sequence[str], at: KeyPath) -> Iterator[Problem]:
    shown = ", ".join(measures)
    if measure is None and len(measures) > 1:
        yield Problem((*at, "measure"), f"is missing: the sensor has several, {shown}")
    elif measure is not None and measure not in measures:
        near = suggestion(str(measure), tuple(measures))
        yield Problem((*at, "measure"), f"the sensor does not measure {measure!r}{near}; it measures: {shown}")


def _written(device: DeviceSettings) -> list[Mapping[str, Any]]:
    """The thresholds as they were written; what is none is for the schema to refuse."""
    written = device.options.get(OPTION, ())
    if not isinstance(written, (list, tuple)):
        return []
    return [cast(Mapping[str, Any], one) for one in written if isinstance(one, Mapping)]


def _name(written: Mapping[str, Any]) -> str:
    return str(written.get("name", "low" if "below" in written else "high"))
