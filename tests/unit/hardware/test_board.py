"""The board on gpiozero's mock pins."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import gpiozero
import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError, ErrorCode, ToolError
from pibot_mesh.hardware.board import Board, default_simulated_devices
from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent, OutputChanged, SensorRead
from pibot_mesh.protocol.messages import Cause, OutputValue

TASK = Cause(by="task", id="t1")


class Watched:
    """A board and what it reported."""

    def __init__(self, *devices: DeviceSettings, **options: Any) -> None:
        self.changes: list[Change] = []
        self.threads: set[int] = set()
        self.board = Board(
            devices or default_simulated_devices(), simulate=True, on_change=self._seen, seed=1, **options
        )

    def _seen(self, change: Change) -> None:
        self.changes.append(change)
        self.threads.add(threading.get_ident())

    def set_to(self, device: str) -> list[object]:
        """The values that an output was reported to have, in order."""
        return [c.value for c in self.changes if isinstance(c, OutputChanged) and c.device == device]


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.005)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    """A running board with the devices that a simulated node has by default."""
    watched = Watched()
    await watched.board.start()
    yield watched
    await watched.board.stop()


def pin_state(board: Board, device: str) -> float:
    """What stands on the pin itself."""
    return float(board.simulated_pin(device).state)


async def test_the_start_reports_every_state(watched: Watched) -> None:
    """Outputs with their cause, inputs, and the sensors' first readings."""
    await until(watched.board.readings)
    assert [type(change) for change in watched.changes] == [OutputChanged] * 2 + [InputChanged] * 2 + [SensorRead]
    assert {device: value for device, (value, _) in watched.board.outputs().items()} == {"fan": False, "lamp": 0.0}
    assert {cause.by for _, cause in watched.board.outputs().values()} == {"start"}
    assert watched.board.inputs() == {"button": False, "motion": False}
    assert set(watched.board.readings()["climate"]) == {"temperature", "humidity"}
    assert [spec.id for spec in watched.board.specs()] == ["fan", "lamp", "button", "motion", "climate"]


async def test_setting_an_output_moves_its_pin_and_answers_what_it_reads(watched: Watched) -> None:
    """A switch and a lamp."""
    board = watched.board
    assert board.set("fan", True, cause=TASK) is True
    assert pin_state(board, "fan") == 1
    assert board.set("lamp", 40, cause=TASK) == 40.0
    assert pin_state(board, "lamp") == pytest.approx(0.4)
    assert board.set("lamp", True, cause=TASK) == 100.0
    assert board.state("lamp") == 100.0
    assert board.outputs()["fan"] == (True, TASK)
    assert watched.set_to("lamp") == [0.0, 40.0, 100.0]


async def test_a_relay_that_is_on_when_low_works_upside_down() -> None:
    """Neither at the start nor at the end does it twitch on."""
    watched = Watched(
        DeviceSettings("pump", "relay", 5, options={"active_high": False}),
        DeviceSettings("glow", "light", 6, options={"active_high": False, "initial": 25}),
    )
    await watched.board.start()
    pin = watched.board.simulated_pin("pump")
    assert pin.state == 1
    assert pin_state(watched.board, "glow") == pytest.approx(0.75)
    watched.board.set("pump", True, cause=TASK)
    assert pin.state == 0
    await watched.board.stop()
    assert [state.state for state in pin.states] == [False, True, False, True, False]  # type: ignore[attr-defined]


async def test_after_its_time_an_output_is_off(watched: Watched) -> None:
    """By the node's own clock, with the cause 'timer'."""
    watched.board.set("fan", True, cause=TASK, for_s=0.05)
    await until(lambda: watched.board.state("fan") is False)
    assert watched.board.outputs()["fan"][1].by == "timer"
    assert pin_state(watched.board, "fan") == 0


async def test_a_later_order_cancels_the_time(watched: Watched) -> None:
    """The lamp's time runs on its own."""
    board = watched.board
    board.set("fan", True, cause=TASK, for_s=0.05)
    board.set("lamp", 50, cause=TASK, for_s=0.1)
    board.set("fan", True, cause=TASK)
    await until(lambda: board.state("lamp") == 0.0)
    assert board.state("fan") is True


async def test_the_emergency_stop_makes_all_safe_and_refuses(watched: Watched) -> None:
    """Until it is released."""
    board, stop = watched.board, Cause(by="stop", reason="emergency stop")
    board.set("lamp", 70, cause=TASK)
    board.hold(True, stop)
    assert pin_state(board, "lamp") == 0
    assert board.outputs()["lamp"] == (0.0, stop)
    with pytest.raises(ToolError) as caught:
        board.set("lamp", 70, cause=TASK)
    assert caught.value.code == ErrorCode.STOPPED
    board.hold(False, stop)
    assert board.set("lamp", 70, cause=TASK) == 70.0


async def test_a_board_that_is_held_before_its_start_starts_safe() -> None:
    """The initial value waits for a person."""
    watched = Watched(DeviceSettings("lamp", "light", 18, options={"initial": 80}))
    watched.board.hold(True, Cause(by="stop"))
    await watched.board.start()
    assert watched.board.state("lamp") == 0.0
    await watched.board.stop()


async def test_making_safe_does_not_hold(watched: Watched) -> None:
    """It is one order, not a state."""
    watched.board.set("fan", True, cause=TASK)
    watched.board.make_safe(Cause(by="safety"))
    assert watched.board.state("fan") is False
    assert watched.board.set("fan", True, cause=TASK) is True


async def test_the_stop_makes_outputs_safe_first_and_gives_the_pins_back() -> None:
    """Twice does no harm; and the board can be started again."""
    watched = Watched(DeviceSettings("heater", "switch", 17, options={"safe": True}))
    await watched.board.start()
    pin = watched.board.simulated_pin("heater")
    watched.board.set("heater", False, cause=TASK)
    await watched.board.stop()
    await watched.board.stop()
    assert [state.state for state in pin.states][-2:] == [True, False]  # type: ignore[attr-defined]
    assert watched.set_to("heater") == [False, False, True]
    with pytest.raises(ToolError, match="the node's devices are not running"):
        watched.board.set("heater", False, cause=TASK)
    await watched.board.start()
    assert watched.board.set("heater", True, cause=TASK) is True
    await watched.board.stop()


async def test_a_time_that_runs_does_not_outlive_the_board(watched: Watched) -> None:
    """Nothing is set after the stop."""
    watched.board.set("fan", True, cause=TASK, for_s=0.02)
    await watched.board.stop()
    seen = len(watched.changes)
    await asyncio.sleep(0.05)
    assert len(watched.changes) == seen


async def test_a_start_that_fails_half_way_leaves_nothing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fan was on its pin when the lamp failed."""
    closed: list[bool] = []

    class Broken(gpiozero.PWMOutputDevice):  # type: ignore[misc]  # gpiozero has no types
        def __init__(self, *args: object, **options: object) -> None:
            raise gpiozero.PinInvalidPin("no such pin")

    class Watchful(gpiozero.OutputDevice):  # type: ignore[misc]
        def close(self) -> None:
            if getattr(self, "pin", None) is not None:
                closed.append(bool(self.value))
            super().close()

    monkeypatch.setattr(gpiozero, "PWMOutputDevice", Broken)
    monkeypatch.setattr(gpiozero, "OutputDevice", Watchful)
    watched = Watched(
        DeviceSettings("fan", "switch", 17, options={"initial": True}), DeviceSettings("lamp", "light", 18)
    )
    with pytest.raises(ConfigError, match=r"devices.lamp.pin: GPIO 18 cannot be used: no such pin"):
        await watched.board.start()
    assert closed == [False]
    with pytest.raises(ToolError, match="not running"):
        watched.board.set("fan", True, cause=TASK)


class Stuck(gpiozero.OutputDevice):  # type: ignore[misc]  # gpiozero has no types
    """A pin that stays where it is, or breaks."""

    breaks = False

    def _write(self, value: object) -> None:
        if self.breaks:
            raise OSError("the driver went away")


async def test_a_pin_that_does_not_follow_is_an_error_and_its_state_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer says what happened."""
    monkeypatch.setattr(gpiozero, "OutputDevice", Stuck)
    watched = Watched(DeviceSettings("fan", "switch", 17))
    await watched.board.start()
    with pytest.raises(ToolError, match=r"fan was set to on, but its pin reads off: check what is wired to GPIO 17"):
        watched.board.set("fan", True, cause=TASK)
    assert watched.board.state("fan") is False
    assert watched.set_to("fan") == [False, False]
    await watched.board.stop()


async def test_a_driver_that_breaks_keeps_no_other_output_from_safety(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the rest is made safe."""
    monkeypatch.setattr(gpiozero, "OutputDevice", Stuck)
    watched = Watched(DeviceSettings("fan", "switch", 17), DeviceSettings("lamp", "light", 18))
    await watched.board.start()
    watched.board.set("lamp", 50, cause=TASK)
    monkeypatch.setattr(Stuck, "breaks", True)
    with pytest.raises(ToolError, match="fan could not be set: the driver went away"):
        watched.board.set("fan", True, cause=TASK)
    watched.board.make_safe(Cause(by="safety"))
    assert watched.board.state("lamp") == 0.0
    assert "fan could not be set: the driver went away" in caplog.text
    await watched.board.stop()


async def test_a_pin_that_cannot_take_its_initial_value_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that cannot vouch for its outputs does not pretend to."""
    monkeypatch.setattr(gpiozero, "OutputDevice", Stuck)
    watched = Watched(DeviceSettings("fan", "switch", 17, options={"initial": True}))
    with pytest.raises(ConfigError, match=r"devices: fan was set to on, but its pin reads off"):
        await watched.board.start()


async def test_a_button_reports_its_state_and_its_event(watched: Watched) -> None:
    """It is pressed where its pin is low."""
    pin = watched.board.simulated_pin("button")
    pin.drive_low()
    assert watched.board.state("button") is True
    pin.drive_high()
    await until(lambda: InputEvent("button", "released") in watched.changes)
    assert [change for change in watched.changes if getattr(change, "device", "") == "button"][1:] == [
        InputChanged("button", True),
        InputEvent("button", "pressed"),
        InputChanged("button", False),
        InputEvent("button", "released"),
    ]


async def test_motion_is_seen_where_the_pin_is_high(watched: Watched) -> None:
    """And ends."""
    watched.board.simulated_pin("motion").drive_high()
    await until(lambda: InputEvent("motion", "motion") in watched.changes)
    assert watched.board.inputs()["motion"] is True
    watched.board.simulated_pin("motion").drive_low()
    await until(lambda: InputEvent("motion", "motion_ended") in watched.changes)


@pytest.mark.parametrize(
    ("options", "closed_is_high"),
    [
        ({}, False),
        ({"pull": "down"}, True),
        ({"pull": "none", "active_high": False}, False),
        ({"pull": "none", "active_high": True}, True),
    ],
)
async def test_a_contact_is_on_when_open(options: dict[str, object], closed_is_high: bool) -> None:
    """However it is wired."""
    watched = Watched(DeviceSettings("door", "contact", 24, options=options))
    await watched.board.start()
    pin = watched.board.simulated_pin("door")
    shut, open_ = (pin.drive_high, pin.drive_low) if closed_is_high else (pin.drive_low, pin.drive_high)
    shut()
    assert watched.board.state("door") is False
    open_()
    await until(lambda: InputEvent("door", "opened") in watched.changes)
    assert watched.board.state("door") is True
    await watched.board.stop()


async def test_changes_come_in_the_loops_thread(watched: Watched) -> None:
    """Whatever thread the driver has."""
    thread = threading.Thread(target=watched.board.simulated_pin("button").drive_low)
    thread.start()
    thread.join()
    await until(lambda: InputEvent("button", "pressed") in watched.changes)
    assert watched.threads == {threading.get_ident()}


async def test_an_input_that_changes_during_the_stop_is_not_reported(watched: Watched) -> None:
    """Nobody listens any more."""
    watched.board.simulated_pin("button").drive_low()
    await watched.board.stop()
    await asyncio.sleep(0)
    assert not any(isinstance(change, InputEvent) for change in watched.changes)


async def test_a_sensor_is_read_again_and_again() -> None:
    """At its interval, and whenever somebody asks."""
    watched = Watched(DeviceSettings("climate", "climate", options={"interval_s": 0.1}))
    await watched.board.start()
    await until(lambda: len(watched.changes) >= 3)
    values = await watched.board.read("climate")
    assert watched.changes[-1] == SensorRead("climate", values)
    assert watched.board.readings() == {"climate": values}
    await watched.board.stop()


async def test_a_sensor_that_does_not_answer_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And tried on."""
    tries: list[int] = []

    async def fail(self: object) -> dict[str, float]:
        tries.append(1)
        raise ToolError("no answer on the bus")

    monkeypatch.setattr("pibot_mesh.hardware.sensors.SimulatedSensor.read", fail)
    watched = Watched(DeviceSettings("climate", "climate", options={"interval_s": 0.1}))
    with caplog.at_level(logging.WARNING):
        await watched.board.start()
        await until(lambda: len(tries) >= 3)
    assert caplog.text.count("climate does not answer: no answer on the bus") == 1
    assert watched.board.readings() == {}
    await watched.board.stop()


async def test_a_device_is_used_for_what_it_is(watched: Watched) -> None:
    """Each wrong use has its sentence."""
    board = watched.board
    with pytest.raises(ToolError, match="button is no output, it is a device of kind button"):
        board.set("button", True, cause=TASK)
    with pytest.raises(ToolError, match=r"there is no output 'fna' \(did you mean 'fan'\?\); there are: fan, lamp"):
        board.set("fna", True, cause=TASK)
    with pytest.raises(ToolError, match="fan is no sensor"):
        await board.read("fan")
    with pytest.raises(ToolError, match="there is no output or input 'climate'; there are: fan, lamp, button, motion"):
        board.state("climate")


def test_devices_that_cannot_be_are_refused() -> None:
    """All problems at once, also without a file."""
    devices = [DeviceSettings("a", "switch", 4), DeviceSettings("b", "switch", 4), DeviceSettings("c", "x")]
    with pytest.raises(ConfigError) as caught:
        Board(devices, simulate=True, on_change=lambda _: None)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["devices.b.pin", "devices.c.kind"]


async def test_without_pins_nothing_is_simulated_unasked() -> None:
    """A clear error, never a silent fallback. (Here there is no driver, or no chip.)"""
    board = Board([DeviceSettings("fan", "switch", 17)], simulate=False, on_change=lambda _: None)
    with pytest.raises(ConfigError, match="set 'simulate: true' under node to run without pins"):
        await board.start()


@pytest.mark.parametrize(
    ("chip_error", "says"), [(OSError("can not open gpiochip"), "can not open gpiochip"), (None, "")]
)
async def test_the_real_pins_are_lgpios(monkeypatch: pytest.MonkeyPatch, chip_error: OSError | None, says: str) -> None:
    """And a chip that cannot be opened is said."""
    from gpiozero.pins.mock import MockFactory

    class Chip(MockFactory):  # type: ignore[misc]
        chip = 0

    def open_chip() -> object:
        if chip_error is not None:
            raise chip_error
        return Chip()

    module = types.ModuleType("gpiozero.pins.lgpio")
    module.LGPIOFactory = open_chip  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    board = Board([DeviceSettings("fan", "switch", 17)], simulate=False, on_change=lambda _: None)
    if chip_error is not None:
        with pytest.raises(ConfigError, match=says):
            await board.start()
        return
    await board.start()
    assert board.set("fan", True, cause=TASK) is True
    await board.stop()


async def test_boards_in_one_process_have_pins_of_their_own() -> None:
    """And gpiozero's global factory is left alone."""
    one, two = Watched(), Watched()
    await one.board.start()
    await two.board.start()
    one.board.set("fan", True, cause=TASK)
    assert two.board.state("fan") is False
    await one.board.stop()
    assert two.board.set("fan", True, cause=TASK) is True
    await two.board.stop()
    assert gpiozero.Device.pin_factory is None


def test_a_node_without_devices_on_pins_loads_no_gpiozero() -> None:
    """It is 3 MB on a Pi Zero."""
    program = (
        "import asyncio, sys\n"
        "from pibot_mesh.config.settings import DeviceSettings\n"
        "from pibot_mesh.hardware.board import Board\n"
        "board = Board([DeviceSettings('climate', 'climate')], simulate=True, on_change=print)\n"
        "async def main():\n    await board.start()\n    await board.stop()\n"
        "asyncio.run(main())\n"
        "print('gpiozero' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


async def test_an_order_that_fails_leaves_the_earlier_time_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output that could not be turned off now is turned off when its time is over."""
    watched = Watched(DeviceSettings("fan", "switch", 17))
    await watched.board.start()
    pin = watched.board._output_pins["fan"]
    write = pin.write
    watched.board.set("fan", True, cause=TASK, for_s=0.1)

    def fail(_: object) -> None:
        raise OSError("the driver is busy")

    monkeypatch.setattr(pin, "write", fail)
    with pytest.raises(ToolError, match="could not be set"):
        watched.board.set("fan", False, cause=TASK)
    assert pin_state(watched.board, "fan")
    monkeypatch.setattr(pin, "write", write)

    await until(lambda: not pin_state(watched.board, "fan"))
    await watched.board.stop()


@pytest.mark.parametrize("why", ["its time is over", "stop"])
async def test_an_output_that_could_not_be_made_safe_is_tried_again(
    why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it is; the log says so once."""
    monkeypatch.setattr("pibot_mesh.hardware.outputs.AGAIN_S", 0.01)
    watched = Watched(DeviceSettings("fan", "switch", 17))
    await watched.board.start()
    pin = watched.board._output_pins["fan"]
    write, tries = pin.write, list[object]()
    watched.board.set("fan", True, cause=TASK, for_s=0.02 if why != "stop" else None)

    def fail_thrice(value: OutputValue) -> None:
        tries.append(value)
        if len(tries) <= 3:
            raise OSError("the driver is busy")
        write(value)

    monkeypatch.setattr(pin, "write", fail_thrice)
    if why == "stop":
        watched.board.hold(True, Cause(by="stop"))
    await until(lambda: not pin_state(watched.board, "fan"))

    assert tries == [False] * 4
    assert caplog.text.count("the driver is busy") == 1
    await watched.board.stop()


@pytest.mark.parametrize("gives", [OSError("remote I/O error"), {"temperature": float("nan"), "humidity": 40.0}])
async def test_a_sensor_that_breaks_or_gives_no_number_is_read_on(
    gives: OSError | dict[str, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Drivers raise what they like, and NaN is no message."""
    tries: list[int] = []

    async def read(self: object) -> dict[str, float]:
        tries.append(1)
        if isinstance(gives, OSError):
            raise gives
        return gives

    monkeypatch.setattr("pibot_mesh.hardware.sensors.SimulatedSensor.read", read)
    watched = Watched(DeviceSettings("climate", "climate", options={"interval_s": 0.1}))
    await watched.board.start()
    await until(lambda: len(tries) >= 3)

    assert caplog.text.count("climate does not answer") == 1
    assert watched.board.readings() == {}
    await watched.board.stop()


async def test_a_listener_with_a_bug_keeps_no_output_from_safety(caplog: pytest.LogCaptureFixture) -> None:
    """The pins come first."""
    is_broken = False

    def listen(_: Change) -> None:
        if is_broken:
            raise ZeroDivisionError("a bug")

    board = Board(default_simulated_devices(), simulate=True, on_change=listen)
    await board.start()
    board.set("fan", True, cause=TASK)
    board.set("lamp", 50, cause=TASK)
    is_broken = True
    board.hold(True, Cause(by="stop"))

    assert (pin_state(board, "fan"), pin_state(board, "lamp")) == (0, 0)
    await board.stop()
