"""What the master must remember over a restart, in SQLite: every request, whole, its reply, and what it used."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pibot_mesh.errors import StoreError
from pibot_mesh.master.conversation import exchanges
from pibot_mesh.master.events import CountUsage, Exchange, MasterEffect, Record, Save
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.codec import to_dict
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.storage import Connection, Database, rows_of_file

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS request (
    id TEXT PRIMARY KEY,
    is_done INTEGER NOT NULL,
    ts REAL NOT NULL,
    record TEXT NOT NULL,
    session TEXT
);
CREATE INDEX IF NOT EXISTS request_open ON request (id) WHERE is_done = 0;
"""
_SESSION_INDEX: Final = """
CREATE INDEX IF NOT EXISTS request_session ON request (session, ts) WHERE session IS NOT NULL
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
_USAGE_ROWS: Final = """
SELECT day, node, request, model, input, cached, output, reasoning, calls FROM usage WHERE day >= ? ORDER BY day, ts
"""
USAGE_KEPT_S: Final = 400 * 24 * 3600.0
"""Seconds for which usage is kept."""


class Ledger:
    """The ledger file of one master. Raises StoreError where it cannot be opened, read or written."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA + _USAGE)
        self._add_sessions()

    def unfinished(self) -> list[Record]:
        """The records that still need work: without a reply, or with one that no broker has acknowledged."""
        return self._database.messages(Record, "SELECT record FROM request WHERE is_done = 0 ORDER BY ts")

    def find(self, request_id: str) -> Record | None:
        """The record of one request."""
        records = self._database.messages(Record, "SELECT record FROM request WHERE id = ?", [request_id])
        return records[0] if records else None

    def conversation(self, session: str, *, limit: int = 10) -> list[Exchange]:
        """The last *limit* requests of *session* that have a reply, the oldest first.

        Texts are cut in the middle to about 2 KB each; where all come to more than 64 KB, the oldest are left out.
        """
        return exchanges(self._database.messages(Record, _LAST_OF_SESSION, [session, limit]))

    def write(self, effects: Sequence[MasterEffect]) -> None:
        """Store the storable among *effects*, all or none; of several records of one request the last is enough."""
        records = {effect.record.request.id: effect.record for effect in effects if isinstance(effect, Save)}
        counts = [effect for effect in effects if isinstance(effect, CountUsage)]
        if not records and not counts:
            return
        with self._database.transaction(durable=bool(records)) as connection:
            _count(connection, counts)
            for request_id, record in records.items():
                text = json.dumps(to_dict(record), ensure_ascii=False, separators=(",", ":"))
                connection.execute(
                    "REPLACE INTO request (id, is_done, ts, record, session) VALUES (?, ?, ?, ?, ?)",
                    (request_id, record.is_sent, record.accepted_ts, text, record.request.session),
                )

    def usage(self, since_day: str) -> list[UsageRow]:
        """What the model was used for from *since_day* (``2025-03-01``) on, the oldest day first."""
        return _usage_rows(self._database.rows(_USAGE_ROWS, [since_day]))

    def used_on(self, day: str) -> dict[str, int]:
        """The tokens, input and output, that each node used on *day*."""
        query = "SELECT node, sum(input + output) FROM usage WHERE day = ? GROUP BY node"
        return dict(self._database.rows(query, [day]))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

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


def read_usage(path: Path, since_day: str) -> list[UsageRow]:
    """`Ledger.usage` of the file at *path*, which is not changed; a running master may write to it meanwhile.

    Raises StoreError where there is no such file, or it cannot be read.
    """
    rows = rows_of_file(path, "usage", _USAGE_ROWS, [since_day])
    if rows is None:
        raise StoreError(f"{path}: there is no ledger: no master has kept its state in this folder")
    return _usage_rows(rows)


def _count(connection: Connection, counts: Iterable[CountUsage]) -> None:
    for count in counts:
        used = count.usage
        numbers = (used.input, used.cached, used.output, used.reasoning)
        row = (day_of(count.ts), count.ts, count.node, count.request, count.model, *numbers)
        connection.execute(_COUNT, row)
        connection.execute("DELETE FROM usage WHERE day < ?", [day_of(count.ts - USAGE_KEPT_S)])


def _usage_rows(rows: Iterable[tuple[Any, ...]]) -> list[UsageRow]:
    return [
        UsageRow(day, node, request, model, Usage(*numbers), calls)
        for day, node, request, model, *numbers, calls in rows
    ]
