"""gpiozero, and nothing else of it: from settings to devices on pins, real or simulated.

gpiozero has no type information, so what it gives is held here behind small protocols. Every device gets its factory
explicitly: several nodes live in one process, and gpiozero's global factory is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError
from pibot_mesh.hardware.found import SimulatedLevels
from pibot_mesh.hardware.kinds import KINDS, option
from pibot_mesh.protocol.messages import OutputValue


class Pin(Protocol):
    """A simulated pin, as `gpiozero.pins.mock.MockPin`: a test is the person who presses the button."""

    @property
    def state(self) -> float: ...

    def drive_high(self) -> None: ...

    def drive_low(self) -> None: ...


class OutputPin:
    """An output on a pin. Made with its safe value, so that nothing twitches before the rules are known.

    A simulated one has *levels*, which remember what it is at.
    """

    def __init__(
        self, device: DeviceSettings, factory: Any, safe: OutputValue, levels: SimulatedLevels | None = None
    ) -> None:
        from gpiozero import OutputDevice, PWMOutputDevice

        self._pin, self._levels = device.pin, levels
        self._is_dimmable = KINDS[device.kind].is_dimmable
        active_high = bool(option(device, "active_high"))
        if self._is_dimmable:
            self._device = PWMOutputDevice(
                device.pin,
                active_high=active_high,
                initial_value=safe / 100,
                frequency=option(device, "frequency_hz"),
                pin_factory=factory,
            )
        else:
            self._device = OutputDevice(
                device.pin, active_high=active_high, initial_value=bool(safe), pin_factory=factory
            )
        self._keep(safe)

    def write(self, value: OutputValue) -> None:
        """Set the pin. Raises what its driver raises."""
        self._device.value = value / 100 if self._is_dimmable else bool(value)
        self._keep(value)

    def read(self) -> OutputValue:
        """What the pin reads."""
        value = self._device.value
        return round(value * 100, 2) if self._is_dimmable else bool(value)

    def close(self) -> None:
        """Give the pin back; it is an input then."""
        self._device.close()
        self._keep(None)

    def _keep(self, value: OutputValue | None) -> None:
        if self._levels is not None and self._pin is not None:
            self._levels.keep(self._pin, 100.0 if value is True else value)


class InputPin:
    """An input on a pin. *changed* is called with each new state, in whatever thread the driver has."""

    def __init__(self, device: DeviceSettings, factory: Any, changed: Callable[[bool], None]) -> None:
        from gpiozero import DigitalInputDevice

        words = KINDS[device.kind].words
        assert words is not None
        self._is_on_when_active = words.is_on_when_active
        pull = option(device, "pull")
        self._device = DigitalInputDevice(
            device.pin,
            pull_up={"up": True, "down": False, "none": None}[str(pull)],
            active_state=bool(option(device, "active_high")) if pull == "none" else None,
            bounce_time=option(device, "bounce_s") or None,
            pin_factory=factory,
        )
        self._device.when_activated = lambda: changed(self._is_on_when_active)
        self._device.when_deactivated = lambda: changed(not self._is_on_when_active)

    def read(self) -> bool:
        """Whether it is ON, by its kind's meaning."""
        return bool(self._device.is_active) == self._is_on_when_active

    def close(self) -> None:
        """Give the pin back; no more changes are told."""
        self._device.close()


def open_factory(*, simulate: bool) -> Any:
    """A pin factory of our own. Raises ConfigError where there are no pins: they are never simulated unasked."""
    if simulate:
        from gpiozero.pins.mock import MockFactory, MockPWMPin

        return MockFactory(pin_class=MockPWMPin)
    advice = "set 'simulate: true' under node to run without pins"
    try:
        from gpiozero.pins.lgpio import LGPIOFactory
    except ImportError:
        text = f"the driver for GPIO pins (lgpio) is not installed: run pip install 'pibot-mesh[gpio]', or {advice}"
        raise ConfigError([f"devices: {text}"]) from None
    try:
        return LGPIOFactory()
    except Exception as error:  # the driver's own errors share no base class
        raise ConfigError([f"devices: this machine's GPIO pins cannot be used ({error}): {advice}"]) from error


@contextlib.contextmanager
def pin_errors(device: DeviceSettings) -> Iterator[None]:
    """Whatever a driver raises for the pin of *device* comes out as a ConfigError that names both."""
    try:
        yield
    except Exception as error:  # drivers raise what they like
        raise ConfigError([f"devices.{device.id}.pin: GPIO {device.pin} cannot be used: {error}"]) from error
