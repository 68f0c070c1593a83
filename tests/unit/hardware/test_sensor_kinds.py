"""What the kinds of sensors measure, what they can be told, and what they cannot have read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.kind import Kind
from pibot_mesh.hardware.kinds import check, spec
from pibot_mesh.hardware.sensor_kinds import SENSOR_KINDS, implausible, measures_of, quantity
from pibot_mesh.protocol.messages import Measure

HOME_ASSISTANT_UNITS = {
    "temperature": "°C",
    "humidity": "%",
    "atmospheric_pressure": "hPa",
    "illuminance": "lx",
    "voltage": "V",
    "data_size": "MiB",
    "duration": "s",
    "signal_strength": "dBm",
}


def sensor(kind: str, pin: int | None = None, **options: object) -> DeviceSettings:
    return DeviceSettings("probe", kind, 17 if kind == "dht22" else pin, options=options)


def said(device: DeviceSettings) -> list[str]:
    """What is wrong with *device*, without ``devices.probe``."""
    return [f"{'.'.join(map(str, problem.path[2:]))}: {problem.text}" for problem in check([device], simulate=True)]


@pytest.mark.parametrize("kind", SENSOR_KINDS, ids=lambda kind: kind.name)
def test_units_are_those_that_home_assistant_knows(kind: Kind) -> None:
    """With each of its device classes."""
    for measure in kind.measures.values():
        assert measure.device_class is None or measure.unit == HOME_ASSISTANT_UNITS[measure.device_class]


def test_a_voltage_is_a_voltage_unless_it_stands_for_something() -> None:
    """Then it has that name and unit, and the class that the device has."""
    assert measures_of(sensor("ads1115")) == {"voltage": Measure("V", "voltage")}
    soil = DeviceSettings(
        "soil", "mcp3xxx", None, options={"measure": "moisture", "unit": "%"}, device_class="moisture"
    )
    assert measures_of(soil) == {"moisture": Measure("%", "moisture")}
    assert measures_of(sensor("ads1115", measure="level", unit="cm")) == {"level": Measure("cm")}
    assert spec(soil).measures == {"moisture": Measure("%", "moisture")}
    assert spec(soil).unit == ""


def test_a_voltage_is_scaled_before_it_is_shifted() -> None:
    """2.8 V is dry and 1.3 V is wet: a probe for soil as they are sold."""
    soil = sensor("ads1115", measure="moisture", unit="%", scale=-66.6667, offset=186.6667)
    assert quantity(soil, 2.8)["moisture"] == pytest.approx(0, abs=0.01)
    assert quantity(soil, 1.3)["moisture"] == pytest.approx(100, abs=0.01)
    assert quantity(sensor("mcp3xxx"), 1.23456) == {"voltage": 1.2346}


@pytest.mark.parametrize(
    ("kind", "values", "problem"),
    [
        ("ds18b20", {"temperature": 21.5}, None),
        ("ds18b20", {"temperature": -127.0}, "gave temperature -127, which it cannot measure (-55 to 125)"),
        ("dht22", {"temperature": 21.5, "humidity": 55.0}, None),
        ("dht22", {"temperature": 0.0, "humidity": 0.0}, "gave humidity 0, which it cannot measure (0.1 to 100)"),
        (
            "dht22",
            {"temperature": 150.0, "humidity": 40.0},
            "gave temperature 150, which it cannot measure (-40 to 80)",
        ),
        ("bme280", {"pressure": 110.0}, "gave pressure 110, which it cannot measure (300 to 1100)"),
        ("bh1750", {"illuminance": math.nan}, "gave what is no number: illuminance nan"),
        ("ads1115", {"voltage": math.inf}, "gave what is no number: voltage inf"),
        ("ads1115", {"level": -40.0}, None),
        ("system", {}, "gave no numbers"),
    ],
)
def test_what_a_sensor_cannot_measure_is_no_reading(kind: str, values: dict[str, float], problem: str | None) -> None:
    """A wrong number is worse than none: somebody may heat by it."""
    assert implausible(sensor(kind), values) == problem


@pytest.mark.parametrize(
    ("device", "problems"),
    [
        (sensor("bme280", address=0x77, filter={"median": 5, "change": {"pressure": 1}}), []),
        (sensor("bme280", address=0x48), ["address: 0x76 or 0x77 is expected, not 72"]),
        (sensor("bme280", address=True), ["address: 0x76 or 0x77 is expected, not true"]),
        (
            sensor("ds18b20", address="28-XYZ"),
            ["address: a name in /sys/bus/w1/devices such as 28-0316a2794bff is expected, not '28-XYZ'"],
        ),
        (sensor("dht22", interval_s=1), ["interval_s: a number from 10 to 86400 is expected, not 1"]),
        (
            sensor("bmp280", filter={"median": 5, "average": 5}),
            ["filter: takes average or median, not both: take one of them out"],
        ),
        (sensor("bmp280", filter={"median": 1}), ["filter.median: a whole number from 2 to 100 is expected, not 1"]),
        (sensor("bmp280", filter={"mean": 3}), ["filter.mean: unknown key (did you mean 'median'?)"]),
        (
            sensor("bmp280", filter={"change": "much"}),
            ["filter.change: a number from 0, or numbers by measure ({temperature: 0.5}) is expected, not 'much'"],
        ),
        (
            sensor("bmp280", filter={"change": {"humidity": 1}}),
            ["filter.change.humidity: this sensor does not measure it; it measures temperature, pressure"],
        ),
        (sensor("mcp3xxx", channel=7), []),
        (sensor("mcp3xxx", model="mcp3004", channel=4), ["channel: a mcp3004 has the channels 0 to 3, not 4"]),
        (sensor("mcp3xxx", channel=8), ["channel: a whole number from 0 to 7 is expected, not 8"]),
        (sensor("mcp3xxx", volts=0), ["volts: a number from 0 to 5.5 is expected, not 0"]),
        (
            sensor("ads1115", measure="Soil moisture"),
            ["measure: the name of a quantity in small letters, such as moisture is expected, not 'Soil moisture'"],
        ),
        (sensor("ads1115", pin=4), ["pin: this ads1115 hangs on no single pin: leave it out"]),
    ],
)
def test_a_wrong_sensor_is_refused_with_what_to_write(device: DeviceSettings, problems: list[str]) -> None:
    """Before anything is touched."""
    assert said(device) == problems


def test_the_bus_of_a_sensor_is_not_free_for_others() -> None:
    """Also that of the kernel's 1-Wire driver."""
    fan = DeviceSettings("fan", "relay", 2)
    [problem] = check([fan, sensor("bme280")], simulate=True)
    assert problem.text == "GPIO 2 is the I2C bus, which devices.probe needs: use another pin"


@pytest.mark.parametrize(("kind", "instead"), [("climate", "dht22, bme280"), ("light_level", "bh1750")])
def test_a_sensor_that_can_only_be_simulated_names_those_that_measure_the_same(kind: str, instead: str) -> None:
    """On real pins it is refused."""
    [problem] = check([sensor(kind)], simulate=False)
    assert problem.text.endswith(f"or use a kind that has a driver: {instead}")


@pytest.mark.parametrize("kind", SENSOR_KINDS, ids=lambda kind: kind.name)
def test_the_guide_names_every_kind_measure_and_option(kind: Kind) -> None:
    """docs/sensors.md: what can be written is what can be read about."""
    guide = Path(__file__).parents[3] / "docs" / "sensors.md"
    if not guide.exists():
        pytest.skip("not a checkout")
    text = guide.read_text("utf-8")
    assert f"`{kind.name}`" in text
    assert [name for name in (*kind.measures, *kind.options) if name not in text] == []
