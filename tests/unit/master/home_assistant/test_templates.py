"""Templates: what Home Assistant makes of our payloads, whatever comes."""

from __future__ import annotations

import json

import pytest

from pibot_mesh.master.home_assistant import templates
from tests.unit.master.home_assistant.rendering import Attributes, rendered


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (templates.IS_ON, {"ON": "ON", "OFF": "OFF", "40": "ON", "0.5": "ON", "0": "OFF", "": "None", "?": "OFF"}),
        (templates.BRIGHTNESS, {"ON": "100", "OFF": "0", "40": "40.0", "0": "0.0", "": "0", "?": "0"}),
        (templates.SPEED, {"ON": "100", "OFF": "", "40": "40", "33.4": "34", "0.2": "1", "0": "", "": "", "?": ""}),
        (templates.LEVEL, {"ON": "100", "OFF": "0", "40": "40", "33.5": "33.5", "": "", "?": "", "#ffffff": ""}),
        (templates.NUMBER, {"12.5": "12.5", "ON": "None", "": "None", "nan": "None"}),
        (templates.HAS_COLOR, {"#000000": "OFF", "#00ff00": "ON", "OFF": "OFF", "ON": "ON", "": "None"}),
        (templates.COLOR, {"#ff8000": "255,128,0", "#000000": "0,0,0", "ON": "", "": "", "40": ""}),
    ],
)
def test_a_state_is_shown_as_its_platform_takes_it(template: str, shown: dict[str, str]) -> None:
    """ON, OFF, a number, a color, nothing at all, and what no output ever says."""
    assert {payload: rendered(template, payload) for payload in shown} == shown


def test_a_color_is_sent_as_the_mesh_writes_it() -> None:
    """Small hexadecimal digits, two for each channel."""
    assert rendered(templates.COLOR_SET, "", red=255, green=128, blue=0) == "#ff8000"


@pytest.mark.parametrize(("percentage", "sent"), [(30, "30"), (0, "100"), (None, "100")])
def test_a_fan_is_turned_on_at_its_last_speed(percentage: int | None, sent: str) -> None:
    """At full speed where it never had one; OFF stays OFF."""
    this = Attributes(percentage=percentage)

    assert rendered(templates.AT_LAST_SPEED, "ON", this=this) == sent
    assert rendered(templates.AT_LAST_SPEED, "ON", this=Attributes()) == "100"
    assert rendered(templates.AT_LAST_SPEED, "OFF", this=this) == "OFF"


@pytest.mark.parametrize("key", ["temperature", "items", 'it\'s "odd" }} {% x \\'])
@pytest.mark.parametrize("payload", ["", "?", "5", "[1]", "{}", '"text"', "null"])
def test_a_missing_number_is_unknown(key: str, payload: str) -> None:
    """Also where the key is the name of a method, or no payload came at all."""
    assert rendered(templates.picked(key), payload) == "None"
    assert rendered(templates.picked(key), json.dumps({key: 21.5})) == "21.5"


def test_an_unlisted_word_is_unknown() -> None:
    """An enum takes only its options."""
    template = templates.picked("state", among=("idle", "working"))

    assert rendered(template, '{"state": "idle"}') == "idle"
    assert [rendered(template, payload) for payload in ('{"state": "new"}', "{}", "")] == ["None"] * 3


def test_words_that_are_missing_are_replaced() -> None:
    """Empty, absent and null are all nothing."""
    payloads = ['{"asked": "hello"}', '{"asked": ""}', '{"asked": null}', "{}", ""]

    assert [rendered(templates.said("asked", otherwise="''"), payload) for payload in payloads] == ["hello", *[""] * 4]
    assert [rendered(templates.said("asked"), payload) for payload in payloads] == ["hello", *["None"] * 4]


def test_a_flag_is_on_or_off() -> None:
    """Numbers count as well; a payload that is no object says nothing."""
    payloads = ['{"x": 1.0}', '{"x": true}', '{"x": 0.0}', "{}", ""]

    assert [rendered(templates.flag("x"), payload) for payload in payloads] == ["ON", "ON", "OFF", "OFF", ""]


def test_what_waits_makes_a_button_available() -> None:
    """All of the keys are needed."""
    template = templates.available_with("open", "request")
    payloads = ['{"open": 1, "request": "r"}', '{"open": 0, "request": "r"}', '{"open": 1}', ""]

    assert [rendered(template, payload) for payload in payloads] == ["online", "offline", "offline", "offline"]


def test_attributes_are_always_an_object() -> None:
    """Home Assistant warns of anything else. Long texts are cut, so that its history takes them."""
    template = templates.attributes("says", "next_ts", cut=("request",))
    payload = json.dumps({"says": "it's", "next_ts": None, "request": "x" * 8000, "boot": "b"})

    assert json.loads(rendered(template, payload)) == {"says": "it's", "next_ts": None, "request": "x" * 1000}
    assert json.loads(rendered(template, "{}")) == {"says": None, "next_ts": None, "request": ""}
    assert rendered(template, "") == "{}"


def test_an_object_within_is_shown_whole() -> None:
    """And an empty one where there is none."""
    payloads = ['{"pending": {"call": "c"}}', '{"pending": null}', "{}", "", "[]"]

    assert [rendered(templates.inner("pending"), payload) for payload in payloads] == ['{"call": "c"}', *["{}"] * 4]


def test_an_event_is_only_of_its_device() -> None:
    """The topic is that of all devices of the node: others' events, and types that nobody announced, are nothing."""
    template = templates.event("bell", ("pressed", "held"))
    event = {"v": 1, "event_type": "held", "device": "bell", "boot": "b", "seq": 3, "ts": 5.0, "for_s": 2}

    assert json.loads(rendered(template, json.dumps(event))) == {"event_type": "held", "ts": 5.0, "for_s": 2}
    others = [event | {"device": "door"}, event | {"event_type": "new"}, {"device": "bell"}, {}, [], 5]
    assert [rendered(template, json.dumps(other)) for other in others] == [""] * len(others)
    assert rendered(template, "") == ""


def test_an_event_can_bear_another_name() -> None:
    """Only the type that is renamed; the others stay."""
    template = templates.event("bell", ("pressed", "held"), renamed={"pressed": "ring"})
    types = [
        json.loads(rendered(template, json.dumps({"event_type": event_type, "device": "bell"})))["event_type"]
        for event_type in ("pressed", "held")
    ]

    assert types == ["ring", "held"]


def test_an_event_shows_what_waits() -> None:
    """All keys are there whatever came, so that an automation can ask for each."""
    template = templates.event_with(("answered", "needs_approval"), ("id",), "pending", ("call",), cut=("asked",))
    waits = {"event_type": "needs_approval", "id": "r", "asked": "x" * 8000, "pending": {"call": "c", "args": {}}}

    assert json.loads(rendered(template, json.dumps(waits))) == {
        "event_type": "needs_approval",
        "id": "r",
        "asked": "x" * 1000,
        "call": "c",
    }
    answered = json.loads(rendered(template, '{"event_type": "answered", "id": "r"}'))
    assert answered == {"event_type": "answered", "id": "r", "asked": "", "call": None}
    assert [rendered(template, payload) for payload in ('{"event_type": "new"}', "{}", "")] == ["", "", ""]


def test_an_order_is_about_what_the_button_shows() -> None:
    """The request and the call are the button's own attributes."""
    template = templates.order("approve", "request", "call")
    this = Attributes(request="r", call="c", tool="set_output")

    assert json.loads(rendered(template, "PRESS", this=this)) == {
        "action": "approve",
        "request": "r",
        "call": "c",
        "by": "Home Assistant",
    }
