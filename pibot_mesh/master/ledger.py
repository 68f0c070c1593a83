"""What the master must remember over a restart, in SQLite: every request, whole, and its reply."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pibot_mesh.master.events import MasterEffect, Record, Save
from pibot_mesh.protocol.codec import to_dict
from pibot_mesh.storage import Database

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS request (
    id TEXT PRIMARY KEY,
    is_done INTEGER NOT NULL,
    ts REAL NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS request_open ON request (id) WHERE is_done = 0;
"""


class Ledger:
    """The ledger file of one master. Raises StoreError where it cannot be opened, read or written."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def unfinished(self) -> list[Record]:
        """The records that still need work: without a reply, or with one that no broker has acknowledged."""
        return self._database.messages(Record, "SELECT record FROM request WHERE is_done = 0 ORDER BY ts")

    def find(self, request_id: str) -> Record | None:
        """The record of one request."""
        records = self._database.messages(Record, "SELECT record FROM request WHERE id = ?", [request_id])
        return records[0] if records else None

    def write(self, effects: Sequence[MasterEffect]) -> None:
        """Store the storable among *effects*, all or none; of several records of one request the last is enough."""
        records = {effect.record.request.id: effect.record for effect in effects if isinstance(effect, Save)}
        if not records:
            return
        with self._database.transaction(durable=True) as connection:
            for request_id, record in records.items():
                text = json.dumps(to_dict(record), ensure_ascii=False, separators=(",", ":"))
                connection.execute(
                    "REPLACE INTO request VALUES (?, ?, ?, ?)", (request_id, record.is_sent, record.accepted_ts, text)
                )

    def close(self) -> None:
        """Close the file."""
        self._database.close()
