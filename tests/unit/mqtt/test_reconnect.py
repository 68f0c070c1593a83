"""Delays between attempts, the choice of the server, and that of the MQTT version."""

from __future__ import annotations

import random

from pibot_mesh.mqtt.reconnect import RETRY_MQTT_5_S, AddressChoice, Backoff, ProtocolChoice


def test_delays_grow_from_milliseconds_to_half_a_minute() -> None:
    """The first seconds see many attempts, a long outage few; none waits more than 30 s."""
    backoff = Backoff(random.Random(1))
    delays = [backoff.next_delay_s() for _ in range(40)]

    assert 0.025 <= delays[0] <= 0.05
    assert sum(delays[:6]) < 3.2
    assert all(15 <= delay <= 30 for delay in delays[10:])


def test_nodes_do_not_knock_at_the_same_instant() -> None:
    """Two with other random numbers wait differently."""
    one, other = Backoff(random.Random(1)), Backoff(random.Random(2))

    assert [one.next_delay_s() for _ in range(8)] != [other.next_delay_s() for _ in range(8)]


def test_a_connection_makes_the_next_delay_short_again() -> None:
    """A broker that restarts after days is met again at once."""
    backoff = Backoff(random.Random(1))
    for _ in range(20):
        backoff.next_delay_s()
    backoff.reset()

    assert backoff.next_delay_s() <= 0.05


def test_a_longer_pause_can_be_asked_for() -> None:
    """For a refused password or an eviction; it is spread upwards, never shortened."""
    backoff = Backoff(random.Random(1))

    assert all(5 <= backoff.next_delay_s(at_least_s=5) <= 7.5 for _ in range(5))


def test_the_next_server_is_tried_at_once_and_a_pause_follows_a_round() -> None:
    """However many there are, each has its turn before anybody waits."""
    choice = AddressChoice([("a", 1), ("b", 1), ("c", 1)])
    tried, pauses = [], []
    for _ in range(6):
        tried.append(choice.current[0])
        pauses.append(choice.failed())

    assert tried == ["a", "b", "c", "a", "b", "c"]
    assert pauses == [False, False, True, False, False, True]


def test_a_round_is_new_until_a_server_fails() -> None:
    """Then is the time to look where the servers are."""
    choice = AddressChoice([("a", 1), ("b", 1)])
    news = [choice.is_new_round]
    for _ in range(3):
        choice.failed()
        news.append(choice.is_new_round)
    choice.ended()

    assert news == [True, False, True, False]
    assert choice.is_new_round


def test_a_connection_that_ended_begins_a_round_with_the_next_server() -> None:
    """The one that was lost is the last to be tried again."""
    choice = AddressChoice([("a", 1), ("b", 1), ("c", 1)])
    choice.failed()
    assert choice.current == ("b", 1)
    choice.ended()

    assert [(choice.current[0], choice.failed()) for _ in range(3)] == [("c", False), ("a", False), ("b", True)]


def test_a_single_broker_is_a_round_of_its_own() -> None:
    """A pause follows each failure; a server that is named twice is one."""
    choice = AddressChoice([("a", 1), ("a", 1)])

    assert choice.failed()
    assert choice.current == ("a", 1)
    choice.ended()
    assert choice.current == ("a", 1)


def test_a_broker_that_refuses_mqtt_5_is_asked_for_it_again_after_an_hour() -> None:
    """It may have been replaced by a newer one."""
    choice = ProtocolChoice()
    assert choice.next(0) == "5"
    choice.refused(0)

    assert choice.next(1) == "3.1.1"
    choice.accepted(1)
    assert choice.next(RETRY_MQTT_5_S - 1) == "3.1.1"
    assert choice.next(RETRY_MQTT_5_S + 1) == "5"


def test_one_early_end_is_no_refusal() -> None:
    """A broker that is just starting closes connections, too."""
    choice = ProtocolChoice()
    choice.closed_early()
    assert choice.next(0) == "5"
    choice.accepted(0)
    choice.closed_early()

    assert choice.next(1) == "5"


def test_3_1_1_that_does_not_work_either_is_not_kept() -> None:
    """Then the broker closes for another reason."""
    choice = ProtocolChoice()
    choice.closed_early()
    choice.closed_early()
    assert choice.next(0) == "3.1.1"
    choice.closed_early()

    assert choice.next(0) == "5"
