"""Several masters on one ledger in a real PostgreSQL: what each keeps, who owns what, and what no fault loses."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import psycopg
import pytest

from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.errors import StoreError
from pibot_mesh.master.events import CountUsage, MasterEffect, Note, Origin, Record, Save, SendEvent
from pibot_mesh.master.ledger import STAYS_S, USAGE_KEPT_S, day_of
from pibot_mesh.master.postgres import PostgresLedger
from pibot_mesh.master.postgres_reader import PostgresReader
from pibot_mesh.master.postgres_schema import VERSION
from pibot_mesh.master.store import Known, Story
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Event, Reply, Request, State, Usage
from tests.brokers import HOST, free_port
from tests.postgres import Postgres, needs_postgres

pytestmark = needs_postgres

T = TypeVar("T")
DEADLINE_S = 20.0
NOW = 1_700_000_000.0
DAY_S = 24 * 3600.0


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """It may be killed, if it then is started again."""
    with Postgres() as server:
        yield server


class Masters:
    """Masters of one mesh, each with its ledger; *root* is of this test alone."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.root = f"test-{uuid.uuid4().hex[:8]}"
        self._ledgers: list[PostgresLedger] = []

    def start(self, boot: str, *, lease_s: float = 30.0) -> PostgresLedger:
        """One that has said that it lives."""
        ledger = PostgresLedger(self.server.url, root=self.root, boot=boot, lease_s=lease_s)
        self._ledgers.append(ledger)
        ledger.keep_up()
        return ledger

    def reader(self) -> PostgresReader:
        return PostgresLedger.reader(self.server.url, root=self.root)

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """What stands in the tables themselves."""
        with self.reader() as reader:
            return reader._rows(query, *values)

    def close(self) -> None:
        for ledger in self._ledgers:
            ledger.close()


@pytest.fixture
def masters(server: Postgres) -> Iterator[Masters]:
    masters = Masters(server)
    yield masters
    masters.close()


def record(name: str = "r1", text: str = "turn on the fan", *, epoch: int = 1, ts: float = NOW) -> Record:
    return Record(Request(name, text), Origin(), State.SUBMITTED, ts, epoch=epoch)


def stored(name: str, *, ended_ts: float, is_sent: bool = True) -> Record:
    """A request that took five seconds."""
    reply = Reply(name, State.COMPLETED, "done", ts=ended_ts)
    return replace(record(name, ts=ended_ts - 5), state=State.COMPLETED, reply=reply, is_sent=is_sent)


def event(name: str = "r1", seq: int = 0, kind: str = "request_accepted", **facts: JSON) -> SendEvent:
    return SendEvent(Event(name, kind, "a", seq, data=facts))


def count(name: str = "r1", node: str = "n1", tokens: int = 1, ts: float = NOW) -> CountUsage:
    return CountUsage(node, name, "m", Usage(tokens, 0, 2 * tokens, 0), ts)


def ids(reader: PostgresReader) -> list[str]:
    return [each.request.id for each in reader.recent(10_000)]


def seqs(reader: PostgresReader, name: str = "r1") -> list[int]:
    story = reader.story(name)
    assert story is not None
    return [each.seq for each in story.events]


def until(found: Callable[[], T], what: str) -> T:
    """What *found* returns, once that is anything."""
    deadline = time.monotonic() + DEADLINE_S
    while not (result := found()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)
    return result


def vanish(ledger: PostgresLedger) -> None:
    """Its session ends, as by the kill of its process."""
    connection = ledger._writing._connection
    assert connection is not None
    connection.close()


# What is kept


def test_what_is_written_is_found_again(masters: Masters) -> None:
    """By whoever asks; and to whom it belongs."""
    a, b = masters.start("a"), masters.start("b")
    assert a.find("r1") is None

    assert a.write([Save(record()), Note("nothing to keep")]) == frozenset()

    assert a.find("r1") == Known(record())
    assert b.find("r1") == Known(record(), is_ours=False)


def test_nothing_to_store_asks_nobody(masters: Masters) -> None:
    """It works without a database."""
    a = masters.start("a")
    a.close()

    assert a.write([Note("x"), event(kind="message_delta")]) == frozenset()


def test_of_several_records_of_one_request_the_last_is_kept(masters: Masters) -> None:
    """They stand for one moment."""
    a = masters.start("a")
    a.write([Save(record()), Save(replace(record(), state=State.WORKING))])
    a.write([Save(replace(record(), is_canceled=True))])

    assert a.find("r1") == Known(replace(record(), is_canceled=True))


@pytest.mark.parametrize("text", ["把风扇打开 😀", "a\0b", "\\u0000", "x" * 65_536, "'; DROP TABLE request; --%s"])
def test_every_text_comes_back_as_it_was(masters: Masters, text: str) -> None:
    """In requests, replies and events."""
    a = masters.start("a")
    reply = Reply("r1", State.COMPLETED, text, ts=NOW)
    told = replace(record(), request=Request("r1", text[:8000]), reply=reply)

    a.write([Save(told), event(text=text)])

    assert a.find("r1") == Known(told)
    assert a.story("r1") == Story(told, (event(text=text).event,))


def test_a_story_is_the_record_and_its_events_in_order(masters: Masters) -> None:
    """Whoever tells it; without the pieces of an answer, and nothing of other requests."""
    a = masters.start("a")
    a.write([Save(record()), event(seq=7), event("r2", 1), event(seq=8, kind="message_delta"), event(seq=9)])
    a.write([event(seq=0)])
    a.write([Save(record("r2"))])

    assert seqs(a) == [7, 9, 0]
    assert a.story("r2") == Story(record("r2")), "events of what was not in the ledger are not kept"
    assert a.story("r3") is None


def test_the_last_requests_come_the_newest_first(masters: Masters) -> None:
    """By when they were accepted, whatever was written last."""
    a = masters.start("a")
    a.write([Save(record(f"r{number}", ts=NOW + number)) for number in (2, 3, 1)])
    a.write([Save(record("r2", ts=NOW + 2))])

    assert [each.request.id for each in a.recent(2)] == ["r3", "r2"]


def test_ids_are_found_by_how_they_begin(masters: Masters) -> None:
    """Every character that an id may have counts as itself."""
    a = masters.start("a")
    a.write([Save(record(name, ts=NOW + n)) for n, name in enumerate(("a_1", "a-1", "a1", "aZz", "azz", "b"))])

    assert a.ids("a", 10) == ["azz", "aZz", "a1", "a-1", "a_1"]
    assert a.ids("a", 2) == ["azz", "aZz"]
    assert a.ids("a_", 10) == ["a_1"]
    assert a.ids("c", 10) == []


def test_a_conversation_is_what_was_replied_to_in_it(masters: Masters) -> None:
    """The oldest first, of any master."""
    for boot in ("a", "b"):
        ledger = masters.start(boot)
        for number in range(3):
            name = f"{boot}{number}"
            done = stored(name, ended_ts=NOW + number + (10 if boot == "b" else 0))
            ledger.write([Save(replace(done, request=Request(name, name, session="s")))])
        ledger.write([Save(replace(record(f"{boot}-open"), request=Request(f"{boot}-open", "x", session="s")))])

    assert [exchange.text for exchange in ledger.conversation("s", limit=4)] == ["a2", "b0", "b1", "b2"]
    assert ledger.conversation("t") == []


def test_usage_of_all_masters_adds_up(masters: Masters) -> None:
    """By day, node, request and model."""
    a, b = masters.start("a"), masters.start("b")
    a.write([count(), count(), count("r2")])
    b.write([count(tokens=5), count(node="n2"), count(ts=NOW + DAY_S)])

    today, tomorrow = day_of(NOW), day_of(NOW + DAY_S)
    rows = sorted(b.usage("2000-01-01"), key=lambda row: (row.day, row.node, row.request))
    assert rows == [
        UsageRow(today, "n1", "r1", "m", Usage(7, 0, 14, 0), 3),
        UsageRow(today, "n1", "r2", "m", Usage(1, 0, 2, 0), 1),
        UsageRow(today, "n2", "r1", "m", Usage(1, 0, 2, 0), 1),
        UsageRow(tomorrow, "n1", "r1", "m", Usage(1, 0, 2, 0), 1),
    ]
    assert a.used_on(today) == {"n1": 24, "n2": 3}
    assert [row.day for row in a.usage(tomorrow)] == [tomorrow]


def test_meshes_with_other_roots_do_not_see_each_other(server: Postgres) -> None:
    """In one database."""
    one, other = Masters(server), Masters(server)
    a, b = one.start("a"), other.start("b")
    a.write([Save(record())])
    a.close()

    assert (b.find("r1"), b.keep_up(), b.is_leader) == (None, [], True)
    other.close()


# To whom it belongs


def test_a_request_that_is_known_belongs_to_who_wrote_it_first(masters: Masters) -> None:
    """The other hears so, and nothing of its own is kept but what it used."""
    a, b = masters.start("a"), masters.start("b")
    a.write([Save(record())])

    mine = replace(record(), is_canceled=True)
    assert b.write([Save(mine), event(seq=5), Save(record("r2")), event("r2", 6), count()]) == {"r1"}

    assert a.story("r1") == Story(record())
    assert seqs(a, "r2") == [6]
    assert [row.request for row in a.usage("2000-01-01")] == ["r1"]


def test_events_alone_are_refused_too(masters: Masters) -> None:
    """Of a request of another; of one that is in no ledger they are let pass."""
    a, b = masters.start("a"), masters.start("b")
    a.write([Save(record())])

    assert b.write([event(seq=5), event("r9")]) == {"r1"}
    assert a.write([event(seq=6)]) == frozenset()
    assert seqs(a) == [6]


def test_of_two_that_take_the_same_new_request_exactly_one_gets_it(masters: Masters) -> None:
    """200 times, at the same moment."""
    a, b = masters.start("a"), masters.start("b")
    both = threading.Barrier(2)

    def take(ledger: PostgresLedger, name: str) -> bool:
        both.wait()
        return ledger.write([Save(record(name)), event(name)]) == frozenset()

    with ThreadPoolExecutor(2) as threads:
        for number in range(200):
            won = list(threads.map(take, (a, b), [f"r{number}"] * 2))
            owner = "a" if won[0] else "b"
            assert sorted(won) == [False, True]
            assert masters.rows("SELECT owner FROM request WHERE id = %s", f"r{number}") == [(owner,)]
            assert seqs(a, f"r{number}") == [0]


def test_batches_that_overlap_in_another_order_do_not_wait_for_each_other(masters: Masters) -> None:
    """Neither by their requests nor by what they used."""
    a, b = masters.start("a"), masters.start("b")
    names = [f"{number:03d}" for number in range(300)]
    both = threading.Barrier(2)

    def take(ledger: PostgresLedger, names: list[str], round_: int) -> frozenset[str]:
        both.wait()
        effects: list[MasterEffect] = [Save(record(f"{round_}-{name}")) for name in names]
        return ledger.write(effects if round_ % 2 else [count(name, ts=NOW + n) for n, name in enumerate(names)])

    with ThreadPoolExecutor(2) as threads:
        for number in range(20):
            lost = list(threads.map(take, (a, b), (names, names[::-1]), [number] * 2))
            assert len(lost[0] | lost[1]) == len(lost[0]) + len(lost[1]) == (len(names) if number % 2 else 0)
    assert {row.calls for row in a.usage("2000-01-01")} == {20}


def test_one_of_the_masters_leads(masters: Masters) -> None:
    """Until it goes; then another, with its next word."""
    a, b = masters.start("a"), masters.start("b")
    assert (a.is_leader, b.is_leader) == (True, False)

    b.keep_up()
    assert not b.is_leader

    a.close()
    assert not a.is_leader
    until(lambda: b.keep_up() or b.is_leader, "b leads")


def test_plain_text_is_begun_by_the_leader_alone(masters: Masters) -> None:
    """Even by one that does not know yet that it leads no more: its session is gone, and so is its right."""
    a, b = masters.start("a"), masters.start("b")

    def plain(name: str) -> Record:
        return replace(record(name), origin=Origin(is_plain=True))

    assert a.write([Save(plain("r1"))]) == frozenset()
    assert b.write([Save(plain("r2"))]) == {"r2"}

    vanish(a)
    until(lambda: b.keep_up() or b.is_leader, "b leads")
    assert a.write([Save(plain("r3"))]) == {"r3"}
    assert b.write([Save(plain("r4"))]) == frozenset()
    assert a.write([Save(replace(plain("r1"), state=State.WORKING))]) == frozenset(), "what it had begun is its own"


def test_a_record_with_a_later_epoch_that_is_not_there_is_lost(masters: Masters) -> None:
    """It was removed meanwhile; it does not rise again."""
    a = masters.start("a")

    assert a.write([Save(record(epoch=2))]) == {"r1"}
    assert a.find("r1") is None


# It passes on


def test_a_master_that_leaves_hands_its_requests_over_at_once(masters: Masters) -> None:
    """The oldest first, and those that are done not at all."""
    a, b = masters.start("a"), masters.start("b")
    a.write([Save(record("r2", ts=NOW + 1)), Save(record("r1")), Save(stored("r3", ended_ts=NOW))])
    a.write([Save(stored("r4", ended_ts=NOW + 9, is_sent=False))])
    a.close()

    taken = b.keep_up()

    assert taken == [
        record("r1", epoch=2),
        record("r2", ts=NOW + 1, epoch=2),
        replace(stored("r4", ended_ts=NOW + 9, is_sent=False), epoch=2),
    ]
    assert b.find("r1") == Known(record("r1", epoch=2))
    assert b.keep_up() == []
    assert b.write([Save(replace(taken[0], state=State.WORKING)), event("r1")]) == frozenset()
    assert b.find("r1") == Known(replace(taken[0], state=State.WORKING))


def test_of_a_master_whose_process_is_killed_the_lease_need_not_lapse(masters: Masters) -> None:
    """The end of its session tells."""
    lease_s = 5.0
    a, b = masters.start("a", lease_s=lease_s), masters.start("b", lease_s=lease_s)
    a.write([Save(record())])
    until(lambda: masters.server.uptime_s > lease_s, "the server is up for longer than a lease")
    a.keep_up()
    assert b.keep_up() == []

    vanish(a)

    assert until(b.keep_up, "b takes it over") == [record(epoch=2)]
    assert masters.rows("SELECT alive_until > clock_timestamp() FROM master WHERE boot = 'a'") == [(True,)]


def test_a_frozen_master_loses_its_requests_when_its_lease_lapses(masters: Masters) -> None:
    """Though its session stands; and nothing that it still says is kept."""
    a, b = masters.start("a", lease_s=0.3), masters.start("b", lease_s=0.3)
    a.write([Save(record()), event(seq=1)])

    assert until(b.keep_up, "b takes it over") == [record(epoch=2)]

    working = replace(record(), state=State.WORKING)
    assert a.write([Save(working), event(seq=2), count()]) == {"r1"}
    assert a.write([event(seq=3)]) == {"r1"}
    assert b.story("r1") == Story(record(epoch=2), (event(seq=1).event,))
    assert [row.request for row in b.usage("2000-01-01")] == ["r1"]
    until(lambda: b.keep_up() or b.is_leader, "b leads: the session of a was ended")


def test_a_frozen_master_in_the_middle_of_a_write_keeps_nothing_locked(masters: Masters) -> None:
    """Its session is ended, and what it had not finished was never there."""
    a, b = masters.start("a", lease_s=0.3), masters.start("b", lease_s=0.3)
    a.write([Save(record())])
    connection = a._writing._connection
    assert connection is not None
    connection.execute("BEGIN")
    connection.execute("UPDATE request SET record = 'half'")

    assert until(b.keep_up, "b takes it over") == [record(epoch=2)]


def test_who_keeps_its_lease_keeps_its_requests(masters: Masters) -> None:
    """For as long as it likes."""
    lease_s = 2.0
    a, b = masters.start("a", lease_s=lease_s), masters.start("b", lease_s=lease_s)
    a.write([Save(record())])
    began = time.monotonic()
    while time.monotonic() < began + 1.5 * lease_s:
        a.keep_up()
        assert b.keep_up() == []


def test_who_was_itself_cut_off_does_not_judge_the_others_by_it(masters: Masters) -> None:
    """All sessions may have ended at once; each has a lease of time to come back."""
    lease_s = 3.0
    a, b = masters.start("a", lease_s=lease_s), masters.start("b", lease_s=lease_s)
    a.write([Save(record())])
    until(lambda: masters.server.uptime_s > lease_s, "the server is up for longer than a lease")
    for ledger in (a, b):
        ledger.keep_up()
        vanish(ledger)

    assert b.keep_up() == []
    a.keep_up()
    assert b.keep_up() == []


def test_who_was_itself_silent_does_not_judge_the_others_by_it(masters: Masters) -> None:
    """The database may have been frozen."""
    a, b = masters.start("a", lease_s=1.0), masters.start("b", lease_s=1.0)
    a.write([Save(record())])
    until(lambda: masters.server.uptime_s > 1.0, "the server is up for longer than a lease")
    until(lambda: masters.rows("SELECT FROM master HAVING max(alive_until) < clock_timestamp()"), "all leases lapse")

    assert b.keep_up() == []
    a.keep_up()
    assert b.keep_up() == []


def test_a_request_can_come_back_with_a_later_epoch(masters: Masters) -> None:
    """What was meant for the first time is refused the second time too, though the owner is the same."""
    a, b = masters.start("a", lease_s=0.3), masters.start("b", lease_s=0.3)
    a.write([Save(record())])
    until(b.keep_up, "b takes it over")

    assert until(a.keep_up, "a takes it back") == [record(epoch=3)]

    assert a.write([Save(replace(record(), state=State.WORKING)), event(seq=1)]) == {"r1"}
    assert a.story("r1") == Story(record(epoch=3))
    assert a.write([Save(replace(record(epoch=3), state=State.WORKING)), event(seq=2)]) == frozenset()
    assert seqs(a) == [2]


def test_what_is_abandoned_passes_to_one_of_several_each(masters: Masters) -> None:
    """500 at most at once, none to two, none left."""
    a, b, c = (masters.start(boot) for boot in "abc")
    names = {f"r{number}" for number in range(1200)}
    a.write([Save(record(name)) for name in names])
    a.close()
    both = threading.Barrier(2)

    def take(ledger: PostgresLedger) -> list[str]:
        both.wait()
        taken: list[str] = []
        while records := ledger.keep_up():
            assert len(records) <= 500
            taken += [each.request.id for each in records]
        return taken

    with ThreadPoolExecutor(2) as threads:
        by_b, by_c = threads.map(take, (b, c))
    rest = [each.request.id for ledger in (b, c) for each in ledger.keep_up()]

    assert len(by_b) + len(by_c) + len(rest) == 1200
    assert {*by_b, *by_c, *rest} == names


def test_what_a_take_over_could_not_tell_is_told_by_the_next(masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection was lost as it was committed."""
    a, b = masters.start("a"), masters.start("b")
    a.write([Save(record())])
    a.close()

    with monkeypatch.context() as patch:
        patch.setattr(b._writing, "run", _lost_at_the_end(b))
        with pytest.raises(StoreError):
            b.keep_up()
    vanish(b)

    assert b.keep_up() == [record(epoch=3)]
    assert b.keep_up() == []


def test_a_write_that_was_not_heard_of_is_done_once(masters: Masters, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same effects, given again, add no second event and no second use."""
    a = masters.start("a")
    effects: list[MasterEffect] = [Save(record()), event(seq=1), count()]
    with monkeypatch.context() as patch:
        patch.setattr(a._writing, "run", _lost_at_the_end(a))
        with pytest.raises(StoreError):
            a.write(effects)
    vanish(a)

    assert a.write(effects) == frozenset()
    assert a.write([event(seq=2)]) == a.write([event(seq=2)]) == frozenset()
    assert seqs(a) == [1, 2, 2], "told again on purpose, it stands twice"
    assert [row.calls for row in a.usage("2000-01-01")] == [1]


def _lost_at_the_end(ledger: PostgresLedger) -> Callable[..., object]:
    run = ledger._writing.run

    def run_and_fail(*args: object, **kwargs: object) -> object:
        run(*args, **kwargs)  # type: ignore[arg-type]
        raise StoreError("the connection was lost")

    return run_and_fail


# The database goes away


def test_after_a_restart_of_the_database_all_goes_on(masters: Masters) -> None:
    """Without an error, where it is back before anybody asks; and nobody takes anything from anybody."""
    a, b = masters.start("a"), masters.start("b")
    a.write([Save(record())])
    masters.server.restart()
    masters.start("c").close()

    assert b.keep_up() == []
    assert a.write([Save(replace(record(), state=State.WORKING)), event(seq=1)]) == frozenset()
    assert a.keep_up() == []
    assert a.is_leader != b.is_leader
    assert seqs(b) == [1]


def test_what_was_abandoned_before_a_restart_is_taken_over_a_lease_after_it(masters: Masters) -> None:
    """When all that live have had time to come back."""
    a, b = masters.start("a", lease_s=1.0), masters.start("b", lease_s=1.0)
    a.write([Save(record())])
    vanish(a)
    masters.server.restart()

    assert until(b.keep_up, "b takes it over") == [record(epoch=2)]
    assert masters.server.uptime_s > 1.0


def test_while_the_database_is_away_it_is_said_and_then_it_works_again(masters: Masters) -> None:
    """By the same ledger."""
    a = masters.start("a")
    masters.server.kill()
    try:
        for call in (lambda: a.write([Save(record())]), lambda: a.find("r1"), a.keep_up):
            with pytest.raises(StoreError, match=rf"^postgresql://pibot@{HOST}:\d+/postgres: cannot be .*: see that"):
                call()
        assert not a.is_leader
    finally:
        masters.server.start()

    assert a.write([Save(record())]) == frozenset()
    assert a.keep_up() == []
    assert (a.find("r1"), a.is_leader) == (Known(record()), True)


def test_a_frozen_database_holds_nobody_for_long(masters: Masters) -> None:
    """The call fails, and the next one too; then it works again."""
    a = masters.start("a")
    masters.server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StoreError, match="no answer within 5 s"):
            a.write([Save(record())])
        with pytest.raises(StoreError, match="timeout"):
            a.keep_up()
        assert time.monotonic() - began < 15
    finally:
        masters.server.thaw()

    assert a.write([Save(record()), event()]) == frozenset()
    assert seqs(a) == [0]


def test_kills_of_the_database_during_writes_lose_nothing_and_double_nothing(masters: Masters) -> None:
    """At any moment; who writes tries again until it works."""
    a, b = masters.start("a"), masters.start("b")
    is_over = threading.Event()

    def write(ledger: PostgresLedger, boot: str) -> list[str]:
        names: list[str] = []
        while not is_over.is_set():
            name = f"{boot}{len(names)}"
            effects = [Save(record(name)), event(name), count("all", node=boot)]
            until(lambda effects=effects: _is_written(ledger, effects), "it is written")  # type: ignore[misc]
            names.append(name)
        return names

    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(write, ledger, boot) for ledger, boot in ((a, "a"), (b, "b"))]
        for number in range(3):
            time.sleep(0.1 + 0.07 * number)
            masters.server.restart()
        until(lambda: _is_written(a if writers[0].done() else b, [Note("x")]), "it works")
        is_over.set()
        written = [writer.result() for writer in writers]

    assert sorted(ids(a)) == sorted([*written[0], *written[1]])
    assert masters.rows("SELECT request FROM event GROUP BY request HAVING count(*) <> 1") == []
    assert masters.rows("SELECT count(*) FROM event") == [(len(written[0]) + len(written[1]),)]
    assert {row.node: row.calls for row in a.usage("2000-01-01")} == {"a": len(written[0]), "b": len(written[1])}


def _is_written(ledger: PostgresLedger, effects: list[MasterEffect]) -> bool:
    try:
        assert ledger.write(effects) == frozenset()
    except StoreError:
        return False
    return True


def test_masters_that_start_at_once_on_an_empty_database_all_start(server: Postgres) -> None:
    """One makes the tables, the others find them."""
    together = threading.Barrier(4)

    def start(masters: Masters, boot: str) -> PostgresLedger:
        together.wait()
        return masters.start(boot)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            masters = Masters(server)
            ledgers = list(threads.map(start, [masters] * 4, "abcd"))
            assert [ledger.is_leader for ledger in ledgers].count(True) == 1
            masters.close()


# What is not kept


def test_what_ended_long_ago_goes_with_its_events(masters: Masters) -> None:
    """What the model was used for stays, for its own time."""
    a = masters.start("a")
    for name, ended_ts in (("old", NOW - 31 * DAY_S), ("new", NOW - 29 * DAY_S)):
        a.write([Save(stored(name, ended_ts=ended_ts)), event(name), count(name, ts=ended_ts)])
    a.write([count("oldest", ts=NOW - USAGE_KEPT_S - 2 * DAY_S)])

    assert a.prune(HistorySettings(), NOW) == 1

    assert ids(a) == ["new"]
    assert a.find("old") is None
    assert [row.request for row in a.usage("2000-01-01")] == ["old", "new"]
    assert masters.rows("SELECT request FROM event") == [("new",)]
    assert a.prune(HistorySettings(), NOW) == 0


def test_what_has_not_ended_well_stays_however_old(masters: Masters) -> None:
    """Without a reply, or with one that no broker has: this is what the ledger is for."""
    a = masters.start("a")
    a.write([Save(record("open", ts=1.0)), Save(stored("unsent", ended_ts=7.0, is_sent=False))])

    assert a.prune(HistorySettings(days=0.001, megabytes=0.0001), NOW) == 0
    assert sorted(ids(a)) == ["open", "unsent"]


def test_what_ended_within_the_hour_stays_however_much_it_is(masters: Masters) -> None:
    """Whoever asked may still send it again, and it must not be done twice."""
    a = masters.start("a")
    a.write([Save(stored("late", ended_ts=NOW - STAYS_S + 1)), Save(stored("gone", ended_ts=NOW - STAYS_S - 1))])
    a.write([Save(replace(stored("long", ended_ts=NOW - 1), accepted_ts=NOW - 40 * DAY_S))])

    assert a.prune(HistorySettings(days=0.001, megabytes=0.0001), NOW) == 1
    assert sorted(ids(a)) == ["late", "long"]


def test_the_newest_megabytes_are_kept(masters: Masters) -> None:
    """The oldest go first, and hardly more than must."""
    a = masters.start("a")
    for number in range(100):
        told = [event(f"r{number:03d}", seq, text=uuid.uuid4().hex * 30) for seq in range(20)]
        a.write([Save(stored(f"r{number:03d}", ended_ts=NOW - 2 * DAY_S + number)), *told])

    removed = a.prune(HistorySettings(days=0, megabytes=1), NOW)

    left = ids(a)
    assert removed == 100 - len(left)
    assert left == [f"r{number:03d}" for number in reversed(range(removed, 100))]
    assert 30 < len(left) < 70, "some 20 KB each"


def test_without_limits_everything_is_kept(masters: Masters) -> None:
    """A limit of 0 is none."""
    a = masters.start("a")
    a.write([Save(stored("old", ended_ts=1.0))])

    assert a.prune(HistorySettings(days=0, megabytes=0), NOW) == 0
    assert ids(a) == ["old"]


def test_masters_of_long_ago_are_forgotten_once_nothing_is_left_of_them(masters: Masters) -> None:
    """Those that live are not."""
    a = masters.start("a")
    masters.server.rows(
        f'INSERT INTO "{a._schema}".master VALUES (%s, 1, now() - %s), (%s, 2, now() - %s)',
        ["old", timedelta(days=2), "late", timedelta(hours=1)],
    )

    a.prune(HistorySettings(), NOW)

    assert masters.rows("SELECT boot FROM master ORDER BY boot") == [("a",), ("late",)]


# From outside


def test_a_reader_reads_what_masters_have_written(masters: Masters) -> None:
    """It is no master, it changes nothing, and nothing waits for it."""
    a = masters.start("a")
    a.write([Save(record()), event(), count()])

    with masters.reader() as reader:
        assert reader.story("r1") == a.story("r1")
        assert reader.recent(5) == a.recent(5)
        assert reader.usage("2000-01-01") == a.usage("2000-01-01")
        assert reader.used_on(day_of(NOW)) == a.used_on(day_of(NOW))
        assert reader.ids("r", 5) == ["r1"]
        with pytest.raises(StoreError, match="read-only"):
            reader._rows("DELETE FROM request RETURNING id")
    assert masters.rows("SELECT boot FROM master") == [("a",)]


def test_where_there_is_no_ledger_it_is_said(masters: Masters) -> None:
    """And none is made."""
    with masters.reader() as reader, pytest.raises(StoreError, match="no master has kept its ledger there"):
        reader.recent(1)
    assert masters.server.rows("SELECT FROM pg_namespace WHERE nspname LIKE %s", [f"%{masters.root[5:]}%"]) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql://me:s3cret@{host}:{port}/x", "postgresql://me@{host}:{port}/x: cannot be opened: "),
        ("postgresql://me@{host}:{port}/x?password=s3cret", "postgresql://me@{host}:{port}/x: cannot be opened: "),
        ("postgresql://me:s3cret/x@{host}:{port}/x", "the ledger's address is none of a PostgreSQL database"),
        ("s3cret", "the ledger's address is none of a PostgreSQL database"),
    ],
)
def test_an_address_that_does_not_serve_is_named_without_its_password(given: str, said: str) -> None:
    """And what to do stands beside it."""
    place = {"host": HOST, "port": free_port()}

    with pytest.raises(StoreError) as caught:
        PostgresLedger(given.format(**place), root="pibot", boot="a")

    assert str(caught.value).startswith(said.format(**place))
    assert "s3cret" not in str(caught.value)


def test_a_user_who_may_make_no_tables_is_told_which_right_is_missing(server: Postgres) -> None:
    """As the database's owner can give it."""
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        server.rows("CREATE ROLE guest LOGIN")

    with pytest.raises(StoreError, match=r"permission denied .*: give its user the right to it \(GRANT CREATE ON"):
        PostgresLedger(server.url.replace("pibot@", "guest@"), root="pibot", boot="a")


def test_settings_are_common_to_all_masters(masters: Masters) -> None:
    """Each may write them; what is forgotten is gone."""
    a, b = masters.start("a"), masters.start("b")
    a.write_setting("routine/x", "one")
    a.write_setting("routine/x", "two")
    b.write_setting("routine/%", "three")
    b.write_setting("other/x", "four")
    assert a.read_settings("routine/") == {"routine/x": "two", "routine/%": "three"}

    b.write_setting("routine/x", None)

    with masters.reader() as reader:
        assert reader.read_settings("routine/") == {"routine/%": "three"}
        assert reader.read_settings("routine/%") == {"routine/%": "three"}


def test_tables_of_an_earlier_version_are_brought_up(masters: Masters) -> None:
    """What stands in them stays; of masters that start at once one does it."""
    a = masters.start("a")
    a.write([Save(record())])
    masters.server.rows(f'DROP TABLE "{a._schema}".setting')
    masters.server.rows(f'UPDATE "{a._schema}".version SET number = 1')
    with ThreadPoolExecutor() as pool:
        for ledger in pool.map(masters.start, ["b", "c", "d"]):
            ledger.write_setting("routine/x", "one")

    assert masters.rows("SELECT number FROM version") == [(VERSION,)]
    assert masters.start("e").read_settings("") == {"routine/x": "one"}
    assert len(a.recent(10)) == 1


def test_tables_of_a_later_version_are_left_alone(masters: Masters) -> None:
    """Rather than read wrongly."""
    a = masters.start("a")
    masters.server.rows(f'UPDATE "{a._schema}".version SET number = 99')

    with pytest.raises(StoreError, match="was made by a later version of PiBot Mesh"):
        masters.start("b")


def test_what_this_version_cannot_read_is_named(masters: Masters) -> None:
    """The database, and what is wrong in it."""
    a = masters.start("a")
    a.write([Save(record())])
    masters.server.rows(f"UPDATE \"{a._schema}\".request SET record = '{{}}'")

    with pytest.raises(StoreError, match="/postgres: holds what this version cannot read"):
        a.recent(1)


def test_after_it_is_closed_a_ledger_says_so(masters: Masters) -> None:
    """And it can be closed again."""
    a = masters.start("a")
    a.close()
    a.close()

    with pytest.raises(StoreError, match="the ledger is closed"):
        a.keep_up()
