"""The master as a device of Home Assistant."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.master.home_assistant.master_device import master_payload
from pibot_mesh.master.home_assistant.model import Built
from pibot_mesh.master.home_assistant.naming import Naming
from pibot_mesh.master.home_assistant.rules import check
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import RoutineState
from pibot_mesh.protocol.topics import Topics

MORNING = RoutineState("morning", "schedule", "every day at 7:00", "turn on the light", is_on=True)
ROUTINES = st.lists(
    st.builds(
        RoutineState,
        id=st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
        kind=st.just("schedule"),
        says=st.text(st.characters(codec="utf-8"), min_size=1, max_size=80),
        request=st.just("x"),
        is_on=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda routine: routine.id.lower(),
)


def built(*routines: RoutineState, root: str = "pibot") -> Built:
    """The payload of the master of a mesh with *root*."""
    return master_payload("1.2.0", routines, Topics(root), Naming(root))


def component(result: Built, key: str) -> dict[str, JSON]:
    """One component of *result*."""
    components = result.payload["cmps"]
    assert isinstance(components, dict)
    found = components[key]
    assert isinstance(found, dict)
    return found


def test_the_device_is_the_mesh() -> None:
    """It has the version, and a mesh with a root of its own is told from others by it."""
    assert built().payload["dev"] == {
        "ids": ["pibot_master"],
        "name": "PiBot Mesh",
        "mf": "PiBot Mesh",
        "mdl": "Master",
        "sw": "1.2.0",
    }
    device = built(root="cellar").payload["dev"]
    assert isinstance(device, dict)
    assert device["name"] == "PiBot Mesh (cellar)"


def test_it_is_there_while_the_master_is() -> None:
    """What is not said otherwise goes with the master's status, and every message is acknowledged."""
    payload = built().payload

    assert payload["avty"] == [{"t": "pibot/master/status"}]
    assert payload["qos"] == 1


@pytest.mark.parametrize("key", ["ask", "ask_text"])
def test_both_ways_to_ask_send_a_request(key: str) -> None:
    """One for long texts, one that dashboards show; what is asked is never kept by the broker."""
    assert component(built(), key)["cmd_t"] == "pibot/request"
    assert component(built(), key)["name"] == "Ask"
    assert "ret" not in component(built(), key)


def test_a_reply_is_an_event() -> None:
    """With what is known of it in its attributes."""
    reply = component(built(), "reply")

    assert reply["evt_typ"] == ["answered", "failed", "needs_approval"]
    assert reply["stat_t"] == "pibot/master/event"
    assert reply["def_ent_id"] == "event.master_reply"


@pytest.mark.parametrize(
    ("key", "payload", "is_retained"), [("stop", "STOP", True), ("release", "RUN", True), ("run_morning", "RUN", None)]
)
def test_a_button_sends_its_word(key: str, payload: str, is_retained: bool | None) -> None:
    """The emergency stop is a state, which the broker keeps; a run is not."""
    button = component(built(MORNING), key)

    assert (button["p"], button["pl_prs"], button.get("ret")) == ("button", payload, is_retained)


@pytest.mark.parametrize("key", ["stop", "release", "online"])
def test_the_stop_can_be_pressed_without_a_master(key: str) -> None:
    """Nodes hear it without one; and that it is offline is shown while it is."""
    assert component(built(), key)["avty"] == []


@pytest.mark.parametrize("key", ["cancel", "approve", "deny"])
def test_a_button_for_what_waits_is_there_only_then(key: str) -> None:
    """The master must be there, and its state must show it: all of both."""
    button = component(built(), key)
    topics = button["avty"]
    assert isinstance(topics, list)

    assert [one["t"] for one in topics if isinstance(one, dict)] == ["pibot/master/status", "pibot/master/state"]
    assert button["avty_mode"] == "all"
    assert button["cmd_t"] == "pibot/master/control"
    assert button["json_attr_t"] == "pibot/master/state"


def test_a_routine_is_a_switch_and_a_button() -> None:
    """It is turned on and off, and can be run at once."""
    switch, button = (component(built(MORNING), key) for key in ("routine_morning", "run_morning"))

    assert (switch["p"], switch["name"], switch["cmd_t"]) == (
        "switch",
        "Every day at 7:00",
        "pibot/routine/morning/set",
    )
    assert (button["name"], button["cmd_t"]) == ("Run every day at 7:00", "pibot/routine/morning/set")


def test_routines_that_say_the_same_are_told_apart() -> None:
    """By their ids."""
    other = RoutineState("again", "schedule", MORNING.says, "x", is_on=False)
    result = built(MORNING, other)

    names = [component(result, f"routine_{routine}")["name"] for routine in ("morning", "again")]
    assert names == ["Every day at 7:00 (morning)", "Every day at 7:00 (again)"]


@given(ROUTINES)
def test_home_assistant_takes_all_of_it(routines: list[RoutineState]) -> None:
    """Whatever routines there are, nothing is dropped and nothing warned of."""
    naming = Naming()

    assert check(naming.config_topic("master"), built(*routines).payload) == []


@given(ROUTINES)
def test_the_same_routines_give_the_same_bytes(routines: list[RoutineState]) -> None:
    """What a routine did last is not in the payload: it is not published for that."""
    later = [RoutineState(each.id, each.kind, each.says, each.request, not each.is_on, 5.0) for each in routines]

    assert json.dumps(built(*routines).payload) == json.dumps(built(*later).payload)
