"""Readings are smoothed, and not repeated where they hardly changed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.hardware.filters import Change, Filter, Novelty, Smoothing, filter_of


def smoothed(rule: Filter, temperatures: Iterable[float]) -> list[float]:
    """What comes of readings ten seconds apart."""
    smoothing = Smoothing(rule, interval_s=10)
    return [smoothing.add({"t": t}, now=index * 10)["t"] for index, t in enumerate(temperatures)]


def test_without_a_filter_a_reading_stays_what_it_is() -> None:
    """To the last digit, and it is told each time."""
    rule = filter_of({})
    assert rule == Filter()
    assert smoothed(rule, [20.123456, 20.123456]) == [20.123456, 20.123456]
    novelty = Novelty(rule)
    assert [novelty.is_worth_telling({"t": 20.0}, now) for now in (0, 1, 2)] == [True, True, True]


def test_an_average_is_over_the_last_readings() -> None:
    """Over fewer while there are fewer."""
    assert smoothed(filter_of({"average": 3}), [10, 20, 30, 40]) == [10, 15, 20, 30]


def test_a_median_does_not_see_a_spike() -> None:
    """An average would."""
    assert smoothed(filter_of({"median": 3}), [20, 20, 80, 21, 21]) == [20, 20, 20, 21, 21]


def test_smoothed_numbers_have_three_decimals() -> None:
    """A third of a degree has no end."""
    assert smoothed(filter_of({"average": 3}), [20, 20, 21]) == [20, 20, 20.333]


def test_after_a_long_silence_smoothing_begins_anew() -> None:
    """What a sensor said an hour ago does not pull at what it says now; a reading that was missed does no harm."""
    smoothing = Smoothing(Filter(window=3), interval_s=10)
    smoothing.add({"t": 10}, now=0)
    assert smoothing.add({"t": 20}, now=20) == {"t": 15}
    assert smoothing.add({"t": 30}, now=3600) == {"t": 30}


def test_each_measure_is_smoothed_by_itself() -> None:
    """One that is not always there is smoothed where it is."""
    smoothing = Smoothing(Filter(window=2), interval_s=10)
    smoothing.add({"t": 10}, now=0)
    assert smoothing.add({"t": 20, "h": 50}, now=10) == {"t": 15, "h": 50}
    assert smoothing.add({"h": 60}, now=20) == {"h": 55}


@given(st.lists(st.floats(-50, 150), min_size=1, max_size=30), st.integers(1, 10), st.booleans())
def test_what_is_smoothed_lies_between_what_was_read(values: list[float], window: int, is_median: bool) -> None:
    """Whatever comes."""
    rule = Filter(window=window, by="median" if is_median else "average")
    for index, value in enumerate(smoothed(rule, values)):
        recent = values[max(0, index - window + 1) : index + 1]
        assert min(recent) - 0.001 <= value <= max(recent) + 0.001


def told(change: Change, readings: Iterable[tuple[float, dict[str, float]]], **rule: float) -> list[float]:
    """When something was told."""
    novelty = Novelty(filter_of({"change": change, **rule}))
    return [now for now, values in readings if novelty.is_worth_telling(values, now)]


def test_a_small_change_is_not_told() -> None:
    """But many small ones are, once they add up: each is held against what was told last."""
    readings = [(index, {"t": 20 + index * 0.1}) for index in range(11)]
    assert told(0.5, readings) == [0, 5, 10]


def test_a_change_of_exactly_the_least_is_told() -> None:
    """20.1 - 20 is less than 0.1 for a computer."""
    assert told(0.1, [(0, {"t": 20.0}), (1, {"t": 20.1})]) == [0, 1]


def test_downwards_is_a_change_as_well() -> None:
    """By as much."""
    assert told(1, [(0, {"t": 20.0}), (1, {"t": 19.0})]) == [0, 1]


def test_each_measure_may_have_its_own_least_change() -> None:
    """What is not named makes nobody tell anything; a name that is not measured does no harm."""
    readings = [(0.0, {"t": 20.0, "h": 50.0}), (1.0, {"t": 20.4, "h": 70.0}), (2.0, {"t": 20.5, "h": 70.0})]
    assert told({"t": 0.5, "p": 1}, readings) == [0, 2]


def test_now_and_then_it_is_told_all_the_same() -> None:
    """So that who came later knows it, and silence means something."""
    readings = [(float(now), {"t": 20.0}) for now in range(0, 700, 100)]
    assert told(1, readings) == [0, 300, 600]
    assert told(1, readings, at_least_every_s=200) == [0, 200, 400, 600]


def test_a_measure_that_comes_or_goes_is_told() -> None:
    """A change that no number can say."""
    assert told(1, [(0, {"t": 20.0}), (1, {"t": 20.0, "h": 50.0}), (2, {"t": 20.0})]) == [0, 1, 2]


@pytest.mark.parametrize("change", [0, 0.0, {"t": 0}])
def test_a_change_of_nothing_tells_everything(change: Change) -> None:
    """At least nothing is always."""
    assert told(change, [(0, {"t": 20.0}), (1, {"t": 20.0})]) == [0, 1]
