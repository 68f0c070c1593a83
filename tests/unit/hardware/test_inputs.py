"""Inputs on gpiozero's mock pins: threads, timers and pins around the rules."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError, ToolError
from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent
from pibot_mesh.hardware.counting import SOUND_CM_S
from pibot_mesh.hardware.input_pins import LevelPin
from pibot_mesh.hardware.inputs import Inputs
from pibot_mesh.hardware.kinds import check, spec
from pibot_mesh.hardware.pins import open_factory

BELL = DeviceSettings("bell", "button", 22, options={"bounce_s": 0.2, "hold_s": 0.5, "double_s": 0})
DOOR = DeviceSettings("door", "contact", 24, options={"bounce_s": 0})
HALL = DeviceSettings("hall", "motion", 23, options={"bounce_s": 0, "off_delay_s": 0.05})
MAINS = DeviceSettings("mains", "input", 5, options={"pull": "none", "active_high": False, "bounce_s": 0})
WATER = DeviceSettings(
    "water", "counter", 25, options={"bounce_s": 0, "per_pulse": 0.5, "unit": "l", "interval_s": 0.02}
)
DIAL = DeviceSettings("dial", "encoder", options={"pins": {"a": 16, "b": 20}, "interval_s": 0})
TANK = DeviceSettings("tank", "distance", options={"pins": {"trigger": 12, "echo": 13}, "interval_s": 0.1})
CLOCKWISE_STEP = (("a", 0), ("b", 0), ("a", 1), ("b", 1))
"""A step of an encoder whose pins are pulled up: which pin goes to which level."""


class Watched:
    """Inputs on a factory of their own, and what they told."""

    def __init__(self, *devices: DeviceSettings, **options: Any) -> None:
        self.devices = {device.id: device for device in devices}
        self.changes: list[Change] = []
        self.threads: set[int] = set()
        self.factory = open_factory(simulate=True)
        self.inputs = Inputs(devices, tell=self._seen, **options)

    def _seen(self, change: Change) -> None:
        self.changes.append(change)
        self.threads.add(threading.get_ident())

    def start(self) -> None:
        """Take the pins and begin."""
        self.inputs.take_pins(self.factory)
        self.inputs.start()

    def pin(self, number: int) -> Any:
        """The simulated pin."""
        return self.factory.pin(number)

    def of(self, device: str) -> list[object]:
        """What was told of *device* after the start: states as values, events by name."""
        told = [one for one in self.changes if one.device == device][1:]
        return [one.event_type if isinstance(one, InputEvent) else getattr(one, "value", None) for one in told]

    def count(self, event: str) -> int:
        """How often *event* came."""
        return sum(isinstance(one, InputEvent) and one.event_type == event for one in self.changes)


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.002)


@pytest.fixture
async def watch() -> AsyncIterator[Callable[..., Watched]]:
    """Starts inputs, and stops them at the end."""
    started = []

    def start(*devices: DeviceSettings, **options: Any) -> Watched:
        started.append(Watched(*devices, **options))
        started[-1].start()
        return started[-1]

    yield start
    for watched in started:
        watched.inputs.stop()
        watched.factory.close()


def test_all_of_these_can_be() -> None:
    """The check has nothing against them."""
    assert check([BELL, DOOR, HALL, MAINS, WATER, DIAL, TANK], simulate=False) == []


def test_the_card_says_what_an_input_may_tell() -> None:
    """Its events, and the unit of a number."""
    assert set(spec(BELL).events) == {"pressed", "released", "clicked", "double_pressed", "held"}
    assert spec(MAINS).events == ("turned_on", "turned_off")
    assert spec(DIAL).events == ("turned_clockwise", "turned_counter_clockwise")
    assert [spec(device).unit for device in (WATER, TANK, DIAL, DOOR)] == ["l", "cm", "steps", ""]


async def test_every_state_is_told_at_the_start(watch: Callable[..., Watched]) -> None:
    """Of a distance sensor nothing is known yet."""
    watched = watch(BELL, DOOR, HALL, WATER, DIAL, TANK)
    assert watched.inputs.states() == {"bell": False, "door": True, "hall": False, "water": 0.0, "dial": 0.0}
    assert {one.device: getattr(one, "value", None) for one in watched.changes} == watched.inputs.states()
    assert watched.inputs.state("water") == 0.0
    with pytest.raises(ToolError, match="tank does not answer"):
        watched.inputs.state("tank")


async def test_a_pin_that_cannot_be_read_is_missing_and_told_once(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are there all the same; so it is itself, once it can be read again."""
    watched = watch(BELL, DOOR)

    def broken(_: object) -> bool:
        raise OSError("the chip is gone")

    with monkeypatch.context() as patch:
        patch.setattr(LevelPin, "read", broken)
        assert watched.inputs.states() == {}
        with pytest.raises(ToolError, match="door does not answer"):
            watched.inputs.state("door")
    assert caplog.text.count("door cannot be read: the chip is gone") == 1
    assert watched.inputs.states() == {"bell": False, "door": True}


async def test_a_bouncing_button_gives_one_press(watch: Callable[..., Watched]) -> None:
    """Thirty edges from the driver's thread, and it ends at the level on which it settled."""
    watched = watch(BELL)

    def bounce() -> None:
        for _ in range(15):
            watched.pin(22).drive_low()
            watched.pin(22).drive_high()

    thread = threading.Thread(target=bounce)
    thread.start()
    thread.join()
    await until(lambda: watched.count("released"))
    assert watched.of("bell")[:4] == [True, "pressed", False, "released"]
    assert watched.count("pressed") == 1
    assert watched.threads == {threading.get_ident()}


async def test_a_button_that_stays_down_is_held(watch: Callable[..., Watched]) -> None:
    """By the node's own clock."""
    watched = watch(BELL)
    watched.pin(22).drive_low()
    await until(lambda: watched.count("held"))
    watched.pin(22).drive_high()
    await until(lambda: watched.count("released"))
    assert watched.of("bell") == [True, "pressed", "held", False, "released"]


async def test_an_edge_that_the_driver_did_not_tell_is_made_good(watch: Callable[..., Watched]) -> None:
    """The pin itself is read once it has settled."""
    watched = watch(BELL)
    pin = watched.pin(22)
    pin.drive_low()
    pin.drive_high()
    pin.edges = "none"
    pin.drive_low()
    await until(lambda: watched.count("held"))
    assert watched.of("bell") == [True, "pressed", "held"]


async def test_a_pin_that_cannot_be_read_is_believed_by_its_edges(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says so."""
    watched = watch(BELL)
    watched.pin(22).drive_low()
    watched.pin(22).drive_high()

    def fail(self: Any) -> bool:
        raise OSError("the chip is gone")

    monkeypatch.setattr(type(watched.pin(22)), "_get_state", fail)
    await until(lambda: watched.count("released"))
    assert "the pin of bell cannot be read: the chip is gone" in caplog.text


async def test_no_edge_is_lost_however_fast_they_come(watch: Callable[..., Watched]) -> None:
    """From two threads at once, while the loop is busy."""
    watched = watch(DOOR, WATER)

    def drive(number: int, times: int) -> None:
        for _ in range(times):
            watched.pin(number).drive_low()
            watched.pin(number).drive_high()

    threads = [threading.Thread(target=drive, args=(pin, 2000)) for pin in (24, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await until(lambda: watched.of("water")[-1:] == [1000.0])
    assert watched.count("opened") == watched.count("closed") == 2000
    assert watched.of("door") == [False, "closed", True, "opened"] * 2000
    assert watched.of("water") == sorted(set(watched.of("water")))  # type: ignore[type-var]


async def test_motion_lingers(watch: Callable[..., Watched]) -> None:
    """It is seen until its delay is over."""
    watched = watch(HALL)
    watched.pin(23).drive_high()
    watched.pin(23).drive_low()
    await until(lambda: watched.count("motion"))
    assert watched.inputs.state("hall") is True
    await until(lambda: watched.count("motion_ended"))
    assert watched.of("hall") == [True, "motion", False, "motion_ended"]


async def test_an_input_without_a_pull_is_active_as_it_says(watch: Callable[..., Watched]) -> None:
    """Here, when low."""
    watched = watch(MAINS)
    watched.pin(5).drive_high()
    watched.pin(5).drive_low()
    await until(lambda: watched.count("turned_on"))
    assert watched.of("mains")[-2:] == [True, "turned_on"]


async def test_a_dial_counts_its_steps_in_both_directions(watch: Callable[..., Watched]) -> None:
    """Two one way, one back."""
    watched = watch(DIAL)
    pins = {"a": watched.pin(16), "b": watched.pin(20)}

    def turn(*, is_clockwise: bool) -> None:
        for role, level in CLOCKWISE_STEP:
            pin = pins[role if is_clockwise else {"a": "b", "b": "a"}[role]]
            (pin.drive_high if level else pin.drive_low)()

    turn(is_clockwise=True)
    turn(is_clockwise=True)
    await until(lambda: watched.inputs.state("dial") == 2.0)
    turn(is_clockwise=False)
    await until(lambda: watched.count("turned_counter_clockwise"))
    assert watched.changes[-2:] == [
        InputChanged("dial", 1.0),
        InputEvent("dial", "turned_counter_clockwise", {"steps": 1.0}),
    ]
    turned = [one for one in watched.changes if isinstance(one, InputEvent) and one.event_type == "turned_clockwise"]
    assert sum(one.data["steps"] for one in turned) == 2.0


async def test_a_distance_is_measured_by_its_echo(watch: Callable[..., Watched]) -> None:
    """Simulated, something is a metre away until it moves."""
    watched = watch(TANK)
    await until(lambda: "tank" in watched.inputs.states())
    first = watched.inputs.state("tank")
    assert isinstance(first, float)
    assert first > 90
    watched.pin(12).echo_time = 2 * 250 / SOUND_CM_S
    await until(lambda: float(watched.inputs.state("tank")) > 240)


async def test_a_distance_sensor_that_does_not_answer_is_logged_once(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And again after it has answered in between."""
    watched = watch(TANK)
    await until(lambda: "tank" in watched.inputs.states())
    trigger = watched.pin(12)
    monkeypatch.setattr(trigger, "_echo", lambda: None)
    await until(lambda: "tank does not answer" in caplog.text)
    assert watched.inputs.state("tank") == pytest.approx(100, abs=60)
    monkeypatch.undo()
    trigger.echo_time = 2 * 300 / SOUND_CM_S
    await until(lambda: float(watched.inputs.state("tank")) > 240)
    assert caplog.text.count("tank does not answer") == 1
    monkeypatch.setattr(trigger, "_echo", lambda: None)
    await until(lambda: caplog.text.count("tank does not answer") == 2)


async def test_a_distance_sensor_whose_trigger_cannot_be_set_counts_as_silent(
    watch: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The node goes on."""
    watched = watch(TANK)

    def fail(self: Any, value: float) -> None:
        raise OSError("the chip is gone")

    monkeypatch.setattr(type(watched.pin(12)), "_set_state", fail)
    await until(lambda: "tank does not answer" in caplog.text)


async def test_an_echo_without_its_beginning_says_nothing(watch: Callable[..., Watched]) -> None:
    """It began before anybody listened."""
    watched = watch(TANK)
    watched.pin(13).when_changed(time.monotonic(), False)
    await until(lambda: "tank" in watched.inputs.states())
    assert float(watched.inputs.state("tank")) > 50


async def test_both_pins_of_a_distance_sensor_are_given_back_where_one_cannot_be_had() -> None:
    """The trigger can be used by another, then."""
    watched = Watched(BELL, DeviceSettings("tank", "distance", options={"pins": {"trigger": 12, "echo": 22}}))
    with pytest.raises(ConfigError, match=r"devices\.tank\.pins: GPIO 12, 22|devices\.tank\.pin"):
        watched.inputs.take_pins(watched.factory)
    watched.inputs.stop()
    other = Inputs([DeviceSettings("other", "input", 12)], tell=watched.changes.append)
    other.take_pins(watched.factory)
    assert other.states() == {"other": False}
    other.stop()


async def test_a_pin_that_cannot_be_had_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """And the others are given back."""
    caplog.set_level(logging.WARNING)
    watched = Watched(BELL, DeviceSettings("other", "button", 22))
    with pytest.raises(ConfigError, match=r"devices\.other\.pin: GPIO 22 cannot be used"):
        watched.inputs.take_pins(watched.factory)
    watched.inputs.stop()
    watched.inputs.stop()
    Watched.start(fresh := Watched(BELL))
    assert fresh.inputs.states() == {"bell": False}
    fresh.inputs.stop()


async def test_nothing_is_told_after_the_stop(watch: Callable[..., Watched]) -> None:
    """Neither what came just before, nor what was waited for."""
    watched = watch(BELL)
    changed = watched.pin(22).when_changed
    watched.pin(22).drive_low()
    watched.inputs.stop()
    told = list(watched.changes)
    watched.pin(22).drive_high()
    changed(time.monotonic(), True)
    await asyncio.sleep(0)
    assert watched.changes == told
    assert watched.inputs.states() == {}


async def test_the_drivers_time_of_an_edge_counts_where_it_is_of_the_same_clock(watch: Callable[..., Watched]) -> None:
    """A release that was heard late was none too late; the time of another clock is not believed."""
    watched = watch(BELL)
    now = time.monotonic()
    pin = watched.pin(22)
    pin.when_changed(now - 0.7, False)
    pin.when_changed(now - 0.4, True)
    pin.when_changed(now * 1000, False)
    await until(lambda: watched.count("held"))
    assert watched.of("bell")[:7] == [True, "pressed", False, "released", "clicked", True, "pressed"]
