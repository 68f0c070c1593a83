"""The inputs of one node: what their pins read, and what happens at them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.hardware.pins import InputPin, pin_errors
from pibot_mesh.protocol.messages import OutputValue


class Inputs:
    """*tell* hears of every state and event, in the loop's thread. Not thread-safe, as the board is not."""

    def __init__(self, devices: Iterable[DeviceSettings], *, tell: Callable[[Change], None]) -> None:
        self._devices = tuple(devices)
        self._tell = tell
        self._pins: dict[str, InputPin] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def take_pins(self, factory: Any) -> None:
        """Take the pins. Raises ConfigError where one cannot be had; `stop` gives back the others."""
        self._loop = asyncio.get_running_loop()
        for device in self._devices:
            with pin_errors(device):
                self._pins[device.id] = InputPin(device, factory, functools.partial(self._hand_over, device))

    def start(self) -> None:
        """Tell every state."""
        for device, value in self.states().items():
            self._tell(InputChanged(device, value))

    def stop(self) -> None:
        """Give the pins back; nothing more is told. May be called twice or without a start."""
        self._loop = None
        for pin in self._pins.values():
            pin.close()
        self._pins.clear()

    def states(self) -> Mapping[str, OutputValue]:
        """Every input's state, as its pin reads now. Empty while they do not run."""
        return {device: pin.read() for device, pin in self._pins.items()}

    def _hand_over(self, device: DeviceSettings, is_on: bool) -> None:
        """Called in the driver's thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._changed, device, is_on)

    def _changed(self, device: DeviceSettings, is_on: bool) -> None:
        words = KINDS[device.kind].words
        if self._loop is None or words is None:
            return
        self._tell(InputChanged(device.id, is_on))
        self._tell(InputEvent(device.id, words.on_event if is_on else words.off_event))
