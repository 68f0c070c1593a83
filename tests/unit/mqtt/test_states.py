"""Retained messages that were acknowledged late: which are said again, and how often."""

from __future__ import annotations

from pibot_mesh.mqtt.outbox import Outgoing
from pibot_mesh.mqtt.states import LATE_S, TIMES, States


def state(payload: bytes) -> Outgoing:
    return Outgoing("status", payload, qos=1, retain=True, on_ack=lambda: None)


def test_a_state_that_was_acknowledged_in_time_is_not_said_again() -> None:
    """Nor is it after that."""
    states, online = States(), state(b"online")
    states.said(online)
    states.sent(online, 10)

    assert states.acknowledged(online, 10 + LATE_S - 0.1) is None
    assert states.acknowledged(online, 99) is None


def test_a_state_that_was_acknowledged_late_is_said_again_until_it_is_not() -> None:
    """Whoever waits for the acknowledgement is told once."""
    states, online = States(), state(b"online")
    states.said(online)
    states.sent(online, 10)
    again = states.acknowledged(online, 10 + LATE_S)
    assert again is not None
    assert (again.topic, again.payload, again.on_ack) == ("status", b"online", None)
    states.sent(again, 20)

    assert states.acknowledged(again, 20.1) is None


def test_an_older_state_never_follows_a_newer_one() -> None:
    """The newer one was handed over while the broker still thought about the older one."""
    states, online, offline = States(), state(b"online"), state(b"offline")
    states.said(online)
    states.sent(online, 0)
    states.said(offline)
    states.sent(online, 1)

    assert states.acknowledged(online, LATE_S + 1) is None


def test_a_slow_way_is_not_taken_for_a_broker_in_trouble_for_ever() -> None:
    """After so many times it is left at that."""
    states, message = States(), state(b"online")
    states.said(message)
    again: Outgoing | None = message
    said = 0
    while again is not None:
        states.sent(again, 0)
        again = states.acknowledged(again, 10)
        said += 1

    assert said == 1 + TIMES


def test_what_is_no_retained_message_with_an_acknowledgement_is_none_of_this() -> None:
    """Events are stored by whoever hears them, and at QoS 0 nobody answers."""
    states = States()
    for message in (Outgoing("event", b"x", qos=1), Outgoing("health", b"x", qos=0, retain=True)):
        states.said(message)
        states.sent(message, 0)
        assert states.acknowledged(message, 10) is None


def test_a_lost_connection_forgets_what_was_said_on_it() -> None:
    """All states are published anew on the next one."""
    states, message = States(), state(b"online")
    states.said(message)
    states.sent(message, 0)
    states.clear()

    assert states.acknowledged(message, 10) is None
