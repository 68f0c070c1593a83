"""Numbers from signals: a meter, a dial, a distance. Times are numbers."""

from __future__ import annotations

import pytest

from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent
from pibot_mesh.hardware.counting import SOUND_CM_S, Distance, Pulses, Turns


def meter(*, bounce_s: float = 0.001, per_pulse: float = 1.0, interval_s: float = 1.0) -> Pulses:
    """A meter whose contact is open."""
    return Pulses("water", is_active=False, bounce_s=bounce_s, per_pulse=per_pulse, interval_s=interval_s)


def sums(changes: list[Change]) -> list[float]:
    """The sums told."""
    return [float(one.value) for one in changes if isinstance(one, InputChanged)]


def test_the_first_pulse_is_told_at_once_and_the_next_ones_together() -> None:
    """When the interval is over."""
    water = meter()
    assert water.edge(True, 1.0) == [InputChanged("water", 1.0)]
    assert [water.edge(index % 2 == 1, 1.0 + index / 100) for index in range(1, 10)] == [[]] * 9
    assert water.state(True, 1.1) == 5.0
    assert water.wake_at() == pytest.approx(2.0)
    assert water.tick(1.9) == []
    assert water.tick(2.0) == [InputChanged("water", 5.0)]
    assert water.wake_at() is None
    assert water.tick(9.0) == []


def test_no_pulse_is_lost_at_200_edges_a_second() -> None:
    """Five minutes of it, and every sum told is larger than the one before."""
    water, told = meter(), []
    edges = 200 * 300
    for index in range(edges):
        told += sums(water.edge(index % 2 == 0, index / 200))
    told += sums(water.tick(301))
    assert told[-1] == edges / 2
    assert told == sorted(set(told))
    assert len(told) <= 301


def test_a_contact_that_bounces_counts_once() -> None:
    """As does a pulse that is shorter than the bounces."""
    water = meter(bounce_s=0.01, interval_s=0)
    for index in range(31):
        water.edge(index % 2 == 0, 1 + index * 0.0001)
    assert water.state(True, 1.0) == 1.0
    assert water.tick(1.1) == []
    water.edge(False, 2.0)
    water.edge(True, 3.0)
    water.edge(False, 3.001)
    water.edge(True, 4.0)
    assert water.state(True, 4.0) == 3.0


def test_a_settled_level_is_waited_for() -> None:
    """A pulse may begin within the bounces of the one before."""
    water = meter(bounce_s=0.01, interval_s=0)
    water.edge(True, 1.0)
    water.edge(False, 1.02)
    assert water.edge(True, 1.025) == []
    assert water.wake_at() == pytest.approx(1.03)
    assert water.tick(1.03) == [InputChanged("water", 2.0)]


def test_a_pulse_counts_what_the_meter_says() -> None:
    """Without the crumbs of binary fractions."""
    power = meter(per_pulse=0.001, interval_s=0)
    for index in range(6):
        power.edge(index % 2 == 0, float(index))
    assert power.state(False, 9.0) == 0.003


def test_a_step_is_told_at_once_and_the_next_ones_together() -> None:
    """With how many they were, in their order."""
    dial = Turns("dial", interval_s=0.1)
    assert dial.step(True, 1.0) == [InputChanged("dial", 1.0), InputEvent("dial", "turned_clockwise", {"steps": 1.0})]
    for is_clockwise in (True, True, False, True):
        assert dial.step(is_clockwise, 1.05) == []
    assert dial.state() == 3.0
    assert dial.wake_at() == pytest.approx(1.1)
    assert dial.tick(1.09) == []
    assert dial.tick(1.1) == [
        InputChanged("dial", 3.0),
        InputEvent("dial", "turned_clockwise", {"steps": 2.0}),
        InputEvent("dial", "turned_counter_clockwise", {"steps": 1.0}),
        InputEvent("dial", "turned_clockwise", {"steps": 1.0}),
    ]
    assert dial.wake_at() is None
    assert dial.tick(5.0) == []


def echo_s(cm: float) -> float:
    """How long the echo of something *cm* away takes."""
    return 2 * cm / SOUND_CM_S


def tank(**options: float) -> Distance:
    """A sensor that looks into a tank."""
    return Distance("tank", **{"change_cm": 2.0, "interval_s": 1.0, "max_cm": 400.0, "now": 5.0, **options})


def test_a_distance_is_told_where_it_changed_enough() -> None:
    """From the one told before: it cannot creep away unseen."""
    sensor = tank()
    assert sensor.state() is None
    assert sensor.echo(echo_s(100)) == [InputChanged("tank", 100.0)]
    told = [change for cm in (101, 101.5, 101.9, 102, 102.5, 103) for change in sensor.echo(echo_s(cm))]
    assert told == [InputChanged("tank", 102.0)]
    assert sensor.state() == 102.0


def test_a_lone_wrong_echo_is_not_seen() -> None:
    """The one in the middle counts."""
    sensor = tank()
    told = [change for cm in (100, 100, 100, 3, 100, 390, 100) for change in sensor.echo(echo_s(cm))]
    assert told == [InputChanged("tank", 100.0)]


def test_nothing_is_farther_than_the_sensor_sees() -> None:
    """An echo that never came back takes its time as well."""
    assert tank(max_cm=250).echo(0.038) == [InputChanged("tank", 250.0)]


def test_a_sensor_is_pinged_at_its_interval_and_silent_after_several_without_an_echo() -> None:
    """And no longer, once it answers; what it heard before its silence is forgotten."""
    sensor = tank()
    assert sensor.wake_at() == 5.0
    sensor.echo(echo_s(100))
    for index in range(4):
        assert not sensor.is_silent
        sensor.pinged(sensor.wake_at())
        assert sensor.wake_at() == 6.0 + index
    assert sensor.is_silent
    assert sensor.state() == 100.0
    assert sensor.echo(echo_s(50)) == [InputChanged("tank", 50.0)]
    assert not sensor.is_silent
