"""gpiozero for inputs: from settings to pins, real or simulated, that tell their edges as they come.

What is told here comes in whatever thread the driver has, with the time at which it happened. gpiozero's own debouncing
is not used: it ignores all that follows an edge, and so can end at the wrong level.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.kind import pins_of
from pibot_mesh.hardware.kinds import option

SAME_CLOCK_S: Final = 1.0
"""A driver's time is believed where it is no more than this many seconds ago: older kernels count them otherwise."""
_PING_S: Final = 10e-6
"""How long the trigger of a HC-SR04 must be high, by its data sheet."""
_SIMULATED_ECHO_S: Final = 0.0058
"""The echo of something a metre away."""


class LevelPin:
    """A pin that is active or not."""

    def __init__(
        self, device: DeviceSettings, factory: Any, tell: Callable[[bool, float], None], now: Callable[[], float]
    ) -> None:
        from gpiozero import InputDevice

        pull = str(option(device, "pull"))
        self._is_active_high = bool(option(device, "active_high")) if pull == "none" else pull == "down"
        self._tell = tell
        self._now = now
        self._device = InputDevice(
            device.pin,
            pull_up={"up": True, "down": False, "none": None}[pull],
            active_state=self._is_active_high if pull == "none" else None,
            pin_factory=factory,
        )
        self._device.pin.edges = "both"
        self._device.pin.when_changed = self._changed

    def read(self) -> bool:
        """Whether it is active now."""
        return bool(self._device.is_active)

    def close(self) -> None:
        """Give the pin back."""
        self._device.close()

    def _changed(self, ticks: float, level: float) -> None:
        now = self._now()
        self._tell(bool(level) == self._is_active_high, ticks if 0 <= now - ticks < SAME_CLOCK_S else now)


class EncoderPins:
    """The two pins of a rotary encoder, which tell each step: whether it was clockwise."""

    def __init__(
        self, device: DeviceSettings, factory: Any, tell: Callable[[bool, float], None], now: Callable[[], float]
    ) -> None:
        from gpiozero import RotaryEncoder

        pins = pins_of(device)
        self._device = RotaryEncoder(pins["a"], pins["b"], max_steps=0, pin_factory=factory)
        self._device.when_rotated_clockwise = lambda: tell(True, now())
        self._device.when_rotated_counter_clockwise = lambda: tell(False, now())

    def close(self) -> None:
        """Give the pins back."""
        self._device.close()


class DistancePins:
    """A HC-SR04: each `ping` has an echo, which is told later: the seconds that it took.

    gpiozero's DistanceSensor pings all the time, in a thread of its own, and a sensor that has fallen silent keeps its
    last distance for ever.
    """

    def __init__(
        self, device: DeviceSettings, factory: Any, tell: Callable[[float, float], None], now: Callable[[], float]
    ) -> None:
        from gpiozero import InputDevice, OutputDevice

        pins = pins_of(device)
        _simulate_echo(factory, pins["trigger"], pins["echo"])
        self._tell = tell
        self._now = now
        self._risen_at: float | None = None
        self._trigger = OutputDevice(pins["trigger"], pin_factory=factory)
        try:
            self._echo = InputDevice(pins["echo"], pull_up=False, pin_factory=factory)
        except BaseException:
            self._trigger.close()
            raise
        self._echo.pin.edges = "both"
        self._echo.pin.when_changed = self._changed

    def ping(self) -> None:
        """Send one. Raises what the driver raises."""
        self._trigger.on()
        time.sleep(_PING_S)
        self._trigger.off()

    def close(self) -> None:
        """Give the pins back."""
        self._echo.close()
        self._trigger.close()

    def _changed(self, ticks: float, level: float) -> None:
        if level:
            self._risen_at = ticks
        elif self._risen_at is not None:
            self._tell(ticks - self._risen_at, self._now())
            self._risen_at = None


def _simulate_echo(factory: Any, trigger: int, echo: int) -> None:
    """On simulated pins, something is a metre away: each ping has its echo."""
    from gpiozero.pins.mock import MockFactory, MockPWMPin, MockTriggerPin

    if isinstance(factory, MockFactory):

        class TriggerPin(MockTriggerPin, MockPWMPin):  # type: ignore[misc]  # gpiozero has no types
            """One that the factory takes for its own sort of pin."""

        factory.pin(trigger, pin_class=TriggerPin, echo_pin=factory.pin(echo), echo_time=_SIMULATED_ECHO_S)
