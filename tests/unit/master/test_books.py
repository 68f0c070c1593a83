"""The ledger and the front door, as the event loop sees them; the ledger itself is a drawer in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.errors import ErrorCode, ProtocolError, StoreError
from pibot_mesh.master import books as books_module, door as door_module
from pibot_mesh.master.books import Books
from pibot_mesh.master.door import Door
from pibot_mesh.master.events import (
    AskLedger,
    Exchange,
    Lost,
    MasterEffect,
    MasterInput,
    NobodyWaits,
    Note,
    Origin,
    Record,
    RequestArrived,
    RequestControlled,
    RequestMalformed,
    Save,
    SendEvent,
    SendForget,
    SendTask,
    TakenOver,
)
from pibot_mesh.master.store import Known, Story
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.mqtt.client import Message
from pibot_mesh.protocol.messages import Control, Event, Reply, Request, State, Task, WireError
from pibot_mesh.protocol.topics import Address, Kind


def record(name: str = "r1", *, is_done: bool = False) -> Record:
    reply = Reply(name, State.COMPLETED, "done") if is_done else None
    return Record(Request(name, "do it"), Origin(), State.WORKING, reply=reply, epoch=1)


@dataclass
class Drawer:
    """A store without a disk: what is in it, what belongs to others, and what fails."""

    is_shared: bool = True
    is_leader: bool = True
    known: dict[str, Known] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()
    abandoned: list[Record] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    written: list[MasterEffect] = field(default_factory=list)
    fails: bool = False
    is_closed: bool = False
    pruned: int = 0
    inside: int = 0
    most_inside: int = 0
    asked: int = 0
    write_s: float = 0.0

    def _enter(self) -> None:
        self.inside += 1
        self.most_inside = max(self.inside, self.most_inside)
        time.sleep(0.005)
        self.inside -= 1
        if self.fails:
            raise StoreError("the drawer sticks")
        assert not self.is_closed, "used after it was closed"

    def keep_up(self) -> list[Record]:
        self._enter()
        found, self.abandoned = self.abandoned, []
        return found

    def find(self, request_id: str) -> Known | None:
        self.asked += 1
        if self.fails:
            raise StoreError("the drawer sticks")
        assert not self.is_closed, "used after it was closed"
        return self.known.get(request_id)

    def write(self, effects: Sequence[MasterEffect]) -> frozenset[str]:
        self._enter()
        time.sleep(self.write_s)
        self.written += effects
        return self.foreign

    def conversation(self, session: str, *, limit: int = 10) -> list[Exchange]:
        return []

    def usage(self, since_day: str) -> list[UsageRow]:
        return []

    def used_on(self, day: str) -> dict[str, int]:
        return {}

    def story(self, request_id: str) -> Story | None:
        return None

    def recent(self, limit: int) -> list[Record]:
        return []

    def read_settings(self, prefix: str) -> dict[str, str]:
        self._enter()
        return {name: value for name, value in self.settings.items() if name.startswith(prefix)}

    def write_setting(self, name: str, value: str | None) -> None:
        self._enter()
        self.settings[name] = value or ""

    def prune(self, history: HistorySettings, now_ts: float) -> int:
        self._enter()
        self.pruned += 1
        return 2

    def close(self) -> None:
        assert self.inside == 0, "closed while a thread was in it"
        self.is_closed = True


class House:
    """The master behind the door, and what it was told."""

    def __init__(self) -> None:
        self.stuck: StoreError | None = None
        self.holds: dict[str, Record] = {}
        self.admitted: list[MasterInput] = []
        self.refused: list[tuple[Request, WireError]] = []
        self.dismissed: list[Message] = []
        self.rejected: list[ProtocolError] = []
        self.was_told_no: set[str] = set()

    def was_refused(self, request_id: str) -> bool:
        return request_id in self.was_told_no

    def held(self, request_id: str) -> Record | None:
        return self.holds.get(request_id)

    def admit(self, event: MasterInput, message: Message) -> None:
        self.admitted.append(event)

    def refuse(self, request: Request, origin: Origin, error: WireError) -> None:
        self.refused.append((request, error))

    def dismiss(self, message: Message) -> None:
        self.dismissed.append(message)

    def reject(self, message: Message, why: ProtocolError) -> None:
        self.rejected.append(why)


class Desk:
    """Books on a drawer, with a door, and what they posted."""

    def __init__(self, **fields: Any) -> None:
        self.drawer = Drawer(**fields)
        self.posted: list[tuple[MasterInput, bool]] = []
        self.books = Books(self.drawer, HistorySettings(), self._note)
        self.house = House()
        self.door = Door(self.books, self.house)

    def _note(self, event: MasterInput, is_first: bool) -> None:
        self.posted.append((event, is_first))

    def bring(self, payload: bytes, kind: Kind = Kind.REQUEST, name: str = "") -> None:
        self.door.take(Address(kind, id=name), message(payload))


def message(payload: bytes) -> Message:
    return Message("pibot/request", payload, qos=1, retain=False, dup=False, mid=7)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(*works: Coroutine[Any, Any, None]) -> Any:
    tasks = [asyncio.create_task(work) for work in works]
    yield
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# --- Books ---


async def test_what_belongs_to_another_master_is_not_performed() -> None:
    """Nor are results forgotten in the same breath: one of them may be of that request."""
    desk = Desk(foreign=frozenset({"r1"}))
    ours, theirs = (
        SendTask("n1", Task("r2-s1", "r2", "call", tool="x")),
        SendTask("n1", Task("t", "r1", "call", tool="x")),
    )
    note = Note("x")

    stored = await desk.books.write([Save(record("r1")), theirs, ours, SendForget("n1", ("r2-s0",)), note])

    assert stored == [ours, note]
    assert desk.posted == [(Lost(frozenset({"r1"})), True)]


async def test_all_is_performed_where_all_was_stored() -> None:
    """In the order in which it was decided."""
    desk = Desk()
    effects: list[MasterEffect] = [Save(record()), SendForget("n1", ("t",)), Note("x")]

    assert await desk.books.write(effects) == effects
    assert desk.posted == []


async def test_the_ledger_is_not_bothered_with_what_it_does_not_keep() -> None:
    """A piece of an answer, a note: no thread, no write."""
    desk = Desk()
    delta = SendEvent(Event("r1", "message_delta", "b", 0))

    assert await desk.books.write([delta, Note("x")]) == [delta, Note("x")]
    assert desk.drawer.written == []
    await desk.books.write([SendEvent(Event("r1", "tool_start", "b", 0))])
    assert len(desk.drawer.written) == 1


async def test_one_thread_at_a_time_works_on_the_ledger_and_it_is_closed_after_the_last() -> None:
    """Also where nobody waits for what the thread does any more."""
    desk = Desk()
    writes = [asyncio.create_task(_write(desk)) for _ in range(5)]
    await asyncio.sleep(0.002)
    for write in writes:
        write.cancel()
    await asyncio.gather(*writes, return_exceptions=True)
    await desk.books.close()

    assert desk.drawer.is_closed
    assert desk.drawer.most_inside == 1


async def _write(desk: Desk) -> None:
    await desk.books.write([Save(record())])


@pytest.mark.parametrize(
    ("known", "is_awaited"),
    [(None, False), (Known(record(is_done=True), False), False), (Known(record(), False), True)],
)
async def test_a_stray_result_is_forgotten_only_where_no_master_waits_for_it(
    known: Known | None, is_awaited: bool
) -> None:
    """The ledger tells."""
    desk = Desk(known={} if known is None else {"r1": known})
    await desk.books.ask(AskLedger("n1", "r1-s1", "r1"))

    assert desk.posted == ([] if is_awaited else [(NobodyWaits("n1", "r1-s1"), False)])


@pytest.mark.parametrize("fields", [{"fails": True}, {"is_leader": False}])
async def test_where_the_ledger_does_not_answer_or_is_the_leaders_to_ask_nothing_is_forgotten(
    fields: dict[str, Any],
) -> None:
    """The node asks again."""
    desk = Desk(**fields)
    await desk.books.ask(AskLedger("n1", "r1-s1", "r1"))

    assert desk.posted == []


async def test_a_master_keeps_its_lease_and_takes_over_what_is_abandoned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also after the ledger was away, of which it says so once."""
    monkeypatch.setattr(books_module, "KEEP_UP_S", 0.01)
    desk = Desk(fails=True)
    async with running(desk.books.keep_up()):
        await until(lambda: caplog.records)
        await asyncio.sleep(0.05)
        desk.drawer.abandoned, desk.drawer.fails = [record()], False
        await until(lambda: desk.posted)

    assert desk.posted == [(Lost(frozenset({"r1"}), is_back=True), True), (TakenOver((record(),)), False)]
    assert [line.levelname for line in caplog.records] == ["ERROR", "WARNING"]


async def test_nothing_is_removed_after_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended a moment ago may bear a time of long ago: it has an hour."""
    monkeypatch.setattr(books_module, "PRUNE_S", 0.05)
    desk = Desk(is_shared=False)
    began, set_by = time.time(), [0.0]
    monkeypatch.setattr(books_module, "_set_at", lambda: began + set_by[0])
    async with running(desk.books.prune()):
        await until(lambda: desk.drawer.pruned == 2)
        set_by[0] = 40 * 24 * 3600.0
        await asyncio.sleep(0.075)
        pruned = desk.drawer.pruned
        await until(lambda: desk.drawer.pruned > pruned)

    assert pruned <= 3


async def test_what_still_waits_for_its_turn_when_the_ledger_is_closed_is_given_up() -> None:
    """A database that does not answer must not hold up the end, once for each question."""
    desk = Desk(write_s=0.3)
    writes = [asyncio.create_task(_write(desk)) for _ in range(20)]
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await desk.books.close()
    results = await asyncio.gather(*writes, return_exceptions=True)

    assert time.monotonic() - began < 3
    assert sum(isinstance(result, StoreError) for result in results) == 19


async def test_a_conversation_is_read_beside_the_loop() -> None:
    """In a thread, as everything that may wait."""
    assert await Desk().books.conversation("me") == []


async def test_settings_are_kept_beside_the_loop() -> None:
    """They wait for their turn, as everything that is written."""
    desk = Desk()
    await asyncio.gather(desk.books.write_setting("a/1", "x"), desk.books.write_setting("b/1", "y"))

    assert await desk.books.read_settings("a/") == {"a/1": "x"}
    desk.drawer.fails = True
    with pytest.raises(StoreError):
        await desk.books.write_setting("a/1", "z")


@pytest.mark.parametrize("is_leader", [True, False])
async def test_old_requests_are_removed_by_one_master(is_leader: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hour, whether or not it worked the last time."""
    monkeypatch.setattr(books_module, "PRUNE_S", 0.01)
    desk = Desk(is_leader=is_leader, fails=True)
    async with running(desk.books.prune()):
        await asyncio.sleep(0.05)
        desk.drawer.fails = False
        if is_leader:
            await until(lambda: desk.drawer.pruned > 1)

    assert (desk.drawer.pruned > 0) is is_leader


# --- The door ---


@pytest.mark.parametrize("is_shared", [True, False])
async def test_requests_and_orders_come_in_in_their_order(is_shared: bool) -> None:
    """With what the ledger knows of them already."""
    known = Known(record("r1", is_done=True), False)
    desk = Desk(is_shared=is_shared, known={"r1": known})
    async with running(desk.door.run()):
        desk.bring(b'{"id": "r1", "text": "do it"}')
        desk.bring(b'{"action": "cancel"}', Kind.REQUEST_CONTROL, "r1")
        desk.bring(b'{"id": "r2", "text": "do it"}')
        await until(lambda: len(desk.house.admitted) == 3)

    first, order, second = desk.house.admitted
    assert isinstance(first, RequestArrived)
    assert isinstance(second, RequestArrived)
    assert (first.known, second.known) == (known.record, None)
    assert order == RequestControlled("r1", Control("cancel"))


async def test_the_ledger_is_not_asked_about_what_the_core_holds() -> None:
    """It knows more than the ledger."""
    desk = Desk(fails=True)
    desk.house.holds["r1"] = record("r1")
    async with running(desk.door.run()):
        desk.bring(b'{"id": "r1", "text": "do it"}')
        await until(lambda: desk.house.admitted)

    [arrived] = desk.house.admitted
    assert isinstance(arrived, RequestArrived)
    assert arrived.known == desk.house.holds["r1"], "until the core comes to it, it may hold it no more"
    assert desk.house.refused == []


async def test_what_the_core_lets_go_while_the_ledger_is_asked_is_no_new_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ledger was not asked about it, since the core held it when it came."""
    desk = Desk()
    held = desk.house.holds["r1"] = record("r1")

    def look(_: str) -> None:
        desk.house.holds.clear()

    monkeypatch.setattr(desk.drawer, "find", look)
    async with running(desk.door.run()):
        desk.bring(b'{"id": "r1", "text": "do it"}')
        desk.bring(b'{"id": "r2", "text": "do it"}')
        await until(lambda: len(desk.house.admitted) == 2)

    assert [arrived.known for arrived in desk.house.admitted if isinstance(arrived, RequestArrived)] == [held, None]


async def test_a_reply_that_the_core_holds_is_none_before_it_stands_in_the_ledger() -> None:
    """Another master may have taken the request over: then the core's reply is never stored, and theirs is another."""
    theirs = Known(record("r1"), False)
    desk = Desk(known={"r1": theirs})
    desk.house.holds["r1"] = record("r1", is_done=True)
    async with running(desk.door.run()):
        desk.bring(b'{"id": "r1", "text": "do it"}')
        await until(lambda: desk.house.admitted)

    [arrived] = desk.house.admitted
    assert isinstance(arrived, RequestArrived)
    assert arrived.known == theirs.record


async def test_a_reply_of_a_master_alone_is_its_own() -> None:
    """Nobody else can take the request over, and what waits is stored before anything that comes after it is said."""
    desk = Desk(is_shared=False)
    held = desk.house.holds["r1"] = record("r1", is_done=True)

    desk.bring(b'{"id": "r1", "text": "do it"}')

    [arrived] = desk.house.admitted
    assert isinstance(arrived, RequestArrived)
    assert arrived.known == held


@pytest.mark.parametrize("is_leader", [True, False])
async def test_plain_text_is_taken_by_the_leader_alone(is_leader: bool) -> None:
    """It has no id by which two masters would know it for one."""
    desk = Desk(is_leader=is_leader)
    async with running(desk.door.run()):
        desk.bring(b"turn on the fan")
        await until(lambda: desk.house.admitted or desk.house.dismissed)

    assert bool(desk.house.admitted) is is_leader


@pytest.mark.parametrize(
    ("fields", "is_said"),
    [
        ({}, True),
        ({"is_leader": False}, False),
        ({"known": {"r1": Known(record(), False)}}, False),
        ({"fails": True}, False),
    ],
)
async def test_a_malformed_request_is_refused_by_the_leader_where_nobody_has_its_id(
    fields: dict[str, Any], is_said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be somebody's slip about a request that runs elsewhere."""
    monkeypatch.setattr(door_module, "PATIENCE_S", 0.0)
    desk = Desk(**fields)
    async with running(desk.door.run()):
        desk.bring(b'{"id": "r1", "text": 7}')
        await until(lambda: desk.house.admitted or desk.house.dismissed)

    assert [type(event) for event in desk.house.admitted] == [RequestMalformed] * is_said
    assert len(desk.house.rejected) == 1


async def test_a_bad_order_is_rejected_in_words_and_the_door_stays_open() -> None:
    """Whatever comes after it comes in."""
    desk = Desk()
    async with running(desk.door.run()):
        desk.bring(b'{"action": "dance"}', Kind.REQUEST_CONTROL, "r1")
        desk.bring(b"turn on the fan")
        await until(lambda: desk.house.admitted)

    assert "dance" in str(desk.house.rejected[0])
    assert len(desk.house.dismissed) == 1


async def test_nobody_is_told_no_where_another_master_may_say_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger did not answer this one: its sender asks again. Plain text is the leader's: that is refused."""
    monkeypatch.setattr(door_module, "PATIENCE_S", 0.0)
    desk = Desk(fails=True)
    desk.house.stuck = StoreError("the drawer sticks")
    async with running(desk.door.run()):
        desk.bring(b'{"id": "r1", "text": "do it"}')
        desk.bring(b"turn on the fan")
        await until(lambda: len(desk.house.dismissed) == 2)

    [(request, error)] = desk.house.refused
    assert (request.text, error.code) == ("turn on the fan", ErrorCode.STORAGE)
    assert "the drawer sticks" in error.message


async def test_what_comes_while_the_ledger_is_away_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with an id is not lost by a restart of the database, and comes in when that is back."""
    monkeypatch.setattr(door_module, "KEEP_UP_S", 0.01)
    desk = Desk(fails=True)
    desk.house.stuck = StoreError("the drawer sticks")
    async with running(desk.door.run()):
        desk.bring(b'{"id": "r1", "text": "do it"}')
        await until(lambda: desk.drawer.asked > 1)
        assert desk.house.admitted == []
        desk.drawer.fails = False
        await until(lambda: desk.house.admitted)

    assert desk.house.dismissed == []


async def test_who_leads_later_does_not_take_what_the_former_leader_took() -> None:
    """Plain text that came while another led, and waited here."""
    desk = Desk(is_leader=False)
    desk.bring(b"turn on the fan")
    desk.drawer.is_leader = True
    desk.bring(b"turn off the fan")
    async with running(desk.door.run()):
        await until(lambda: desk.house.admitted)

    [event] = desk.house.admitted
    assert isinstance(event, RequestArrived)
    assert event.request.text == "turn off the fan"


async def test_a_request_does_not_wait_for_what_is_being_written() -> None:
    """A write syncs to disk; a look does not."""
    desk = Desk(write_s=1.0)
    began = time.monotonic()
    writing = asyncio.create_task(desk.books.write([Save(record("r2"))]))
    async with running(desk.door.run()):
        desk.bring(b'{"id": "r1", "text": "do it"}')
        await until(lambda: desk.house.admitted)
        is_writing = not writing.done()
        await writing

    assert is_writing
    assert time.monotonic() - began >= 1.0


async def test_what_cannot_be_stored_is_refused_in_words_where_there_is_no_other_master() -> None:
    """At once."""
    desk = Desk(is_shared=False, fails=True)
    desk.bring(b'{"id": "r1", "text": "do it"}')

    assert [request.id for request, _ in desk.house.refused] == ["r1"]


async def test_a_copy_of_what_could_not_be_stored_is_refused_as_well() -> None:
    """Also when it could be stored now: its sender was told no."""
    desk = Desk(is_shared=False)
    desk.house.was_told_no = {"r1"}
    desk.bring(b'{"id": "r1", "text": "do it"}')
    desk.bring(b'{"id": "r2", "text": "do it"}')

    assert [request.id for request, _ in desk.house.refused] == ["r1"]
    assert len(desk.house.admitted) == 1


async def test_the_door_takes_no_more_than_it_can_hold(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """More is not taken, and logged: its sender asks again."""
    monkeypatch.setattr(door_module, "WAITING", 2)
    desk = Desk()
    for _ in range(3):
        desk.bring(b"turn on the fan")

    assert "one more was not taken" in caplog.text
    assert len(desk.house.dismissed) == 1


async def test_who_leads_no_more_does_not_take_what_came_while_it_did() -> None:
    """Plain text that waited here: the new leader may have taken it."""
    desk = Desk()
    desk.bring(b"turn on the fan")
    desk.drawer.is_leader = False
    async with running(desk.door.run()):
        await until(lambda: desk.house.dismissed)

    assert desk.house.admitted == []


async def test_of_many_requests_that_are_not_taken_only_some_lines_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a database is away there can be hundreds."""
    monkeypatch.setattr(door_module, "PATIENCE_S", 0.0)
    desk = Desk(fails=True)
    async with running(desk.door.run()):
        for number in range(15):
            desk.bring(b'{"id": "r%d", "text": "do it"}' % number)
        await until(lambda: len(desk.house.dismissed) == 15)

    assert caplog.text.count("was not taken") == 10
