"""The example nodes, as they are shipped: their pins, their reflexes and their safety, over hours that pass at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pibot_mesh.config.loader import load_node
from pibot_mesh.config.settings import NodeSettings
from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.changes import Change, OutputChanged
from pibot_mesh.hardware.sensors import SimulatedSensor
from pibot_mesh.node.check import check_node
from pibot_mesh.node.reflex_runner import ReflexRunner, silences_of
from pibot_mesh.node.reflex_store import ReflexStore
from pibot_mesh.protocol.messages import Cause, OutputValue
from pibot_mesh.testing.day import DayLoop

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"
PERSON = Cause("person")
Weather = dict[str, float]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_short_and_right(path: Path) -> None:
    """For real pins: nothing in it is simulated."""
    assert load_node(path, {}, check=check_node).devices
    assert len(path.read_text().splitlines()) <= 30


class Example:
    """A node of *settings* without a mesh: its board and its reflexes, and all that its outputs were set to."""

    def __init__(self, settings: NodeSettings, folder: Path) -> None:
        clock = asyncio.get_running_loop().time
        self.history: list[tuple[str, OutputValue, str]] = []
        self.board = Board(
            settings.devices, simulate=True, on_change=self._changed, safety=settings.safety, now=clock, seed=1
        )
        store = ReflexStore(folder / "reflexes.json")
        self.reflexes = ReflexRunner(
            self.board,
            settings.reflexes,
            store,
            changed=lambda: None,
            state=lambda *_: None,
            silent_after_s=silences_of(settings.devices),
            now=clock,
        )

    def _changed(self, change: Change) -> None:
        if isinstance(change, OutputChanged):
            self.history.append((change.device, change.value, change.cause.by))
        self.reflexes.hear(change)

    def is_on(self, device: str) -> bool:
        """Whether an output is on."""
        return bool(self.board.state(device))

    async def press(self, button: str) -> None:
        """Press a button for a moment."""
        pin = self.board.simulated_pin(button)
        pin.drive_low()
        await asyncio.sleep(0.2)
        pin.drive_high()


@asynccontextmanager
async def _running(name: str, folder: Path) -> AsyncIterator[Example]:
    settings = replace(load_node(EXAMPLES / f"{name}.yaml", {}), simulate=True)
    example = Example(settings, folder)
    await example.board.start()
    example.board.reach(True, "")
    example.reflexes.start()
    yield example
    await example.reflexes.stop()
    await example.board.stop()
    assert {device for device, value, _ in example.history if value}, "something was on"
    assert not any(value for value, _ in example.board.outputs().values())


def run_leaping(main: Coroutine[Any, Any, None]) -> None:
    """Run *main* in a loop that waits for nothing: hours pass at once."""
    loop = DayLoop(0.0, lateness=lambda: 0.0, looked=lambda: None)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main)


def _greenhouse(tmp_path: Path, weather: Weather, play: Callable[[Example], Awaitable[None]]) -> None:
    async def run() -> None:
        async def read(self: SimulatedSensor) -> dict[str, float]:
            return {measure: weather[measure] for measure in self._measures}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimulatedSensor, "read", read)
            async with _running("greenhouse", tmp_path) as example:
                await play(example)

    run_leaping(run())


def test_a_greenhouse_is_kept_neither_too_cold_nor_too_warm(tmp_path: Path) -> None:
    """Heater and fan are never on together, whatever the weather and whoever asks."""
    weather = {"temperature": 3.0, "humidity": 50.0, "pressure": 1000.0, "moisture": 60.0}

    async def play(example: Example) -> None:
        await asyncio.sleep(500)  # the heater rests at first: nobody knows for how long it was off
        assert example.is_on("heater")
        with pytest.raises(ToolError, match="heater is on"):
            example.board.set("fan", True, cause=PERSON)
        await asyncio.sleep(3600)
        assert not example.is_on("heater"), "no longer than an hour at a stretch"
        weather["temperature"] = 31.0
        await asyncio.sleep(300)
        assert example.is_on("fan")
        assert example.board.state("vent") == 100
        with pytest.raises(ToolError, match="fan is on"):
            example.board.set("heater", True, cause=PERSON)
        weather["temperature"] = 20.0
        await asyncio.sleep(300)
        assert (example.is_on("fan"), example.is_on("heater"), example.board.state("vent")) == (False, False, 0)

    _greenhouse(tmp_path, weather, play)


def test_a_dry_greenhouse_is_watered_a_little_at_a_time(tmp_path: Path) -> None:
    """Twenty seconds, and the pump rests for half an hour, whoever presses the button."""
    weather = {"temperature": 20.0, "humidity": 50.0, "pressure": 1000.0, "moisture": 20.0}

    async def play(example: Example) -> None:
        await asyncio.sleep(1795)
        assert not example.is_on("pump"), "it rests after a start"
        await asyncio.sleep(15)
        assert example.is_on("pump")
        await asyncio.sleep(25)
        assert not example.is_on("pump")
        await example.press("button")
        await asyncio.sleep(1)
        assert not example.is_on("pump")
        await asyncio.sleep(1900)
        await example.press("button")
        await asyncio.sleep(1)
        assert example.is_on("pump")
        await asyncio.sleep(10)
        assert not example.is_on("pump")

    _greenhouse(tmp_path, weather, play)


def test_a_garage_door_is_told_one_way_at_a_time(tmp_path: Path) -> None:
    """A pulse for each press, never both, and a rest between two."""

    async def run() -> None:
        async with _running("garage-door", tmp_path) as example:
            door = example.board.simulated_pin("door")
            door.drive_low()
            await asyncio.sleep(5)
            await example.press("button-up")
            assert example.is_on("up")
            with pytest.raises(ToolError, match="up is on"):
                example.board.set("down", True, cause=PERSON)
            door.drive_high()
            await asyncio.sleep(1)
            assert not example.is_on("up")
            assert example.is_on("lamp")
            await example.press("button-up")
            assert not example.is_on("up"), "it rests"
            await example.press("button-down")
            assert example.is_on("down")
            await asyncio.sleep(1)
            assert not example.is_on("down")
            door.drive_low()
            await asyncio.sleep(1)
            assert not example.is_on("lamp")

    run_leaping(run())


def test_what_is_told_to_stay_on_goes_off_by_itself(tmp_path: Path) -> None:
    """An order without a time, and nobody there any more."""

    async def run() -> None:
        async with _running("garage-door", tmp_path) as example:
            await asyncio.sleep(5)
            example.board.set("up", True, cause=PERSON)
            await asyncio.sleep(1.9)
            assert example.is_on("up")
            await asyncio.sleep(0.2)
            assert not example.is_on("up")
            assert example.history[-1] == ("up", False, "safety")

    run_leaping(run())
