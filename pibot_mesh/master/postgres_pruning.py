"""Removes old stories from a ledger in PostgreSQL."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Final

from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.master.ledger import STAYS_S, USAGE_KEPT_S, day_of
from pibot_mesh.master.postgres_session import Connection, Session

_AT_ONCE: Final = 100
_STATEMENT_S: Final = 60.0
"""Weighing a large ledger takes its time."""

_SIZE: Final = "SELECT pg_total_relation_size('request') + pg_total_relation_size('event')"
_BEYOND: Final = """
SELECT max(ts) FROM (
    SELECT ts, sum(bytes) OVER (ORDER BY ts DESC, id DESC) AS newest_bytes FROM (
        SELECT id, ts, pg_column_size(record) + 200 + coalesce(told.bytes, 0) AS bytes FROM request
        LEFT JOIN (
            SELECT request, sum(pg_column_size(event) + 100) AS bytes FROM event GROUP BY request
        ) AS told ON told.request = request.id
    ) AS weighed
) AS summed WHERE newest_bytes > %s
"""
"""The newest request that is not among the newest bytes. Each row is taken to need some for itself and its indexes."""
_REMOVE: Final = """
WITH gone AS (
    DELETE FROM request WHERE id IN (
        SELECT id FROM request
        WHERE ts <= %(until_ts)s AND is_done AND coalesce(ended_ts, ts) < %(ended_before)s
        ORDER BY ts LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) RETURNING id
), silenced AS (
    DELETE FROM event WHERE request IN (SELECT id FROM gone)
)
SELECT count(*) FROM gone
"""
_FORGET_USAGE: Final = "DELETE FROM usage WHERE day < %s"
_FORGET_MASTERS: Final = """
DELETE FROM master WHERE alive_until < now() - interval '1 day'
    AND NOT EXISTS (SELECT FROM request WHERE owner = boot AND NOT is_done)
"""


def prune(url: str, schema: str, history: HistorySettings, now_ts: float) -> int:
    """See `PostgresLedger.prune`."""
    session = Session(url, schema=schema, name="pibot-prune", statement_s=_STATEMENT_S)
    with contextlib.closing(session):
        ended_before = now_ts - STAYS_S
        removed = 0
        if history.megabytes:
            until_ts = session.run(partial(_beyond, limit=int(history.megabytes * 1_000_000)), doing="read")
            if until_ts is not None:
                removed += _remove(session, until_ts, ended_before)
        if history.days:
            ended_before = min(ended_before, now_ts - history.days * 24 * 3600)
            removed += _remove(session, ended_before, ended_before)
        session.run(partial(_forget, before=day_of(now_ts - USAGE_KEPT_S)), doing="written")
    return removed


def _beyond(connection: Connection, *, limit: int) -> float | None:
    [[size]] = connection.execute(_SIZE).fetchall()
    if size <= limit:
        return None
    [[until_ts]] = connection.execute(_BEYOND, [limit]).fetchall()
    return None if until_ts is None else float(until_ts)


def _remove(session: Session, until_ts: float, ended_before: float) -> int:
    removed = 0
    while count := session.run(partial(_step, until_ts=until_ts, ended_before=ended_before), doing="written"):
        removed += count
    return removed


def _step(connection: Connection, *, until_ts: float, ended_before: float) -> int:
    values = {"until_ts": until_ts, "ended_before": ended_before, "limit": _AT_ONCE}
    [[count]] = connection.execute(_REMOVE, values).fetchall()
    return int(count)


def _forget(connection: Connection, *, before: str) -> None:
    connection.execute(_FORGET_USAGE, [before])
    connection.execute(_FORGET_MASTERS)
