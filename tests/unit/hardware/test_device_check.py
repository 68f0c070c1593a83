"""What hardware has against a configuration, in words, all at once and before any pin is touched."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import Source
from pibot_mesh.hardware.device_check import device_problems
from pibot_mesh.hardware.kind import Kind
from pibot_mesh.hardware.kinds import KINDS, check
from pibot_mesh.protocol.messages import Measure

DIMMED = "it is on or off: for a level use 'kind: light' or 'kind: pwm'"


def device(kind: str = "switch", pin: int | None = 17, id_: str = "fan", **options: object) -> DeviceSettings:
    """A device called fan."""
    return DeviceSettings(id_, kind, pin, options=options)


def rgb(**pins: object) -> DeviceSettings:
    """An LED in color, called fan."""
    return device("rgb_led", None, pins=pins)


def said(*devices: DeviceSettings, kinds: Mapping[str, Kind] = KINDS) -> list[str]:
    """What is wrong with *devices*, as a person reads it, without the file's name."""
    problems = device_problems(devices, kinds, simulate=True)
    return [Source().show(problem).removeprefix("configuration: devices.") for problem in problems]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (device("swich"), f"kind: there is no kind 'swich' (did you mean 'switch'?); known are: {', '.join(KINDS)}"),
        (device(pin=None), "pin: is missing: give the BCM number of the pin of this switch"),
        (device("climate", 4), "pin: this climate hangs on no single pin: leave it out"),
        (device(activ_high=True), "activ_high: unknown key (did you mean 'active_high'?)"),
        (device(initial=40), f"initial: this switch cannot be dimmed, {DIMMED}"),
        (device("relay", safe=0.5), f"safe: this relay cannot be dimmed, {DIMMED}"),
        (device("relay", frequency_hz=100), f"frequency_hz: this relay cannot be dimmed, {DIMMED}"),
        (device("relay", initial=1), "initial: true or false is expected, not 1"),
        (device("relay", initial="dim"), "initial: true or false is expected, not 'dim'"),
        (device("light", initial=101), "initial: a number from 0 to 100 is expected, not 101"),
        (device("light", initial="dim"), "initial: true, false or a number from 0 to 100 is expected, not 'dim'"),
        (device("light", frequency_hz=0), "frequency_hz: a whole number from 1 to 10000 is expected, not 0"),
        (device("button", pull="sideways"), "pull: up, down or none is expected, not 'sideways'"),
        (
            device("servo", frequency_hz=50),
            (
                "frequency_hz: is an option of buzzer, light, lamp, led, fan, motor and pwm, not of servo: "
                "take it out, or change the kind"
            ),
        ),
        (
            device("relay", is_reversed=True),
            "is_reversed: is an option of servo, not of relay: take it out, or change the kind",
        ),
        (device("servo", min_pulse_ms=2.5), "min_pulse_ms: must be below max_pulse_ms (2), not 2.5"),
        (device("servo", min_pulse_ms="x"), "min_pulse_ms: a number is expected, not 'x'"),
        (device(pins={"red": 4}), "pins: this switch hangs on one pin: write 'pin: ...' instead"),
        (rgb(red=4, green=5), "pins.blue: is missing: add 'blue: ...' (a whole number)"),
        (rgb(red=4, green=5, blue=28), "pins.blue: a whole number from 0 to 27 is expected, not 28"),
        (rgb(red=4, green=5, blue=6, white=7), "pins.white: unknown key; known are: red, green, blue"),
        (
            rgb(red=4, green=5, blue=4),
            "pins.blue: GPIO 4 is already used by devices.fan.pins.red: wire one of them to another pin",
        ),
        (
            device("rgb_led", None),
            "pins: is missing: add 'pins: ...' (pins such as {red: ..., green: ..., blue: ...})",
        ),
        (
            device("rgb_led", None, pins={"red": 4, "green": 5, "blue": 6}, initial="red"),
            (
                "initial: true, false, a number from 0 to 100 or a color such as '#ff8800' (in quotes) is expected, "
                "not 'red'"
            ),
        ),
        (
            device("rgb_led", 7, pins={"red": 4, "green": 5, "blue": 6}),
            "pin: this rgb_led hangs on several pins: write 'pins: {red: ..., green: ..., blue: ...}' instead",
        ),
        (
            device("motion", 2, pull="down"),
            "pull: GPIO 2 has a pull-up resistor that cannot be turned off: use 'pull: up' or another pin",
        ),
        (
            device("button", pull="none"),
            "active_high: is missing: with 'pull: none' say whether the pin is high when active (true) or low (false)",
        ),
    ],
)
def test_what_cannot_be_is_told_in_words(settings: DeviceSettings, problem: str) -> None:
    """What is wrong, where, and what to do; and nothing is said twice."""
    assert said(settings) == [f"fan.{problem}"]


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    """Those of every device, and those of its kind."""
    [problem] = said(device("button", zzz=1))
    assert problem.startswith(
        "fan.zzz: unknown key; known are: kind, pin, name, label, room, device_class, pull, active"
    )


def test_a_pin_that_must_be_pulled_down_is_none_with_a_pull_up() -> None:
    """The other pins of the device may be."""
    sonar = Kind("sonar", "", "in", {}, pin_roles=("trigger", "echo"), pulled_down=("echo",))
    assert said(device("sonar", None, pins={"trigger": 2, "echo": 3}), kinds={"sonar": sonar}) == [
        "fan.pins.echo: GPIO 3 has a pull-up resistor that cannot be turned off: use another pin"
    ]


def test_a_floating_input_that_says_when_it_is_active_is_right() -> None:
    """Either way."""
    assert said(device("button", pull="none", active_high=False)) == []


def test_a_pin_belongs_to_one_device() -> None:
    """The second one is told who has it, whatever the pin is called there."""
    strip = device("rgb_led", None, "strip", pins={"red": 17, "green": 5, "blue": 6})
    assert said(device(), strip, device("light", 6, "lamp")) == [
        "strip.pins.red: GPIO 17 is already used by devices.fan: wire one of them to another pin",
        "lamp.pin: GPIO 6 is already used by devices.strip.pins.blue: wire one of them to another pin",
    ]


def test_all_is_said_at_once_device_by_device() -> None:
    """A person corrects the file once."""
    problems = said(device("switch", 5, "a"), device("light", 5, "b", initial=200), device("x", 6, "c"))
    assert [problem.split(": ")[0] for problem in problems] == ["b.initial", "b.pin", "c.kind"]


@pytest.mark.parametrize(("bus", "name", "pin"), [("i2c", "I2C", 3), ("spi", "SPI", 7), ("w1", "1-Wire", 4)])
def test_a_pin_of_a_bus_that_is_in_use_is_no_devices_own(bus: str, name: str, pin: int) -> None:
    """Two devices may share the bus; without one, its pins are free."""
    kind = Kind("probe", "", "sensor", {}, needs_pin=False, bus=bus, measures={"x": Measure()})  # type: ignore[arg-type]
    kinds = {**KINDS, "probe": kind}
    probes = [device("probe", None, "probe"), device("probe", None, "second")]
    assert said(device("relay", pin), kinds=kinds) == []
    assert said(*probes, device("relay", pin), kinds=kinds) == [
        f"fan.pin: GPIO {pin} is the {name} bus, which devices.probe needs: use another pin"
    ]
    strip = device("rgb_led", None, pins={"red": 17, "green": pin, "blue": 18})
    assert [problem.split(": ")[0] for problem in said(strip, *probes, kinds=kinds)] == ["fan.pins.green"]


def test_an_i2c_bus_on_other_pins_leaves_the_usual_ones_free() -> None:
    """An overlay has put it there."""
    sensor = device("bme280", None, "air", bus=3)
    assert said(sensor, device("relay", 2)) == []


def test_a_device_of_no_known_kind_keeps_no_other_from_being_checked() -> None:
    """And its pin counts."""
    assert [problem.split(": ")[0] for problem in said(device("x"), device("relay", 17, "pump"))] == [
        "fan.kind",
        "pump.pin",
    ]


def test_a_sensor_without_a_driver_is_never_simulated_unasked() -> None:
    """Made-up numbers must not pass for measured ones."""
    [problem] = check([device("climate", None)], simulate=False)
    assert problem.text.startswith("a climate can only be simulated yet: set 'simulate: true' under node")
    assert check([device("climate", None)], simulate=True) == []


def test_a_motion_sensor_needs_to_say_so_on_a_pin_that_is_pulled_up() -> None:
    """Its default, a pull-down, is refused too: the board could not set it."""
    assert [problem.path[-1] for problem in check([device("motion", 3)], simulate=True)] == ["pull"]
    assert check([device("motion", 3, pull="up")], simulate=True) == []
