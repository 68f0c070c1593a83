"""What the machine tells of itself, in files of its kernel."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pibot_mesh.hardware.machine import CpuMeter, read_health

FILES = {
    "proc/uptime": "266461.10 900000.00\n",
    "proc/loadavg": "0.42 0.30 0.20 1/100 999\n",
    "proc/meminfo": "MemTotal:         437248 kB\nMemFree:           12000 kB\nMemAvailable:     312320 kB\n",
    "proc/self/status": "Name:\tpython\nVmRSS:\t   32768 kB\n",
    "proc/net/wireless": (
        "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"
        " face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n"
        " wlan0: 0000   55.  -55.  -256        0      0      0      0      0        0\n"
    ),
    "sys/class/thermal/thermal_zone0/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61000\n",
    "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "48312\n",
}


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    """The files of a Pi Zero."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_pi_tells_all_its_numbers(pi: Path) -> None:
    """In the units of their names."""
    health = read_health(pi)
    assert health.pop("disk_free_mb") > 0
    assert health == {
        "uptime_s": 266461.1,
        "load1": 0.42,
        "mem_total_mb": 427.0,
        "mem_free_mb": 305.0,
        "rss_mb": 32.0,
        "cpu_temp_c": 48.31,
        "rssi_dbm": -55.0,
    }


@pytest.mark.parametrize(
    ("file", "text", "missing"),
    [
        ("proc/uptime", "", "uptime_s"),
        ("proc/loadavg", "none", "load1"),
        ("proc/net/wireless", "one\ntwo\n", "rssi_dbm"),
        ("proc/net/wireless", "one\ntwo\nwlan0: 0000\n", "rssi_dbm"),
        ("proc/meminfo", "MemTotal: 437248 kB\n", "mem_free_mb"),
        ("proc/self/status", "no colon here", "rss_mb"),
    ],
)
def test_a_number_that_cannot_be_read_is_left_out(pi: Path, file: str, text: str, missing: str) -> None:
    """And the others stay."""
    everything = set(read_health(pi))
    (pi / file).write_text(text)
    assert everything - set(read_health(pi)) == {missing}


def test_a_machine_without_such_files_has_no_numbers(tmp_path: Path) -> None:
    """And no error."""
    assert read_health(tmp_path / "nowhere") == {}


def test_without_a_zone_of_the_cpu_the_first_that_answers_counts(pi: Path) -> None:
    """Some boards name them otherwise."""
    (pi / "sys/class/thermal/thermal_zone1/temp").unlink()
    assert read_health(pi)["cpu_temp_c"] == 61.0


def ticks(pi: Path, busy: int, idle: int) -> None:
    """What the kernel counts: a tenth of the busy time in each of six columns would be the same to us."""
    (pi / "proc/stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")


class Clock:
    """A monotonic clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_cpu_is_as_busy_as_it_was_since_the_last_call(pi: Path) -> None:
    """The share of the time in which it did something, whatever came before."""
    clock = Clock()
    ticks(pi, 5000, 100)
    meter = CpuMeter(pi, clock=clock)
    assert meter.percent() is None
    ticks(pi, 5030, 170)
    clock.now += 1

    assert meter.percent() == 30.0

    ticks(pi, 5130, 170)
    clock.now += 1
    assert meter.percent() == 100.0


def test_waiting_for_a_disk_is_no_work(pi: Path) -> None:
    """As in `top`; work for interrupts and for other guests is."""
    clock = Clock()
    (pi / "proc/stat").write_text("cpu  0 0 0 0 0 0 0 0 0 0\n")
    meter = CpuMeter(pi, clock=clock)
    (pi / "proc/stat").write_text("cpu  1 2 3 40 50 1 2 1 7 7\n")
    clock.now += 1

    assert meter.percent() == 10.0


def test_two_who_ask_at_once_get_the_same_answer(pi: Path) -> None:
    """A span of a few ticks would say 0 or 100."""
    clock = Clock()
    ticks(pi, 0, 0)
    meter = CpuMeter(pi, clock=clock)
    ticks(pi, 25, 75)
    clock.now += 1
    first = meter.percent()
    ticks(pi, 26, 75)
    clock.now += 0.1

    assert first == meter.percent() == 25.0


@pytest.mark.parametrize("text", ["", "cpu 1 2\n", "cpu a b c d e f g h\n", "intr 1 2 3 4 5 6 7 8\n"])
def test_a_machine_that_does_not_count_has_no_percent(pi: Path, text: str) -> None:
    """And a counter that went back says nothing either."""
    clock = Clock()
    (pi / "proc/stat").write_text(text)
    meter = CpuMeter(pi, clock=clock)
    clock.now += 1
    assert meter.percent() is None
    ticks(pi, 10, 10)
    clock.now += 1
    assert meter.percent() is None
    ticks(pi, 5, 5)
    clock.now += 1
    assert meter.percent() is None


async def test_after_a_long_silence_the_last_moment_counts(pi: Path) -> None:
    """Not the average of the days between."""
    clock = Clock()
    ticks(pi, 0, 0)
    meter = CpuMeter(pi, clock=clock)
    ticks(pi, 0, 10_000)
    clock.now += 1000

    asked = asyncio.create_task(meter.percent_now())
    await asyncio.sleep(0)  # it has begun to look
    clock.now += 0.2
    ticks(pi, 15, 10_005)

    assert await asked == 75.0
