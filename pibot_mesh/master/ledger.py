"""What the master must remember over a restart, in SQLite: every request, whole, its story, and what it used."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.master.conversation import exchanges
from pibot_mesh.master.events import CountUsage, Exchange, MasterEffect, Record
from pibot_mesh.master.storable import Storable
from pibot_mesh.master.store import Known, Story
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.codec import to_dict
from pibot_mesh.protocol.messages import Event, Usage
from pibot_mesh.storage import Connection, Database

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS request (
    id TEXT PRIMARY KEY,
    is_done INTEGER NOT NULL,
    ts REAL NOT NULL,
    record TEXT NOT NULL,
    session TEXT
);
CREATE INDEX IF NOT EXISTS request_open ON request (id) WHERE is_done = 0;
CREATE INDEX IF NOT EXISTS request_ts ON request (ts);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY,
    request TEXT NOT NULL,
    event TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS event_request ON event (request);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_SESSION_INDEX: Final = """
CREATE INDEX IF NOT EXISTS request_session ON request (session, ts) WHERE session IS NOT NULL
"""
_SAVE: Final = """
INSERT INTO request (id, is_done, ts, record, session) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET is_done = excluded.is_done, record = excluded.record
"""
_ADD_EVENT: Final = """
INSERT INTO event (request, event) SELECT id, ? FROM request WHERE id = ?
"""
RECENT: Final = "SELECT record FROM request ORDER BY ts DESC, rowid DESC LIMIT ?"
EVENTS: Final = "SELECT event FROM event WHERE request = ? ORDER BY number"
_TO_REMOVE: Final = """
SELECT id FROM request
WHERE ts < ?1 AND is_done = 1 AND coalesce(json_extract(record, '$.reply.ts'), ts) < ?1
ORDER BY ts LIMIT 20
"""
_LAST_OF_SESSION: Final = """
SELECT record FROM request WHERE session = ? AND json_extract(record, '$.reply') IS NOT NULL
ORDER BY ts DESC, rowid DESC LIMIT ?
"""
_USAGE: Final = """
CREATE TABLE IF NOT EXISTS usage (
    day TEXT NOT NULL,
    ts REAL NOT NULL,
    node TEXT NOT NULL,
    request TEXT NOT NULL,
    model TEXT NOT NULL,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (day, node, request, model)
) WITHOUT ROWID;
"""
_COUNT: Final = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (day, node, request, model) DO UPDATE SET
    ts = excluded.ts,
    input = input + excluded.input,
    cached = cached + excluded.cached,
    output = output + excluded.output,
    reasoning = reasoning + excluded.reasoning,
    calls = calls + 1
"""
USAGE_ROWS: Final = """
SELECT day, node, request, model, input, cached, output, reasoning, calls FROM usage WHERE day >= ? ORDER BY day, ts
"""
USAGE_KEPT_S: Final = 400 * 24 * 3600.0
"""Seconds for which usage is kept."""
STAYS_S: Final = 3600.0
"""Seconds for which a request stays known after its end, whatever the limits: somebody may still send it again."""
_SPARE_BYTES: Final = 8 << 20
"""Free room that the file keeps for what comes next: giving all of it back would write every page twice."""
_SMALL_BYTES: Final = 32 << 20
"""A file of an earlier version up to this size is written anew once, so that it can shrink."""
_PAGES_AT_ONCE: Final = 256

_PAUSE_S: Final = 0.001
"""Between two steps of removing, so that who writes gets its turn: a lock is nobody's in particular."""


class Ledger:
    """The ledger file of one master: a `Store` that is not shared.

    Events alone are not synced to the disk: after a pulled plug the last of a story may be missing, never a request or
    a reply. Raises StoreError where it cannot be opened, read or written.
    """

    is_shared = False
    is_leader = True

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA + _USAGE)
        self._writing = threading.Lock()
        self._add_sessions()
        self._database.let_shrink(up_to_bytes=_SMALL_BYTES)

    def keep_up(self) -> list[Record]:
        """The records that still need work: without a reply, or with one that no broker has acknowledged."""
        return self._database.messages(Record, "SELECT record FROM request WHERE is_done = 0 ORDER BY ts")

    def find(self, request_id: str) -> Known | None:
        """One request, which is ours: there is no other master."""
        record = self._record(request_id)
        return None if record is None else Known(record)

    def conversation(self, session: str, *, limit: int = 10) -> list[Exchange]:
        """The last *limit* requests of *session* that have a reply, the oldest first.

        Texts are cut in the middle to about 2 KB each; where all come to more than 64 KB, the oldest are left out.
        """
        return exchanges(self._database.messages(Record, _LAST_OF_SESSION, [session, limit]))

    def write(self, effects: Sequence[MasterEffect]) -> frozenset[str]:
        """Store the storable among *effects*, all or none; of several records of one request the last is enough.

        Only a record is synced to disk. Events of requests that are not in the ledger (refused ones) are not stored.
        Returns no id: every request is ours.
        """
        batch = Storable.of(effects)
        if not batch:
            return frozenset()
        events = [(_json(event), event.run) for event in batch.events]
        rows = [
            (request_id, record.is_sent, record.accepted_ts, _json(record), record.request.session)
            for request_id, record in batch.records.items()
        ]
        with self._writing, self._database.transaction(durable=bool(rows)) as connection:
            _count(connection, batch.counts)
            connection.executemany(_SAVE, rows)
            connection.executemany(_ADD_EVENT, events)
        return frozenset()

    def usage(self, since_day: str) -> list[UsageRow]:
        """What the model was used for from *since_day* (``2025-03-01``) on, the oldest day first."""
        return usage_rows(self._database.rows(USAGE_ROWS, [since_day]))

    def used_on(self, day: str) -> dict[str, int]:
        """The tokens, input and output, that each node used on *day*."""
        query = "SELECT node, sum(input + output) FROM usage WHERE day = ? GROUP BY node"
        return dict(self._database.rows(query, [day]))

    def story(self, request_id: str) -> Story | None:
        """The whole story of one request."""
        record = self._record(request_id)
        if record is None:
            return None
        return Story(record, tuple(self._database.messages(Event, EVENTS, [request_id])))

    def recent(self, limit: int) -> list[Record]:
        """The last *limit* requests, the newest first."""
        return self._database.messages(Record, RECENT, [limit])

    def read_settings(self, prefix: str) -> dict[str, str]:
        """The small things that the master remembers besides requests: those whose names begin with *prefix*."""
        query = "SELECT name, value FROM setting WHERE substr(name, 1, length(?1)) = ?1"
        return dict(self._database.rows(query, [prefix]))

    def write_setting(self, name: str, value: str | None) -> None:
        """Remember *value* under *name*, in place of what was there; None: forget it. Synced to disk."""
        with self._writing, self._database.transaction(durable=True) as connection:
            if value is None:
                connection.execute("DELETE FROM setting WHERE name = ?", [name])
            else:
                connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", [name, value])

    def prune(self, history: HistorySettings, now_ts: float) -> int:
        """Remove the stories that *history* does not keep at Unix time *now_ts*, and tell how many those were.

        First the oldest, until what the file holds (all of it, usage too) is within *megabytes*; then what ended more
        than *days* ago. A limit of 0 is none. What ended within the last hour stays, and so does a request whose reply
        no broker has acknowledged; so does usage.

        The file then gives back to the disk what is free in it beyond 8 MB (incremental vacuum). One of an earlier
        version with more than 32 MB does not: it uses its free pages again, and so grows no further. All is done in
        small steps, between which another thread may `write`.
        """
        ended_before = now_ts - STAYS_S
        removed = 0
        if history.megabytes:
            removed += self._remove(ended_before, int(history.megabytes * 1_000_000))
        if history.days:
            removed += self._remove(min(ended_before, now_ts - history.days * 24 * 3600), 0)
        self._give_back()
        return removed

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _record(self, request_id: str) -> Record | None:
        records = self._database.messages(Record, "SELECT record FROM request WHERE id = ?", [request_id])
        return records[0] if records else None

    def _remove(self, ended_before: float, down_to_bytes: int) -> int:
        """Remove requests that ended before then, the oldest first, while the file holds more than *down_to_bytes*."""
        removed = 0
        while True:
            with self._writing, self._database.transaction(durable=False) as connection:
                ids: list[tuple[str]] = []
                if _bytes_held(connection) > down_to_bytes:
                    ids = connection.execute(_TO_REMOVE, [ended_before]).fetchall()
                connection.executemany("DELETE FROM event WHERE request = ?", ids)
                connection.executemany("DELETE FROM request WHERE id = ?", ids)
            if not ids:
                return removed
            removed += len(ids)
            time.sleep(_PAUSE_S)

    def _give_back(self) -> None:
        is_shrinking = True
        while is_shrinking:
            with self._writing, self._database.transaction(durable=False) as connection:
                free = _number(connection, "freelist_count")
                if free * _number(connection, "page_size") > _SPARE_BYTES:
                    connection.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
                is_shrinking = _number(connection, "freelist_count") < free

    def _add_sessions(self) -> None:
        """Give a file of a version without conversations the column and the index for them."""
        columns = [name for [name] in self._database.rows("SELECT name FROM pragma_table_info('request')")]
        with self._database.transaction(durable=True) as connection:
            if "session" not in columns:
                connection.execute("ALTER TABLE request ADD COLUMN session TEXT")
            connection.execute(_SESSION_INDEX)


def day_of(ts: float) -> str:
    """The calendar day of the Unix time *ts* on this machine: ``2025-03-01``."""
    return time.strftime("%Y-%m-%d", time.localtime(ts))


def usage_rows(rows: Iterable[tuple[Any, ...]]) -> list[UsageRow]:
    """What the rows of `USAGE_ROWS` say."""
    return [
        UsageRow(day, node, request, model, Usage(*numbers), calls)
        for day, node, request, model, *numbers, calls in rows
    ]


def _json(message: Record | Event) -> str:
    return json.dumps(to_dict(message), ensure_ascii=False, separators=(",", ":"))


def _bytes_held(connection: Connection) -> int:
    pages = _number(connection, "page_count") - _number(connection, "freelist_count")
    return pages * _number(connection, "page_size")


def _number(connection: Connection, pragma: str) -> int:
    [[number]] = connection.execute(f"PRAGMA {pragma}").fetchall()
    return int(number)


def _count(connection: Connection, counts: Iterable[CountUsage]) -> None:
    for count in counts:
        used = count.usage
        numbers = (used.input, used.cached, used.output, used.reasoning)
        row = (day_of(count.ts), count.ts, count.node, count.request, count.model, *numbers)
        connection.execute(_COUNT, row)
        connection.execute("DELETE FROM usage WHERE day < ?", [day_of(count.ts - USAGE_KEPT_S)])
