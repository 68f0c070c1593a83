"""The rules for a node's outputs. Pure: no pins, no clock; every decision about what may be set, and when, is here.

A value is True or False for an output that is on or off, and 0 to 100 (percent) for a dimmable one. What a method
returns is to be written to the pins, in that order, and what the pin then reads goes to `Outputs.confirm`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import suggestion
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.changes import OutputChanged
from pibot_mesh.hardware.kinds import KINDS, option, spec
from pibot_mesh.protocol.messages import Cause, OutputValue
from pibot_mesh.timers import Timers

MIN_FOR_S: Final = 0.001
MAX_FOR_S: Final = 7 * 24 * 3600.0
"""The shortest and the longest time that an output can be set for, in seconds."""


@dataclass(frozen=True, slots=True)
class OutputRule:
    """What holds for one output. *initial* is its value after the start, *safe* when nobody looks after it."""

    id: str
    name: str
    is_dimmable: bool
    initial: OutputValue
    safe: OutputValue


def rule_of(device: DeviceSettings) -> OutputRule:
    """The rule for an output as it is configured."""
    is_dimmable = KINDS[device.kind].is_dimmable
    initial, safe = (_level(option(device, key), is_dimmable) for key in ("initial", "safe"))
    return OutputRule(device.id, spec(device).name, is_dimmable, initial, safe)


def _level(value: object, is_dimmable: bool) -> OutputValue:
    if not is_dimmable:
        return bool(value)
    assert isinstance(value, (bool, int, float))
    return (100.0 if value else 0.0) if isinstance(value, bool) else float(value)


@dataclass(frozen=True, slots=True)
class Write:
    """Set the pin of *device* to *value*."""

    device: str
    value: OutputValue
    cause: Cause


class Outputs:
    """The outputs of one node: what they are, who set them, when they go back, and whether they may be set at all."""

    def __init__(self, rules: Iterable[OutputRule]) -> None:
        self._rules = {rule.id: rule for rule in rules}
        self._states: dict[str, tuple[OutputValue, Cause]] = {}
        self._timers: Timers[str] = Timers()
        self._is_held = False

    @property
    def is_held(self) -> bool:
        """Whether the emergency stop holds."""
        return self._is_held

    @property
    def states(self) -> Mapping[str, tuple[OutputValue, Cause]]:
        """The confirmed value of every output, and what set it last. Empty before the start."""
        return dict(self._states)

    def begin(self) -> list[Write]:
        """At the start: every output to its initial value, or to its safe one where the emergency stop holds."""
        if self._is_held:
            return self.make_safe(Cause(by="stop", reason="the emergency stop holds"))
        return [Write(rule.id, rule.initial, Cause(by="start")) for rule in self._rules.values()]

    def set(
        self, device: str, value: OutputValue, *, cause: Cause, for_s: float | None = None, now: float
    ) -> list[Write]:
        """Set an output; with *for_s*, for so many seconds, then it goes to its safe value. Forgets an earlier time.

        Raises ToolError for a device that is no output, a value or time out of range, brightness for a switch, a time
        that would change nothing at its end, and (code ``stopped``) while the emergency stop holds.
        """
        rule = self.rule(device)
        wanted = _fit(rule, value)
        if for_s is not None:
            _check_time(rule, wanted, for_s)
        if self._is_held:
            raise ToolError(
                f"{rule.name} was not changed: the emergency stop holds until someone releases it",
                code=ErrorCode.STOPPED,
            )
        self._timers.cancel(device)
        if for_s is not None:
            self._timers.set(device, now + for_s)
        return [Write(device, wanted, cause)]

    def expire(self, now: float) -> list[Write]:
        """The outputs whose time is over by *now* go to their safe value."""
        cause = Cause(by="timer", reason="its time is over")
        return [Write(device, self._rules[device].safe, cause) for device in self._timers.pop_due(now)]

    def hold(self, is_held: bool, cause: Cause) -> list[Write]:
        """The emergency stop, or its end. Outputs are safe, and `set` refuses, while it holds. Its end sets nothing."""
        self._is_held = is_held
        return self.make_safe(cause) if is_held else []

    def make_safe(self, cause: Cause) -> list[Write]:
        """Every output to its safe value, whatever it had before; no time runs any more."""
        for device in self._rules:
            self._timers.cancel(device)
        return [Write(rule.id, rule.safe, cause) for rule in self._rules.values()]

    def safe_at(self, device: str) -> float | None:
        """When the time of an output is over, or None where none runs."""
        return self._timers.at(device)

    def make_safe_at(self, device: str, at: float) -> None:
        """Have `expire` make an output safe at *at*, or when its time is over where that is earlier."""
        earlier = self._timers.at(device)
        self._timers.set(device, at if earlier is None else min(at, earlier))

    def confirm(self, write: Write, reads: OutputValue) -> OutputChanged:
        """The pin of *write* now reads *reads*: that is the output's state."""
        self._states[write.device] = (reads, write.cause)
        return OutputChanged(write.device, reads, write.cause)

    def wake_at(self) -> float | None:
        """When `expire` has something to do, or None."""
        return self._timers.next_at()

    def rule(self, device: str) -> OutputRule:
        """The rule of an output. Raises ToolError for a name that is none."""
        rule = self._rules.get(device)
        if rule is None:
            raise unknown_device(device, "output", tuple(self._rules))
        return rule


def unknown_device(device: str, what: str, known: Sequence[str]) -> ToolError:
    """The error for a device that is no *what* (output, input, sensor)."""
    there = f"there are: {', '.join(known)}" if known else f"this node has no {what}s"
    return ToolError(
        f"there is no {what} {device!r}{suggestion(device, tuple(known))}; {there}", code=ErrorCode.BAD_ARGUMENTS
    )


def value_words(value: OutputValue) -> str:
    """``on``, ``off`` or ``40 %``; 0 percent is off."""
    if isinstance(value, bool) or value == 0:
        return "on" if value else "off"
    return f"{value:.4g} %"


def _fit(rule: OutputRule, value: OutputValue) -> OutputValue:
    if not rule.is_dimmable:
        if isinstance(value, bool):
            return value
        raise _refusal(f"{rule.name} can only be on or off, not {value:g} %")
    level = _level(value, is_dimmable=True)
    if not 0 <= level <= 100:
        raise _refusal(f"{rule.name} takes 0 to 100 percent, not {level:g}")
    return level


def _check_time(rule: OutputRule, wanted: OutputValue, for_s: float) -> None:
    if not (math.isfinite(for_s) and MIN_FOR_S <= for_s <= MAX_FOR_S):
        raise _refusal(f"{rule.name}: a time is {MIN_FOR_S:g} to {MAX_FOR_S:.0f} seconds, not {for_s:g}")
    if wanted == rule.safe:
        state = value_words(rule.safe)
        raise _refusal(f"{rule.name} cannot be {state} for a time: {state} is what it goes back to; leave out the time")


def _refusal(text: str) -> ToolError:
    return ToolError(text, code=ErrorCode.BAD_ARGUMENTS)
