"""The devices of one node, on pins or simulated: a shell around the rules of `outputs`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pibot_mesh.config.settings import DeviceSettings, SafetySettings
from pibot_mesh.config.source import Source
from pibot_mesh.errors import ConfigError, ErrorCode, ToolError
from pibot_mesh.hardware.changes import Change
from pibot_mesh.hardware.found import SimulatedLevels, driven_values
from pibot_mesh.hardware.inputs import Inputs
from pibot_mesh.hardware.kind import pin_words, pins_of
from pibot_mesh.hardware.kinds import KINDS, check, spec
from pibot_mesh.hardware.output_values import OutputRule, is_near, rule_of
from pibot_mesh.hardware.outputs import Outputs, Write, unknown_device, value_words
from pibot_mesh.hardware.pins import OutputPin, Pin, open_factory, pin_errors
from pibot_mesh.hardware.safety_check import check_safety
from pibot_mesh.hardware.sensing import Sensing
from pibot_mesh.protocol.messages import MAX_WORDS, Cause, DeviceSpec, OutputValue

_NOUNS: Final = {"out": "output", "in": "input", "sensor": "sensor"}

_log = logging.getLogger(__name__)


class Board:
    """A node's outputs, inputs and sensors. Not thread-safe: everything is called in the event loop's thread.

    *on_change* is told of every change, in that thread; it must not block or raise. With *simulate* nothing outside the
    process is touched but the file *levels*, where there is one: there simulated outputs stay what they are when the
    process is killed, as those on pins may. *seed* makes the sensors repeatable. Raises ConfigError where *devices*
    cannot be, or not with the node's *safety*.
    """

    def __init__(
        self,
        devices: Sequence[DeviceSettings],
        *,
        simulate: bool,
        on_change: Callable[[Change], None],
        safety: SafetySettings = SafetySettings(),
        levels: Path | None = None,
        now: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        problems = [*check(devices, simulate=simulate), *check_safety(devices, safety)]
        if problems:
            raise ConfigError([Source().show(problem) for problem in problems])
        self._devices = {device.id: device for device in devices}
        self._specs = {device.id: spec(device) for device in devices}
        self._simulate = simulate
        self._on_change = on_change
        self._now = now
        self._outputs = Outputs([rule_of(device, safety) for device in self._of("out")], safety.interlocks)
        self._inputs = Inputs(self._of("in"), tell=self._tell, now=now)
        self._sensing = Sensing(self._of("sensor"), simulate=simulate, tell=self._tell, now=now, seed=seed)
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
            for write in self._outputs.begin(self._now()):
                self._write(write)
        except BaseException as error:
            await self.stop()
            if isinstance(error, ToolError):
                raise ConfigError([f"devices: {error}"]) from error
            raise
        self._arm()
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
        try:
            for write in self._outputs.set(device, value, cause=cause, for_s=for_s, now=self._now()):
                self._write(write)
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

        It is tried again every second, whatever the reason for which it had to be safe.
        """
        self._try_all(self._outputs.make_safe(cause))

    def task_failed(self, task_id: str, reason: str) -> None:
        """What the task *task_id* was the last to set goes to its safe value; *reason* says in words what happened."""
        self._try_all(self._outputs.task_failed(task_id, Cause(by="safety", id=task_id, reason=reason[:MAX_WORDS])))

    def reach(self, is_reached: bool, reason: str) -> None:
        """Whether broker and master can be reached, or for what *reason* (``no master``) not. May be called any time.

        Until the first call they count as gone: each output has its time from the start on.
        """
        self._outputs.reach(is_reached, reason, self._now())
        self._arm()

    def rules(self) -> Mapping[str, OutputRule]:
        """What holds for each output."""
        return {device.id: self._outputs.rule(device.id) for device in self._of("out")}

    def let_go(self, rule_id: str) -> None:
        """The reflex *rule_id* looks after nothing any more: what it set last is nobody's without broker or master."""
        self._outputs.let_go(rule_id, self._now())
        self._arm()

    def state(self, device: str) -> OutputValue:
        """The state of an output as read back when it was set; of an input as its pin reads now. Raises ToolError."""
        outputs, inputs = self._outputs.states, [device.id for device in self._of("in")]
        if device in outputs:
            return outputs[device][0]
        if device not in inputs:
            raise unknown_device(device, "output or input", (*outputs, *inputs))
        return self._inputs.state(device)

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

    def silent(self) -> tuple[str, ...]:
        """The sensors that did not answer when they were last asked."""
        return self._sensing.silent()

    def simulated_pin(self, device: str, role: str = "pin") -> Pin:
        """The simulated pin of a device, to press a button or look at a lamp. Only while the board runs simulated.

        *role* says which, of a device on several pins.
        """
        assert self._simulate, "only simulated pins can be driven"
        pin: Pin = self._factory.pin(pins_of(self._devices[device])[role])
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
        rules = [self._outputs.rule(device.id) for device in self._of("out")]
        for rule in sorted(rules, key=lambda rule: rule.is_on(rule.safe)):
            device = self._devices[rule.id]
            with pin_errors(device):
                self._output_pins[rule.id] = OutputPin(device, self._factory, rule.safe, self._levels)
        self._inputs.take_pins(self._factory)

    def _find(self) -> dict[str, OutputValue]:
        if self._levels is not None:
            return self._levels.values(self._of("out"))
        return {} if self._simulate else driven_values(self._factory.chip, self._of("out"))

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
            self._outputs.doubt(write, self._now())
            raise ToolError(f"{name} could not be set: {error}", retryable=True) from error
        self._tell(self._outputs.confirm(write, reads, self._now()))
        if not reads_as(self._specs[write.device], reads, write.value):
            wiring = f"check what is wired to {pin_words(self._devices[write.device])}"
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
            for one in (*self._outputs.giving_way(write), write):
                if one.device in self._output_pins:
                    self._try(one)
        self._arm()

    def _try(self, write: Write) -> None:
        try:
            self._outputs.check_interlocks(write.device, write.value)
            self._write(write)
            self._unsafe.discard(write.device)
        except ToolError as error:
            if write.device not in self._unsafe:
                _log.error("%s; trying again until it is safe", error)
            self._unsafe.add(write.device)
            self._outputs.again(write, self._now())

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
    """Whether an output whose pin reads *reads* is at *value*, but for what a driver rounds of a level or color."""
    return is_near(reads, value) if spec.dimmable or spec.color else reads == value


def default_simulated_devices() -> tuple[DeviceSettings, ...]:
    """What a node has that was given none and is simulated: a fan, a lamp, a button, a motion and a climate sensor."""
    return (
        DeviceSettings("fan", "switch", 17, "fan"),
        DeviceSettings("lamp", "light", 18, "lamp"),
        DeviceSettings("button", "button", 22, "button"),
        DeviceSettings("motion", "motion", 23, "motion"),
        DeviceSettings("climate", "climate", None, "climate"),
    )
