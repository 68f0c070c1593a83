"""The devices of one machine in a table."""

from __future__ import annotations

from pibot_mesh.cli.gpio_view import PinView
from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.changes import InputChanged, InputEvent, OutputChanged, SensorRead
from pibot_mesh.protocol.messages import Cause

DEVICES = (
    DeviceSettings("fan", "relay", 17),
    DeviceSettings("strip", "rgb_led", options={"pins": {"red": 5, "green": 6, "blue": 13}}),
    DeviceSettings("button", "button", 22),
    DeviceSettings("air", "climate"),
)


def test_each_device_has_its_row() -> None:
    """With its pins, what it is at, what happened at it last, and how old a reading is."""
    view = PinView(DEVICES, {"fan": True})
    view.see(InputChanged("button", True), 10.0)
    view.see(InputEvent("button", "pressed"), 10.0)
    view.see(SensorRead("air", {"temperature": 21.5, "humidity": 40.0}), 11.0)

    rows = {row.device: row for row in view.rows(13.5)}

    assert list(rows) == ["fan", "strip", "button", "air"]
    assert (rows["fan"].value, rows["fan"].pins, rows["fan"].age) == ("ON", "17", "")
    assert (rows["strip"].value, rows["strip"].pins) == ("not read", "red 5, green 6, blue 13")
    assert (rows["button"].value, rows["button"].event, rows["button"].age) == ("ON", "pressed 3.5 s ago", "")
    assert (rows["air"].value, rows["air"].age) == ("temperature 21.5 °C, humidity 40 %", "2.5 s")


def test_an_input_or_sensor_that_gave_nothing_is_missing() -> None:
    """An output is never: nobody may take its pin only to look."""
    view = PinView(DEVICES, {})
    assert view.missing == ["button", "air"]
    assert [row.value for row in view.rows(0.0)] == ["not read", "not read", "no reading yet", "no reading yet"]
    assert [row.is_missing for row in view.rows(0.0)] == [False, False, True, True]

    view.see(InputChanged("button", False), 1.0)
    assert not view.is_complete
    view.see(SensorRead("air", {"temperature": 20.0}), 1.0)
    assert view.is_complete


def test_what_is_set_elsewhere_says_nothing_here() -> None:
    """The outputs of a board that only reads are none of its own."""
    view = PinView(DEVICES, {})
    view.see(OutputChanged("fan", True, Cause("start")), 1.0)

    assert view.rows(1.0)[0].value == "not read"


def test_an_old_reading_is_told_in_minutes() -> None:
    """A sensor that fell silent shows."""
    view = PinView(DEVICES, {})
    view.see(SensorRead("air", {"temperature": 20.0}), 0.0)

    assert view.rows(150.0)[3].age == "2 min"


def test_json_holds_the_same() -> None:
    """For programs; null where nothing is known."""
    view = PinView(DEVICES, {"fan": False})
    view.see(InputChanged("button", True), 10.0)
    view.see(SensorRead("air", {"temperature": 21.5}), 11.0)

    facts = view.to_json(13.0)

    assert facts["fan"] == {
        "kind": "relay",
        "pins": {"pin": 17},
        "value": False,
        "measures": None,
        "event": None,
        "age_s": None,
    }
    assert facts["button"] == {
        "kind": "button",
        "pins": {"pin": 22},
        "value": True,
        "measures": None,
        "event": None,
        "age_s": 3.0,
    }
    assert facts["air"] == {
        "kind": "climate",
        "pins": {},
        "value": None,
        "measures": {"temperature": 21.5},
        "event": None,
        "age_s": 2.0,
    }
