"""The table of kinds, and what hardware has against a configuration."""

from __future__ import annotations

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import Source
from pibot_mesh.hardware.kinds import KINDS, check, option, spec
from pibot_mesh.protocol.codec import from_dict, to_dict
from pibot_mesh.protocol.messages import DeviceSpec


def device(kind: str = "switch", pin: int | None = 17, id_: str = "fan", **options: object) -> DeviceSettings:
    """A device called fan."""
    return DeviceSettings(id_, kind, pin, options=options)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            device("swich"),
            f"devices.fan.kind: there is no kind 'swich' (did you mean 'switch'?); known are: {', '.join(KINDS)}",
        ),
        (device(pin=None), "devices.fan.pin: is missing: give the BCM number of the pin of this switch"),
        (device("climate", 4), "devices.fan.pin: a climate hangs on no single pin: leave it out"),
        (device(activ_high=True), "devices.fan.activ_high: unknown key (did you mean 'active_high'?)"),
        (
            device("button", zzz=1),
            "devices.fan.zzz: unknown key; known are: kind, pin, name, room, pull, active_high, bounce_s",
        ),
        (device(initial=40), "devices.fan.initial: true or false is expected, not 40"),
        (device("light", initial=101), "devices.fan.initial: a number from 0 to 100 is expected, not 101"),
        (
            device("light", initial="dim"),
            "devices.fan.initial: true, false or a number from 0 to 100 is expected, not 'dim'",
        ),
        (
            device("light", frequency_hz=0),
            "devices.fan.frequency_hz: a whole number from 1 to 10000 is expected, not 0",
        ),
        (device("button", pull="sideways"), "devices.fan.pull: up, down or none is expected, not 'sideways'"),
        (
            device("motion", 2, pull="down"),
            "devices.fan.pull: GPIO 2 has a pull-up resistor that cannot be turned off: use 'pull: up' or another pin",
        ),
    ],
)
def test_what_cannot_be_is_told_in_words(settings: DeviceSettings, problem: str) -> None:
    """What is wrong, where, and what to do."""
    [found] = check([settings], simulate=True)
    assert Source().show(found) == f"configuration: {problem}"


def test_a_pin_belongs_to_one_device() -> None:
    """The second one is told who has it."""
    [problem] = check([device(), device("light", 17, "lamp")], simulate=True)
    assert problem.path == ("devices", "lamp", "pin")
    assert problem.text == "GPIO 17 is already used by devices.fan: wire one of them to another pin"


def test_a_sensor_without_a_driver_is_never_simulated_unasked() -> None:
    """Made-up numbers must not pass for measured ones."""
    [problem] = check([device("climate", None)], simulate=False)
    assert problem.text.startswith("a climate can only be simulated yet: set 'simulate: true' under node")
    assert check([device("climate", None)], simulate=True) == []


def test_a_motion_sensor_needs_to_say_so_on_a_pin_that_is_pulled_up() -> None:
    """Its default, a pull-down, is refused too: the board could not set it."""
    assert [problem.path[-1] for problem in check([device("motion", 3)], simulate=True)] == ["pull"]
    assert check([device("motion", 3, pull="up")], simulate=True) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_right_in_itself(kind: str) -> None:
    """With nothing but a pin, it passes, has defaults, and its card can go over the wire."""
    settings = device(kind, 17 if KINDS[kind].needs_pin else None)
    assert check([settings], simulate=True) == []
    for key in KINDS[kind].options:
        written_out = DeviceSettings("fan", kind, settings.pin, options={key: option(settings, key)})
        assert check([written_out], simulate=True) == []
    card = spec(settings)
    assert from_dict(DeviceSpec, to_dict(card)) == card
    assert (card.direction == "sensor") == bool(card.measures)


def test_a_device_without_a_name_is_called_by_its_id() -> None:
    """With spaces, as people speak."""
    assert spec(DeviceSettings("back_door-2", "contact", 4)).name == "back door 2"
