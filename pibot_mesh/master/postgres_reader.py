"""What a ledger in PostgreSQL tells: to its masters, and to others that only read it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, TypeVar

from pibot_mesh.errors import StoreError
from pibot_mesh.master.conversation import exchanges
from pibot_mesh.master.events import Exchange, Record
from pibot_mesh.master.ledger import usage_rows
from pibot_mesh.master.postgres_schema import schema_of
from pibot_mesh.master.postgres_session import Session
from pibot_mesh.master.store import Story
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.codec import from_dict
from pibot_mesh.protocol.messages import Event

M = TypeVar("M")

_ONE: Final = "SELECT record, epoch FROM request WHERE id = %s"
_EVENTS: Final = "SELECT event FROM event WHERE request = %s ORDER BY number"
_RECENT: Final = "SELECT record, epoch FROM request ORDER BY ts DESC, id DESC LIMIT %s"
_IDS: Final = "SELECT id FROM request WHERE id >= %s AND id < %s ORDER BY ts DESC, id DESC LIMIT %s"
_LAST_OF_SESSION: Final = """
SELECT record, epoch FROM request WHERE session = %s AND ended_ts IS NOT NULL ORDER BY ts DESC, id DESC LIMIT %s
"""
_USAGE_ROWS: Final = """
SELECT day, node, request, model, input, cached, output, reasoning, calls FROM usage WHERE day >= %s ORDER BY day, ts
"""
_SETTINGS: Final = "SELECT name, value FROM setting WHERE starts_with(name, %s)"
_USED_ON: Final = "SELECT node, sum(input + output)::bigint FROM usage WHERE day = %s GROUP BY node"


class PostgresReader(AbstractContextManager["PostgresReader"]):
    """What stands in a ledger; nothing here changes it. Raises StoreError where there is none, or it cannot be read."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @staticmethod
    def open(url: str, *, root: str) -> PostgresReader:
        """For the ledger of the mesh below *root*, in the database at *url*. It connects when it is first asked."""
        return PostgresReader(Session(url, schema=schema_of(root), name="pibot", is_read_only=True))

    def __exit__(self, *_: object) -> None:
        self.close()

    def conversation(self, session: str, *, limit: int = 10) -> list[Exchange]:
        """The last *limit* requests of *session* that have a reply, the oldest first.

        Texts are cut in the middle to about 2 KB each; where all come to more than 64 KB, the oldest are left out.
        """
        return exchanges(self._records(_LAST_OF_SESSION, session, limit))

    def usage(self, since_day: str) -> list[UsageRow]:
        """What the model was used for from *since_day* (``2025-03-01``) on, the oldest day first."""
        return usage_rows(self._rows(_USAGE_ROWS, since_day))

    def used_on(self, day: str) -> dict[str, int]:
        """The tokens, input and output, that each node used on *day*."""
        return dict(self._rows(_USED_ON, day))

    def read_settings(self, prefix: str) -> dict[str, str]:
        """The small things that masters remember besides requests: those whose names begin with *prefix*."""
        return dict(self._rows(_SETTINGS, prefix))

    def story(self, request_id: str) -> Story | None:
        """The whole story of one request."""
        records = self._records(_ONE, request_id)
        if not records:
            return None
        events = [self._decoded(Event, text) for [text] in self._rows(_EVENTS, request_id)]
        return Story(records[0], tuple(events))

    def recent(self, limit: int) -> list[Record]:
        """The last *limit* requests, the newest first."""
        return self._records(_RECENT, limit)

    def ids(self, beginning: str, limit: int) -> list[str]:
        """The ids that begin so, at most *limit*, the newest first."""
        return [name for [name] in self._rows(_IDS, beginning, beginning + "\x7f", limit)]

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._session.rows(query, values)

    def _records(self, query: str, *values: object) -> list[Record]:
        return self._read(self._rows(query, *values))

    def _read(self, rows: Iterable[tuple[Any, ...]]) -> list[Record]:
        """The records of rows of a record and its epoch, which the column says: it changes without the record."""
        return [replace(self._decoded(Record, text), epoch=epoch) for text, epoch in rows]

    def _decoded(self, cls: type[M], text: str) -> M:
        try:
            return from_dict(cls, json.loads(text))
        except ValueError as error:
            raise StoreError(
                f"{self._session.address}: holds what this version cannot read ({error}): use the version that wrote it"
            ) from error
