"""A flood on the wire does not become a flood in the log."""

from __future__ import annotations

import logging

import pytest

from pibot_mesh.logs import Rejections, Throttle, log_to_terminal


class Clock:
    """Seconds that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_throttle_lets_a_burst_through_in_each_period() -> None:
    """Then it says how many it dropped."""
    clock = Clock()
    throttle = Throttle(burst=2, period_s=60, clock=clock)

    assert [throttle.admit() for _ in range(5)] == [0, 0, None, None, None]
    clock.now = 60
    assert [throttle.admit() for _ in range(3)] == [3, 0, None]
    assert throttle.total == 8


def test_refused_messages_are_all_counted_and_ten_a_minute_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With topic and reason."""
    rejections = Rejections(logging.getLogger("test"))
    for _ in range(1000):
        rejections.add("pibot/request", "not valid JSON")

    assert rejections.total == 1000
    assert [record.getMessage() for record in caplog.records] == [
        "refused a message on pibot/request: not valid JSON"
    ] * 10


def test_the_log_says_how_many_lines_it_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the first line of the next minute."""
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    rejections = Rejections(logging.getLogger("test"))
    rejections._throttle = Throttle(burst=1, clock=clock)
    rejections.add("a", "x")
    rejections.add("b", "y")
    clock.now = 61
    rejections.add("c", "z")

    assert caplog.records[-1].getMessage() == ("refused a message on c: z (and 1 more were refused in the last minute)")


def test_a_topic_cannot_write_lines_of_its_own_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It may hold a line break; and it is cut."""
    Rejections(logging.getLogger("test")).add("a\nERROR all is lost", "x\ny" + "z" * 1000)

    [record] = caplog.records
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) < 800


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_log_goes_to_the_terminal_at_the_level_that_was_asked_for(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a service under systemd wants it."""
    root = logging.Logger("root")
    monkeypatch.setattr(logging, "root", root)

    log_to_terminal(level)

    assert root.level == getattr(logging, level.upper())
    assert len(root.handlers) == 1
