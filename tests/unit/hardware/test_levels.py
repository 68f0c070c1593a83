"""What pins are at for each value of an output, and how gpiozero says it."""

from __future__ import annotations

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.hardware.levels import color_of, fractions, is_pulsed, pin_levels, scale_of, value_at, white
from pibot_mesh.protocol.messages import OutputValue

STRIP = DeviceSettings("strip", "rgb_led", options={"pins": {"blue": 22, "red": 17, "green": 27}})
SERVO = DeviceSettings("flap", "servo", 12)
TONE = DeviceSettings("bell", "buzzer", 12, options={"frequency_hz": 440})


@pytest.mark.parametrize(
    ("device", "value", "said"),
    [
        (DeviceSettings("fan", "relay", 4), True, True),
        (DeviceSettings("bell", "buzzer", 4), False, False),
        (TONE, True, 0.5),
        (TONE, False, 0.0),
        (DeviceSettings("lamp", "led", 4), 33.5, 0.335),
        (DeviceSettings("lamp", "motor", 4), 100.0, 1.0),
        (STRIP, "#ff0080", (1.0, 0.0, 128 / 255)),
        (SERVO, 0.0, -1.0),
        (SERVO, 75.0, 0.5),
        (DeviceSettings("flap", "servo", 12, options={"is_reversed": True}), 0.0, 1.0),
        (DeviceSettings("flap", "servo", 12, options={"is_reversed": True}), 75.0, -0.5),
    ],
)
def test_a_value_is_said_to_gpiozero_and_read_back_the_same(
    device: DeviceSettings, value: OutputValue, said: object
) -> None:
    """In the words of its kind of device."""
    scale = scale_of(device)
    assert scale.to_driver(value) == said
    assert scale.from_driver(said) == value
    assert type(scale.from_driver(said)) is type(value)


@pytest.mark.parametrize("color", ["#000000", "#ffffff", "#0180fe", "#123456"])
def test_a_color_survives_its_fractions(color: str) -> None:
    """Every one of its 256 steps."""
    assert color_of(fractions(color)) == color


def test_so_much_white() -> None:
    """From black to white."""
    assert (white(0), white(50), white(100)) == ("#000000", "#808080", "#ffffff")


@pytest.mark.parametrize(
    ("device", "value", "levels"),
    [
        (DeviceSettings("fan", "relay", 4), True, {4: 100}),
        (DeviceSettings("fan", "relay", 4), False, {4: 0}),
        (DeviceSettings("lamp", "light", 4), 42.5, {4: 42.5}),
        (STRIP, "#ff0000", {17: 100, 27: 0, 22: 0}),
        (STRIP, "#0000ff", {17: 0, 27: 0, 22: 100}),
    ],
)
def test_the_pins_of_a_value_tell_the_value(
    device: DeviceSettings, value: OutputValue, levels: dict[int, float]
) -> None:
    """There and back."""
    assert pin_levels(device, value) == levels
    assert value_at(device, {**levels, 25: 50.0}) == value


def test_an_output_of_which_a_pin_is_not_known_has_no_value() -> None:
    """Two colors of three are another color."""
    assert value_at(STRIP, {17: 100.0, 27: 0.0}) is None
    assert value_at(SERVO, {}) is None


def test_pulses_are_known_by_the_kind_or_the_tone() -> None:
    """Of them nothing is left when their process is gone."""
    pulsed = {name for name, kind in KINDS.items() if kind.direction == "out" and is_pulsed(DeviceSettings("x", name))}
    assert pulsed == {"light", "lamp", "led", "fan", "motor", "pwm", "rgb_led", "servo"}
    assert is_pulsed(TONE)
