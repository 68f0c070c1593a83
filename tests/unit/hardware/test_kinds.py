"""The table of kinds, and how a device stands in the node's card."""

from __future__ import annotations

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.kind import Kind, options_schema, pin_words, pins_of
from pibot_mesh.hardware.kinds import KINDS, check, option, spec
from pibot_mesh.protocol.codec import from_dict, to_dict
from pibot_mesh.protocol.messages import DeviceSpec, Measure


def wired(kind: str, **options: object) -> DeviceSettings:
    """A device of *kind*, called thing, on pins of its own."""
    roles = KINDS[kind].pin_roles
    pins = {"pins": {role: 20 + index for index, role in enumerate(roles)}} if roles else {}
    pin = 17 if KINDS[kind].needs_pin and not roles else None
    return DeviceSettings("thing", kind, pin, options={**pins, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_right_in_itself(kind: str) -> None:
    """With nothing but its pins it passes, has defaults, and its card can go over the wire."""
    settings = wired(kind)
    assert check([settings], simulate=True) == []
    for key in KINDS[kind].options:
        assert check([wired(kind, **{key: option(settings, key)})], simulate=True) == []
    card = spec(settings)
    assert from_dict(DeviceSpec, to_dict(card)) == card
    assert (card.direction == "sensor") == bool(card.measures)


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.direction == "out"])
def test_every_output_can_be_told_where_it_is_safe(kind: Kind) -> None:
    """It starts there, and rests there when it is lost, unless the file says otherwise."""
    assert {"initial", "safe", "on_lost", "max_on_s", "min_off_s"} <= set(kind.options)
    assert kind.options["initial"]["default"] == kind.options["safe"]["default"]


def test_a_device_without_a_name_is_called_by_its_id() -> None:
    """With spaces, as people speak."""
    assert spec(DeviceSettings("back_door-2", "contact", 4)).name == "back door 2"


def test_the_card_shows_what_people_and_home_assistant_call_a_device() -> None:
    """And what values it takes."""
    strip = DeviceSettings("strip", "rgb_led", label="Shelf", device_class="light", options=wired("rgb_led").options)
    card = spec(strip)
    assert (card.label, card.device_class, card.color, card.dimmable) == ("Shelf", "light", True, False)
    assert (spec(wired("servo")).dimmable, spec(wired("servo")).color) == (True, False)


def test_an_input_says_its_events_and_its_unit() -> None:
    """Those of its words, and those that its kind has beside them; a meter's unit is what the file says."""
    assert spec(wired("contact")).events == ("opened", "closed")
    assert spec(wired("button")).events[:2] == ("pressed", "released")
    assert spec(wired("counter", unit="kWh")).unit == "kWh"
    assert spec(wired("distance")).unit == "cm"


def test_a_sensor_says_what_its_voltage_stands_for() -> None:
    """Where the file says so; and what cannot go together there is refused."""
    soil = wired("mcp3xxx", measure="moisture", unit="%")
    assert spec(soil).measures == {"moisture": Measure("%")}
    assert spec(soil).unit == ""
    [problem] = check([wired("mcp3xxx", model="mcp3002", channel=5)], simulate=True)
    assert problem.path == ("devices", "thing", "channel")


def test_a_sensor_says_the_events_of_its_thresholds() -> None:
    """And those that nobody could tell apart are refused."""
    hot = {"measure": "temperature", "above": 28, "name": "hot"}
    assert spec(wired("climate", thresholds=[hot])).events == ("hot", "hot_ended")
    [problem] = check([wired("climate", thresholds=[hot, hot])], simulate=True)
    assert problem.path == ("devices", "thing", "thresholds", 1, "name")


def test_the_pins_of_a_device_have_roles() -> None:
    """What is no number is none, so that a file can be asked before it is checked."""
    strip = DeviceSettings("strip", "rgb_led", options={"pins": {"red": 5, "green": "6", "blue": True}})
    assert pins_of(strip) == {"red": 5}
    assert pins_of(DeviceSettings("strip", "rgb_led", options={"pins": 5})) == {}
    assert pins_of(DeviceSettings("fan", "switch", 17)) == {"pin": 17}


def test_pins_in_words() -> None:
    """One, or several."""
    assert pin_words(DeviceSettings("fan", "switch", 17)) == "GPIO 17"
    assert pin_words(wired("rgb_led")) == "GPIO 20, 21 and 22"


def test_the_schema_of_a_kind_on_several_pins_asks_for_each_of_them() -> None:
    """And that of the others knows no pins."""
    assert options_schema(KINDS["rgb_led"])["required"] == ["pins"]
    assert "pins" not in options_schema(KINDS["relay"])["properties"]  # type: ignore[operator]
