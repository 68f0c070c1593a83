"""Thresholds of a sensor: what begins and ends, and what cannot be."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.words import schema_problems
from pibot_mesh.hardware.changes import InputEvent
from pibot_mesh.hardware.thresholds import (
    THRESHOLDS_SCHEMA,
    Thresholds,
    threshold_events,
    threshold_problems,
)

CLIMATE = ("temperature", "humidity")


def sensor(*thresholds: Any) -> DeviceSettings:
    """A sensor of *CLIMATE* that was told of *thresholds*."""
    return DeviceSettings("shed", "climate", options={"thresholds": list(thresholds)})


def told(watch: Thresholds, *readings: tuple[float, float]) -> list[str]:
    """The events that temperatures give, each with its time."""
    return [event.event_type for value, at in readings for event in watch.read({"temperature": value}, at)]


def test_what_is_crossed_is_told_once_and_when_it_ends() -> None:
    """With the number that did it."""
    watch = Thresholds(sensor({"measure": "temperature", "above": 28, "name": "hot"}), CLIMATE)
    assert watch.read({"temperature": 28.0, "humidity": 90.0}, 0) == []
    assert watch.read({"temperature": 28.1}, 10) == [InputEvent("shed", "hot", {"temperature": 28.1})]
    assert watch.read({"temperature": 31.0}, 20) == []
    assert watch.read({"temperature": 28.0}, 30) == [InputEvent("shed", "hot_ended", {"temperature": 28.0})]
    assert watch.read({"temperature": 20.0}, 40) == []


def test_within_the_hysteresis_nothing_ends() -> None:
    """A number that trembles about the threshold gives one event."""
    watch = Thresholds(sensor({"measure": "temperature", "above": 28, "hysteresis": 1}), CLIMATE)
    readings = [(28.1, 0.0), (27.9, 1.0), (28.1, 2.0), (27.1, 3.0), (27.0, 4.0), (28.0, 5.0), (28.2, 6.0)]
    assert told(watch, *readings) == ["high", "high_ended", "high"]


def test_below_is_the_same_upside_down() -> None:
    """Up to the number and the hysteresis."""
    watch = Thresholds(sensor({"measure": "temperature", "below": 3, "hysteresis": 0.5}), CLIMATE)
    assert told(watch, (3.0, 0), (2.9, 1), (3.4, 2), (3.5, 3), (2.0, 4)) == ["low", "low_ended", "low"]


def test_a_threshold_with_a_time_begins_only_after_it() -> None:
    """One reading on the other side, and the time starts anew; its end is told at once."""
    watch = Thresholds(sensor({"measure": "temperature", "above": 28, "for_s": 60}), CLIMATE)
    assert told(watch, (29, 0), (29, 30), (27, 50), (29, 60), (29, 110)) == []
    assert told(watch, (29, 120)) == ["high"]
    assert told(watch, (27, 121)) == ["high_ended"]


def test_what_is_beyond_at_the_first_reading_begins_there() -> None:
    """A node that starts in a fire says so."""
    assert told(Thresholds(sensor({"above": 28, "name": "hot"}), ("temperature",)), (60, 0)) == ["hot"]


def test_a_reading_without_the_measure_changes_nothing() -> None:
    """It neither begins nor ends."""
    watch = Thresholds(sensor({"measure": "temperature", "above": 28}), CLIMATE)
    assert told(watch, (29, 0)) == ["high"]
    assert watch.read({"humidity": 40.0}, 1) == []
    assert told(watch, (29, 2)) == []


def test_several_thresholds_of_a_sensor_do_not_know_each_other() -> None:
    """In the order of the file."""
    device = sensor(
        {"measure": "temperature", "above": 28, "name": "warm"},
        {"measure": "temperature", "above": 35, "name": "hot"},
        {"measure": "humidity", "below": 30, "name": "dry"},
    )
    watch = Thresholds(device, CLIMATE)
    found = watch.read({"temperature": 40.0, "humidity": 20.0}, 0)
    assert [event.event_type for event in found] == ["warm", "hot", "dry"]
    assert threshold_events(device) == ("warm", "warm_ended", "hot", "hot_ended", "dry", "dry_ended")


def test_a_sensor_without_thresholds_has_no_events() -> None:
    """Nor problems."""
    device = DeviceSettings("shed", "climate")
    assert Thresholds(device, CLIMATE).read({"temperature": 99.0}, 0) == []
    assert threshold_events(device) == ()
    assert list(threshold_problems(device, CLIMATE)) == []


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"measure": "temperature"}, "a threshold is either above or below a number: write one of the two"),
        ({"measure": "temperature", "above": 1, "below": 2}, "either above or below"),
        ({"above": 1}, "is missing: the sensor has several, temperature, humidity"),
        ({"measure": "temprature", "above": 1}, r"does not measure 'temprature' \(did you mean 'temperature'\?\)"),
        ({"measure": "pressure", "above": 1}, "it measures: temperature, humidity"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(written: dict[str, object], says: str) -> None:
    """In words, at its place."""
    [problem] = threshold_problems(sensor(written), CLIMATE)
    assert problem.path[:4] == ("devices", "shed", "thresholds", 0)
    assert re.search(says, problem.text)


def test_two_thresholds_of_one_name_are_refused() -> None:
    """Nobody could tell their events apart; also where the name is the one that both have without one."""
    one = {"measure": "temperature", "above": 1}
    [problem] = threshold_problems(sensor(one, {**one, "above": 2}), CLIMATE)
    assert problem.path == ("devices", "shed", "thresholds", 1, "name")
    assert "two thresholds have the name 'high'" in problem.text


@pytest.mark.parametrize("written", ["hot", [3], [{"above": "hot"}], [{"above": 1, "name": "Hot!"}], [{"over": 3}]])
def test_what_is_no_threshold_is_for_the_schema_to_refuse(written: object) -> None:
    """Nothing else stumbles over it."""
    assert schema_problems(THRESHOLDS_SCHEMA, written)
    device = DeviceSettings("shed", "climate", options={"thresholds": written})
    list(threshold_problems(device, CLIMATE))
    threshold_events(device)


def test_the_schema_takes_what_the_docs_show() -> None:
    """All keys at once."""
    shown = {"measure": "temperature", "above": 28, "hysteresis": 1, "for_s": 60, "name": "hot"}
    assert schema_problems(THRESHOLDS_SCHEMA, [shown]) == []
