"""gpiozero for outputs, and its pins, real or simulated. (For inputs: `input_pins`.)

gpiozero has no type information, so what it gives is held here behind small protocols. Every device gets its factory
explicitly: several nodes live in one process, and gpiozero's global factory is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError
from pibot_mesh.hardware.found import SimulatedLevels
from pibot_mesh.hardware.kind import pin_words, pins_of
from pibot_mesh.hardware.kinds import KINDS, option
from pibot_mesh.hardware.levels import is_pulsed, pin_levels, scale_of
from pibot_mesh.hardware.pi import header_chip, with_fine_pulses
from pibot_mesh.protocol.messages import OutputValue


class Pin(Protocol):
    """A simulated pin, as `gpiozero.pins.mock.MockPin`: a test is the person who presses the button."""

    @property
    def state(self) -> float: ...

    def drive_high(self) -> None: ...

    def drive_low(self) -> None: ...


class OutputPin:
    """An output on its pins. Made with its safe value, so that nothing twitches before the rules are known.

    A value is as its kind has it: True or False, percent, or ``#rrggbb``. A simulated one has *levels*, which remember
    what it is at.
    """

    def __init__(
        self, device: DeviceSettings, factory: Any, safe: OutputValue, levels: SimulatedLevels | None = None
    ) -> None:
        self._settings, self._levels = device, levels
        self._scale = scale_of(device)
        self._device = _open_output(device, factory, self._scale.to_driver(safe))
        self._keep(safe)

    def write(self, value: OutputValue) -> None:
        """Set the pins. Raises what their driver raises."""
        self._device.value = self._scale.to_driver(value)
        self._keep(value)

    def read(self) -> OutputValue:
        """What the pins read."""
        return self._scale.from_driver(self._device.value)

    def close(self) -> None:
        """Give the pins back; they are inputs then."""
        self._device.close()
        if self._levels is not None:
            for pin in pins_of(self._settings).values():
                self._levels.keep(pin, None)

    def _keep(self, value: OutputValue) -> None:
        if self._levels is not None:
            for pin, level in pin_levels(self._settings, value).items():
                self._levels.keep(pin, level)


def _open_output(device: DeviceSettings, factory: Any, value: object) -> Any:
    """gpiozero's device for an output, which is at *value* (as gpiozero says it) from the start."""
    import gpiozero

    kind = KINDS[device.kind]
    common: dict[str, object] = {"initial_value": value, "pin_factory": factory}
    if kind.is_position:
        shortest, longest = (float(str(option(device, key))) / 1000 for key in ("min_pulse_ms", "max_pulse_ms"))
        return gpiozero.Servo(device.pin, min_pulse_width=shortest, max_pulse_width=longest, **common)
    common["active_high"] = bool(option(device, "active_high"))
    if kind.has_color:
        return gpiozero.RGBLED(*(pins_of(device)[role] for role in kind.pin_roles), **common)
    if is_pulsed(device):
        return gpiozero.PWMOutputDevice(device.pin, frequency=option(device, "frequency_hz"), **common)
    return gpiozero.OutputDevice(device.pin, **common)


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
    except OSError as error:  # lgpio makes a pipe in the working directory as it is imported
        text = f"lgpio, which drives the pins, cannot write to {Path.cwd()} ({error}): start the node in another folder"
        raise ConfigError([f"devices: {text} (WorkingDirectory= in its unit), or {advice}"]) from error
    try:
        chip = header_chip()
        factory = LGPIOFactory() if chip is None else LGPIOFactory(chip=chip)
    except Exception as error:  # the driver's own errors share no base class
        raise ConfigError([f"devices: this machine's GPIO pins cannot be used ({error}): {advice}"]) from error
    factory.pin_class = with_fine_pulses(factory.pin_class)
    return factory


@contextlib.contextmanager
def pin_errors(device: DeviceSettings) -> Iterator[None]:
    """Whatever a driver raises for the pins of *device* comes out as a ConfigError that names both."""
    try:
        yield
    except Exception as error:  # drivers raise what they like
        key, pins = ("pin" if device.pin is not None else "pins"), pin_words(device)
        raise ConfigError([f"devices.{device.id}.{key}: {pins} cannot be used: {error}"]) from error
