"""A person is led from device to device, on simulated pins and with typed answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from pibot_mesh.cli.gpio_test import CAUSE, Verdict, Walk, verdict_text
from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.changes import Change, InputChanged, OutputChanged
from pibot_mesh.protocol.messages import Cause, OutputValue

FAN = DeviceSettings("fan", "relay", 17)
LAMP = DeviceSettings("lamp", "light", 18)
STRIP = DeviceSettings("strip", "rgb_led", options={"pins": {"red": 5, "green": 6, "blue": 13}})
BUTTON = DeviceSettings("button", "button", 22)
AIR = DeviceSettings("air", "climate")


class Person:
    """Types *answers*, one a question, and then has nothing more to say. *does* is called before each answer."""

    def __init__(self, *answers: str, does: Callable[[str], None] = lambda _: None) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        self._does = does

    async def ask(self, question: str) -> str | None:
        """Answer."""
        self.asked.append(question)
        self._does(question)
        return self._answers.pop(0) if self._answers else None


@asynccontextmanager
async def on_pins(
    person: Person, *devices: DeviceSettings, is_simulated: bool = False
) -> AsyncIterator[tuple[Walk, Board, list[Change]]]:
    """A walk on simulated pins that runs in no time, and everything that the board said."""
    walk = Walk(person.ask, is_simulated=is_simulated, on_s=0.02, press_within_s=0.3, read_every_s=0)
    changes: list[Change] = []

    def heard(change: Change) -> None:
        changes.append(change)
        walk.heard(change)

    board = Board(devices, simulate=True, on_change=heard)
    await board.start()
    try:
        yield walk, board, changes
    finally:
        await board.stop()


def values(changes: Sequence[Change], device: str, cause: Cause = CAUSE) -> list[OutputValue]:
    """What an output was set to by the test."""
    return [
        change.value
        for change in changes
        if isinstance(change, OutputChanged) and change.device == device and change.cause == cause
    ]


@pytest.mark.parametrize(
    ("device", "wanted"), [(FAN, True), (LAMP, 100.0), (STRIP, "#ffffff")], ids=["relay", "light", "color"]
)
async def test_an_output_is_switched_once_the_person_says_so(device: DeviceSettings, wanted: OutputValue) -> None:
    """And is back at its safe value by itself."""
    person = Person("", "y")
    async with on_pins(person, device) as (walk, board, changes):
        before = board.state(device.id)
        verdicts = await walk.through(board, [device])
        after = board.state(device.id)

    assert verdicts == [Verdict(device.id, "passed")]
    assert values(changes, device.id) == [wanted]
    assert after == before


@pytest.mark.parametrize(
    ("answers", "outcome", "times"),
    [(["", "n"], "failed", 1), (["", "a", "y"], "passed", 2), (["", "?", "s"], "skipped", 1), (["s"], "skipped", 0)],
)
async def test_the_persons_word_decides(answers: list[str], outcome: str, times: int) -> None:
    """Again means: switched again; what is no answer is asked again; skipped before it moved, it does not move."""
    async with on_pins(Person(*answers), FAN) as (walk, board, changes):
        [verdict] = await walk.through(board, [FAN])

    assert verdict.outcome == outcome
    assert len(values(changes, "fan")) == times


async def test_what_a_safety_rule_forbids_is_skipped_with_its_reason() -> None:
    """A compressor that must rest is not broken."""
    resting = DeviceSettings("fan", "relay", 17, options={"min_off_s": 60})
    async with on_pins(Person("", ""), resting) as (walk, board, changes):
        [verdict] = await walk.through(board, [resting])

    assert verdict.outcome == "skipped"
    assert "fan" in verdict.why
    assert values(changes, "fan") == []


async def test_a_pin_that_does_not_obey_fails() -> None:
    """With what the board says of it, after another try."""

    class Stuck:
        def set(self, device: str, value: OutputValue, *, cause: Cause, for_s: float | None = None) -> OutputValue:
            raise ToolError(f"{device} was set to on, but its pin reads off")

        def state(self, device: str) -> OutputValue:
            return False

        async def read(self, device: str) -> dict[str, float]:
            raise ToolError(f"{device} does not answer")

    person = Person("", "a", "", "a", "")
    verdicts = await Walk(person.ask).through(Stuck(), [FAN, AIR])

    assert verdicts == [
        Verdict("fan", "failed", "fan was set to on, but its pin reads off"),
        Verdict("air", "failed", "air does not answer"),
    ]


async def test_a_button_passes_when_it_is_pressed() -> None:
    """What it was before does not count."""
    async with on_pins(Person(), BUTTON) as (walk, board, _):
        trying = asyncio.create_task(walk.through(board, [BUTTON]))
        await asyncio.sleep(0)
        board.simulated_pin("button").drive_low()
        verdicts = await trying

    assert verdicts == [Verdict("button", "passed")]


async def test_a_button_that_nobody_presses_fails() -> None:
    """After another try, where the person wants one."""
    person = Person("a", "")
    async with on_pins(person, BUTTON) as (walk, board, _):
        verdicts = await walk.through(board, [BUTTON])

    assert verdicts == [Verdict("button", "failed", "nothing came within 0.3 s")]
    assert len(person.asked) == 2


async def test_another_button_is_not_the_one_that_is_asked_for() -> None:
    """Wires are swapped easily: that is what the test is for."""
    bell = DeviceSettings("bell", "button", 23)
    async with on_pins(Person(""), BUTTON, bell) as (walk, board, changes):
        trying = asyncio.create_task(walk.through(board, [BUTTON]))
        await asyncio.sleep(0)
        board.simulated_pin("bell").drive_low()
        verdicts = await trying

    assert InputChanged("bell", True) in changes
    assert verdicts == [Verdict("button", "failed", "nothing came within 0.3 s")]


async def test_a_simulated_button_is_not_waited_for() -> None:
    """Nobody can press it."""
    async with on_pins(Person(), BUTTON, is_simulated=True) as (walk, board, _):
        verdicts = await walk.through(board, [BUTTON])

    assert verdicts == [Verdict("button", "skipped", "simulated")]


@pytest.mark.parametrize(
    ("answers", "outcome", "readings"), [(["y"], "passed", 3), (["n"], "failed", 3), (["a", "y"], "passed", 6)]
)
async def test_a_sensor_shows_three_readings(
    answers: list[str], outcome: str, readings: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the person says whether they can be."""
    async with on_pins(Person(*answers), AIR) as (walk, board, _):
        [verdict] = await walk.through(board, [AIR])

    assert verdict.outcome == outcome
    assert capsys.readouterr().out.count("temperature ") == readings


async def test_where_the_input_ends_the_rest_is_skipped() -> None:
    """Nothing is switched that nobody looks at."""
    async with on_pins(Person("", "y"), FAN, LAMP, BUTTON) as (walk, board, changes):
        verdicts = await walk.through(board, [FAN, LAMP, BUTTON])

    assert [verdict.outcome for verdict in verdicts] == ["passed", "skipped", "skipped"]
    assert verdicts[1].why == "the input has ended"
    assert values(changes, "lamp") == []


def test_the_table_at_the_end_has_the_reasons() -> None:
    """Aligned."""
    assert verdict_text(Verdict("fan", "passed"), 6) == "  fan     passed"
    assert verdict_text(Verdict("button", "failed", "nothing came"), 6) == "  button  failed: nothing came"
