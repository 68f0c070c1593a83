"""The mesh is asked from a real Home Assistant, and a person there approves, denies, cancels and stops."""

from __future__ import annotations

import pytest

from tests.brokers import until
from tests.homeassistant.home_assistant import Entity, HomeAssistant
from tests.homeassistant.mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASK, REPLY = "notify.master_ask", "event.master_reply"
APPROVE, DENY, CANCEL = "button.master_approve", "button.master_deny", "button.master_cancel"
TURN_ON = "turn on the socket on kitchen"


async def ask(home: HomeAssistant, text: str, event_type: str) -> Entity:
    """Ask by `notify`, and return the next reply, which is of *event_type*."""
    before = (await home.states())[REPLY].state
    await home.call("notify", "send_message", ASK, message=text)
    return await replied(home, before, event_type)


async def replied(home: HomeAssistant, before: str, event_type: str) -> Entity:
    states = await home.until(lambda states: states[REPLY].state != before, "a reply")
    assert states[REPLY].attributes["event_type"] == event_type
    return states[REPLY]


async def waits(home: HomeAssistant) -> Entity:
    """Ask for what a person must approve, and return the button for that."""
    asked = await ask(home, TURN_ON, "needs_approval")
    assert asked.attributes["tool"] == "output_set"
    states = await home.until(lambda states: states[APPROVE].is_available, "it can be approved")
    assert states[DENY].is_available
    assert states["sensor.master_state"].state == "needs_approval"
    for button in (APPROVE, DENY):
        assert states[button].attributes["call"] == asked.attributes["call"]
        assert states[button].attributes["request"] == asked.attributes["id"]
        assert states[button].attributes["args"]["device"] == "socket"
    return states[APPROVE]


async def is_over(home: HomeAssistant) -> None:
    await home.until(lambda states: not states[APPROVE].is_available, "nothing is left to approve")


def socket(mesh: Mesh) -> float:
    return mesh.kitchen.board.simulated_pin("socket").state


async def test_what_is_asked_is_answered_by_an_event(home: HomeAssistant) -> None:
    """With the id of the request, what was asked, and the whole answer; the last answer stands in a sensor."""
    reply = await ask(home, "list devices", "answered")

    assert reply.attributes["asked"] == "list devices"
    assert reply.attributes["id"]
    assert "lantern" in reply.attributes["text"]
    states = await home.until(lambda states: states["sensor.master_state"].state == "idle", "nothing is open")
    assert states["sensor.master_last_answer"].attributes["asked"] == "list devices"
    assert reply.attributes["text"].startswith(states["sensor.master_last_answer"].state.rstrip("…"))


async def test_a_dashboard_asks_by_a_text(home: HomeAssistant) -> None:
    """Which shows afterwards what was asked."""
    before = (await home.states())[REPLY].state

    await home.call("text", "set_value", "text.master_ask", value="read the humidity in the kitchen")

    reply = await replied(home, before, "answered")
    assert "%" in reply.attributes["text"]
    await home.until(
        lambda states: states["text.master_ask"].state == "read the humidity in the kitchen", "the text shows it"
    )


async def test_what_is_not_understood_fails_in_words(home: HomeAssistant) -> None:
    """The event says so by its type."""
    reply = await ask(home, "colorless green ideas sleep furiously", "failed")

    assert reply.attributes["state"] == "rejected"
    assert "colorless" in reply.attributes["text"]


async def test_a_call_is_approved_by_a_button(home: HomeAssistant, mesh: Mesh) -> None:
    """The button says which call it is for; until it is pressed, nothing happens."""
    button = await waits(home)
    assert socket(mesh) == 0
    before = (await home.states())[REPLY].state

    await home.call("button", "press", button.id)

    reply = await replied(home, before, "answered")
    assert reply.attributes["id"] == button.attributes["request"]
    assert socket(mesh) == 1
    await is_over(home)
    await home.call("switch", "turn_off", "switch.kitchen_socket")
    await until(lambda: socket(mesh) == 0, "the socket is off")


async def test_a_call_is_denied_by_a_button(home: HomeAssistant, mesh: Mesh) -> None:
    """The reply says so, and nothing was done."""
    await waits(home)
    before = (await home.states())[REPLY].state

    await home.call("button", "press", DENY)

    reply = await replied(home, before, "failed")
    assert "denied" in reply.attributes["text"]
    assert socket(mesh) == 0
    await is_over(home)


async def test_a_request_is_canceled_by_a_button(home: HomeAssistant, mesh: Mesh) -> None:
    """Its reply says so, and there is nothing to cancel then."""
    await waits(home)
    states = await home.states()
    assert states[CANCEL].is_available

    await home.call("button", "press", CANCEL)

    reply = await replied(home, states[REPLY].state, "failed")
    assert reply.attributes["state"] == "canceled"
    assert socket(mesh) == 0
    await home.until(lambda states: not states[CANCEL].is_available, "nothing is left to cancel")


async def test_the_emergency_stop_is_a_button(home: HomeAssistant, mesh: Mesh) -> None:
    """Every output is safe at once, the problem is shown, and nothing moves until a person releases it."""
    stopped = [f"binary_sensor.{party}_emergency_stop" for party in ("kitchen", "porch", "master")]
    await home.call("switch", "turn_on", "switch.kitchen_socket")
    await until(lambda: socket(mesh) == 1, "the socket is on")

    await home.call("button", "press", "button.master_emergency_stop")
    await until(lambda: socket(mesh) == 0, "the socket is off")
    await home.until(lambda states: all(states[each].state == "on" for each in stopped), "the problem is shown")
    await home.call("switch", "turn_on", "switch.kitchen_socket")
    states = await home.until(lambda states: states["sensor.master_state"].state == "stopped", "the master says so")
    assert states["switch.kitchen_socket"].state == "off"
    assert socket(mesh) == 0

    await home.call("button", "press", "button.master_release_emergency_stop")
    await home.until(lambda states: all(states[each].state == "off" for each in stopped), "the problem is gone")
    await home.call("switch", "turn_on", "switch.kitchen_socket")
    await until(lambda: socket(mesh) == 1, "it can be turned on again")
    await home.call("switch", "turn_off", "switch.kitchen_socket")
    await until(lambda: socket(mesh) == 0, "the socket is off")
