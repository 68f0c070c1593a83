"""What gpiozero on lgpio leaves to us, on a stand-in for lgpio and for the kernel's chips."""

from __future__ import annotations

import fcntl
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpiozero
import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError
from pibot_mesh.hardware.pi import header_chip
from pibot_mesh.hardware.pins import OutputPin, open_factory

PI_5 = 0xC04170
"""The revision code of a Pi 5."""


class Lines(types.ModuleType):
    """Stands in for lgpio: remembers the chip, and what each pin is given."""

    SET_PULL_NONE, SET_PULL_UP, SET_PULL_DOWN = 0, 1, 2
    RISING_EDGE, FALLING_EDGE, BOTH_EDGES = 1, 2, 3
    error = OSError

    def __init__(self) -> None:
        super().__init__("lgpio")
        self.chips: list[int] = []
        self.levels: dict[int, int] = {}
        self.pulses: dict[int, tuple[float, float]] = {}
        self.outputs: set[int] = set()

    def gpiochip_open(self, chip: int) -> int:
        self.chips.append(chip)
        return 1

    def gpiochip_close(self, handle: int) -> None: ...

    def gpio_claim_input(self, handle: int, pin: int, flags: int = 0) -> None:
        self.outputs.discard(pin)

    def gpio_claim_output(self, handle: int, pin: int) -> None:
        self.outputs.add(pin)

    def gpio_get_mode(self, handle: int, pin: int) -> int:
        return 2 if pin in self.outputs else 0

    def gpio_read(self, handle: int, pin: int) -> int:
        return self.levels.get(pin, 0)

    def gpio_write(self, handle: int, pin: int, level: int) -> None:
        self.levels[pin] = level

    def tx_pwm(self, handle: int, pin: int, frequency: float, duty: float) -> None:
        self.pulses[pin] = (frequency, duty)


@pytest.fixture
def lgpio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """gpiozero's own driver for lgpio, on lines that are none."""
    lines = Lines()
    monkeypatch.setitem(sys.modules, "lgpio", lines)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    monkeypatch.setattr("gpiozero.pins.local.LocalPiFactory._get_revision", lambda _: PI_5)
    yield lines
    sys.modules.pop("gpiozero.pins.lgpio", None)


def chips(monkeypatch: pytest.MonkeyPatch, folder: Path, **labels: str) -> Path:
    """A folder with GPIO chips of these labels; one without a label cannot be asked."""

    def ioctl(file: Any, request: int, _: bytes) -> bytes:
        label = labels[Path(file.name).name]
        if request != 0x8044B401 or not label:
            raise OSError(25, "Inappropriate ioctl for device")
        return label.encode().rjust(32 + len(label), b"\0").ljust(68, b"\0")

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    for name in (*labels, "gpiomem", "gpiochip"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("labels", "chip"),
    [
        ({"gpiochip0": "pinctrl-bcm2835", "gpiochip1": "raspberrypi-exp-gpio"}, 0),
        ({"gpiochip0": "gpio-brcmstb@107d508500", "gpiochip4": "pinctrl-rp1"}, 4),
        ({"gpiochip10": "gpio-brcmstb@107d508500", "gpiochip11": "pinctrl-rp1"}, 11),
        ({"gpiochip0": "", "gpiochip2": "pinctrl-bcm2711"}, 2),
        ({"gpiochip0": "gpio-mockup-A"}, None),
        ({}, None),
    ],
)
def test_the_header_is_found_by_its_chips_label(
    labels: dict[str, str], chip: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number this kernel gave it."""
    assert header_chip(chips(monkeypatch, tmp_path, **labels)) == chip


def test_the_pins_are_taken_from_the_headers_chip(lgpio: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """And from the one that gpiozero believes in, where no chip says that it is the one."""
    monkeypatch.setattr("pibot_mesh.hardware.pins.header_chip", lambda: 11)
    open_factory(simulate=False).close()
    monkeypatch.setattr("pibot_mesh.hardware.pins.header_chip", lambda: None)
    open_factory(simulate=False).close()
    assert lgpio.chips == [11, 0]


def test_a_driver_that_may_not_write_to_its_folder_says_so(lgpio: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """lgpio opens a pipe in the working directory when it is imported; a service may stand in a folder of root's."""

    class Unwritable:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "gpiozero.pins.lgpio":
                raise FileNotFoundError(2, "No such file or directory", ".lgd-nfy-3")

    monkeypatch.setattr(sys, "meta_path", [Unwritable(), *sys.meta_path])
    with pytest.raises(ConfigError, match=r"cannot write to /.*lgd-nfy-3.*start the node in another folder"):
        open_factory(simulate=False)


def test_a_servo_has_more_than_six_positions(lgpio: Lines) -> None:
    """Its pulse is as long as it should be, and it reads what it was set to."""
    factory = open_factory(simulate=False)
    servo = OutputPin(DeviceSettings("flap", "servo", 12), factory, 50.0)
    for position in (0.0, 33.3, 50.0, 51.0, 100.0):
        servo.write(position)
        assert lgpio.pulses[12][0] == 50
        assert lgpio.pulses[12][1] == pytest.approx(5 + position / 20)
        assert servo.read() == pytest.approx(position)
    servo.close()
    factory.close()


def test_a_switch_on_real_pins_has_no_pulses(lgpio: Lines) -> None:
    """It is high, or low."""
    factory = open_factory(simulate=False)
    fan = OutputPin(DeviceSettings("fan", "relay", 12, options={"active_high": False}), factory, False)
    assert lgpio.levels[12] == 1
    fan.write(True)
    assert (lgpio.levels[12], fan.read(), lgpio.pulses) == (0, True, {})
    fan.close()
    factory.close()


def test_gpiozero_still_cuts_duty_cycles(lgpio: Lines) -> None:
    """Where this fails, `with_fine_pulses` may go."""
    from gpiozero.pins.lgpio import LGPIOFactory

    factory = LGPIOFactory()
    with gpiozero.PWMOutputDevice(12, pin_factory=factory) as lamp:
        lamp.value = 0.075
        assert lgpio.pulses[12][1] == 7
    factory.close()
