"""Sensors are read on time, smoothed, and never stop the node."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError, ToolError
from pibot_mesh.hardware import sensing
from pibot_mesh.hardware.changes import Change, InputEvent, SensorRead
from pibot_mesh.hardware.drivers.driver import Driver
from pibot_mesh.hardware.sensing import Sensing
from pibot_mesh.hardware.sensors import MedianSensor

OUTSIDE = DeviceSettings("outside", "ds18b20", name="outside", options={"interval_s": 10})
DHT = DeviceSettings("hall", "dht22", 4, name="hall")

Reading = Mapping[str, float] | Exception


class Script:
    """A driver that gives what it is told to, the last of it for ever, and notes the threads that call it."""

    def __init__(self, *readings: Reading) -> None:
        self.readings = list(readings)
        self.reads = 0
        self.threads: set[int] = set()
        self.is_closed = False

    def read(self) -> dict[str, float]:
        self.threads.add(threading.get_ident())
        reading = self.readings[min(self.reads, len(self.readings) - 1)]
        self.reads += 1
        if isinstance(reading, Exception):
            raise reading
        return dict(reading)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.is_closed = True


class Clock:
    """Time that passes when everybody sleeps, and only then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Watched:
    """The sensors of a node on scripted drivers, and what they told."""

    def __init__(self, *devices: DeviceSettings, drivers: Mapping[str, Driver]) -> None:
        self.told: list[Change] = []
        self.clock = Clock()
        self.sensing = Sensing(
            devices,
            simulate=False,
            tell=self.told.append,
            now=self.clock,
            sleep=self.clock.sleep,
            drivers=lambda device: drivers[device.id],
        )

    async def until(self, condition: Callable[[], object], within_s: float = 5.0) -> None:
        """Run the sensors until *condition* holds; then stop them."""
        self.sensing.start()
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "it never came true"
            await asyncio.sleep(0.001)
        await self.sensing.stop()


@pytest.fixture(autouse=True)
def _scripted_drivers_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensing, "missing_package", lambda kind: None)


def warm(*temperatures: float) -> list[Mapping[str, float]]:
    return [{"temperature": temperature} for temperature in temperatures]


async def test_a_sensor_is_read_on_the_minute() -> None:
    """However long a reading takes: the next one is due by the clock."""
    script = Script(*warm(20, 21, 22))
    watched = Watched(OUTSIDE, drivers={"outside": script})
    take = script.read

    def slow() -> dict[str, float]:
        watched.clock.now += 3
        return take()

    script.read = slow  # type: ignore[method-assign]
    await watched.until(lambda: script.reads >= 4)
    assert watched.told[:3] == [SensorRead("outside", values) for values in warm(20, 21, 22)]
    assert watched.clock.slept[:3] == [7, 7, 7]


async def test_a_reading_longer_than_its_interval_is_not_made_up_for() -> None:
    """No burst of readings follows it."""
    script = Script(*warm(20))
    watched = Watched(OUTSIDE, drivers={"outside": script})
    take = script.read

    def slow() -> dict[str, float]:
        watched.clock.now += 35 if script.reads == 0 else 0
        return take()

    script.read = slow  # type: ignore[method-assign]
    await watched.until(lambda: script.reads >= 4)
    assert watched.clock.slept[:3] == [0, 10, 10]


async def test_a_silent_sensor_is_logged_once_named_and_asked_on(caplog: pytest.LogCaptureFixture) -> None:
    """And is heard again when it answers."""
    lost = ToolError("nothing answers at 0x76")
    watched = Watched(OUTSIDE, drivers={"outside": Script(lost, lost, lost, *warm(20))})
    with pytest.raises(ToolError, match="nothing answers at 0x76"):
        await watched.sensing.read("outside")
    assert watched.sensing.silent() == ("outside",)
    assert watched.sensing.readings() == {}
    with caplog.at_level(logging.INFO):
        await watched.until(watched.sensing.readings)
    assert caplog.text.count("outside does not answer: nothing answers at 0x76") == 1
    assert caplog.text.count("outside answers again") == 1
    assert watched.sensing.silent() == ()


async def test_one_silent_sensor_keeps_no_other_from_being_read() -> None:
    """Nor the node from starting."""
    inside = DeviceSettings("inside", "bh1750")
    scripts = {"outside": Script(OSError("gone")), "inside": Script({"illuminance": 5.0})}
    watched = Watched(OUTSIDE, inside, drivers=scripts)
    await watched.until(lambda: len(watched.told) >= 3)
    assert watched.told[0] == SensorRead("inside", {"illuminance": 5.0})
    assert watched.sensing.silent() == ("outside",)


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        ({"temperature": -127.0}, "it gave temperature -127, which it cannot measure"),
        ({"temperature": float("nan")}, "it gave what is no number: temperature nan"),
        ({}, "it gave no numbers"),
        (ZeroDivisionError("division by zero"), r"its driver failed \(ZeroDivisionError: division by zero\)"),
        (ToolError("the checksum is wrong", retryable=True), "the checksum is wrong"),
    ],
)
async def test_what_is_no_reading_is_told_nobody_but_who_asked(reading: Reading, says: str) -> None:
    """It may be tried again."""
    watched = Watched(OUTSIDE, drivers={"outside": Script(reading)})
    with pytest.raises(ToolError, match=says) as caught:
        await watched.sensing.read("outside")
    assert caught.value.retryable
    assert (watched.told, watched.sensing.silent()) == ([], ("outside",))
    await watched.sensing.stop()


async def test_who_asks_gets_what_it_measures_now_through_the_filter() -> None:
    """Whether others are told is another matter."""
    device = DeviceSettings("outside", "ds18b20", options={"filter": {"average": 2, "change": 1}})
    watched = Watched(device, drivers={"outside": Script(*warm(20, 21, 30))})
    assert [await watched.sensing.read("outside") for _ in range(3)] == warm(20, 20.5, 25.5)
    assert watched.told == [SensorRead("outside", values) for values in warm(20, 25.5)]
    assert watched.sensing.readings() == {"outside": {"temperature": 25.5}}
    await watched.sensing.stop()


async def test_a_threshold_is_crossed_by_what_is_read_not_by_what_is_told() -> None:
    """A small step that nobody is told of can be the one over the line."""
    options = {"filter": {"change": 5}, "thresholds": [{"above": 20.2, "name": "hot"}]}
    device = DeviceSettings("outside", "ds18b20", options=options)
    watched = Watched(device, drivers={"outside": Script(*warm(20, 20.3, 20.1))})
    for _ in range(3):
        await watched.sensing.read("outside")
    assert watched.told == [
        SensorRead("outside", {"temperature": 20}),
        InputEvent("outside", "hot", {"temperature": 20.3}),
        InputEvent("outside", "hot_ended", {"temperature": 20.1}),
    ]
    await watched.sensing.stop()


async def test_a_driver_is_never_called_in_the_loop_s_thread() -> None:
    """One thread for each bus, so that one chip speaks at a time; none is left when the sensors stop."""
    devices = [DeviceSettings("a", "bh1750"), DeviceSettings("b", "bmp280"), OUTSIDE]
    scripts = {
        "a": Script({"illuminance": 5.0}),
        "b": Script({"temperature": 20.0, "pressure": 1000.0}),
        "outside": Script(*warm(20)),
    }
    watched = Watched(*devices, drivers=scripts)
    await watched.until(lambda: all(script.reads for script in scripts.values()))
    a, b, outside = (script.threads for script in scripts.values())
    assert a == b
    assert len(a | outside) == 2
    assert threading.get_ident() not in a | outside
    assert all(script.is_closed for script in scripts.values())


async def test_who_asks_during_a_reading_gets_that_one() -> None:
    """The sensor is not asked twice; one who gives up does not take it from the others."""
    go = threading.Event()
    script = Script(*warm(20, 99))
    take = script.read

    def held() -> dict[str, float]:
        assert go.wait(5)
        return take()

    script.read = held  # type: ignore[method-assign]
    watched = Watched(OUTSIDE, drivers={"outside": script})
    first, second, third = (asyncio.create_task(watched.sensing.read("outside")) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go.set()
    assert await second == await third == {"temperature": 20}
    with pytest.raises(asyncio.CancelledError):
        await first
    assert script.reads == 1
    await watched.sensing.stop()


async def test_who_waits_for_a_reading_when_the_node_stops_is_told_so() -> None:
    """It is not he who was cancelled. The stop does not wait for a driver that hangs."""
    go, is_asked = threading.Event(), threading.Event()
    script = Script(*warm(20))

    def hang() -> dict[str, float]:
        is_asked.set()
        assert go.wait(5)
        return {}

    script.read = hang  # type: ignore[method-assign]
    watched = Watched(OUTSIDE, drivers={"outside": script})
    asker = asyncio.create_task(watched.sensing.read("outside"))
    while not is_asked.is_set():
        await asyncio.sleep(0.001)
    stop = asyncio.create_task(watched.sensing.stop())
    with pytest.raises(ToolError, match="the node's sensors were stopped"):
        await asker
    go.set()
    await stop


async def test_a_stop_does_not_wait_for_a_driver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs, too, want to be safe."""
    go = threading.Event()
    script = Script(*warm(20))
    script.close = lambda: (go.wait(5), None)[1]  # type: ignore[method-assign]
    monkeypatch.setattr(sensing, "CLOSE_WITHIN_S", 0.01)
    watched = Watched(OUTSIDE, drivers={"outside": script})
    await watched.sensing.stop()
    assert not go.is_set()
    go.set()


async def test_a_driver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked is told."""
    go = threading.Event()
    script = Script(*warm(20))
    script.read = lambda: {"temperature": float(go.wait(5))}  # type: ignore[method-assign]
    monkeypatch.setattr("pibot_mesh.hardware.sensors.DrivenSensor.TIMEOUT_S", 0.01)
    watched = Watched(OUTSIDE, drivers={"outside": script})
    with pytest.raises(ToolError, match=r"it gave no answer within 0\.01 s"):
        await watched.sensing.read("outside")
    go.set()
    await watched.sensing.stop()


def test_all_drivers_that_are_not_installed_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, since no waiting helps; with simulate none is needed."""
    monkeypatch.setattr(sensing, "missing_package", lambda kind: f"install {kind}" if kind == "bh1750" else None)
    devices = [DeviceSettings("a", "bh1750"), OUTSIDE, DeviceSettings("b", "bh1750"), DeviceSettings("me", "cpu")]
    with pytest.raises(ConfigError) as caught:
        Sensing(devices, simulate=False, tell=print, now=time.monotonic)
    assert caught.value.problems == ("devices.a.kind: install bh1750", "devices.b.kind: install bh1750")
    Sensing(devices, simulate=True, tell=print, now=time.monotonic)


async def test_the_machine_itself_is_measured_without_a_driver() -> None:
    """Also where nothing else is simulated."""
    told: list[Change] = []
    sensing = Sensing([DeviceSettings("me", "system")], simulate=False, tell=told.append, now=time.monotonic)
    values = await sensing.read("me")
    assert values["memory_free"] > 1
    assert told == [SensorRead("me", values)]
    await sensing.stop()


async def test_a_machine_without_i2c_says_how_to_turn_it_on(caplog: pytest.LogCaptureFixture) -> None:
    """The real driver, on the machine that runs the test; the node goes on."""
    pytest.importorskip("smbus2")
    if Path("/dev/i2c-31").exists():
        pytest.skip("this machine has that bus")
    device = DeviceSettings("sky", "bh1750", name="sky", options={"bus": 31})
    sensing = Sensing([device], simulate=False, tell=print, now=time.monotonic)
    sensing.start()
    deadline = time.monotonic() + 5
    while not sensing.silent():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.001)
    assert "sky does not answer: there is no /dev/i2c-31: turn on I2C: sudo raspi-config nonint do_i2c 0" in caplog.text
    await sensing.stop()


# --- A DHT22 ---

CHECKSUM = ToolError("nothing useful came from the DHT22 on GPIO 4 (Input/output error)", retryable=True)


def air(temperature: float, humidity: float = 50.0) -> Mapping[str, float]:
    return {"temperature": temperature, "humidity": humidity}


@pytest.mark.parametrize(
    ("tries", "temperature", "reads"),
    [
        ([air(20), air(21), air(22)], 21, 3),
        ([air(20), air(79), air(20.5)], 20.5, 3),
        ([CHECKSUM, air(20), air(21), air(22)], 21, 4),
        ([CHECKSUM, air(20), CHECKSUM, air(21)], 20.5, 4),
        ([CHECKSUM, air(160), air(0, 0), air(20)], 20, 4),
    ],
)
async def test_a_dht22_is_the_median_of_several_tries(tries: list[Reading], temperature: float, reads: int) -> None:
    """Those that fail, or give what air cannot be, do not count. It is asked no faster than it can answer."""
    script = Script(*tries)
    watched = Watched(DHT, drivers={"hall": script})
    assert (await watched.sensing.read("hall"))["temperature"] == temperature
    assert script.reads == reads
    assert watched.clock.slept == [MedianSensor.PAUSE_S] * (reads - 1)
    assert MedianSensor.PAUSE_S > 2
    await watched.sensing.stop()


async def test_a_dht22_that_never_answers_says_why() -> None:
    """Of its last try."""
    watched = Watched(DHT, drivers={"hall": (script := Script(ToolError("first"), CHECKSUM))})
    with pytest.raises(ToolError, match="nothing useful came from the DHT22 on GPIO 4"):
        await watched.sensing.read("hall")
    assert script.reads == MedianSensor.TRIES
    await watched.sensing.stop()
