"""Simulated sensors move believably."""

from __future__ import annotations

import itertools
import math
import random
import time

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.kind import Kind
from pibot_mesh.hardware.sensor_kinds import SENSOR_KINDS, implausible, measures_of
from pibot_mesh.hardware.sensors import (
    DAY_S,
    MACHINE_KINDS,
    SIMULATED_VOLTS,
    MachineSensor,
    Walk,
    simulated_sensor,
)

CLIMATE = DeviceSettings("climate", "climate")


async def day(device: DeviceSettings, seed: int, step_s: float = 60.0) -> list[dict[str, float]]:
    """A day's readings."""
    clock = [0.0]
    sensor = simulated_sensor(device, lambda: clock[0], seed)
    readings = []
    while clock[0] < DAY_S:
        readings.append(await sensor.read())
        clock[0] += step_s
    return readings


@pytest.mark.parametrize("seed", range(5))
async def test_a_room_is_neither_an_oven_nor_frozen_stiff(seed: int) -> None:
    """It stays in a room's range, moves smoothly, and does move in a day."""
    readings = await day(CLIMATE, seed)
    warmth = [reading["temperature"] for reading in readings]
    damp = [reading["humidity"] for reading in readings]
    assert min(warmth) >= 15
    assert max(warmth) <= 30
    assert min(damp) >= 15
    assert max(damp) <= 95
    assert max(warmth) - min(warmth) > 3
    assert max(abs(after - before) for before, after in itertools.pairwise(warmth)) < 1.5


async def test_warm_air_is_drier() -> None:
    """Humidity goes against temperature."""
    readings = await day(CLIMATE, 1)
    readings.sort(key=lambda reading: reading["temperature"])
    cool, warm = readings[: len(readings) // 4], readings[-len(readings) // 4 :]
    assert sum(r["humidity"] for r in cool) / len(cool) > 3 + sum(r["humidity"] for r in warm) / len(warm)


async def test_it_is_dark_at_night() -> None:
    """And bright by day."""
    lux = [reading["illuminance"] for reading in await day(DeviceSettings("sky", "light_level"), 3)]
    assert min(lux) < 5
    assert max(lux) > 400


async def test_the_same_seed_gives_the_same_day() -> None:
    """And another device or seed another one."""
    first = await day(CLIMATE, 7, 3600)
    assert await day(CLIMATE, 7, 3600) == first
    assert await day(CLIMATE, 8, 3600) != first
    assert await day(DeviceSettings("other", "climate"), 7, 3600) != first


def test_asking_often_does_not_make_it_move_more() -> None:
    """The step depends on the time that went by."""
    often, rarely = Walk(1.0, 1000.0, random.Random(1)), Walk(1.0, 1000.0, random.Random(1))
    spread_often = [often.at(n * 1.0) for n in range(100_000)][::1000]
    spread_rarely = [rarely.at(n * 1000.0) for n in range(1000)]

    def deviation(values: list[float]) -> float:
        return math.sqrt(sum(value * value for value in values) / len(values))

    assert deviation(spread_often) == pytest.approx(1.0, abs=0.4)
    assert deviation(spread_rarely) == pytest.approx(1.0, abs=0.2)
    assert max(map(abs, spread_rarely)) <= 3


def test_the_same_moment_has_the_same_value() -> None:
    """Two people who look at once see the same; a clock that went back does no harm."""
    walk = Walk(1.0, 1000.0, random.Random(1))
    value = walk.at(5.0)
    assert walk.at(5.0) == value
    assert walk.at(4.0) == value


@pytest.mark.parametrize("kind", SENSOR_KINDS, ids=lambda kind: kind.name)
async def test_every_kind_can_be_simulated(kind: Kind) -> None:
    """A day long it gives what it could have measured."""
    if kind.name in MACHINE_KINDS:
        return
    device = DeviceSettings("probe", kind.name, 4 if kind.needs_pin else None)
    for reading in await day(device, 1, 3600):
        assert set(reading) == set(measures_of(device))
        assert implausible(device, reading) is None


async def test_the_air_pressure_is_that_of_weather() -> None:
    """It moves within what a barometer shows in a house, and not by leaps."""
    pressures = [reading["pressure"] for reading in await day(DeviceSettings("air", "bmp280"), 2)]
    assert min(pressures) > 970
    assert max(pressures) < 1055
    assert max(abs(after - before) for before, after in itertools.pairwise(pressures)) < 3


async def test_a_simulated_voltage_is_told_as_what_it_stands_for() -> None:
    """A probe for soil moves between dry and wet."""
    options = {"measure": "moisture", "unit": "%", "scale": 100 / SIMULATED_VOLTS}
    moistures = [reading["moisture"] for reading in await day(DeviceSettings("soil", "ads1115", options=options), 2)]
    assert min(moistures) >= 0
    assert max(moistures) <= 100
    assert max(moistures) - min(moistures) > 10


async def test_the_machine_tells_of_itself_also_when_it_is_simulated() -> None:
    """Its memory is no less true on a laptop."""
    values = await simulated_sensor(DeviceSettings("me", "system"), lambda: 0.0, 1).read()
    assert values["memory_free"] > 1
    assert values["uptime"] > 0


async def test_the_cpu_s_use_is_that_since_the_last_reading() -> None:
    """The first one has none; what the machine does not tell is left out."""
    clock = [0.0]
    sensor = MachineSensor(
        DeviceSettings("cpu", "cpu"), health=lambda: {"load1": 0.5, "uptime_s": 9.0}, clock=lambda: clock[0]
    )
    assert await sensor.read() == {"load": 0.5}
    until = time.monotonic() + 5
    values: dict[str, float] = {}
    while "use" not in values:
        assert time.monotonic() < until, "the kernel counted nothing"
        clock[0] += 1
        values = await sensor.read()
    assert 0 <= values["use"] <= 100
