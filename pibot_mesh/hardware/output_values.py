"""The values of outputs, and the rule for each as it is configured. Pure.

A value is True or False for an output that is on or off, 0 to 100 (percent) for a dimmable one, and ``#rrggbb`` for one
in color, which shows a percentage as so much white.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pibot_mesh.config.settings import DeviceSettings, SafetySettings
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.kinds import KINDS, option, spec
from pibot_mesh.hardware.levels import color_of, fractions, percent
from pibot_mesh.hardware.safety_rules import lost_value
from pibot_mesh.protocol.messages import OutputValue

_NEAR: Final = 1.0
"""Percent: drivers round a level to what their pins can do."""
_BLACK: Final = "#000000"
_COLOR: Final = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True, slots=True)
class OutputRule:
    """What holds for one output. *initial* is its value after the start, *safe* when nobody looks after it.

    Without broker or master for *lost_after_s* seconds it goes to *on_lost*; None: it is left as it is. It is on for
    *max_on_s* at a stretch at most, off for *min_off_s* at least, and changes *max_per_minute* times in any 60 seconds
    at most. Where *is_kept_on_failure*, the failure of the task that set it changes nothing. What *is_position* is
    neither on nor off at any level.
    """

    id: str
    name: str
    initial: OutputValue
    safe: OutputValue
    on_lost: OutputValue | None
    is_dimmable: bool = False
    has_color: bool = False
    is_position: bool = False
    lost_after_s: float = SafetySettings().lost_after_s
    max_on_s: float | None = None
    min_off_s: float | None = None
    max_per_minute: int | None = None
    is_kept_on_failure: bool = False

    @property
    def off(self) -> OutputValue:
        """Its value when it is off."""
        if self.has_color:
            return _BLACK
        return 0.0 if self.is_dimmable else False

    def is_on(self, value: OutputValue) -> bool:
        """Whether it is on at *value*."""
        return value != self.off and not self.is_position

    def fit(self, value: OutputValue) -> OutputValue:
        """*value* as this output takes it. Raises ToolError for what it cannot be."""
        if isinstance(value, str):
            return self._color(value)
        if not (self.is_dimmable or self.has_color):
            if isinstance(value, bool):
                return value
            raise misuse(f"{self.name} can only be on or off, not {value:g} %")
        level = percent(value)
        if not 0 <= level <= 100:
            raise misuse(f"{self.name} takes 0 to 100 percent, not {level:g}")
        return color_of((level / 100,) * 3) if self.has_color else level

    def _color(self, value: str) -> str:
        if not self.has_color:
            raise misuse(f"{self.name} has no color, and cannot be {value}")
        if not _COLOR.fullmatch(value):
            raise misuse(f"{self.name} takes a color such as #ff8800, not {value!r}")
        return value.lower()


def rule_of(device: DeviceSettings, safety: SafetySettings) -> OutputRule:
    """The rule for an output as it is configured, on a node for which *safety* holds."""
    kind, on_lost = KINDS[device.kind], lost_value(device)
    per_minute = _number(device, "max_per_minute")
    return OutputRule(
        id=device.id,
        name=spec(device).name,
        initial=_value(device, option(device, "initial")),
        safe=_value(device, option(device, "safe")),
        on_lost=None if on_lost is None else _value(device, on_lost),
        is_dimmable=kind.is_dimmable,
        has_color=kind.has_color,
        is_position=kind.is_position,
        lost_after_s=_number(device, "lost_after_s") or safety.lost_after_s,
        max_on_s=_number(device, "max_on_s"),
        min_off_s=_number(device, "min_off_s"),
        max_per_minute=None if per_minute is None else int(per_minute),
        is_kept_on_failure=device.options.get("on_failure") == "keep",
    )


def _number(device: DeviceSettings, key: str) -> float | None:
    value = device.options.get(key)
    return None if value is None else float(str(value))


def _value(device: DeviceSettings, given: object) -> OutputValue:
    kind = KINDS[device.kind]
    if isinstance(given, str):
        return given.lower()
    level = 100.0 * given if isinstance(given, bool) else float(str(given))
    if kind.has_color:
        return color_of((level / 100,) * 3)
    return level if kind.is_dimmable else level > 0


def is_near(one: OutputValue, other: OutputValue) -> bool:
    """Whether two values are the same but for what a driver rounds: one percent, in each channel of a color."""
    return all(abs(a - b) <= _NEAR for a, b in zip(_channels(one), _channels(other), strict=True))


def _channels(value: OutputValue) -> tuple[float, float, float]:
    """Red, green and blue in percent."""
    if isinstance(value, str):
        red, green, blue = fractions(value)
        return 100 * red, 100 * green, 100 * blue
    return (percent(value),) * 3


def misuse(text: str) -> ToolError:
    """The error for what an output cannot be told."""
    return ToolError(text, code=ErrorCode.BAD_ARGUMENTS)
