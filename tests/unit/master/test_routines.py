"""Requests that no person makes: each once, whatever the clock, the broker and the process do."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

import pytest

from pibot_mesh.config.settings import Place, ScheduleSettings, TriggerSettings
from pibot_mesh.master.events import Note
from pibot_mesh.master.routines import CLOCK_SET_TS, ON_TIME_S, Keep, Make, Miss, RoutineEffect, Routines, Say
from pibot_mesh.master.schedule_times import due_times
from pibot_mesh.protocol.codec import ID_PATTERN
from pibot_mesh.protocol.messages import NodeEvent, RoutineState

BERLIN = Place(52.5, 13.4, "Europe/Berlin")
MORNING = ScheduleSettings("morning", "turn on the lamp", "0 7 * * *")
MADE_UP = replace(MORNING, missed="run", late_s=3600.0)
BELL = TriggerSettings("bell", "turn on the chime", "porch", "button", "pressed", rest_s=5.0)


def ts(text: str, place: Place = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(place.time_zone)).timestamp()


@dataclass
class Clock:
    """A wall clock that can be set, and a monotonic one that cannot."""

    wall: float
    now: float = 1000.0

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds


@dataclass
class House:
    """A master's routines, with a ledger that remembers ids, and settings that survive the process."""

    clock: Clock
    schedules: tuple[ScheduleSettings, ...] = ()
    triggers: tuple[TriggerSettings, ...] = ()
    place: Place = BERLIN
    ledger: list[str] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    said: dict[str, RoutineState | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A new process, which has the settings and the ledger of the former one."""
        zone = ZoneInfo(self.place.time_zone)
        times = {each.id: due_times(each, self.place, zone) for each in self.schedules}
        ids = (f"{number:012d}" for number in range(len(self.ledger), 10**6))
        self.routines = Routines(self.schedules, self.triggers, self.place, times=times, new_id=lambda: next(ids))
        self.perform(self.routines.load(dict(self.stored)))

    def perform(self, effects: list[RoutineEffect] | list[Make]) -> list[str]:
        """Do it; returns the ids of the requests that were made now."""
        made = []
        for effect in effects:
            match effect:
                case Make(_, request) if request.id not in self.ledger:
                    self.ledger.append(request.id)
                    made.append(request.id)
                case Miss(_, request_id) if request_id not in self.ledger:
                    self.missed.append(request_id)
                case Keep(name, text):
                    self.stored[name] = text
                case Say(name, state):
                    self.said[name] = state
                case Note(text):
                    self.notes.append(text)
        return made

    def tick(self) -> list[str]:
        return self.perform(self.routines.tick(self.clock.wall, self.clock.now))

    def go(self, seconds: float, *, step_s: float = 30.0) -> list[str]:
        """Time passes, and the routines are woken as they wish."""
        made, end = self.tick(), self.clock.now + seconds
        while self.clock.now < end:
            wake_at = self.routines.wake_at()
            step = step_s if wake_at is None else min(step_s, max(0.01, wake_at - self.clock.wall))
            self.clock.go(min(step, end - self.clock.now))
            made += self.tick()
        return made

    def set_clock(self, text: str) -> None:
        """A person or NTP sets the wall clock."""
        self.clock.wall = ts(text, self.place)

    def press(self, seq: int, *, boot: str = "b1", node: str = "porch", device: str = "button") -> list[str]:
        event = NodeEvent("pressed", device, boot, seq)
        return self.perform(self.routines.event(node, event, self.clock.wall, self.clock.now))

    def state(self, name: str) -> RoutineState:
        state = self.said[name]
        assert state is not None
        return state


def house(
    at: str, *schedules: ScheduleSettings, triggers: tuple[TriggerSettings, ...] = (), place: Place = BERLIN
) -> House:
    return House(Clock(ts(at, place)), schedules, triggers, place)


def test_a_schedule_makes_its_request_at_its_time() -> None:
    """Once a day, to the second, with an id that tells the time in UTC."""
    home = house("2026-06-01 06:00", MORNING)

    assert home.go(3599) == []
    assert home.go(2) == ["sch-morning-20260601T050000Z"]
    assert home.go(24 * 3600 - 10) == []
    assert home.go(20) == ["sch-morning-20260602T050000Z"]


def test_the_request_is_what_the_file_says() -> None:
    """As a person would send it."""
    home = house("2026-06-01 06:59", MORNING)
    home.tick()
    home.clock.go(60)

    [make] = [each for each in home.routines.tick(home.clock.wall, home.clock.now) if isinstance(each, Make)]

    assert (make.request.text, make.request.mode, make.request.session) == ("turn on the lamp", "auto", None)
    assert make.due_ts == home.clock.wall
    assert re.fullmatch(ID_PATTERN, make.request.id)


def test_the_longest_names_give_ids_that_fit() -> None:
    """A request's id has 64 characters at most."""
    name = "n" * 32
    home = house("2026-06-01 06:59", replace(MORNING, id=name), triggers=(replace(BELL, id=name[:-1] + "x"),))

    made = [
        *home.go(120),
        *home.perform(home.routines.run(name, home.clock.wall)),
        *home.press(10**9, boot="0123456789ab"),
        *home.press(1, boot="x" * 500),
    ]

    home.clock.go(10)
    made += home.press(2, boot="any thing/else+#")
    assert len(made) == 4
    assert all(re.fullmatch(ID_PATTERN, each) for each in made)


def test_what_was_due_before_it_was_known_is_none_of_its_business() -> None:
    """A schedule that is written into the file at half past seven does not run for seven o'clock."""
    home = house("2026-06-01 07:00:30", MADE_UP)

    assert home.go(3600) == []
    assert home.missed == []


@pytest.mark.parametrize("missed", ["skip", "run"])
def test_a_restart_at_its_time_is_no_miss(missed: Literal["skip", "run"]) -> None:
    """A master that was away for some seconds goes on, and does nothing twice."""
    home = house("2026-06-01 06:30", replace(MORNING, missed=missed))
    home.go(1795)
    home.clock.go(20)
    home.start()

    assert home.go(30) == ["sch-morning-20260601T050000Z"]
    home.start()
    assert home.go(30) == []
    assert home.missed == []


def test_a_missed_one_is_made_up_for_once() -> None:
    """And only the latest of several."""
    home = house("2026-06-01 06:30", replace(MADE_UP, at="*/10 7 * * *"))
    home.go(60)
    home.clock.go(3600)
    home.start()

    assert home.go(60) == ["sch-morning-20260601T053000Z"]
    home.start()
    assert home.go(60) == []


def test_a_missed_one_is_skipped_with_a_word() -> None:
    """As is usual."""
    home = house("2026-06-01 06:30", MORNING)
    home.go(60)
    home.clock.go(3000)
    home.start()

    assert home.go(60) == []
    assert home.missed == ["sch-morning-20260601T050000Z"]


def test_one_that_was_missed_too_long_ago_is_not_made_up_for() -> None:
    """`late_s` after its time it is over."""
    home = house("2026-06-01 06:30", MADE_UP)
    home.go(60)
    home.clock.go(2 * 3600)
    home.start()

    assert home.go(60) == []
    assert home.missed == []


@pytest.mark.parametrize(
    "change", [{"at": "5 7 * * *"}, {"request": "turn on the fan"}, {"is_on": True, "offset_s": 1.0}]
)
def test_a_changed_schedule_is_a_new_one(change: dict[str, object]) -> None:
    """What it would have missed by its new words was never due."""
    home = house("2026-06-01 06:30", MADE_UP)
    home.go(60)
    home.clock.go(3000)
    home.schedules = (replace(MADE_UP, **change),)  # type: ignore[arg-type]
    home.start()

    assert home.go(60) == []


def test_a_schedule_that_moved_with_the_house_is_a_new_one() -> None:
    """In another time zone."""
    home = house("2026-06-01 06:30", MADE_UP)
    home.go(60)
    home.clock.go(2000)
    home.place = replace(BERLIN, time_zone="Europe/Paris")
    home.start()

    assert home.go(60) == []


def test_what_the_ledger_has_long_forgotten_is_not_made_again() -> None:
    """Stories are removed an hour after their end, where there is no room."""
    home = house("2026-06-01 06:30", replace(MADE_UP, late_s=6 * 3600.0))
    assert len(home.go(3600)) == 1
    home.ledger.clear()
    home.clock.go(2 * 3600)
    home.start()

    assert home.go(60) == []


def test_what_was_said_to_be_made_but_never_stored_is_made() -> None:
    """The process was killed between the two."""
    home = house("2026-06-01 06:30", MADE_UP)
    home.go(1810)
    told = home.state("morning").last_ts
    home.ledger.clear()
    home.clock.go(600)
    home.start()

    assert home.go(60) == ["sch-morning-20260601T050000Z"]
    assert home.state("morning").last_ts == told


def test_a_clock_that_is_not_set_makes_nothing_due() -> None:
    """A Pi begins in 1970, or where its last file was written; when NTP answers, it is as after a start."""
    home = house("2026-06-01 06:30", MADE_UP)
    home.go(60)
    home.clock.go(1800)
    home.clock.wall = 100.0
    home.start()

    assert home.go(3 * 24 * 3600, step_s=900) == []
    assert home.routines.wake_at() is None
    assert home.state("morning").next_ts is None
    home.set_clock("2026-06-01 07:30")
    assert home.go(60) == ["sch-morning-20260601T050000Z"]


def test_a_new_schedule_is_known_from_when_the_clock_was_set() -> None:
    """Not from 1970 on."""
    home = House(Clock(1000.0), (MADE_UP,))
    home.go(60)
    home.set_clock("2026-06-01 07:10")

    assert home.go(3600) == []
    assert home.go(24 * 3600) == ["sch-morning-20260602T050000Z"]


def test_a_new_schedule_is_known_from_the_right_time_where_the_clock_was_late() -> None:
    """The time of the last shutdown is a time too, and NTP answers a minute later."""
    home = house("2026-06-01 03:00", MADE_UP)
    home.go(60)
    home.set_clock("2026-06-01 07:30")

    assert home.go(60) == []


def test_time_that_passed_in_sleep_counts_as_missed() -> None:
    """A monotonic clock stands still then; a schedule that is well known is not taken for new."""
    home = house("2026-06-01 05:40", replace(MADE_UP, late_s=2 * 3600.0))
    home.go(3660)
    home.set_clock("2026-06-01 08:30")

    assert home.go(60) == ["sch-morning-20260601T050000Z"]


@pytest.mark.parametrize("missed", ["skip", "run"])
def test_setting_the_clock_back_makes_nothing_twice(missed: Literal["skip", "run"]) -> None:
    """By an hour, over what was made; and what comes again has been."""
    home = house("2026-06-01 06:30", replace(MORNING, missed=missed, at="*/20 * * * *"))
    first = home.go(3 * 3600)
    assert len(first) == 9
    home.set_clock("2026-06-01 08:05")

    assert home.go(85 * 60 - 1) == []
    assert home.go(1200) == ["sch-morning-20260601T074000Z"]
    assert home.missed == []


def test_setting_the_clock_forward_is_a_miss() -> None:
    """Of the latest in between."""
    home = house("2026-06-01 05:00", replace(MADE_UP, at="*/20 * * * *"))
    home.go(2 * 3600 - 30)
    home.set_clock("2026-06-01 07:50")

    assert home.go(10) == ["sch-morning-20260601T054000Z"]


def test_a_clock_that_was_years_ahead_for_a_while_blocks_nothing() -> None:
    """Also where a schedule was first known then, and the process ended."""
    home = house("2036-06-01 06:30", MADE_UP)
    home.go(2 * 3600)
    home.set_clock("2026-06-01 06:30")
    assert home.go(3600) == ["sch-morning-20260601T050000Z"]
    home.start()
    assert home.go(24 * 3600) == ["sch-morning-20260602T050000Z"]

    other = house("2036-06-01 06:30", MADE_UP)
    other.go(60)
    other.set_clock("2026-06-01 06:30")
    other.start()
    assert other.go(3600) == ["sch-morning-20260601T050000Z"]


def test_a_slow_clock_is_not_set() -> None:
    """It drifts, and is drawn to the right time, and everything stays on time."""
    home = house("2026-06-01 06:30", replace(MORNING, at="* * * * *"))
    made = home.tick()
    for _ in range(2000):
        home.clock.wall += 9.9
        home.clock.now += 10
        made += home.tick()

    assert len(made) == len(set(made)) == int(2000 * 9.9 / 60)
    assert home.missed == []


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("words", ["30 2 * * *", "30 1 * * *", "0 3 * * *", "15 6 * * *", "0 */6 * * *"])
def test_through_a_year_of_clock_changes_and_jumps_each_is_made_once(zone: str, words: str) -> None:
    """Hour by hour for 400 days, while somebody sets the clock, and the master starts anew."""
    place = Place(time_zone=zone)
    schedule = replace(MADE_UP, at=words, late_s=6 * 3600.0)
    home = house("2026-01-01 00:10", schedule, place=place)
    times = due_times(schedule, place, ZoneInfo(zone))
    chance = random.Random(f"{zone} {words}")
    start, farthest = home.clock.wall, home.clock.wall
    home.tick()

    for _ in range(400 * 24):
        home.clock.go(3600)
        if chance.random() < 0.02:
            home.clock.wall += chance.choice([-7200, -3600, -1800, 1800, 3600, 7200])
        if chance.random() < 0.02:
            home.start()
        home.tick()
        farthest = max(farthest, home.clock.wall)

    expected, due = [], times.first_after(start)
    while due is not None and due <= farthest:
        expected.append(f"sch-morning-{datetime.fromtimestamp(due, UTC):%Y%m%dT%H%M%SZ}")
        due = times.first_after(due)
    assert Counter(home.ledger) == Counter(expected)


def test_a_leap_of_the_calendar_costs_no_time() -> None:
    """One that is due every minute, after ten years off."""
    home = house("2026-06-01 06:30", replace(MADE_UP, at="* * * * *", late_s=7 * 24 * 3600.0))
    home.go(120)
    home.set_clock("2036-06-01 06:30")

    assert len(home.go(1)) == 1


def test_what_it_needs_to_wake_is_told() -> None:
    """The next of all schedules that are on."""
    home = house("2026-06-01 06:00", MORNING, replace(MORNING, id="noon", at="0 12 * * *"))
    assert home.routines.wake_at() is None
    home.tick()

    assert home.routines.wake_at() == ts("2026-06-01 07:00")
    home.perform(home.routines.switch("morning", False))
    home.tick()
    assert home.routines.wake_at() == ts("2026-06-01 12:00")


def test_the_state_tells_last_and_next() -> None:
    """And the words, the request and the switch."""
    home = house("2026-06-01 06:00", MORNING)
    home.tick()
    before = home.state("morning")
    home.go(3600)

    assert before == RoutineState(
        "morning", "schedule", "At 07:00 every day", "turn on the lamp", True, None, ts("2026-06-01 07:00")
    )
    assert home.state("morning") == replace(before, last_ts=ts("2026-06-01 07:00"), next_ts=ts("2026-06-02 07:00"))
    assert home.routines.states() == [Say("morning", home.state("morning"))]


def test_what_is_switched_off_is_off_and_stays_off() -> None:
    """Also after a restart; what came due meanwhile is not missed."""
    home = house("2026-06-01 06:30", MADE_UP)
    home.tick()
    home.perform(home.routines.switch("morning", False))
    assert home.go(1200) == []
    home.start()
    assert home.go(1200) == []
    assert not home.state("morning").is_on
    assert home.state("morning").next_ts is None

    home.perform(home.routines.switch("morning", True))

    assert home.go(3600) == []
    assert home.state("morning").is_on
    assert home.go(24 * 3600) == ["sch-morning-20260602T050000Z"]


def test_switching_on_what_is_on_changes_nothing() -> None:
    """What it missed is made up for all the same; whoever switched is told."""
    home = house("2026-06-01 06:30", MADE_UP)
    home.tick()
    home.clock.go(3600)
    home.said.clear()
    home.perform(home.routines.switch("morning", True))

    assert home.state("morning").is_on
    assert home.go(60) == ["sch-morning-20260601T050000Z"]


def test_a_file_may_say_that_it_is_off() -> None:
    """Until a person switches it, which holds until the file is changed."""
    home = house("2026-06-01 06:30", replace(MORNING, is_on=False))
    assert home.go(3600) == []
    home.perform(home.routines.switch("morning", True))
    home.start()

    assert home.state("morning").is_on


def test_run_by_hand_is_run_at_once() -> None:
    """Each time, whether it is on or off, and whatever the clock shows."""
    home = House(Clock(1000.0), (replace(MORNING, is_on=False),), (BELL,))
    made = home.perform(home.routines.run("morning", home.clock.wall))
    assert home.state("morning").last_ts is None
    home.set_clock("2026-06-01 12:00")
    made += home.perform(home.routines.run("morning", home.clock.wall))
    [make, *_] = home.routines.run("bell", home.clock.wall)

    assert [each.rsplit("-", 1)[0] for each in made] == ["run-morning", "run-morning"]
    assert len(set(made)) == 2
    assert home.state("morning").last_ts == home.clock.wall
    assert isinstance(make, Make)
    assert make.is_by_hand
    assert make.request.text == "turn on the chime"


def test_a_trigger_makes_its_request_for_its_event() -> None:
    """Of that node, device and type alone."""
    home = house("2026-06-01 06:30", triggers=(BELL,))

    assert home.press(1, node="shed") == []
    assert home.press(1, device="door") == []
    assert home.perform(home.routines.event("porch", NodeEvent("held", "button", "b1", 1), 0, 0)) == []
    assert home.press(1) == ["trg-bell-b1-1"]
    home.tick()
    assert home.state("bell").last_ts == home.clock.wall
    assert home.state("bell").says == "When button of porch sends 'pressed'"


def test_an_event_that_comes_twice_makes_one_request() -> None:
    """A broker may deliver it again, after the rest as well; and to another master."""
    home = house("2026-06-01 06:30", triggers=(BELL,))
    home.press(1)
    home.clock.go(60)
    assert home.press(1) == []
    assert home.routines.event("porch", NodeEvent("pressed", "button", "b1", 1), home.clock.wall, home.clock.now) == []
    home.start()
    assert home.press(1) == []
    home.clock.go(60)
    assert home.press(2) == ["trg-bell-b1-2"]


def test_a_trigger_rests() -> None:
    """What comes within the rest is ignored, and does not lengthen it."""
    home = house("2026-06-01 06:30", triggers=(BELL,))
    made = []
    for seq in range(1, 12):
        made += home.press(seq)
        home.clock.go(1)

    assert made == ["trg-bell-b1-1", "trg-bell-b1-6", "trg-bell-b1-11"]


def test_a_copy_does_not_begin_a_rest() -> None:
    """It is as if it had not come."""
    home = house("2026-06-01 06:30", triggers=(BELL,))
    home.press(1)
    home.clock.go(6)
    home.press(1)

    assert home.press(2) == ["trg-bell-b1-2"]


def test_events_without_a_plain_boot_are_told_apart_too() -> None:
    """By all that they say."""
    home = house("2026-06-01 06:30", triggers=(replace(BELL, rest_s=0.0),))
    made = [*home.press(1, boot=""), *home.press(2, boot=""), *home.press(2, boot=""), *home.press(1, boot="a/b")]

    assert len(made) == len(set(made)) == 3


def test_a_trigger_that_is_off_hears_nothing() -> None:
    """And does not begin a rest."""
    home = house("2026-06-01 06:30", triggers=(BELL,))
    home.perform(home.routines.switch("bell", False))
    assert home.press(1) == []
    home.perform(home.routines.switch("bell", True))

    assert home.routines.is_on("bell")
    assert home.press(2) == ["trg-bell-b1-2"]


def test_several_triggers_may_wait_for_one_event() -> None:
    """Each makes its own request."""
    home = house("2026-06-01 06:30", triggers=(BELL, replace(BELL, id="lamp", request="turn on the lamp")))

    assert home.press(1) == ["trg-bell-b1-1", "trg-lamp-b1-1"]
    assert home.routines.ids == ("bell", "lamp")


def test_what_is_remembered_is_bounded() -> None:
    """A button that is pressed for years costs no memory; the ledger knows the old ones."""
    home = house("2026-06-01 06:30", triggers=(replace(BELL, rest_s=0.0),))
    for seq in range(1000):
        home.press(seq)

    assert len(home.routines._routines["bell"].made) == 200
    assert home.press(0) == []


def test_a_routine_that_is_gone_is_taken_away() -> None:
    """From the topics; what is stored of it stays until that is done."""
    home = house("2026-06-01 06:30", MORNING, triggers=(BELL,))
    home.go(60)
    home.triggers = ()
    home.start()

    assert home.said["bell"] is None
    assert "bell" in home.stored


def test_what_cannot_be_read_of_it_is_begun_anew() -> None:
    """As if it were a new one."""
    home = house("2026-06-01 06:30", MADE_UP)
    home.stored["morning"] = "{"
    home.start()

    assert home.go(3600) == ["sch-morning-20260601T050000Z"]


def test_what_the_ledger_could_not_tell_is_asked_again() -> None:
    """While it is away nothing is made, and then it is, hours later as well."""
    home = house("2026-06-01 06:59", replace(MADE_UP, late_s=6 * 3600.0))
    home.tick()
    home.clock.go(60)
    for _ in range(10):
        [make] = [each for each in home.routines.tick(home.clock.wall, home.clock.now) if isinstance(each, Make)]
        home.routines.not_made(make)
        home.clock.go(900)

    assert home.tick() == ["sch-morning-20260601T050000Z"]


def test_what_could_not_be_stored_is_stored_later() -> None:
    """With the next tick."""
    home = house("2026-06-01 06:30", MORNING)
    home.tick()
    stored = home.stored.pop("morning")
    home.routines.not_kept("morning")
    home.tick()

    assert home.stored["morning"] == stored


def test_nothing_is_said_or_stored_where_nothing_changes() -> None:
    """A card lives longer so."""
    home = house("2026-06-01 06:30", MORNING, triggers=(BELL,))
    home.tick()
    home.clock.go(30)

    assert home.routines.tick(home.clock.wall, home.clock.now) == []


def test_another_master_goes_on_from_what_is_stored() -> None:
    """It takes over between the due time and now, and has the same ledger."""
    first = house("2026-06-01 06:30", MORNING)
    second = House(first.clock, (MORNING,), ledger=first.ledger, stored=first.stored)
    first.go(1799.5)
    first.clock.go(6)
    second.perform(second.routines.load(dict(first.stored)))
    assert second.tick() == ["sch-morning-20260601T050000Z"]
    assert first.tick() == []


def polar(at: str, event: str = "sunrise") -> House:
    place = Place(69.6, 18.9, "Europe/Oslo")
    return house(at, replace(MORNING, id="sun", at=event), place=place)


def test_where_the_sun_stays_away_one_word_is_said() -> None:
    """In Tromsø from the end of November on."""
    home = polar("2026-11-20 06:30")
    made = home.go(20 * 24 * 3600, step_s=6 * 3600)

    assert 3 < len(made) < 12
    [note] = home.notes
    assert re.fullmatch(r"schedule sun: there is no sunrise at this place until 2027-01-1\d: it is skipped", note)


def test_where_the_sun_never_comes_that_is_said_as_well() -> None:
    """With times that have an end."""

    class Never:
        says, absence = "Never", "there is no sunrise at this place"

        def first_after(self, ts: float) -> float | None:
            return None

    routines = Routines((replace(MORNING, at="sunrise"),), (), Place(), times={"morning": Never()}, new_id=str)
    notes = [
        effect.text
        for _ in range(3)
        for effect in routines.tick(CLOCK_SET_TS + ON_TIME_S, 0.0)
        if isinstance(effect, Note)
    ]

    assert notes == ["schedule morning: there is no sunrise at this place: it is skipped"]


def test_what_was_missed_by_a_clock_that_was_ahead_is_made_at_its_time() -> None:
    """The time comes again once the clock is put right, and is missed no more. It is told once."""
    home = house("2026-06-01 05:00", MORNING)
    home.tick()
    home.clock.go(3600.0)
    home.clock.wall += 3600.0 + 600.0
    home.start()
    home.tick()
    assert (home.missed, home.ledger) == (["sch-morning-20260601T050000Z"], [])

    home.clock.wall -= 3600.0
    made = home.go(3600.0)

    assert made == ["sch-morning-20260601T050000Z"]
    assert home.missed == made
