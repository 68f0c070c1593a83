"""Routines beside a ledger and a broker: who runs them, what waits, and what is made once by several masters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC

import pytest

from pibot_mesh.config.settings import MasterSettings, Place, ScheduleSettings, TriggerSettings
from pibot_mesh.errors import ProtocolError, StoreError
from pibot_mesh.master import routine_runner as module
from pibot_mesh.master.events import Origin, Record, RequestArrived
from pibot_mesh.master.routine_runner import SETTLE_S, STALE_S, RoutineRunner, routines_of
from pibot_mesh.master.store import Known
from pibot_mesh.protocol.codec import decode
from pibot_mesh.protocol.messages import NodeEvent, Request, RoutineState, State
from tests.brokers import until

HOURLY = ScheduleSettings("hourly", "turn on the lamp", "0 * * * *")
BELL = TriggerSettings("bell", "turn on the chime", "porch", "button", "pressed")
NOON = 1_780_000_000.0 // 3600 * 3600


@dataclass
class Time:
    """The same time for all masters of a test; a wall clock and a monotonic one."""

    wall: float = NOON - 100.0
    now: float = 50.0

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds


@dataclass
class Shelf:
    """What masters share."""

    known: dict[str, Known] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    is_away: bool = False


@dataclass
class FakeBooks:
    """The ledger as one master sees it."""

    shelf: Shelf
    is_leader: bool = True
    is_shared: bool = False
    asked: int = 0

    async def look_up(self, request_ids: Collection[str]) -> dict[str, Known]:
        self.asked += 1
        self._must_be_there()
        return {each: self.shelf.known[each] for each in request_ids if each in self.shelf.known}

    async def read_settings(self, prefix: str) -> dict[str, str]:
        self._must_be_there()
        return {name: text for name, text in self.shelf.settings.items() if name.startswith(prefix)}

    async def write_setting(self, name: str, value: str | None) -> None:
        self._must_be_there()
        if value is None:
            del self.shelf.settings[name]
        else:
            self.shelf.settings[name] = value

    def _must_be_there(self) -> None:
        if self.shelf.is_away:
            raise StoreError("the shelf is empty")


class House:
    """One master's runner. What it makes goes into the ledger at once."""

    def __init__(
        self,
        time: Time,
        shelf: Shelf,
        *,
        schedules: tuple[ScheduleSettings, ...] = (HOURLY,),
        triggers: tuple[TriggerSettings, ...] = (BELL,),
        is_shared: bool = False,
        is_leader: bool = True,
    ) -> None:
        self.time = time
        self.books = FakeBooks(shelf, is_leader, is_shared)
        self.made: list[RequestArrived] = []
        self.said: list[tuple[str, bytes, Callable[[], None]]] = []
        settings = MasterSettings(schedules=schedules, triggers=triggers, place=Place(80.0, 10.0, "UTC"))
        self.runner = RoutineRunner(
            routines_of(settings),
            self.books,
            make=self._make,
            say=lambda name, payload, delivered: self.said.append((name, payload, delivered)),
            boot="m1",
            wall=lambda: time.wall,
            clock=lambda: time.now,
        )

    def _make(self, arrived: RequestArrived) -> None:
        self.made.append(arrived)
        record = Record(arrived.request, arrived.origin, State.SUBMITTED)
        self.books.shelf.known[arrived.request.id] = Known(record)

    @property
    def ids(self) -> list[str]:
        return [each.request.id for each in self.made]

    def states(self, name: str) -> list[RoutineState]:
        return [decode(RoutineState, payload) for said, payload, _ in self.said if said == name and payload]

    def press(self, seq: int) -> None:
        self.runner.hear_event("porch", NodeEvent("pressed", "button", "b1", seq), is_retained=False)

    def connect(self) -> None:
        """As long ago as it takes to know the nodes."""
        self.runner.connected()
        self.time.go(SETTLE_S)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[House]:
        await self.runner.start()
        self.connect()
        try:
            yield self
        finally:
            await self.runner.stop()

    async def until_ids(self, *ids: str) -> None:
        await until(lambda: self.ids == list(ids), f"{ids} of {self.ids}")

    async def turns(self, number: int = 3) -> None:
        """It looks at the clock so many times."""
        for _ in range(number):
            self.runner._wake.set()
            await until(lambda: not self.runner._wake.is_set(), "it woke")
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at the clock often, since the tests' clock goes in leaps."""
    monkeypatch.setattr(module, "WAKE_S", 0.02)
    monkeypatch.setattr(module, "LEAD_S", 0.02)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def due_id(at: float) -> str:
    from datetime import datetime

    return f"sch-hourly-{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}"


async def test_what_is_due_is_made_once_also_over_a_restart(time: Time, shelf: Shelf) -> None:
    """The second process asks the ledger."""
    async with House(time, shelf).running() as house:
        await house.turns()
        time.go(100)
        await house.until_ids(due_id(NOON))
        assert house.made[0] == RequestArrived(Request(due_id(NOON), "turn on the lamp"), Origin())
    async with House(time, shelf).running() as again:
        await until(lambda: again.books.asked, "the ledger is asked")
        await again.turns()
        assert again.ids == []


async def test_nothing_is_made_before_the_nodes_are_known(time: Time, shelf: Shelf) -> None:
    """After a start, and while there is no broker; then it is."""
    house = House(time, shelf)
    async with house.running():
        await house.turns()
        house.runner.disconnected()
        time.go(110)
        await house.turns()
        house.runner.connected()
        await house.turns()
        assert house.ids == []
        time.go(SETTLE_S)
        await house.until_ids(due_id(NOON))


async def test_all_is_said_to_a_new_broker(time: Time, shelf: Shelf) -> None:
    """With who says it, and in which order; the time of the next one comes with the first look at the clock."""
    async with House(time, shelf).running() as house:
        assert {name for name, _, _ in house.said} == {"hourly", "bell"}
        await until(lambda: house.states("hourly")[-1].next_ts == NOON, "the next one")
        house.said.clear()
        house.runner.connected()
        last = house.states("hourly")[-1]

        assert (last.next_ts, last.boot, len(house.said)) == (NOON, "m1", 2)
        assert last.seq < house.states("bell")[-1].seq


async def test_an_event_makes_its_request(time: Time, shelf: Shelf) -> None:
    """And the state tells when."""
    async with House(time, shelf).running() as house:
        house.press(1)
        await house.until_ids("trg-bell-b1-1")
        await until(lambda: house.states("bell")[-1].last_ts == time.wall, "it is told")


@pytest.mark.parametrize(
    ("name", "payload", "is_retained", "why"),
    [
        ("bell", b"ON", True, "retained"),
        ("bell", b"TOGGLE", False, "ON, OFF or RUN is expected, not b'TOGGLE'"),
        ("bell", b"", False, "ON, OFF or RUN is expected"),
        ("bull", b"ON", False, "there is none of the name 'bull'"),
    ],
)
async def test_what_is_no_order_is_refused(
    time: Time, shelf: Shelf, name: str, payload: bytes, is_retained: bool, why: str
) -> None:
    """With the reason."""
    async with House(time, shelf).running() as house:
        with pytest.raises(ProtocolError, match=why):
            house.runner.hear_set(name, payload, is_retained=is_retained)


async def test_a_retained_event_is_refused(time: Time, shelf: Shelf) -> None:
    """It would ring at every start."""
    async with House(time, shelf).running() as house:
        with pytest.raises(ProtocolError, match="retained"):
            house.runner.hear_event("porch", NodeEvent("pressed", "button", "b1", 1), is_retained=True)
        await house.turns()
        assert house.ids == []


async def test_a_switch_holds_over_a_restart(time: Time, shelf: Shelf) -> None:
    """It is told when it is stored... and what is off can be run by hand."""
    async with House(time, shelf).running() as house:
        house.runner.hear_set("bell", b"OFF", is_retained=False)
        await until(lambda: house.states("bell") and not house.states("bell")[-1].is_on, "it is told")
    async with House(time, shelf).running() as again:
        assert not again.states("bell")[-1].is_on
        again.press(1)
        again.runner.hear_set("bell", b"RUN", is_retained=False)
        await until(lambda: again.made, "it runs")
        await again.turns()

    [run] = again.made
    assert run.request.id.startswith("run-bell-")
    assert run.origin.is_plain, "no other master knows it for the same: only the leader may store it"


async def test_what_is_missed_is_told_once(time: Time, shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """In the log; not where the ledger knows that it was made."""
    async with House(time, shelf).running() as house:
        await house.turns()
    time.go(600)
    async with House(time, shelf).running() as again:
        await until(lambda: again.books.asked, "the ledger is asked")
        await again.turns()
    shelf.known[due_id(NOON)] = Known(Record(Request(due_id(NOON), "x"), Origin(), State.WORKING))
    lines = [line.getMessage() for line in caplog.records]
    caplog.clear()
    async with House(time, shelf).running() as third:
        await until(lambda: third.books.asked, "the ledger is asked")
        await third.turns()

    [line] = [line for line in lines if "missed" in line]
    assert line.startswith("routine hourly: what was due at ")
    assert "missed" not in caplog.text
    assert again.ids == third.ids == []


async def test_while_the_ledger_is_away_nothing_is_made(
    time: Time, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    """And then everything that is not too old: an event of a moment ago, and what is due."""
    async with House(time, shelf).running() as house:
        await house.turns()
        shelf.is_away = True
        time.go(101)
        house.press(1)
        house.runner.hear_set("bell", b"RUN", is_retained=False)
        house.runner.hear_set("bell", b"OFF", is_retained=False)
        house.runner.hear_set("bell", b"ON", is_retained=False)
        asked = house.books.asked
        await until(lambda: house.books.asked > asked + 6, "it asks again and again")
        assert house.ids == []
        shelf.is_away = False
        await until(lambda: len(house.made) == 3, "all are made")
        await until(lambda: '"is_on": true' in shelf.settings["routine/bell"], "and kept")

    assert {each.rsplit("-", 1)[0] for each in house.ids} == {"sch-hourly", "trg-bell-b1", "run-bell"}
    assert len([line for line in caplog.records if "routines wait for the ledger" in line.getMessage()]) == 1


async def test_an_event_that_waits_too_long_is_over(time: Time, shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody stands at the door any more."""
    async with House(time, shelf).running() as house:
        await house.turns()
        shelf.is_away = True
        house.press(1)
        await until(lambda: house.books.asked, "it asks")
        time.go(STALE_S + 1)
        await until(lambda: "waited too long" in caplog.text, "it is told")
        shelf.is_away = False
        await house.turns()

    assert house.ids == []


async def test_a_ledger_that_cannot_be_read_at_the_start_is_read_later(time: Time, shelf: Shelf) -> None:
    """Until then nothing is known of switches, and nothing runs."""
    shelf.is_away = True
    async with House(time, shelf).running() as house:
        house.runner.hear_set("bell", b"RUN", is_retained=False)
        await house.turns()
        assert (house.ids, house.said) == ([], [])
        shelf.is_away = False
        await until(lambda: house.made, "it runs")
        assert house.states("hourly")


async def test_a_routine_that_is_gone_is_cleared_from_the_broker(time: Time, shelf: Shelf) -> None:
    """It is forgotten once the broker has taken that; a broker that was away is told later."""
    async with House(time, shelf).running() as house:
        await house.turns()
    async with House(time, shelf, triggers=()).running() as again:
        await again.turns()
        [(name, payload, _)] = [each for each in again.said if each[0] == "bell"]
        assert (name, payload) == ("bell", b"")
        assert "routine/bell" in shelf.settings
    async with House(time, shelf, triggers=()).running() as third:
        [(_, _, delivered)] = [each for each in third.said if each[0] == "bell"]
        delivered()
        await until(lambda: "routine/bell" not in shelf.settings, "it is forgotten")
    async with House(time, shelf, triggers=()).running() as fourth:
        await fourth.turns()
        assert {name for name, _, _ in fourth.said} == {"hourly"}


async def test_of_several_masters_the_leader_makes_it(time: Time, shelf: Shelf) -> None:
    """The others hear the same, say nothing and store nothing."""
    leader = House(time, shelf, is_shared=True)
    other = House(time, shelf, is_shared=True, is_leader=False)
    async with leader.running(), other.running():
        await leader.turns()
        time.go(100)
        for house in (leader, other):
            house.press(1)
            house.runner.hear_set("bell", b"RUN", is_retained=False)
        await until(lambda: len(leader.made) == 3, "all are made")
        await other.turns(5)

    assert (other.ids, other.said) == ([], [])
    assert other.books.asked == 0


async def test_who_takes_over_neither_skips_nor_doubles(time: Time, shelf: Shelf) -> None:
    """What the leader heard and made is made; what it heard and did not make, its follower makes, in time."""
    leader = House(time, shelf, is_shared=True, triggers=(replace(BELL, rest_s=0.0),))
    other = House(time, shelf, is_shared=True, is_leader=False, triggers=(replace(BELL, rest_s=0.0),))
    async with other.running():
        async with leader.running():
            await leader.turns()
            time.go(90)
            for house in (leader, other):
                house.press(1)
            await leader.until_ids("trg-bell-b1-1")
            leader.books.is_leader = False
        other.press(2)
        time.go(11)
        await other.turns()
        assert other.ids == []
        other.books.is_leader = True
        await other.until_ids("trg-bell-b1-2", due_id(NOON))
        await other.turns()

    assert len(other.made) == 2


async def test_who_takes_over_keeps_to_the_switches(time: Time, shelf: Shelf) -> None:
    """As they are stored, and what was switched while it followed."""
    leader = House(time, shelf, is_shared=True)
    other = House(time, shelf, is_shared=True, is_leader=False)
    async with leader.running(), other.running():
        for house in (leader, other):
            house.runner.hear_set("bell", b"OFF", is_retained=False)
        await until(lambda: '"is_on": false' in shelf.settings.get("routine/bell", ""), "it is stored")
        other.press(1)
        leader.books.is_leader, other.books.is_leader = False, True
        await until(lambda: other.said, "it leads")
        other.press(2)
        await other.turns()
        assert other.ids == []
        assert not other.states("bell")[-1].is_on


async def test_who_takes_over_made_ready_for_what_was_switched_on(time: Time, shelf: Shelf) -> None:
    """It heard the switch as well, and then the event that the former leader did not live to see."""
    triggers = (replace(BELL, is_on=False),)
    leader = House(time, shelf, is_shared=True, triggers=triggers)
    other = House(time, shelf, is_shared=True, is_leader=False, triggers=triggers)
    async with other.running():
        async with leader.running():
            for house in (leader, other):
                house.runner.hear_set("bell", b"ON", is_retained=False)
            await until(lambda: '"is_on": true' in shelf.settings.get("routine/bell", ""), "it is stored")
        other.press(1)
        other.books.is_leader = True
        await other.until_ids("trg-bell-b1-1")


async def test_who_leads_again_knows_what_was_switched_meanwhile(time: Time, shelf: Shelf) -> None:
    """It reads it anew."""
    house = House(time, shelf, is_shared=True)
    async with house.running():
        await house.turns()
        house.books.is_leader = False
        await house.turns()
        shelf.settings["routine/bell"] = shelf.settings["routine/bell"].replace('"is_on": true', '"is_on": false')
        house.said.clear()
        house.books.is_leader = True
        await until(lambda: house.said, "it leads again")
        house.press(1)
        await house.turns()
        assert house.ids == []


async def test_events_of_long_ago_are_nothing_to_a_new_leader(time: Time, shelf: Shelf) -> None:
    """It heard them when another led."""
    other = House(time, shelf, is_shared=True, is_leader=False)
    async with other.running():
        other.press(1)
        time.go(STALE_S + 1)
        other.books.is_leader = True
        await until(lambda: other.said, "it leads")
        await other.turns()
        assert other.ids == []


async def test_a_bug_in_one_turn_does_not_end_the_others(
    time: Time, shelf: Shelf, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and the next look at the clock goes well."""
    async with House(time, shelf).running() as house:
        await house.turns()
        with monkeypatch.context() as patch:
            patch.setattr(house.books, "look_up", None)
            time.go(101)
            await until(lambda: "a bug: what is due" in caplog.text, "it is told")
        house.press(1)
        await until(lambda: "trg-bell-b1-1" in house.ids, "it goes on")


async def test_what_is_made_is_logged(time: Time, shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """With the request's id, for who wonders why the lamp went on."""
    with caplog.at_level(logging.INFO):
        async with House(time, shelf, schedules=()).running() as house:
            house.press(1)
            await house.until_ids("trg-bell-b1-1")

    assert "routine bell: request trg-bell-b1-1: turn on the chime" in caplog.text


async def test_a_sun_that_stays_away_is_logged(time: Time, shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """As one line."""
    time.wall += 180 * 24 * 3600.0
    polar = replace(HOURLY, at="sunrise")
    with caplog.at_level(logging.INFO):
        async with House(time, shelf, schedules=(polar,)).running() as house:
            await until(lambda: "there is no sunrise at this place until" in caplog.text, "it is told")
            await house.turns()

    assert caplog.text.count("no sunrise") == 1


def test_a_machine_with_a_time_zone_that_nobody_knows_goes_by_utc(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so: the master must run."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")

    routines = routines_of(MasterSettings(schedules=(HOURLY,)))

    assert routines.ids == ("hourly",)
    assert "schedules go by UTC" in caplog.text


async def test_it_can_be_stopped_before_it_was_started(time: Time, shelf: Shelf) -> None:
    """Where the master's start failed."""
    await House(time, shelf).runner.stop()
