"""What edges mean: contacts that bounce, presses, motion that lingers. Times are numbers."""

from __future__ import annotations

import itertools
import random

import pytest

from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent
from pibot_mesh.hardware.kind import InputWords
from pibot_mesh.hardware.presses import Debounce, Presses, Switching, earliest

BUTTON = InputWords("pressed", "released", "pressed", "not pressed", "up")
DOOR = InputWords("opened", "closed", "open", "closed", "up", is_on_when_active=False)
MOTION = InputWords("motion", "motion_ended", "seeing motion", "seeing no motion", "down")


def button(*, bounce_s: float = 0.05, hold_s: float = 1.0, double_s: float = 0.4, is_active: bool = False) -> Presses:
    """A button that is up."""
    return Presses("bell", BUTTON, is_active=is_active, bounce_s=bounce_s, hold_s=hold_s, double_s=double_s)


def said(changes: list[Change]) -> list[str]:
    """Events by name; states as ON and OFF."""
    return [
        one.event_type if isinstance(one, InputEvent) else "ON" if getattr(one, "value", None) else "OFF"
        for one in changes
    ]


def events(changes: list[Change]) -> list[str]:
    """The events by name."""
    return [one.event_type for one in changes if isinstance(one, InputEvent)]


def lived(rule: Presses | Switching, *edges: tuple[bool, float], until: float) -> list[Change]:
    """What *rule* tells of *edges*, each ticked as it asks for, until the time *until*."""
    told: list[Change] = []
    for is_active, at in [*edges, (None, until)]:
        while (wake_at := rule.wake_at()) is not None and wake_at <= at:
            told += rule.tick(wake_at)
        if is_active is not None:
            told += rule.edge(is_active, at)
    return told


def test_a_level_that_settles_is_told_once() -> None:
    """Thirty edges in ten milliseconds are one change."""
    pin = Debounce(0.05, False)
    bounces = [pin.edge(index % 2 == 0, index * 0.01 / 30) for index in range(31)]
    assert [told for told in bounces if told] == [[(True, 0.0)]]
    assert pin.wake_at() is None
    assert pin.tick(1.0) == []


def test_a_pin_that_settles_on_the_other_level_is_told_after_the_bounce_time() -> None:
    """As if the change had come then."""
    pin = Debounce(0.05, False)
    assert pin.edge(True, 1.0) == [(True, 1.0)]
    assert pin.edge(False, 1.01) == []
    assert pin.wake_at() == pytest.approx(1.05)
    assert pin.tick(1.049) == []
    assert pin.tick(1.06) == [(False, 1.05)]
    assert pin.wake_at() is None


def test_an_edge_after_a_late_tick_comes_after_what_time_had_brought() -> None:
    """A loop that was busy tells the same, in the same order."""
    pin = Debounce(0.05, False)
    pin.edge(True, 1.0)
    pin.edge(False, 1.01)
    assert pin.edge(True, 2.0) == [(False, 1.05), (True, 2.0)]


def test_a_missed_edge_is_made_good_by_what_the_pin_reads() -> None:
    """The driver told of the first edge only; or of one that was not the last."""
    pin = Debounce(0.05, False)
    pin.edge(True, 1.0)
    assert pin.tick(1.04, False) == []
    assert pin.tick(1.06, False) == [(False, 1.05)]
    pin.edge(True, 2.0)
    pin.edge(False, 2.01)
    assert pin.tick(2.05, True) == []
    assert pin.tick(3.0, False) == [(False, 3.0)]
    assert Debounce(0.05, False).tick(1.0, True) == [(True, 1.0)]


def test_without_a_bounce_time_every_edge_is_told() -> None:
    """And a level that is no other one is not."""
    pin = Debounce(0.0, False)
    assert [pin.edge(level, 1.0) for level in (True, False, False, True)] == [
        [(True, 1.0)],
        [(False, 1.0)],
        [],
        [(True, 1.0)],
    ]


def test_while_it_bounces_what_was_told_counts() -> None:
    """Afterwards, what the pin reads."""
    pin = Debounce(0.05, False)
    assert pin.state(True, 0.9) is True
    pin.edge(True, 1.0)
    assert pin.state(False, 1.04) is True
    assert pin.state(False, 1.05) is False


@pytest.mark.parametrize("seed", range(50))
def test_whatever_bounces_the_last_level_told_is_that_of_the_pin(seed: int) -> None:
    """And levels alternate, at least the bounce time apart."""
    chance = random.Random(seed)
    pin, at = Debounce(0.05, False), 0.0
    told: list[tuple[bool, float]] = []
    level = False
    for _ in range(200):
        at += chance.choice((0.0001, 0.003, 0.04, 0.051, 0.3))
        level = chance.random() < 0.5
        if chance.random() < 0.3:
            told += pin.tick(at)
        told += pin.edge(level, at)
    wake_at = pin.wake_at()
    told += [] if wake_at is None else pin.tick(wake_at)
    assert pin.is_active is level
    assert [is_active for is_active, _ in told] == [index % 2 == 0 for index in range(len(told))]
    assert all(later - earlier >= 0.05 - 1e-9 for (_, earlier), (_, later) in itertools.pairwise(told))


def test_a_press_and_a_release_are_told_at_once() -> None:
    """The state before the event."""
    bell = button()
    assert bell.edge(True, 1.0) == [InputChanged("bell", True), InputEvent("bell", "pressed")]
    assert bell.edge(False, 1.2) == [InputChanged("bell", False), InputEvent("bell", "released")]


def test_a_bouncing_button_gives_one_press() -> None:
    """And, as nothing follows, one click."""
    edges = [(index % 2 == 0, 1 + index * 0.01 / 30) for index in range(31)]
    release = [(index % 2 == 1, 1.2 + index * 0.01 / 30) for index in range(31)]
    told = said(lived(button(), *edges, *release, until=3))
    assert told == ["ON", "pressed", "OFF", "released", "clicked"]


def test_a_press_shorter_than_the_bounce_time_is_one_press_and_one_release() -> None:
    """Ten milliseconds of one that bounces for fifty."""
    assert said(lived(button(), (True, 1.0), (False, 1.01), until=1.06)) == ["ON", "pressed", "OFF", "released"]


def test_a_click_is_told_once_it_can_be_nothing_else() -> None:
    """When a second press would come too late."""
    bell = button()
    bell.edge(True, 1.0)
    bell.edge(False, 1.1)
    assert bell.wake_at() == pytest.approx(1.4)
    assert bell.tick(1.39) == []
    assert events(bell.tick(1.4)) == ["clicked"]
    assert bell.wake_at() is None


def test_a_long_press_that_is_not_held_is_clicked_at_its_release() -> None:
    """The time for a second press has passed by then."""
    assert events(lived(button(), (True, 1.0), (False, 1.7), until=1.7)) == ["pressed", "released", "clicked"]


def test_a_second_press_in_time_is_a_double_press_at_once() -> None:
    """And no click."""
    told = lived(button(), (True, 1.0), (False, 1.1), (True, 1.39), until=1.39)
    assert events(told) == ["pressed", "released", "pressed", "double_pressed"]
    told = lived(button(), (True, 1.0), (False, 1.1), (True, 1.3), (False, 1.35), until=9)
    assert events(told) == ["pressed", "released", "pressed", "double_pressed", "released"]


def test_a_second_press_that_comes_too_late_is_another_one() -> None:
    """Two clicks."""
    told = lived(button(), (True, 1.0), (False, 1.1), (True, 1.41), (False, 1.5), until=9)
    assert events(told) == ["pressed", "released", "clicked", "pressed", "released", "clicked"]


def test_a_third_press_begins_anew() -> None:
    """It makes no second double press of the same second one."""
    told = lived(button(), (True, 1.0), (False, 1.1), (True, 1.2), (False, 1.3), (True, 1.4), (False, 1.5), until=9)
    assert events(told).count("double_pressed") == 1
    assert events(told)[-3:] == ["pressed", "released", "clicked"]


def test_a_button_is_held_once_and_not_clicked() -> None:
    """However long it stays down."""
    bell = button()
    bell.edge(True, 1.0)
    assert bell.wake_at() == pytest.approx(2.0)
    assert bell.tick(1.99) == []
    assert events(bell.tick(2.0)) == ["held"]
    assert bell.tick(60) == []
    assert events(lived(bell, (False, 61.0), until=70)) == ["released"]


def test_a_press_after_a_held_one_is_no_double_press() -> None:
    """It is a new one."""
    bell = button(hold_s=0.1)
    told = lived(bell, (True, 1.0), (False, 1.2), (True, 1.3), (False, 1.35), until=9)
    assert events(told) == ["pressed", "held", "released", "pressed", "released", "clicked"]


def test_a_hold_that_a_busy_loop_noticed_late_was_one() -> None:
    """The release comes with its own time."""
    bell = button()
    bell.edge(True, 1.0)
    assert events(bell.edge(False, 2.5)) == ["held", "released"]


def test_a_release_in_time_is_no_hold_however_late_it_is_heard() -> None:
    """Its time is that of the edge."""
    bell = button()
    told = [*bell.edge(True, 1.0), *bell.edge(False, 1.9), *bell.tick(5)]
    assert events(told) == ["pressed", "released", "clicked"]


def test_without_hold_and_double_press_a_click_is_the_release() -> None:
    """Nothing is waited for."""
    bell = button(hold_s=0, double_s=0)
    told = lived(bell, (True, 1.0), (False, 1.1), (True, 1.2), (False, 9.0), until=9)
    assert events(told) == ["pressed", "released", "clicked"] * 2


def test_a_button_that_is_down_from_the_start_is_only_released() -> None:
    """Nobody saw it pressed."""
    bell = button(is_active=True)
    assert bell.wake_at() is None
    assert bell.state(True, 0) is True
    assert events(lived(bell, (False, 5.0), until=9)) == ["released"]


def test_a_door_is_on_when_its_contact_is_open() -> None:
    """Opened and closed."""
    door = Switching("door", DOOR, is_active=True, bounce_s=0.05)
    assert door.state(True, 0) is False
    assert door.edge(False, 1.0) == [InputChanged("door", True), InputEvent("door", "opened")]
    assert door.state(True, 1.02) is True
    assert door.state(True, 1.06) is False
    assert said(door.edge(True, 1.02)) == []
    assert door.wake_at() == pytest.approx(1.05)
    assert said(door.tick(1.05)) == ["OFF", "closed"]


def test_motion_ends_only_after_its_delay() -> None:
    """It is seen all the while."""
    sensor = Switching("hall", MOTION, is_active=False, bounce_s=0, off_delay_s=30)
    assert said(sensor.edge(True, 1.0)) == ["ON", "motion"]
    assert sensor.edge(False, 4.0) == []
    assert sensor.wake_at() == pytest.approx(34.0)
    assert sensor.state(False, 20.0) is True
    assert sensor.tick(33.9) == []
    assert said(sensor.tick(34.0)) == ["OFF", "motion_ended"]
    assert sensor.state(False, 34.0) is False


def test_motion_in_between_starts_the_delay_anew_and_is_not_told_again() -> None:
    """It has not ended."""
    sensor = Switching("hall", MOTION, is_active=False, bounce_s=0, off_delay_s=30)
    told = lived(sensor, (True, 1.0), (False, 4.0), (True, 20.0), until=60.0)
    assert said(told) == ["ON", "motion"]
    assert lived(sensor, (False, 65.0), until=94.9) == []
    assert said(lived(sensor, until=95.0)) == ["OFF", "motion_ended"]


def test_motion_after_an_end_that_nobody_ticked_is_told_after_it() -> None:
    """In the order in which it happened."""
    sensor = Switching("hall", MOTION, is_active=False, bounce_s=0.05, off_delay_s=30)
    sensor.edge(True, 1.0)
    sensor.edge(False, 4.0)
    assert said(sensor.edge(True, 90.0)) == ["OFF", "motion_ended", "ON", "motion"]


def test_the_earliest_of_no_times_is_none() -> None:
    """And None is no time."""
    assert earliest() is None
    assert earliest(None, 3.0, 2.0) == 2.0
