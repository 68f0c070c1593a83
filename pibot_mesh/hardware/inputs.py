"""The inputs of one node: what their pins read, and what happens at them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.changes import Change, InputChanged
from pibot_mesh.hardware.counting import Distance, Pulses, Turns
from pibot_mesh.hardware.input_pins import DistancePins, EncoderPins, LevelPin
from pibot_mesh.hardware.kinds import KINDS, option, spec
from pibot_mesh.hardware.pins import pin_errors
from pibot_mesh.hardware.presses import Presses, Switching, earliest
from pibot_mesh.protocol.messages import OutputValue

_log = logging.getLogger(__name__)

Clock: TypeAlias = Callable[[], float]
Hear: TypeAlias = Callable[[float, float], None]
"""Called in the driver's thread with a signal (a level, a step, seconds of an echo) and its time."""


class Inputs:
    """*tell* hears of every state and event, in the loop's thread. Not thread-safe, as the board is not.

    Signals of pins are heard in the driver's threads and kept in order until the loop takes them, all at once: none is
    lost, however many come.
    """

    def __init__(
        self, devices: Iterable[DeviceSettings], *, tell: Callable[[Change], None], now: Clock = time.monotonic
    ) -> None:
        self._devices = {device.id: device for device in devices}
        self._tell = tell
        self._now = now
        self._lines: dict[str, _Line] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lock = threading.Lock()
        self._heard: list[tuple[str, float, float]] = []
        self._broken: set[str] = set()
        """The inputs whose pins could not be read, which is logged once."""

    def take_pins(self, factory: Any) -> None:
        """Take the pins. Raises ConfigError where one cannot be had; `stop` gives back the others."""
        self._loop = asyncio.get_running_loop()
        for device in self._devices.values():
            with pin_errors(device):
                line = _LINES.get(device.kind, _Level)
                self._lines[device.id] = line(device, factory, functools.partial(self._hear, device.id), self._now)

    def start(self) -> None:
        """Tell every state, and from now on what happens."""
        for device, value in self.states().items():
            self._tell(InputChanged(device, value))
        self._arm()

    def stop(self) -> None:
        """Give the pins back; nothing more is told. May be called twice or without a start."""
        self._loop = None
        self._arm()
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        self._heard.clear()

    def states(self) -> Mapping[str, OutputValue]:
        """Every input's state: as its pin reads now, but for bounces. Empty while they do not run.

        An input of which nothing is known is missing: a sensor that has not answered, a pin that cannot be read.
        """
        states = {device: self._state(device) for device in self._lines}
        return {device: state for device, state in states.items() if state is not None}

    def state(self, device: str) -> OutputValue:
        """The state of *device*, one of these. Raises ToolError where nothing is known of it yet."""
        state = self._state(device) if device in self._lines else None
        if state is None:
            raise ToolError(f"{spec(self._devices[device]).name} does not answer", retryable=True)
        return state

    def _state(self, device: str) -> OutputValue | None:
        try:
            state = self._lines[device].state(self._now())
        except Exception as error:  # noqa: BLE001 - drivers raise what they like
            if device not in self._broken:
                _log.error("%s cannot be read: %s", spec(self._devices[device]).name, error)
            self._broken.add(device)
            return None
        self._broken.discard(device)
        return state

    def _hear(self, device: str, signal: float, at: float) -> None:
        with self._lock:
            loop = self._loop
            if loop is None:
                return
            self._heard.append((device, signal, at))
            is_awaited = len(self._heard) > 1
        if not is_awaited:
            with contextlib.suppress(RuntimeError):  # the loop was closed without a stop
                loop.call_soon_threadsafe(self._listen)

    def _listen(self) -> None:
        with self._lock:
            heard, self._heard = self._heard, []
        for device, signal, at in heard:
            if device in self._lines:
                self._tell_all(self._lines[device].hear(signal, at))
        self._arm()

    def _wake(self) -> None:
        self._listen()  # what has happened is older than what time brings
        now = self._now()
        for line in self._lines.values():
            wake_at = line.wake_at()
            if wake_at is not None and wake_at <= now:
                self._tell_all(line.wake(now))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = earliest(*(line.wake_at() for line in self._lines.values()))
        if wake_at is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, wake_at - self._now()), self._wake)

    def _tell_all(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._tell(change)


class _Line(Protocol):
    """One input: its pins, and the rule for what they say."""

    def hear(self, signal: float, at: float) -> list[Change]: ...

    def wake(self, now: float) -> list[Change]: ...

    def wake_at(self) -> float | None: ...

    def state(self, now: float) -> OutputValue | None: ...

    def close(self) -> None: ...


class _Level:
    """An input on one pin."""

    def __init__(self, device: DeviceSettings, factory: Any, hear: Hear, now: Clock) -> None:
        self._name = spec(device).name
        self._pin = LevelPin(device, factory, hear, now)
        self._rule = _level_rule(device, self._pin.read())
        self.close = self._pin.close
        self.wake_at = self._rule.wake_at

    def hear(self, signal: float, at: float) -> list[Change]:
        return self._rule.edge(bool(signal), at)

    def wake(self, now: float) -> list[Change]:
        reads = None
        try:
            reads = self._pin.read()
        except Exception as error:  # noqa: BLE001 - drivers raise what they like; the edges that were told are believed
            _log.warning("the pin of %s cannot be read: %s", self._name, error)
        return self._rule.tick(now, reads)

    def state(self, now: float) -> OutputValue:
        return self._rule.state(self._pin.read(), now)


class _Encoder:
    """A rotary encoder on its two pins."""

    def __init__(self, device: DeviceSettings, factory: Any, hear: Hear, now: Clock) -> None:
        self._rule = Turns(device.id, interval_s=_number(device, "interval_s"))
        self.close = EncoderPins(device, factory, hear, now).close
        self.wake = self._rule.tick
        self.wake_at = self._rule.wake_at

    def hear(self, signal: float, at: float) -> list[Change]:
        return self._rule.step(bool(signal), at)

    def state(self, now: float) -> OutputValue:  # noqa: ARG002 - as every line's
        return self._rule.state()


class _Distance:
    """A distance sensor on its two pins."""

    def __init__(self, device: DeviceSettings, factory: Any, hear: Hear, now: Clock) -> None:
        self._name = spec(device).name
        self._pins = DistancePins(device, factory, hear, now)
        change_cm, interval_s, max_cm = (_number(device, key) for key in ("change_cm", "interval_s", "max_cm"))
        self._rule = Distance(device.id, change_cm=change_cm, interval_s=interval_s, max_cm=max_cm, now=now())
        self._is_missed = False
        self.close = self._pins.close
        self.wake_at = self._rule.wake_at

    def hear(self, signal: float, at: float) -> list[Change]:  # noqa: ARG002 - as every line's
        self._is_missed = False
        return self._rule.echo(signal)

    def wake(self, now: float) -> list[Change]:
        if self._rule.is_silent and not self._is_missed:
            _log.warning("%s does not answer: check how its trigger and echo are wired", self._name)
            self._is_missed = True
        self._rule.pinged(now)
        try:
            self._pins.ping()
        except Exception as error:  # noqa: BLE001 - drivers raise what they like; its silence will be noticed
            _log.debug("%s cannot be pinged: %s", self._name, error)
        return []

    def state(self, now: float) -> OutputValue | None:  # noqa: ARG002 - as every line's
        return self._rule.state()


_LINES: Final[Mapping[str, Callable[[DeviceSettings, Any, Hear, Clock], _Line]]] = {
    "encoder": _Encoder,
    "distance": _Distance,
}
"""The kinds of inputs that hang on more than one pin."""


class _LevelRule(Protocol):
    def edge(self, is_active: bool, at: float) -> list[Change]: ...

    def tick(self, now: float, reads: bool | None = None) -> list[Change]: ...

    def wake_at(self) -> float | None: ...

    def state(self, is_active: bool, now: float) -> OutputValue: ...


def _level_rule(device: DeviceSettings, is_active: bool) -> _LevelRule:
    kind = KINDS[device.kind]
    bounce_s = _number(device, "bounce_s")
    if kind.words is None:
        per_pulse, interval_s = _number(device, "per_pulse"), _number(device, "interval_s")
        return Pulses(device.id, is_active=is_active, bounce_s=bounce_s, per_pulse=per_pulse, interval_s=interval_s)
    if "hold_s" in kind.options:
        hold_s, double_s = _number(device, "hold_s"), _number(device, "double_s")
        return Presses(device.id, kind.words, is_active=is_active, bounce_s=bounce_s, hold_s=hold_s, double_s=double_s)
    off_delay_s = _number(device, "off_delay_s") if "off_delay_s" in kind.options else 0.0
    return Switching(device.id, kind.words, is_active=is_active, bounce_s=bounce_s, off_delay_s=off_delay_s)


def _number(device: DeviceSettings, key: str) -> float:
    return float(str(option(device, key)))
