"""How the machine is: memory, CPU, temperature, disk, Wi-Fi. Standard library only; what is not there is left out."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_MIB: Final = 1024 * 1024
_MIN_SPAN_S: Final = 0.2
"""The kernel counts CPU time in hundredths of a second: over a shorter span, chance would be reported."""
_MAX_SPAN_S: Final = 60.0
"""What the CPU did longer ago is not what somebody asks who wants to know how the machine is."""


class CpuMeter:
    """How busy the CPU is, all cores together, from ``/proc/stat``. Costs one small read a call."""

    def __init__(self, root: Path = Path("/"), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = root / "proc/stat"
        self._clock = clock
        self._at = clock()
        self._seen = self._sample()
        self._percent: float | None = None

    def percent(self) -> float | None:
        """Percent since the last call (0 to 100), or the last answer again where that was less than 0.2 s ago.

        None where it is not known (yet). Waiting for a disk counts as idle, as in ``top``.
        """
        now = self._clock()
        if now - self._at < _MIN_SPAN_S:
            return self._percent
        last, self._seen, self._at = self._seen, self._sample(), now
        if last is None or self._seen is None or self._seen[1] <= last[1]:
            self._percent = None
        else:
            busy, total = self._seen[0] - last[0], self._seen[1] - last[1]
            self._percent = round(min(100.0, max(0.0, 100 * busy / total)), 1)
        return self._percent

    async def percent_now(self) -> float | None:
        """The same over at most the last minute: where the last call is longer ago, over the next 0.2 s."""
        since_s = self._clock() - self._at
        if since_s > _MAX_SPAN_S:
            self.percent()
        if since_s > _MAX_SPAN_S or self._percent is None:
            await asyncio.sleep(_MIN_SPAN_S)
        return self.percent()

    def _sample(self) -> tuple[float, float] | None:
        """Busy and total time of all cores, in the kernel's ticks since the start."""
        try:
            name, *columns = _text(self._file).splitlines()[0].split()
            user, nice, system, idle, iowait, irq, softirq, steal = map(float, columns[:8])
        except (IndexError, ValueError):
            return None
        busy = user + nice + system + irq + softirq + steal
        return (busy, busy + idle + iowait) if name == "cpu" else None


def read_health(root: Path = Path("/")) -> dict[str, float]:
    """The machine's condition as flat numbers; each has its unit in its name (``_mb`` is MiB). Never raises.

    ``mem_free_mb`` is what programs could still get (MemAvailable), ``rss_mb`` what this process holds, ``load1`` the
    load average of one minute, ``disk_free_mb`` what is free where *root* is.
    """
    memory = _table(root / "proc/meminfo")
    numbers = {
        "uptime_s": _first_number(_text(root / "proc/uptime")),
        "load1": _first_number(_text(root / "proc/loadavg")),
        "mem_total_mb": _mib(memory.get("MemTotal")),
        "mem_free_mb": _mib(memory.get("MemAvailable")),
        "rss_mb": _mib(_table(root / "proc/self/status").get("VmRSS")),
        "disk_free_mb": _disk_free(root),
        "cpu_temp_c": _cpu_temperature(root / "sys/class/thermal"),
        "rssi_dbm": _signal(_text(root / "proc/net/wireless")),
    }
    return {name: round(number, 2) for name, number in numbers.items() if number is not None}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _table(path: Path) -> dict[str, str]:
    """``Name:   value`` lines."""
    pairs = (line.split(":", 1) for line in _text(path).splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _first_number(text: str | None) -> float | None:
    try:
        number = float((text or "").split()[0])
    except (IndexError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _mib(kib: str | None) -> float | None:
    number = _first_number(kib)
    return None if number is None else number / 1024


def _disk_free(path: Path) -> float | None:
    try:
        disk = os.statvfs(path)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize / _MIB


def _cpu_temperature(thermal: Path) -> float | None:
    """The zone of the CPU where one is named so (``cpu-thermal`` on a Pi), else the first."""
    zones = sorted(thermal.glob("thermal_zone*"))
    zones.sort(key=lambda zone: "cpu" not in _text(zone / "type").lower())
    for zone in zones:
        millidegrees = _first_number(_text(zone / "temp"))
        if millidegrees is not None:
            return millidegrees / 1000
    return None


def _signal(table: str) -> float | None:
    """The signal level of the first interface in ``/proc/net/wireless``: its fourth column."""
    for line in table.splitlines()[2:]:
        columns = line.split()
        if len(columns) > 3:
            return _first_number(columns[3])
    return None
