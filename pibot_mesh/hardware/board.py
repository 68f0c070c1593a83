"""The devices of one node, on pins or simulated: a shell around the rules of `outputs`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import Source
from pibot_mesh.errors import ConfigError, ErrorCode, ToolError
from pibot_mesh.hardware.changes import Change
from pibot_mesh.hardware.found import SimulatedLevels, driven_levels
from pibot_mesh.hardware.inputs import Inputs
from pibot_mesh.hardware.kinds import KINDS, check, option, spec
from pibot_mesh.hardware.outputs import Outputs, Write, rule_of, unknown_device, value_words
from pibot_mesh.hardware.pins import OutputPin, Pin, open_factory, pin_errors
from pibot_mesh.hardware.sensing import Sensing
from pibot_mesh.protocol.messages import Cause, DeviceSpec, OutputValue

_NOUNS: Final = {"out": "output", "in": "input", "sensor": "sensor"}

_log = logging.getLogger(__name__)

SAFE_AGAIN_S: Final = 1.0
"""Seconds after which an output that could not be made safe is tried again."""
READ_BACK_TOLERANCE: Final = 1.0
"""Percent: drivers round a level to what their pins can do."""


class Board:
    """A node's outputs, inputs and sensors. Not thread-safe: everything is called in the event loop's thread.

    *on_change* is told of every change, in that thread; it must not block or raise. With *simulate* nothing outside the
    process is touched but the file *levels*, where there is one: there simulated outputs stay what they are when the
    process is killed, as those on pins may. *seed* makes the sensors repeatable. Raises ConfigError where *devices*
    cannot be.
    """

    def __init__(
        self,
        devices: Sequence[DeviceSettings],
        *,
        simulate: bool,
        on_change: Callable[[Change], None],
        levels: Path | None = None,
        now: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        problems = check(devices, simulate=simulate)
        if problems:
            raise ConfigError([Source().show(problem) for problem in problems])
        self._devices = {device.id: device for device in devices}
        self._specs = {device.id: spec(device) for device in devices}
        self._simulate = simulate
        self._on_change = on_change
        self._now = now
        self._outputs = Outputs(rule_of(device) for device in self._of("out"))
        self._inputs = Inputs(self._of("in"), tell=self._tell)
        self._sensing = Sensing(self._of("sensor"), tell=self._tell, now=now, seed=seed)
        self._factory: Any = None
        self._levels_file = levels if simulate else None
        self._levels: SimulatedLevels | None = None
        self._found: dict[str, OutputValue] = {}
        self._output_pins: dict[str, OutputPin] = {}
        self._unsafe: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def specs(self) -> tuple[DeviceSpec, ...]:
        """The devices as the node's card shows them, in the order of the configuration."""
        return tuple(self._specs.values())

    async def start(self) -> None:
        """Take the pins, set every output to its initial value, report every state, and begin to read the sensors.

        Raises ConfigError where a pin cannot be had, and StoreError where the simulated levels cannot; nothing is on,
        and no pin is held, then.
        """
        assert self._loop is None, "the board runs already"
        self._loop = asyncio.get_running_loop()
        try:
            self._take_pins()
            for write in self._outputs.begin():
                self._write(write)
        except BaseException as error:
            await self.stop()
            if isinstance(error, ToolError):
                raise ConfigError([f"devices: {error}"]) from error
            raise
        self._inputs.start()
        self._sensing.start()

    async def stop(self) -> None:
        """Set every output to its safe value first, then let go of all pins. May be called twice or without a start."""
        if self._loop is None:
            return
        self._try_all(self._outputs.make_safe(Cause(by="safety", reason="the node stops")))
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        self._release_pins()
        await self._sensing.stop()

    def set(self, device: str, value: OutputValue, *, cause: Cause, for_s: float | None = None) -> OutputValue:
        """Set an output, and return what its pin reads then. After *for_s* seconds it goes to its safe value.

        Raises ToolError as `Outputs.set` does, and where the pin cannot be set or does not read what was set; a time
        that ran for it goes on running then.
        """
        self._check_direction(device, "out")
        safe_at = self._outputs.safe_at(device)
        for write in self._outputs.set(device, value, cause=cause, for_s=for_s, now=self._now()):
            try:
                self._write(write)
            except ToolError:
                if safe_at is not None:
                    self._outputs.make_safe_at(device, safe_at)
                raise
            finally:
                self._arm()
        return self.state(device)

    def hold(self, held: bool, cause: Cause) -> None:
        """The emergency stop: every output goes to its safe value, and `set` refuses until ``hold(False)``.

        May be called before `start`; the outputs are safe then instead of at their initial values.
        """
        self._try_all(self._outputs.hold(held, cause))

    def make_safe(self, cause: Cause) -> None:
        """Every output goes to its safe value. One that cannot be set does not keep the others from it.

        It is tried again every second, as when the emergency stop is pulled and when a time is over.
        """
        self._try_all(self._outputs.make_safe(cause))

    def state(self, device: str) -> OutputValue:
        """The state of an output as read back when it was set; of an input as its pin reads now. Raises ToolError."""
        inputs, outputs = self._inputs.states(), self._outputs.states
        if device in inputs:
            return inputs[device]
        if device not in outputs:
            raise unknown_device(device, "output or input", (*outputs, *inputs))
        return outputs[device][0]

    def found(self, device: str) -> OutputValue | None:
        """What the pin of an output was at when the board started, before anything was set.

        None where that says nothing: the pin floated, its pulses (of a dimmable one) had ended with the process that
        made them, or nobody can read it.
        """
        return self._found.get(device)

    def outputs(self) -> Mapping[str, tuple[OutputValue, Cause]]:
        """Every output's state, and what set it last."""
        return self._outputs.states

    def inputs(self) -> Mapping[str, OutputValue]:
        """Every input's state, as its pin reads now."""
        return self._inputs.states()

    async def read(self, device: str) -> dict[str, float]:
        """Read a sensor now: quantity → number. Raises ToolError where it is none, or does not answer."""
        self._check_direction(device, "sensor")
        return await self._sensing.read(device)

    def readings(self) -> Mapping[str, Mapping[str, float]]:
        """What each sensor gave last; a sensor that never answered is missing."""
        return self._sensing.readings()

    def simulated_pin(self, device: str) -> Pin:
        """The simulated pin of a device, to press a button or look at a lamp. Only while the board runs simulated."""
        assert self._simulate, "only simulated pins can be driven"
        pin: Pin = self._factory.pin(self._devices[device].pin)
        return pin

    # --- Pins ---

    def _of(self, direction: str) -> Iterable[DeviceSettings]:
        return [device for device in self._devices.values() if KINDS[device.kind].direction == direction]

    def _take_pins(self) -> None:
        if not any(KINDS[device.kind].needs_pin for device in self._devices.values()):
            return
        self._factory = open_factory(simulate=self._simulate)
        if self._levels_file is not None:
            self._levels = SimulatedLevels(self._levels_file)
        self._found = self._find()
        for device in self._of("out"):
            with pin_errors(device):
                safe = self._outputs.rule(device.id).safe
                self._output_pins[device.id] = OutputPin(device, self._factory, safe, self._levels)
        self._inputs.take_pins(self._factory)

    def _find(self) -> dict[str, OutputValue]:
        on_pins = {device.id: device.pin for device in self._of("out") if device.pin is not None}
        if self._levels is not None:
            read = {device: self._levels.read(pin) for device, pin in on_pins.items()}
            return {
                device: level if self._specs[device].dimmable else level > 0
                for device, level in read.items()
                if level is not None
            }
        if self._simulate:
            return {}
        switched = {device: pin for device, pin in on_pins.items() if not self._specs[device].dimmable}
        high = driven_levels(self._factory.chip, switched.values())
        return {
            device: high[pin] == option(self._devices[device], "active_high")
            for device, pin in switched.items()
            if pin in high
        }

    def _release_pins(self) -> None:
        self._inputs.stop()
        for output_pin in self._output_pins.values():
            output_pin.close()
        self._output_pins.clear()
        if self._factory is not None:
            self._factory.close()
            self._factory = None
        if self._levels is not None:
            self._levels.close()
            self._levels = None

    def _write(self, write: Write) -> None:
        """Set a pin, read it back, report it. Raises ToolError where it cannot be set or reads something else."""
        name, pin = self._specs[write.device].name, self._output_pins[write.device]
        try:
            pin.write(write.value)
            reads = pin.read()
        except Exception as error:  # drivers raise what they like
            raise ToolError(f"{name} could not be set: {error}", retryable=True) from error
        self._tell(self._outputs.confirm(write, reads))
        if not reads_as(self._specs[write.device], reads, write.value):
            wiring = f"check what is wired to GPIO {self._devices[write.device].pin}"
            raise ToolError(
                f"{name} was set to {value_words(write.value)}, but its pin reads {value_words(reads)}: {wiring}"
            )

    def _tell(self, change: Change) -> None:
        """Report *change*. A bug in the listener must not keep an output from its safe value."""
        try:
            self._on_change(change)
        except Exception:  # noqa: BLE001 - see above
            _log.exception("a bug: nobody was told of %s", change)

    def _try_all(self, writes: Iterable[Write]) -> None:
        for write in writes:
            if write.device not in self._output_pins:
                continue
            try:
                self._write(write)
                self._unsafe.discard(write.device)
            except ToolError as error:
                if write.device not in self._unsafe:
                    _log.error("%s; trying again until it is safe", error)
                self._unsafe.add(write.device)
                self._outputs.make_safe_at(write.device, self._now() + SAFE_AGAIN_S)
        self._arm()

    # --- Time ---

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = self._outputs.wake_at()
        if wake_at is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, wake_at - self._now()), self._expire)

    def _expire(self) -> None:
        self._try_all(self._outputs.expire(self._now()))

    def _check_direction(self, device: str, wanted: str) -> None:
        if self._loop is None:
            raise ToolError("the node's devices are not running", retryable=True)
        known = self._specs.get(device)
        if known is None:
            raise unknown_device(device, _NOUNS[wanted], [device.id for device in self._of(wanted)])
        if known.direction != wanted:
            text = f"{known.name} is no {_NOUNS[wanted]}, it is a device of kind {known.kind}"
            raise ToolError(text, code=ErrorCode.BAD_ARGUMENTS)


def reads_as(spec: DeviceSpec, reads: OutputValue, value: OutputValue) -> bool:
    """Whether an output whose pin reads *reads* is at *value*."""
    return abs(reads - value) <= READ_BACK_TOLERANCE * spec.dimmable


def default_simulated_devices() -> tuple[DeviceSettings, ...]:
    """What a node has that was given none and is simulated: a fan, a lamp, a button, a motion and a climate sensor."""
    return (
        DeviceSettings("fan", "switch", 17, "fan"),
        DeviceSettings("lamp", "light", 18, "lamp"),
        DeviceSettings("button", "button", 22, "button"),
        DeviceSettings("motion", "motion", 23, "motion"),
        DeviceSettings("climate", "climate", None, "climate"),
    )
