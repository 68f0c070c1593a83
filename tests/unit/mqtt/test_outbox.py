"""The outbox: order, bounds, and what survives a lost connection."""

from __future__ import annotations

from hypothesis import given, strategies as st

from pibot_mesh.mqtt.outbox import Outbox, Outgoing


def message(name: str, *, keep: bool = True, droppable: bool = False, expires_at: float | None = None) -> Outgoing:
    return Outgoing(name, b"x", qos=1, keep=keep, droppable=droppable, expires_at=expires_at)


def sent_topics(outbox: Outbox, now: float = 0.0) -> list[str]:
    """Take and acknowledge everything that waits."""
    topics: list[str] = []
    while (taken := outbox.take(now)) is not None:
        outbox.sent(1, taken)
        assert outbox.acknowledged(1) is taken
        topics.append(taken.topic)
    return topics


def test_messages_leave_in_the_order_in_which_they_came() -> None:
    """First in, first out."""
    outbox = Outbox()
    for name in "abc":
        assert outbox.add(message(name)) == []

    assert sent_topics(outbox) == ["a", "b", "c"]
    assert len(outbox) == 0


def test_unacknowledged_messages_are_sent_again_before_the_others() -> None:
    """A lost connection changes no order."""
    outbox = Outbox()
    for name in "abcd":
        outbox.add(message(name))
    for mid in (1, 2):
        taken = outbox.take(0)
        assert taken is not None
        outbox.sent(mid, taken)
    outbox.acknowledged(1)
    outbox.connection_lost()

    assert sent_topics(outbox) == ["b", "c", "d"]


def test_what_need_not_be_kept_goes_with_the_connection() -> None:
    """In flight or waiting: a state is published anew, and an old one must not follow it."""
    outbox = Outbox()
    for name in ("old state", "event", "newer state"):
        outbox.add(message(name, keep=name == "event"))
    taken = outbox.take(0)
    assert taken is not None
    outbox.sent(1, taken)
    outbox.connection_lost()

    assert sent_topics(outbox) == ["event"]


def test_what_is_added_on_connect_goes_before_the_backlog() -> None:
    """First the state of now, then what waited, then what comes later."""
    outbox = Outbox()
    outbox.add(message("waited"))
    outbox.hold_backlog()
    outbox.add(message("state"))
    outbox.release_backlog()
    outbox.add(message("later"))

    assert sent_topics(outbox) == ["state", "waited", "later"]


def test_droppable_messages_make_room_oldest_first() -> None:
    """Only then is the new message the one that is lost."""
    outbox = Outbox(max_messages=3)
    delta, other_delta, event = message("1", droppable=True), message("2", droppable=True), message("3")
    for each in (delta, event, other_delta):
        outbox.add(each)
    late = message("late")

    assert outbox.add(message("4")) == [delta]
    assert outbox.add(message("5")) == [other_delta]
    assert outbox.add(late) == [late]
    assert sent_topics(outbox) == ["3", "4", "5"]


def test_expired_messages_are_not_sent() -> None:
    """They are forgotten when their turn comes."""
    outbox = Outbox()
    outbox.add(message("stale", expires_at=10))
    outbox.add(message("fresh", expires_at=11))

    assert sent_topics(outbox, now=10) == ["fresh"]
    assert len(outbox) == 0


def test_an_unknown_acknowledgement_means_nothing() -> None:
    """For example one for a QoS 0 message or a second one."""
    assert Outbox().acknowledged(7) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300)), max_size=80))
def test_bounds_hold_and_room_comes_back(steps: list[tuple[int, int]]) -> None:
    """Whatever is added, sent, answered or lost: never over the bounds, and empty means empty."""
    outbox = Outbox(max_messages=8, max_bytes=1000)
    mid = 0
    in_flight: list[int] = []
    for action, size in steps:
        if action <= 2:
            outbox.add(Outgoing("t", b"x" * size, qos=1, keep=size % 3 != 0, droppable=action == 0))
        elif action == 3 and (taken := outbox.take(0)) is not None:
            mid += 1
            outbox.sent(mid, taken)
            in_flight.append(mid)
        elif action == 4 and in_flight:
            outbox.acknowledged(in_flight.pop(0))
        elif action == 5:
            outbox.connection_lost()
            in_flight.clear()
        assert len(outbox) <= 8
    outbox.connection_lost()
    sent_topics(outbox)
    exactly_full = Outgoing("t", b"x" * 999, qos=1)

    assert outbox.add(exactly_full) == []


def test_a_full_outbox_still_has_room_for_states() -> None:
    """Who comes back must be able to say so; but not without end."""
    outbox = Outbox(max_messages=4)
    for number in range(4):
        assert outbox.add(message(str(number))) == []
    state, too_many = Outgoing("state", b"", qos=1, retain=True, keep=False), message("5")

    assert outbox.add(too_many) == [too_many]
    assert [outbox.add(state) for _ in range(3)] == [[], [], [state]]
