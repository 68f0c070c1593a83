"""What a board finds on its output pins, before it sets them: what was there when the process before it was killed."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from pathlib import Path

import pytest
from gpiozero.pins.mock import MockFactory

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import StoreError
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.found import SimulatedLevels, driven_levels, driven_values
from pibot_mesh.protocol.messages import Cause, OutputValue

FAN = DeviceSettings("fan", "switch", 17)
LAMP = DeviceSettings("lamp", "light", 18)
STRIP = DeviceSettings("strip", "rgb_led", options={"pins": {"red": 6, "green": 13, "blue": 19}})
FLAP = DeviceSettings("flap", "servo", 12)
BELL = DeviceSettings("bell", "buzzer", 16, options={"frequency_hz": 440})
PUMP = DeviceSettings("pump", "relay", 5, options={"active_high": False})


def board(levels: Path | None = None, *devices: DeviceSettings) -> Board:
    return Board(devices or (FAN, LAMP, PUMP), simulate=True, on_change=lambda _: None, levels=levels)


async def killed(levels: Path | None, **values: OutputValue) -> None:
    """A board that set these outputs, and whose process was killed then: nothing ends in good order."""
    dead = board(levels)
    await dead.start()
    for device, value in values.items():
        dead.set(device, value, cause=Cause("task"))


async def test_simulated_outputs_stay_what_they_are_when_the_process_is_killed(tmp_path: Path) -> None:
    """The next one finds them so, sets them to their initial values all the same, and remembers what it found."""
    await killed(tmp_path / "new" / "pins", fan=True, lamp=42.5, pump=True)

    later = board(tmp_path / "new" / "pins")
    await later.start()

    assert [later.found(device) for device in ("fan", "lamp", "pump")] == [True, 42.5, True]
    assert {device: value for device, (value, _) in later.outputs().items()} == {
        "fan": False,
        "lamp": 0.0,
        "pump": False,
    }
    await later.stop()


async def test_a_color_and_a_position_are_found_as_well(tmp_path: Path) -> None:
    """On as many pins as they have."""
    dead = board(tmp_path / "pins", STRIP, FLAP, BELL)
    await dead.start()
    was: Mapping[str, OutputValue] = {"strip": "#ff8800", "flap": 30.0, "bell": True}
    for device, value in was.items():
        dead.set(device, value, cause=Cause("task"))

    later = board(tmp_path / "pins", STRIP, FLAP, BELL)
    await later.start()

    assert [later.found(device) for device in was] == list(was.values())
    assert later.state("strip") == "#000000"
    await later.stop()


async def test_an_output_that_was_off_is_found_off(tmp_path: Path) -> None:
    """Which is not the same as nothing."""
    await killed(tmp_path / "pins")

    later = board(tmp_path / "pins")
    await later.start()

    assert [later.found(device) for device in ("fan", "lamp", "pump")] == [False, 0.0, False]
    await later.stop()


async def test_a_board_that_stopped_let_its_pins_go(tmp_path: Path) -> None:
    """They float then, and nothing is found."""
    first = board(tmp_path / "pins")
    await first.start()
    first.set("fan", True, cause=Cause("task"))
    await first.stop()

    later = board(tmp_path / "pins")
    await later.start()

    assert [later.found(device) for device in ("fan", "lamp", "pump")] == [None, None, None]
    await later.stop()


async def test_without_a_file_a_simulated_board_finds_nothing() -> None:
    """Its pins went with its process."""
    await killed(None, fan=True)

    later = board()
    await later.start()

    assert later.found("fan") is None
    await later.stop()


async def test_a_file_that_cannot_be_had_is_said_at_the_start(tmp_path: Path) -> None:
    """And the board is not running then."""
    (tmp_path / "pins").mkdir()
    with pytest.raises(StoreError, match="pins: cannot be opened: Is a directory"):
        await board(tmp_path / "pins").start()


def test_what_is_no_level_is_no_evidence(tmp_path: Path) -> None:
    """A damaged file, or one that ends before the pin."""
    (tmp_path / "pins").write_bytes(b"\xff" * 100)
    levels = SimulatedLevels(tmp_path / "pins")

    assert [levels.read(pin) for pin in (0, 12, 27)] == [None, None, None]
    levels.keep(27, 0)
    assert (levels.read(27), levels.read(26)) == (0, None)
    levels.close()


class Lines:
    """Stands in for libgpiod: *lines* are the direction and level of each pin that nobody else has.

    A line's direction is what the kernel believed until the line is requested, as `input`.
    """

    def __init__(self, lines: Mapping[int, tuple[str, int]]) -> None:
        self._lines = lines
        self._requested: set[int] = set()
        self.opened: list[str] = []

    def module(self) -> types.ModuleType:
        module = types.ModuleType("gpiod")
        module.__dict__.update(
            Chip=self._open, line=types.SimpleNamespace(Direction=types.SimpleNamespace(OUTPUT="out"))
        )
        return module

    def _open(self, path: str) -> Lines:
        self.opened.append(path)
        return self

    def request_lines(self, *, config: Mapping[int, None], consumer: str) -> Lines:
        [pin] = config
        if pin not in self._lines:
            raise OSError(16, "Device or resource busy")
        assert consumer == "pibot-mesh"
        self._requested.add(pin)
        return self

    def get_line_info(self, pin: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(direction=self._lines[pin][0] if pin in self._requested else "in")

    def get_value(self, pin: int) -> int:
        return self._lines[pin][1]

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None: ...


async def test_on_pins_only_what_is_still_driven_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin that is an input again floats; one that somebody else has is not read; of pulses nothing is left."""
    lines = Lines({5: ("out", 0), 17: ("out", 1), 18: ("out", 1), 22: ("in", 1)})
    monkeypatch.setitem(sys.modules, "gpiod", lines.module())

    class Chip(MockFactory):  # type: ignore[misc]
        chip = 4

    driver = types.ModuleType("gpiozero.pins.lgpio")
    driver.__dict__["LGPIOFactory"] = Chip
    monkeypatch.setitem(sys.modules, driver.__name__, driver)
    devices = (FAN, PUMP, DeviceSettings("bell", "switch", 22), DeviceSettings("gate", "switch", 23))
    pins = Board(devices, simulate=False, on_change=lambda _: None)
    await pins.start()

    assert [pins.found(device) for device in ("fan", "pump", "bell", "gate")] == [True, True, None, None]
    assert set(lines.opened) == {"/dev/gpiochip4"}
    await pins.stop()


def test_pulses_say_nothing_of_what_their_output_was_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pin may have been left high or low. A switch that is on when low is on."""
    lines = Lines(dict.fromkeys((5, 6, 12, 13, 16, 17, 18, 19), ("out", 0)))
    monkeypatch.setitem(sys.modules, "gpiod", lines.module())
    assert driven_values(0, [FAN, LAMP, PUMP, STRIP, FLAP, BELL]) == {"fan": False, "pump": True}


def test_without_libgpiod_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional."""
    monkeypatch.setitem(sys.modules, "gpiod", None)
    assert driven_levels(0, [17]) == {}
