"""The safety contract of outputs under whatever happens, with pins that break."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from hypothesis import given, settings, strategies as st

from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.output_values import OutputRule
from pibot_mesh.hardware.outputs import AGAIN_S, Outputs, Write
from pibot_mesh.protocol.messages import Cause, OutputValue

RULES = {
    rule.id: rule
    for rule in (
        OutputRule("heater", "heater", False, False, False, max_on_s=60, min_off_s=10),
        OutputRule("fan", "fan", False, True, True, lost_after_s=20),
        OutputRule("compressor", "compressor", False, False, False, min_off_s=30, max_on_s=90, max_per_minute=4),
        OutputRule("lamp", "lamp", 20.0, 0.0, None, is_dimmable=True, max_on_s=45, is_kept_on_failure=True),
    )
}
INTERLOCKS = (("heater", "fan"), ("compressor", "heater"))

PinState: TypeAlias = Literal["fine", "moves and raises", "stuck"]


class Pins:
    """Outputs on pins, and a clock that wakes them; after everything, the contract is looked at."""

    def __init__(self) -> None:
        self.now = 0.0
        self.core = Outputs(RULES.values(), INTERLOCKS)
        self.pins: dict[str, PinState] = dict.fromkeys(RULES, "fine")
        self.reads: dict[str, OutputValue] = {}
        self.went_on: dict[str, float] = {}
        self.went_off = dict.fromkeys(RULES, 0.0)
        self.was_stuck: set[str] = set()
        for write in self.core.begin(0):
            self._write(write)

    def set(self, device: str, is_on: bool, for_s: float | None, by: Literal["person", "task", "rule"]) -> None:
        """Somebody sets an output."""
        value = 70.0 * is_on if RULES[device].is_dimmable else is_on
        try:
            for write in self.core.set(device, value, cause=Cause(by=by, id="x"), for_s=for_s, now=self.now):
                self._write(write)
        except ToolError:
            pass
        self._check()

    def try_all(self, writes: Iterable[Write]) -> None:
        """Carry out what nobody ordered, as the board does."""
        for write in writes:
            for one in (*self.core.giving_way(write), write):
                try:
                    self.core.check_interlocks(one.device, one.value)
                    self._write(one)
                except ToolError:
                    self.core.again(one, self.now)
                self._check()

    def wait(self, seconds: float) -> None:
        """Time passes, and what is due is done when it is."""
        end = self.now + seconds
        while (at := self.core.wake_at()) is not None and at <= end:
            self.now = max(at, self.now)
            self.try_all(self.core.expire(self.now))
        self.now = end
        self._check()

    def _write(self, write: Write) -> None:
        device, rule, state = write.device, RULES[write.device], self.pins[write.device]
        if state != "stuck":
            was_on, is_on = device in self.went_on, rule.is_on(write.value)
            if is_on and not was_on:
                rested_s = self.now - self.went_off[device]
                assert rule.min_off_s is None or rested_s >= rule.min_off_s, f"{device} rested for {rested_s} s only"
                self.went_on[device] = self.now
            elif was_on and not is_on:
                del self.went_on[device]
                self.went_off[device] = self.now
                self.was_stuck.discard(device)
            self.reads[device] = write.value
        if state != "fine":
            self.core.doubt(write, self.now)
            raise ToolError("the driver broke")
        self.core.confirm(write, self.reads[device], self.now)

    def _check(self) -> None:
        self.was_stuck |= {device for device, state in self.pins.items() if state == "stuck"} & self.went_on.keys()
        for one, other in INTERLOCKS:
            assert not (one in self.went_on and other in self.went_on), f"{one} and {other} are on"
        for device, since in self.went_on.items():
            longest_s = RULES[device].max_on_s
            is_late = longest_s is not None and self.now > since + longest_s
            assert not is_late or device in self.was_stuck, f"{device} is on for {self.now - since} s"


DEVICES = st.sampled_from(sorted(RULES))
WAITS = st.tuples(st.just("wait"), st.sampled_from([0.25, 1.0, 7.5, 30.0, 61.0, 200.0]))
ORDERS = st.tuples(
    st.just("set"),
    DEVICES,
    st.booleans(),
    st.sampled_from([None, None, 5.0, 100.0]),
    st.sampled_from(["person", "task", "rule"]),
)
EVENTS = st.one_of(
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("reach"), st.booleans()),
    st.tuples(st.just("task_failed")),
    st.tuples(st.just("pin"), DEVICES, st.sampled_from(["fine", "fine", "moves and raises", "stuck"])),
)
DEEDS = st.lists(st.one_of(WAITS, ORDERS, ORDERS, EVENTS), min_size=10, max_size=60)
MANY = settings(deadline=None, max_examples=200)


def do(mesh: Pins, deed: tuple[object, ...]) -> None:
    """One thing happens."""
    match deed:
        case ("wait", float() as seconds):
            mesh.wait(seconds)
        case ("set", str() as device, bool() as is_on, (float() | None) as for_s, ("person" | "task" | "rule") as by):
            mesh.set(device, is_on, for_s, by)
        case ("hold", bool() as is_held):
            mesh.try_all(mesh.core.hold(is_held, Cause(by="stop")))
        case ("reach", bool() as is_reached):
            mesh.core.reach(is_reached, "no master", mesh.now)
        case ("task_failed",):
            mesh.try_all(mesh.core.task_failed("x", Cause(by="safety")))
        case ("pin", str() as device, ("fine" | "moves and raises" | "stuck") as state):
            mesh.pins[device] = state


@given(DEEDS)
@MANY
def test_the_contract_holds_whatever_happens(deeds: list[tuple[object, ...]]) -> None:
    """No two of an interlock on, nothing on for too long or without its rest; at the end a stop makes all safe."""
    mesh = Pins()
    for deed in deeds:
        do(mesh, deed)

    mesh.pins = dict.fromkeys(RULES, "fine")
    mesh.try_all(mesh.core.hold(True, Cause(by="stop")))
    mesh.wait(2 * AGAIN_S)
    assert mesh.reads == {rule.id: rule.safe for rule in RULES.values()}
    mesh.wait(10_000)
    assert mesh.reads == {rule.id: rule.safe for rule in RULES.values()}
    assert mesh.core.wake_at() is None


@given(DEEDS)
@MANY
def test_once_nobody_sets_anything_all_come_to_rest(deeds: list[tuple[object, ...]]) -> None:
    """What is on then is on at its safe value, or by a rule of the node, or is to be kept."""
    mesh = Pins()
    for deed in deeds:
        do(mesh, deed)

    mesh.pins = dict.fromkeys(RULES, "fine")
    mesh.core.reach(False, "no master", mesh.now)
    mesh.wait(10_000)
    assert mesh.core.wake_at() is None
    assert not {"heater", "compressor", "lamp"} & mesh.went_on.keys()
