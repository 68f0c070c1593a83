"""Deadlines by key."""

from __future__ import annotations

import random

import pytest

from pibot_mesh.timers import Timers, resend_delay


def test_keys_come_when_they_are_due_the_earliest_first() -> None:
    """And only once."""
    timers = Timers[str]()
    timers.set("b", 2)
    timers.set("a", 1)
    timers.set("c", 3)

    assert timers.next_at() == 1
    assert list(timers.pop_due(2)) == ["a", "b"]
    assert list(timers.pop_due(2)) == []
    assert timers.next_at() == 3


def test_setting_a_key_again_forgets_its_earlier_deadline() -> None:
    """Whether it is moved back or forth."""
    timers = Timers[str]()
    timers.set("a", 1)
    timers.set("a", 5)
    timers.set("b", 5)
    timers.set("b", 1)

    assert list(timers.pop_due(4)) == ["b"]
    assert list(timers.pop_due(9)) == ["a"]


def test_a_cancelled_key_never_comes() -> None:
    """Cancelling what is not set is no error."""
    timers = Timers[str]()
    timers.set("a", 1)
    assert "a" in timers
    timers.cancel("a")
    timers.cancel("b")

    assert "a" not in timers
    assert timers.next_at() is None
    assert list(timers.pop_due(9)) == []


def test_a_key_that_is_cancelled_while_others_come_does_not_come() -> None:
    """What one deadline ends, a later one of the same moment does not stumble over."""
    timers = Timers[str]()
    timers.set("first", 1)
    timers.set("second", 1)
    timers.set("third", 1)

    came = []
    for key in timers.pop_due(1):
        came.append(key)
        timers.cancel("second")

    assert came == ["first", "third"]


def test_deadlines_that_are_cancelled_leave_nothing_behind() -> None:
    """Many short tasks with long time-outs do not fill the memory."""
    timers = Timers[int]()
    for key in range(10_000):
        timers.set(key, 1000.0)
        if key > 3:
            timers.cancel(key)

    assert len(timers._heap) < 200
    assert sorted(timers.pop_due(1000)) == [0, 1, 2, 3]


@pytest.mark.parametrize(("tries", "seconds"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (10_000_000, 60)])
def test_what_is_sent_again_waits_longer_each_time_and_never_all_at_once(tries: int, seconds: float) -> None:
    """1, 2, 4 ... 60 s, a fifth more or less (promise 4)."""
    delays = [resend_delay(tries, random.Random(seed)) for seed in range(50)]

    assert 0.8 * seconds <= min(delays) < max(delays) <= 1.2 * seconds
