"""The safety contract on gpiozero's mock pins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pibot_mesh.config.settings import DeviceSettings, SafetySettings
from pibot_mesh.errors import ConfigError, ErrorCode, ToolError
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.changes import Change, OutputChanged
from pibot_mesh.protocol.messages import Cause, OutputValue
from tests.unit.hardware.test_board import pin_state, until

TASK = Cause(by="task", id="t1", request="r1")
USUAL = SafetySettings()
INTERLOCK = SafetySettings(interlocks=(("heater", "fan"),))
HEATER = DeviceSettings("heater", "relay", 17)


class Boards:
    """Starts boards, and keeps what they reported."""

    def __init__(self) -> None:
        self.changes: list[OutputChanged] = []
        self._boards: list[Board] = []

    async def start(self, *devices: DeviceSettings, safety: SafetySettings = USUAL) -> Board:
        """A running board."""
        board = Board(devices, simulate=True, on_change=self._seen, safety=safety)
        self._boards.append(board)
        await board.start()
        return board

    async def stop(self) -> None:
        """Stop them all."""
        for board in self._boards:
            await board.stop()

    def _seen(self, change: Change) -> None:
        if isinstance(change, OutputChanged):
            self.changes.append(change)


@pytest.fixture
async def boards() -> AsyncIterator[Boards]:
    """What starts boards; they are stopped at the end."""
    boards = Boards()
    yield boards
    await boards.stop()


def fan(**options: object) -> DeviceSettings:
    """A fan that is on or off."""
    return DeviceSettings("fan", "relay", 18, options=options)


def break_pin(monkeypatch: pytest.MonkeyPatch, board: Board, device: str, times: int) -> None:
    """Have the driver of an output fail so many times."""
    pin = board._output_pins[device]
    write, tries = pin.write, list[object]()

    def fail(value: OutputValue) -> None:
        tries.append(value)
        if len(tries) <= times:
            raise OSError("the driver is busy")
        write(value)

    monkeypatch.setattr(pin, "write", fail)


async def test_without_a_master_from_the_start_an_output_goes_off(boards: Boards) -> None:
    """Nobody needs to say that there is none."""
    board = await boards.start(fan(initial=True), safety=SafetySettings(lost_after_s=0.05))
    assert pin_state(board, "fan") == 1
    await until(lambda: pin_state(board, "fan") == 0)
    assert boards.changes[-1] == OutputChanged("fan", False, Cause(by="safety", reason="no master for 0.05 s"))


async def test_a_master_that_goes_and_comes_is_noticed(boards: Boards) -> None:
    """What is reached again in time stays as it is."""
    board = await boards.start(fan(), HEATER, safety=SafetySettings(lost_after_s=0.1))
    board.reach(True, "")
    board.set("fan", True, cause=TASK)
    board.reach(False, "no broker")
    board.reach(True, "")
    await asyncio.sleep(0.15)
    assert board.state("fan") is True

    board.reach(False, "no broker")
    await until(lambda: board.state("fan") is False)
    assert boards.changes[-1].cause.reason == "no broker for 0.1 s"


async def test_on_too_long_is_off(boards: Boards) -> None:
    """By the node's own clock; setting it on again does not prolong it."""
    board = await boards.start(fan(max_on_s=0.1))
    board.set("fan", True, cause=TASK)
    board.set("fan", True, cause=TASK)
    await until(lambda: pin_state(board, "fan") == 0)
    assert boards.changes[-1].cause.by == "safety"


async def test_what_an_interlock_forbids_is_refused(boards: Boards) -> None:
    """And nothing moves."""
    board = await boards.start(HEATER, fan(), safety=INTERLOCK)
    board.set("fan", True, cause=TASK)
    with pytest.raises(ToolError, match="heater and fan must never be on together") as caught:
        board.set("heater", True, cause=TASK)
    assert caught.value.code == ErrorCode.UNSAFE
    assert pin_state(board, "heater") == 0


async def test_what_must_be_on_to_be_safe_waits_until_the_other_is_off(
    boards: Boards, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where that takes its driver several tries."""
    monkeypatch.setattr("pibot_mesh.hardware.outputs.AGAIN_S", 0.01)
    board = await boards.start(HEATER, fan(safe=True), safety=INTERLOCK)
    board.set("fan", False, cause=TASK, for_s=0.05)
    board.set("heater", True, cause=TASK)
    break_pin(monkeypatch, board, "heater", times=3)

    await until(lambda: pin_state(board, "fan") == 1)
    order = [(change.device, change.value) for change in boards.changes if change.cause.by != "task"]
    assert order[-2:] == [("heater", False), ("fan", True)]
    assert "fan was not turned on: heater is on" in caplog.text


async def test_a_person_who_turned_something_off_need_not_look_whether_it_is(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver failed once, and it is off a second later."""
    board = await boards.start(HEATER)
    board.set("heater", True, cause=TASK)
    break_pin(monkeypatch, board, "heater", times=1)
    with pytest.raises(ToolError, match="could not be set"):
        board.set("heater", False, cause=Cause("person"))

    await until(lambda: pin_state(board, "heater") == 0)


async def test_what_may_be_on_since_its_driver_broke_is_turned_off(
    boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether a heater is on: soon it is not."""
    monkeypatch.setattr("pibot_mesh.hardware.outputs.AGAIN_S", 0.01)
    board = await boards.start(HEATER, fan(), safety=INTERLOCK)
    break_pin(monkeypatch, board, "heater", times=1)
    with pytest.raises(ToolError, match="heater could not be set: the driver is busy"):
        board.set("heater", True, cause=TASK)
    with pytest.raises(ToolError, match="fan was not turned on: heater is on"):
        board.set("fan", True, cause=TASK)
    await until(lambda: boards.changes[-1].cause.by == "safety")
    assert boards.changes[-1].device == "heater"
    board.set("fan", True, cause=TASK)


async def test_what_a_failed_task_turned_on_is_turned_off(boards: Boards) -> None:
    """The cause says which task, for which request, and why."""
    board = await boards.start(HEATER, fan(on_failure="keep"))
    board.set("heater", True, cause=TASK)
    board.set("fan", True, cause=TASK)
    board.task_failed("t1", "the sensor did not answer" + "!" * 1000)
    assert (pin_state(board, "heater"), pin_state(board, "fan")) == (0, 1)
    cause = board.outputs()["heater"][1]
    assert (cause.by, cause.id, cause.request) == ("safety", "t1", "r1")
    assert (cause.reason or "").startswith("the sensor did not answer!")
    assert len(cause.reason or "") == 500


async def test_after_the_stop_of_the_board_nothing_is_due(boards: Boards) -> None:
    """And a second start begins anew."""
    board = await boards.start(fan(max_on_s=0.1, min_off_s=300))
    await board.stop()
    seen = len(boards.changes)
    await asyncio.sleep(0.1)
    assert len(boards.changes) == seen
    await board.start()
    with pytest.raises(ToolError, match="it can be turned on again in 300 s"):
        board.set("fan", True, cause=TASK)


async def test_pins_are_taken_with_what_is_off_first(boards: Boards) -> None:
    """What an earlier process left on is off before anything goes on."""
    board = await boards.start(fan(safe=True), HEATER)
    assert list(board._output_pins) == ["heater", "fan"]


async def test_a_color_reads_as_it_was_set(boards: Boards) -> None:
    """And has its longest time on as well."""
    pins = {"red": 5, "green": 6, "blue": 13}
    glow = DeviceSettings("glow", "rgb_led", options={"pins": pins, "max_on_s": 0.1})
    board = await boards.start(glow)
    assert board.set("glow", "#FF8001", cause=TASK) == "#ff8001"
    assert board.set("glow", True, cause=TASK) == "#ffffff"
    await until(lambda: board.state("glow") == "#000000")


def test_safety_that_contradicts_itself_is_refused() -> None:
    """Before any pin is touched."""
    devices = [HEATER, fan(max_on_s=60, safe=True)]
    with pytest.raises(ConfigError) as caught:
        Board(devices, simulate=True, on_change=print, safety=SafetySettings(interlocks=(("heater", "fna"),)))
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "devices.fan.max_on_s",
        "safety.interlocks[0]",
    ]
