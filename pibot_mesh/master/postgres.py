"""A ledger in PostgreSQL, shared by several masters: each request belongs to one, and passes on when that one dies."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.errors import StoreError
from pibot_mesh.master.events import MasterEffect, Record
from pibot_mesh.master.ledger import day_of
from pibot_mesh.master.postgres_pruning import prune
from pibot_mesh.master.postgres_reader import PostgresReader
from pibot_mesh.master.postgres_schema import LATER_TABLES, LEADER, TABLES, VERSION, locks_of, schema_of
from pibot_mesh.master.postgres_session import Connection, Session
from pibot_mesh.master.storable import Storable, as_text
from pibot_mesh.master.store import Known

_log = logging.getLogger(__name__)

LEASE_S: Final = 5.0
"""Seconds for which a master that has said that it lives is believed."""
TAKEN_AT_ONCE: Final = 500
"""Requests that one `keep_up` takes over at most."""

_RENEW: Final = """
INSERT INTO master (boot, lock, alive_until)
VALUES (%(boot)s, %(own)s, clock_timestamp() + make_interval(secs => %(lease_s)s))
ON CONFLICT (boot) DO UPDATE SET alive_until = excluded.alive_until
"""
_LEAD: Final = "SELECT pg_try_advisory_lock(%(mesh)s, %(leader)s)"
_END_FORMER: Final = """
SELECT pg_terminate_backend(pid) FROM holder
WHERE mesh = %(mesh)s AND lock = %(own)s AND is_ours AND pid <> pg_backend_pid()
"""
_END_FROZEN: Final = """
SELECT pg_terminate_backend(pid) FROM holder JOIN master USING (lock)
WHERE mesh = %(mesh)s AND is_ours AND boot <> %(boot)s
    AND alive_until > '-infinity' AND alive_until < clock_timestamp()
    AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(lease_s)s)
"""
_TAKE_OVER: Final = """
WITH here AS MATERIALIZED (SELECT lock FROM holder WHERE mesh = %(mesh)s), living AS (
    SELECT boot FROM master
    WHERE alive_until > '-infinity' AND (
        NOT %(may_judge)s
        OR pg_postmaster_start_time() > clock_timestamp() - make_interval(secs => %(lease_s)s)
        OR (alive_until >= clock_timestamp() AND lock IN (SELECT lock FROM here))
    )
)
UPDATE request SET owner = %(boot)s, epoch = epoch + 1 WHERE id IN (
    SELECT id FROM request
    WHERE NOT is_done AND CASE owner
        WHEN %(boot)s THEN id = ANY(%(untold)s::text[])
        ELSE owner NOT IN (SELECT boot FROM living)
    END
    ORDER BY owner <> %(boot)s, ts LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING record, epoch, id
"""
_FIND: Final = "SELECT record, epoch, owner FROM request WHERE id = %s"
_NOTE_WRITE: Final = "UPDATE master SET written = %(number)s WHERE boot = %(boot)s"
_WRITTEN: Final = "SELECT written FROM master WHERE boot = %s"
_SAVE: Final = """
INSERT INTO request (id, owner, epoch, is_done, ts, ended_ts, session, record)
SELECT id, %(boot)s, epoch, is_done, ts, ended_ts, session, record
FROM unnest(
    %(ids)s::text[], %(epochs)s::int[], %(done)s::bool[], %(ts)s::float8[], %(ended)s::float8[], %(sessions)s::text[],
    %(records)s::text[], %(may_begin)s::bool[]
) AS new (id, epoch, is_done, ts, ended_ts, session, record, may_begin)
WHERE may_begin OR EXISTS (SELECT FROM request WHERE request.id = new.id)
ORDER BY id
ON CONFLICT (id) DO UPDATE
SET is_done = excluded.is_done, ended_ts = excluded.ended_ts, record = excluded.record
WHERE request.owner = excluded.owner AND request.epoch = excluded.epoch
RETURNING id
"""
_TELL: Final = """
INSERT INTO event (request, event)
SELECT new.request, new.event
FROM unnest(%(runs)s::text[], %(epochs)s::int[], %(events)s::text[]) WITH ORDINALITY
    AS new (request, epoch, event, place)
JOIN request ON request.id = new.request AND request.owner = %(boot)s
WHERE new.epoch IS NULL OR new.epoch = request.epoch
ORDER BY place
"""
_WRITE_SETTING: Final = """
INSERT INTO setting VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_FORGET_SETTING: Final = "DELETE FROM setting WHERE name = %s"
_OTHERS: Final = "SELECT id FROM request WHERE id = ANY(%(runs)s::text[]) AND owner <> %(boot)s"
_COUNT: Final = """
INSERT INTO usage AS sum VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, 1)
ON CONFLICT (day, node, request, model) DO UPDATE SET
    ts = excluded.ts,
    input = sum.input + excluded.input,
    cached = sum.cached + excluded.cached,
    output = sum.output + excluded.output,
    reasoning = sum.reasoning + excluded.reasoning,
    calls = sum.calls + 1
"""


@dataclass(frozen=True, slots=True)
class _Unsure:
    """A write of which it is not known whether it was committed: its number, and what it would have returned."""

    batch: Storable
    number: int
    lost: frozenset[str]


class PostgresLedger(PostgresReader):
    """The ledger of the masters of the mesh below *root*, in the database at *url*: a `Store` that is shared.

    *boot* is this master, until it ends. Makes the tables where there are none. Every time is the database's, so the
    masters need no common clock. Each call takes some seconds at most; after an error the next one connects anew. While
    one thread writes, another may read: that is done on a second connection.

    A master lives while its lease of *lease_s* seconds, which `keep_up` renews, has not lapsed, and its session with
    the database stands. Nobody is judged by this for *lease_s* after a start of the database, and not by a master
    that was itself away: then all may have been.

    What keeps a request from being done by two is not the lease. It is that each write asks, in its own transaction,
    for the request's owner and epoch, and a change of hands changes both: of the two that meet at a row one comes
    first, and the other sees it. So a master whose lease has lapsed may still write what nobody has taken from it, and
    what it begins then is found abandoned like the rest.

    Raises StoreError where it cannot be opened, read or written.
    """

    is_shared = True

    def __init__(self, url: str, *, root: str, boot: str, lease_s: float = LEASE_S) -> None:
        self._url = url
        self._boot = boot
        self._lease_s = lease_s
        self._schema = schema_of(root)
        self._locks = locks_of(self._schema, boot)
        self._is_leading = False
        self._is_new = True
        self._renewed_at = self._judges_from = time.monotonic()
        self._number = 0
        self._unsure: _Unsure | None = None
        self._untold: list[str] = []
        """Requests that may have been taken over by a `keep_up` that failed in its last moment."""
        super().__init__(Session(url, schema=self._schema, name=f"pibot-look-up-{boot}"))
        self._writing = Session(url, schema=self._schema, name=f"pibot-master-{boot}", greet=self._greet)
        try:
            self._writing.open()
        except BaseException:
            self._writing.close()
            raise

    @staticmethod
    def reader(url: str, *, root: str) -> PostgresReader:
        """The ledger as others than its masters read it."""
        return PostgresReader.open(url, root=root)

    @property
    def is_leader(self) -> bool:
        """Whether this master does what must be done once for all: it holds a lock that ends with its session."""
        return self._is_leading and self._writing.is_connected

    def keep_up(self) -> list[Record]:
        """Renew the lease, try to lead, and take over what is abandoned: at most 500 records, the rest with the next.

        The session of a master whose lease has lapsed is ended, so that its locks are free.
        """
        began_at = time.monotonic()
        if began_at - self._renewed_at > self._lease_s:
            self._judges_from = began_at + self._lease_s
        records = self._writing.run(self._keep_up, doing="written")
        self._renewed_at = began_at
        self._untold = []
        return sorted(records, key=lambda record: record.accepted_ts)

    def find(self, request_id: str) -> Known | None:
        """One request, whosesoever it is."""
        for text, epoch, owner in self._rows(_FIND, request_id):
            [record] = self._read([(text, epoch)])
            return Known(record, owner == self._boot)
        return None

    def write(self, effects: Sequence[MasterEffect]) -> frozenset[str]:
        """Store the storable among *effects*, all or none; of several records of one request the last is enough.

        Returns the ids of the requests, among those to be saved or told of, that belong to another master: of these
        nothing is stored but what they used. Such are also: a new one in plain text where this master does not lead
        any more, and one with a later epoch that is not there.

        Only a record is synced to disk. Events of requests that are not in the ledger (refused ones) are not stored.
        After a StoreError the same effects may be given again: they are stored once.
        """
        batch = Storable.of(effects)
        if not batch:
            return frozenset()
        lost = self._writing.run(partial(self._write, batch), doing="written")
        self._unsure = None
        return lost

    def write_setting(self, name: str, value: str | None) -> None:
        """Remember *value* under *name*, in place of what was there; None: forget it. Synced to disk."""
        statement, values = (_FORGET_SETTING, [name]) if value is None else (_WRITE_SETTING, [name, value])
        self._writing.run(lambda connection: connection.execute(statement, values), doing="written")

    def prune(self, history: HistorySettings, now_ts: float) -> int:
        """Remove the stories that *history* does not keep at Unix time *now_ts*, and tell how many those were.

        First the oldest, until the stories are within *megabytes*; then what ended more than *days* ago. A limit of 0
        is none. What ended within the last hour stays, and so does a request whose reply no broker has acknowledged.
        Usage stays for 400 days. It works in small steps on a connection of its own: another thread may use the ledger.
        """
        return prune(self._url, self._schema, history, now_ts)

    def close(self) -> None:
        """Let go of everything: others take over at once. Where the database does not answer, when the lease lapses."""
        with contextlib.suppress(StoreError):
            if self._writing.is_connected:
                self._writing.run(self._leave, doing="written")
        self._is_leading = False
        self._writing.close()
        super().close()

    def _greet(self, connection: Connection) -> None:
        """Say with a lock that lasts as long as the session that this master is here."""
        if not self._is_new:
            self._judges_from = time.monotonic() + self._lease_s
        self._is_new = self._is_leading = False
        values = self._values()
        with connection.transaction():
            _make_tables(connection, self._schema)
        # A session that was lost to this end only may stand at the other, with the lock, or in the middle of a write.
        connection.execute(_END_FORMER, values)
        connection.execute("SELECT pg_advisory_lock(%(mesh)s, %(own)s)", values)

    def _keep_up(self, connection: Connection) -> list[Record]:
        may_judge = time.monotonic() >= self._judges_from
        values = {**self._values(), "may_judge": may_judge, "limit": TAKEN_AT_ONCE, "untold": self._untold}
        connection.execute("SET LOCAL synchronous_commit TO OFF")
        connection.execute(_RENEW, values)
        if not self._is_leading:
            [is_leading] = connection.execute(_LEAD, values).fetchone() or [False]
            self._is_leading = is_leading
        if may_judge:
            connection.execute(_END_FROZEN, values)
        rows = connection.execute(_TAKE_OVER, values).fetchall()
        if rows:
            connection.execute("SET LOCAL synchronous_commit TO DEFAULT")
        records = self._readable(rows, connection)
        self._untold = [record.request.id for record in records]
        return records

    def _readable(self, rows: Sequence[tuple[Any, ...]], connection: Connection) -> list[Record]:
        """The records of *rows*. One of a later version is nobody's again: a master of that version takes it."""
        records: list[Record] = []
        for text, epoch, name in rows:
            try:
                records += self._read([(text, epoch)])
            except StoreError as error:
                _log.error("request %s is left to another master: %s", name, error)
                connection.execute("UPDATE request SET owner = '' WHERE id = %s", [name])
        return records

    def _write(self, batch: Storable, connection: Connection) -> frozenset[str]:
        unsure, self._unsure = self._unsure, None
        if unsure is not None and unsure.batch == batch and self._was_written(unsure.number, connection):
            self._unsure = unsure
            return unsure.lost
        self._number += 1
        if not batch.records:
            connection.execute("SET LOCAL synchronous_commit TO OFF")
        connection.execute(_NOTE_WRITE, {"number": self._number, "boot": self._boot})
        lost = self._store(batch, connection)
        self._unsure = _Unsure(batch, self._number, lost)
        return lost

    def _was_written(self, number: int, connection: Connection) -> bool:
        """Whether the write of that *number* was committed. The session that began it has ended: see `_greet`."""
        return connection.execute(_WRITTEN, [self._boot]).fetchone() == (number,)

    def _store(self, batch: Storable, connection: Connection) -> frozenset[str]:
        saved = connection.execute(_SAVE, self._saved_values(batch)) if batch.records else None
        others = None
        if batch.events:
            told = self._told_values(batch)
            connection.execute(_TELL, told)
            others = connection.execute(_OTHERS, told)
        if batch.counts:
            connection.cursor().executemany(_COUNT, _count_values(batch))
        lost = {name for [name] in others} if others is not None else set[str]()
        if saved is not None:
            lost |= batch.records.keys() - {name for [name] in saved}
        return frozenset(lost)

    def _leave(self, connection: Connection) -> None:
        connection.execute("UPDATE master SET alive_until = '-infinity' WHERE boot = %s", [self._boot])

    def _values(self) -> dict[str, Any]:
        return {
            "boot": self._boot,
            "mesh": self._locks.mesh,
            "own": self._locks.own,
            "leader": LEADER,
            "lease_s": self._lease_s,
        }

    def _saved_values(self, batch: Storable) -> dict[str, Any]:
        records = batch.records.values()
        return {
            "boot": self._boot,
            "ids": list(batch.records),
            "epochs": [record.epoch for record in records],
            "done": [record.is_sent for record in records],
            "ts": [record.accepted_ts for record in records],
            "ended": [None if record.reply is None else record.reply.ts for record in records],
            "sessions": [record.request.session for record in records],
            "records": [as_text(record) for record in records],
            "may_begin": [self._may_begin(record) for record in records],
        }

    def _may_begin(self, record: Record) -> bool:
        """Whether this master may make the row of *record*.

        Plain text has no id by which two masters would know it for the same: only who leads in the very session that
        writes may begin it.
        """
        return record.epoch <= 1 and (self._is_leading or not record.origin.is_plain)

    def _told_values(self, batch: Storable) -> dict[str, Any]:
        runs = [event.run for event in batch.events]
        epochs = [batch.records[run].epoch if run in batch.records else None for run in runs]
        return {"boot": self._boot, "runs": runs, "epochs": epochs, "events": [as_text(each) for each in batch.events]}


def _make_tables(connection: Connection, schema: str) -> None:
    """Make what is missing; of several masters that start at once one does it, and the others wait for it."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [schema])
    if connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is None:
        connection.execute(f"CREATE SCHEMA {schema}")
    if connection.execute("SELECT FROM pg_tables WHERE schemaname = %s LIMIT 1", [schema]).fetchone() is None:
        for statement in TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO version VALUES (1)")
    [[version]] = connection.execute("SELECT number FROM version").fetchall()
    if version < VERSION:
        for later in range(version + 1, VERSION + 1):
            connection.execute(LATER_TABLES[later])
        connection.execute("UPDATE version SET number = %s", [VERSION])
    if version > VERSION:
        raise StoreError(
            f"the schema {schema} was made by a later version of PiBot Mesh: use that, or another database"
        )


def _count_values(batch: Storable) -> list[tuple[object, ...]]:
    """By their keys, one order for all masters: so none waits for another that waits for it."""
    rows: list[tuple[object, ...]] = []
    for count in sorted(batch.counts, key=lambda count: (day_of(count.ts), count.node, count.request, count.model)):
        used = count.usage
        names = (day_of(count.ts), count.ts, count.node, count.request, count.model)
        rows.append((*names, used.input, used.cached, used.output, used.reasoning))
    return rows
