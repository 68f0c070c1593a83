"""Simulated sensors move believably."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.sensors import DAY_S, Walk, simulated_sensor

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
