"""When a schedule is due: by cron words in a time zone, or by the sun. Pure: every answer follows from the question."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from pibot_mesh.config.settings import Place, ScheduleSettings

SUN_WORDS: Final = ("sunrise", "sunset")
_DAY_S: Final = 24 * 3600.0
_HOUR_S: Final = 3600.0
_YEAR_DAYS: Final = 370
"""Days after which every sunrise that there is has come at least once."""
_ZENITH: Final = 90.0 + 32 / 120
"""Degrees from the zenith to the middle of a sun whose upper edge is at the horizon; astral adds the refraction."""
_LOCAL_ZONE: Final = Path("/etc/localtime")


class DueTimes(Protocol):
    """The times at which something is due, as Unix seconds without a fraction."""

    @property
    def says(self) -> str:
        """The times in words."""

    @property
    def absence(self) -> str:
        """What is the matter where none comes for days; empty where that is as it should be."""

    def first_after(self, ts: float) -> float | None:
        """The first one later than *ts*; None where none comes any more."""


def due_times(schedule: ScheduleSettings, place: Place, zone: tzinfo) -> DueTimes:
    """When *schedule* is due at *place*. Its words, and for the sun the place, must have been checked."""
    if schedule.at not in SUN_WORDS:
        return CronTimes(schedule.at, zone)
    assert place.latitude is not None
    assert place.longitude is not None
    return SunTimes(schedule.at, place.latitude, place.longitude, schedule.offset_s)


def time_zone(place: Place, env: Mapping[str, str] = os.environ, local_zone: Path = _LOCAL_ZONE) -> tzinfo:
    """The time zone that *place* names; else the machine's: by ``TZ``, by its file, or UTC where it has neither.

    Raises ZoneInfoNotFoundError or ValueError where a name is no time zone's.
    """
    name = place.time_zone or env.get("TZ", "").removeprefix(":")
    if name:
        return ZoneInfo(name)
    if local_zone.is_file():
        with local_zone.open("rb") as file:
            return ZoneInfo.from_file(file)
    return UTC


class CronTimes:
    """Five cron *words* in *zone*, as cronsim reads them: like the cron of Debian, when the clocks change too.

    A fixed time in the hour that does not exist is due at the end of that hour, and one in the hour that exists twice
    the first time only. ``*`` in the minutes or hours goes by the time that passes.
    """

    absence = ""

    def __init__(self, words: str, zone: tzinfo) -> None:
        from cronsim import CronSim

        self._words = words
        self._zone = zone
        self.says = CronSim(words, datetime.fromtimestamp(0, zone)).explain()

    def first_after(self, ts: float) -> float | None:
        """The first one later than *ts*; None where none comes within 50 years."""
        from cronsim import CronSim

        # In the second of two hours, cronsim begins with the times of the first one, which are over.
        found = (due.timestamp() for due in CronSim(self._words, datetime.fromtimestamp(ts, self._zone)))
        return next((due for due in found if due > ts), None)


class SunTimes:
    """Each *event* (sunrise or sunset) at a place (degrees north and east), *offset_s* seconds later."""

    def __init__(self, event: str, latitude: float, longitude: float, offset_s: float = 0.0) -> None:
        self._is_rising = event == "sunrise"
        self._latitude = latitude
        self._longitude = longitude
        self._offset_s = round(offset_s)
        self.says = _sun_words(event, self._offset_s)
        self.absence = f"there is no {event} at this place"

    def first_after(self, ts: float) -> float | None:
        """The first one later than *ts*. A day without (midnight sun, polar night) is passed over."""
        first = datetime.fromtimestamp(ts - self._offset_s, UTC).date() - timedelta(days=1)
        found = (self._due_on(first + timedelta(days=days)) for days in range(_YEAR_DAYS))
        return next((due for due in found if due is not None and due > ts), None)

    def _due_on(self, day: date) -> float | None:
        """The one of the place's own *day*, which is the date at longitude 0 when the sun stands there as high.

        astral (3.2) takes a day for the one before where an event comes near midnight UTC, and then finds none on some
        days. So it is asked for longitude 0 only, where sunrise and sunset are far from midnight: between two
        of its days the sun changes steadily.
        """
        turned = self._longitude / 360
        earlier, later = day - timedelta(days=turned > 0), day + timedelta(days=turned < 0)
        times = [_seconds_into(self._latitude, each, self._is_rising) for each in (earlier, later)]
        known = [seconds for seconds in times if seconds is not None]
        if not known:
            return None
        share = 1 - turned if turned > 0 else -turned
        seconds = known[0] + (known[-1] - known[0]) * share
        return float(round(_midnight(day) + seconds - turned * _DAY_S) + self._offset_s)


def latest(times: DueTimes, after: float, until: float, *, span_s: float = _HOUR_S) -> float | None:
    """The last of *times* that is later than *after* and not later than *until*.

    It is looked for in the last *span_s* seconds first, and then further back: where one is due every minute, those of
    a week are not gone through.
    """
    start = max(after, until - span_s)
    found, due = None, times.first_after(start)
    while due is not None and due <= until:
        found, due = due, times.first_after(due)
    if found is not None or start <= after:
        return found
    return latest(times, after, start, span_s=span_s * 24)


def _seconds_into(latitude: float, day: date, is_rising: bool) -> float | None:
    """Seconds from the beginning of *day* (UTC) to the event of that day at longitude 0; None where there is none."""
    from astral import Observer, SunDirection
    from astral.sun import time_of_transit

    observer = Observer(latitude, 0.0)
    direction = SunDirection.RISING if is_rising else SunDirection.SETTING
    try:
        seconds = time_of_transit(observer, day, _ZENITH, direction).timestamp() - _midnight(day)
    except ValueError:
        return None
    # A sunrise shortly before midnight, in the last days before the midnight sun, comes out a day late.
    return seconds - _DAY_S if is_rising and seconds > _DAY_S / 2 else seconds


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _sun_words(event: str, offset_s: int) -> str:
    if not offset_s:
        return f"At {event}"
    minutes, seconds = divmod(abs(offset_s), 60)
    parts = [f"{minutes} min"] * (minutes > 0) + [f"{seconds} s"] * (seconds > 0)
    return f"{' '.join(parts)} {'after' if offset_s > 0 else 'before'} {event}"
