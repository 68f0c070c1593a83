"""The ledger's file as others than its master read it: never changed, while a master may write it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pibot_mesh.errors import StoreError
from pibot_mesh.master.events import Record
from pibot_mesh.master.ledger import EVENTS, RECENT, USAGE_ROWS, usage_rows
from pibot_mesh.master.store import Story
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.codec import from_dict
from pibot_mesh.protocol.messages import Event
from pibot_mesh.storage import rows_of_file

M = TypeVar("M")


class LedgerFile:
    """What stands in the ledger's file at *path*. Raises StoreError where there is none, or it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def usage(self, since_day: str) -> list[UsageRow]:
        """What the model was used for from *since_day* (``2025-03-01``) on, the oldest day first."""
        return usage_rows(self._rows("usage", USAGE_ROWS, [since_day]))

    def recent(self, limit: int) -> list[Record]:
        """The last *limit* requests, the newest first."""
        return self._messages(Record, "request", RECENT, [limit])

    def story(self, request_id: str) -> Story | None:
        """The whole story of one request; without events where a version that kept none has written it."""
        records = self._messages(Record, "request", "SELECT record FROM request WHERE id = ?", [request_id])
        if not records:
            return None
        return Story(records[0], tuple(self._messages(Event, "event", EVENTS, [request_id])))

    def ids(self, beginning: str, limit: int) -> list[str]:
        """The ids that begin so, at most *limit*, the newest first."""
        query = "SELECT id FROM request WHERE id >= ? AND id < ? ORDER BY ts DESC LIMIT ?"
        return [name for [name] in self._rows("request", query, [beginning, beginning + "\x7f", limit])]

    def close(self) -> None:
        """Nothing is open."""

    def _rows(self, table: str, query: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
        rows = rows_of_file(self._path, table, query, values)
        if rows is None:
            others = sorted(path.parent for path in self._path.parent.glob(f"up/*/{self._path.name}"))
            hint = f"; that of 'pibot up' is there with --state-dir {others[0]}" if others else ""
            raise StoreError(f"{self._path}: there is no ledger: no master has kept its state in this folder{hint}")
        return rows

    def _messages(self, cls: type[M], table: str, query: str, values: Iterable[Any]) -> list[M]:
        try:
            return [from_dict(cls, json.loads(text)) for [text] in self._rows(table, query, values)]
        except ValueError as error:
            raise StoreError(f"{self._path}: holds what this version cannot read ({error})") from error
