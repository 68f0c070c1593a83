"""Outputs of every sort on gpiozero's mock pins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError
from pibot_mesh.hardware.found import SimulatedLevels
from pibot_mesh.hardware.kinds import KINDS, check
from pibot_mesh.hardware.pins import OutputPin, open_factory, pin_errors
from pibot_mesh.hardware.safety_rules import SAFETY_OPTIONS
from pibot_mesh.protocol.messages import OutputValue

STRIP = DeviceSettings("strip", "rgb_led", options={"pins": {"red": 17, "green": 27, "blue": 22}})


@pytest.fixture
def factory() -> Iterator[Any]:
    """Mock pins of our own."""
    factory = open_factory(simulate=True)
    yield factory
    factory.close()


def test_a_color_stands_on_three_pins(factory: Any) -> None:
    """And is read back from them."""
    strip = OutputPin(STRIP, factory, "#000000")
    strip.write("#ff8000")
    assert [factory.pin(pin).state for pin in (17, 27, 22)] == [1, pytest.approx(128 / 255), 0]
    assert strip.read() == "#ff8000"
    factory.pin(22).state = 1
    assert strip.read() == "#ff80ff"
    strip.close()
    assert [factory.pin(pin).function for pin in (17, 27, 22)] == ["input"] * 3


def test_a_common_anode_is_dark_where_its_pins_are_high(factory: Any) -> None:
    """From the start on."""
    anode = DeviceSettings("strip", "rgb_led", options={**STRIP.options, "active_high": False})
    strip = OutputPin(anode, factory, "#000000")
    assert [factory.pin(pin).state for pin in (17, 27, 22)] == [1, 1, 1]
    strip.write("#ff0000")
    assert [factory.pin(pin).state for pin in (17, 27, 22)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("options", "position", "pulse_ms"),
    [
        ({}, 0, 1),
        ({}, 50, 1.5),
        ({}, 100, 2),
        ({"min_pulse_ms": 0.5, "max_pulse_ms": 2.5}, 25, 1),
        ({"is_reversed": True}, 10, 1.9),
    ],
)
def test_a_servo_holds_its_position_by_its_pulse(
    options: dict[str, object], position: float, pulse_ms: float, factory: Any
) -> None:
    """50 times in a second."""
    servo = OutputPin(DeviceSettings("flap", "servo", 12, options=options), factory, float(position))
    pin = factory.pin(12)
    assert (pin.frequency, pin.state) == (50, pytest.approx(pulse_ms / 20))
    assert servo.read() == position


@pytest.mark.parametrize(("hertz", "high", "frequency"), [(0, 1, None), (440, 0.5, 440)])
def test_a_buzzer_sounds_by_itself_or_by_pulses(hertz: int, high: float, frequency: int | None, factory: Any) -> None:
    """It is on or off in any case."""
    bell = OutputPin(DeviceSettings("bell", "buzzer", 12, options={"frequency_hz": hertz}), factory, False)
    assert (bell.read(), factory.pin(12).state) == (False, 0)
    bell.write(True)
    assert (bell.read(), factory.pin(12).state, factory.pin(12).frequency) == (True, high, frequency)


@pytest.mark.parametrize("kind", ["led", "motor", "fan", "lamp", "pwm"])
def test_what_is_dimmed_pulses_as_often_as_it_is_told(kind: str, factory: Any) -> None:
    """At the level that it is told."""
    lamp = OutputPin(DeviceSettings("lamp", kind, 12, options={"frequency_hz": 500}), factory, 10.0)
    assert (factory.pin(12).state, factory.pin(12).frequency) == (pytest.approx(0.1), 500)
    lamp.write(100.0)
    assert (lamp.read(), factory.pin(12).state) == (100.0, 1)


def extremes() -> list[DeviceSettings]:
    """Every kind of output with each option of its pins at the ends of its range."""
    devices = []
    for kind in KINDS.values():
        if kind.direction == "out":
            pins = {"pins": {role: 20 + at for at, role in enumerate(kind.pin_roles)}} if kind.pin_roles else {}
            wiring = DeviceSettings("thing", kind.name, None if kind.pin_roles else 12, options=pins)
            own = {key: schema for key, schema in kind.options.items() if key not in SAFETY_OPTIONS}
            ends = [(key, schema.get(end)) for key, schema in own.items() for end in ("minimum", "maximum")]
            devices += [
                replace(wiring, options={**wiring.options, key: end})
                for key, end in ends
                if isinstance(end, (int, float))
            ]
    return [device for device in devices if not check([device], simulate=True)]


@pytest.mark.parametrize("device", extremes(), ids=lambda device: f"{device.kind} {dict(device.options)}")
def test_what_the_check_lets_pass_can_be_opened(device: DeviceSettings, factory: Any) -> None:
    """And takes both ends of its range."""
    kind = KINDS[device.kind]
    off, on = ("#000000", "#ffffff") if kind.has_color else (0.0, 100.0) if kind.is_dimmable else (False, True)
    output = OutputPin(device, factory, off)
    assert output.read() == off
    output.write(on)
    assert output.read() == on
    output.close()


def test_every_output_is_made_safe_at_once(factory: Any) -> None:
    """A relay that is on when low does not see a low pin first."""
    heater = OutputPin(DeviceSettings("heater", "relay", 5, options={"active_high": False}), factory, False)
    assert [state.state for state in factory.pin(5).states] == [False, True]
    assert heater.read() is False


@pytest.mark.parametrize(
    ("device", "value", "levels"),
    [
        (STRIP, "#ff0000", {17: 100, 27: 0, 22: 0}),
        (DeviceSettings("fan", "relay", 5), True, {5: 100}),
        (DeviceSettings("flap", "servo", 12), 30.0, {12: 30}),
    ],
)
def test_what_simulated_pins_are_at_outlives_them(
    device: DeviceSettings, value: OutputValue, levels: dict[int, float], factory: Any, tmp_path: Path
) -> None:
    """Every pin of the output; until it is given back."""
    file = SimulatedLevels(tmp_path / "pins")
    output = OutputPin(device, factory, value, file)
    again = SimulatedLevels(tmp_path / "pins")
    assert {pin: again.read(pin) for pin in levels} == levels
    assert again.values([device]) == {device.id: value}
    output.close()
    assert again.values([device]) == {}
    file.close()
    again.close()


def test_a_pin_that_cannot_be_had_is_named_with_its_device() -> None:
    """Whatever the driver raises, and however many pins there are."""
    with pytest.raises(ConfigError, match=r"devices.strip.pins: GPIO 17, 27 and 22 cannot be used: busy"):  # noqa: SIM117
        with pin_errors(STRIP):
            raise OSError("busy")
    with pytest.raises(ConfigError, match=r"devices.fan.pin: GPIO 5 cannot be used: busy"):  # noqa: SIM117
        with pin_errors(DeviceSettings("fan", "relay", 5)):
            raise OSError("busy")
