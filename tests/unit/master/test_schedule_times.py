"""When schedules are due: cron words through both changes of the clocks, and the sun at many places."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.config.settings import Place, ScheduleSettings
from pibot_mesh.master.schedule_times import CronTimes, DueTimes, SunTimes, due_times, latest, time_zone

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
DAY_S = 24 * 3600.0


def ts(text: str, zone: tzinfo = UTC) -> float:
    """``2026-03-29 02:30`` as Unix seconds."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def due(times: DueTimes, first: float, last: float) -> list[float]:
    """All times in between."""
    found = []
    at = times.first_after(first)
    while at is not None and at <= last:
        found.append(at)
        at = times.first_after(at)
    return found


def shown(times: list[float], zone: tzinfo) -> list[str]:
    return [f"{datetime.fromtimestamp(each, zone):%d %H:%M %Z}" for each in times]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("0 7 * * 1-5", ["26 07:00 CET", "27 07:00 CET", "30 07:00 CEST"]),
        ("30 2 * * *", ["26 02:30 CET", "27 02:30 CET", "28 02:30 CET", "29 03:00 CEST", "30 02:30 CEST"]),
        ("0 */12 * * 0", ["29 00:00 CET", "29 12:00 CEST"]),
        ("0 3 29 3 *", ["29 03:00 CEST"]),
    ],
)
def test_a_time_that_does_not_exist_is_due_when_its_hour_is_over(words: str, expected: list[str]) -> None:
    """In the night when the clocks go forward, once."""
    found = due(CronTimes(words, BERLIN), ts("2026-03-25 12:00"), ts("2026-03-30 12:00"))

    assert shown(found, BERLIN) == expected


def test_a_time_that_comes_twice_is_due_the_first_time() -> None:
    """In the night when the clocks go back."""
    found = due(CronTimes("30 2 * * *", BERLIN), ts("2026-10-24 12:00"), ts("2026-10-26 12:00"))

    assert shown(found, BERLIN) == ["25 02:30 CEST", "26 02:30 CET"]


@pytest.mark.parametrize("minute", range(0, 60, 7))
def test_nothing_is_due_again_in_the_second_of_two_hours(minute: int) -> None:
    """Whenever one asks in it."""
    asked = datetime(2026, 10, 25, 2, minute, tzinfo=BERLIN, fold=1).timestamp()

    assert CronTimes("30 2 * * *", BERLIN).first_after(asked) == ts("2026-10-26 02:30", BERLIN)


def test_an_interval_goes_by_the_time_that_passes() -> None:
    """Both hours count."""
    found = due(CronTimes("*/30 * * * *", BERLIN), ts("2026-10-24 23:59"), ts("2026-10-25 02:00"))

    assert [later - earlier for earlier, later in itertools.pairwise(found)] == [1800.0] * (len(found) - 1)


def test_each_answer_goes_on_from_the_last() -> None:
    """Asked from any moment of a year, a time is later, and is the one that is found from just before it."""
    times = CronTimes("15,45 1-3 * * *", NEW_YORK)
    all_of_them = due(times, ts("2026-01-01 00:00"), ts("2027-01-01 00:00"))

    for hour in range(0, 365 * 24, 5):
        asked = ts("2026-01-01 00:00") + hour * 3600 + 17
        if asked < all_of_them[-1]:
            assert times.first_after(asked) == next(each for each in all_of_them if each > asked)
    assert all_of_them == sorted(set(all_of_them))


def test_the_words_are_told_as_a_person_says_them() -> None:
    """For lists."""
    assert CronTimes("0 7 * * 1-5", BERLIN).says == "At 07:00 on Monday through Friday"
    assert SunTimes("sunset", 52.5, 13.4).says == "At sunset"
    assert SunTimes("sunset", 52.5, 13.4, -1830).says == "30 min 30 s before sunset"
    assert SunTimes("sunrise", 52.5, 13.4, 3600).says == "60 min after sunrise"


def test_a_rare_day_is_waited_for() -> None:
    """For years."""
    assert CronTimes("0 0 29 2 *", BERLIN).first_after(ts("2026-01-01 00:00")) == ts("2028-02-29 00:00", BERLIN)


@pytest.mark.parametrize(
    ("latitude", "longitude", "event", "expected"),
    [
        # By the tables of the U.S. Naval Observatory's method, to the minute.
        (52.52, 13.405, "sunrise", "2026-06-21 02:43"),
        (52.52, 13.405, "sunset", "2026-06-21 19:33"),
        (-36.85, 174.76, "sunrise", "2026-06-20 19:33"),
        (40.71, -74.01, "sunset", "2026-06-21 00:30"),
    ],
)
def test_the_sun_keeps_its_times(latitude: float, longitude: float, event: str, expected: str) -> None:
    """Known ones, to about a minute."""
    found = SunTimes(event, latitude, longitude).first_after(ts(expected) - DAY_S / 2)

    assert found == pytest.approx(ts(expected), abs=90)


@pytest.mark.parametrize("event", ["sunrise", "sunset"])
@pytest.mark.parametrize("longitude", [-175, -75, 0, 90.1, 106.7])
@pytest.mark.parametrize("latitude", [-36.0, 65.0])
def test_outside_the_polar_circles_every_day_has_its_own(latitude: float, longitude: float, event: str) -> None:
    """None is left out and none comes twice, on whichever side of midnight UTC it is."""
    times = SunTimes(event, latitude, longitude)
    found = due(times, ts("2026-01-01 00:00"), ts("2027-01-01 00:00"))

    assert len(found) in {365, 366}
    assert all(abs(later - earlier - DAY_S) < 600 for earlier, later in itertools.pairwise(found))


@pytest.mark.parametrize("event", ["sunrise", "sunset"])
@pytest.mark.parametrize("longitude", [0, 18.9, -100])
def test_polar_nights_and_the_midnight_sun_are_passed_over(longitude: float, event: str) -> None:
    """In Tromsø: the days before and after have theirs, each once."""
    found = due(SunTimes(event, 69.6, longitude), ts("2026-01-01 00:00"), ts("2027-01-01 00:00"))
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(found))

    assert gaps[0] > 20 * 3600
    assert gaps[-1] > 50 * DAY_S
    assert all(gap < 1.1 * DAY_S for gap in gaps[:-1])


def test_an_offset_moves_the_sun() -> None:
    """Over midnight as well."""
    at = ts("2026-06-21 00:00")
    plain = SunTimes("sunset", 52.5, 13.4).first_after(at)
    assert plain is not None

    assert SunTimes("sunset", 52.5, 13.4, -1800).first_after(at) == plain - 1800
    assert SunTimes("sunset", 52.5, 13.4, 43_200).first_after(plain + 43_199) == plain + 43_200


@given(st.floats(-89, 89), st.floats(-180, 180), st.integers(0, 800), st.sampled_from(["sunrise", "sunset"]))
def test_asking_again_tells_the_same_time(latitude: float, longitude: float, hours: int, event: str) -> None:
    """The id of a request is made of it: it must not depend on when one asks."""
    times = SunTimes(event, latitude, longitude)
    found = times.first_after(ts("2026-03-01 00:00") + hours * 3600.0)

    if found is not None:
        assert found == times.first_after(found - 1) == times.first_after(found - 5000)
        assert found == int(found)


def test_a_schedule_has_the_times_that_its_words_say() -> None:
    """The sun's, or a clock's."""
    place = Place(52.5, 13.4)

    assert isinstance(due_times(ScheduleSettings("s", "go", "sunset"), place, BERLIN), SunTimes)
    assert isinstance(due_times(ScheduleSettings("s", "go", "0 7 * * *"), Place(), BERLIN), CronTimes)


def test_the_time_zone_is_the_one_that_is_named(tmp_path: Path) -> None:
    """By the file, by the variable, by the machine's file; else UTC."""
    local = Path("/usr/share/zoneinfo/Asia/Tokyo")
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def hours(place: Place, env: dict[str, str], file: Path) -> timedelta | None:
        return time_zone(place, env, file).utcoffset(noon)

    assert hours(Place(time_zone="Europe/Berlin"), {"TZ": "Asia/Tokyo"}, local) == timedelta(hours=1)
    assert hours(Place(), {"TZ": ":America/New_York"}, local) == timedelta(hours=-5)
    assert hours(Place(), {}, tmp_path / "none") == timedelta(0)
    with pytest.raises(ZoneInfoNotFoundError):
        time_zone(Place(time_zone="Europe/Nowhere"))


def test_the_machine_s_own_zone_is_read_from_its_file(tmp_path: Path) -> None:
    """As /etc/localtime has it."""
    import importlib.resources

    data = importlib.resources.files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").read_bytes()
    (tmp_path / "localtime").write_bytes(data)

    zone = time_zone(Place(), {}, tmp_path / "localtime")

    assert zone.utcoffset(datetime(2026, 1, 1, tzinfo=UTC)) == timedelta(hours=9)


@pytest.mark.parametrize("words", ["* * * * *", "*/7 * * * *", "0 7 * * *", "30 2 * * *", "* 0-22 * * *", "0 0 1 * *"])
@pytest.mark.parametrize("until", ["2026-10-25 00:45", "2026-10-25 01:15", "2026-10-24 21:59", "2026-10-02 12:00"])
def test_the_latest_is_the_last_of_all(words: str, until: str) -> None:
    """However it is looked for."""
    times = CronTimes(words, BERLIN)
    last = ts(until)

    for late_s in (60.0, 5 * 3600.0, 2 * DAY_S):
        found = due(times, last - late_s, last)
        assert latest(times, last - late_s, last) == (found[-1] if found else None)
