"""The tables of a ledger in PostgreSQL, and the names and numbers that belong to one mesh and one master. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

VERSION: Final = 2
"""Of the tables. A later version of the mesh that changes them raises it, and brings older ones up to it."""
LEADER: Final = 0
"""The number of the leader's lock, below the mesh's own."""

TABLES: Final = (
    "CREATE TABLE version (number integer NOT NULL)",
    """
CREATE TABLE request (
    id text COLLATE "C" PRIMARY KEY,
    owner text NOT NULL,
    epoch integer NOT NULL,
    is_done boolean NOT NULL,
    ts double precision NOT NULL,
    ended_ts double precision,
    session text,
    record text NOT NULL
) WITH (fillfactor = 70)
""",
    "CREATE INDEX request_open ON request (owner) WHERE NOT is_done",
    "CREATE INDEX request_ts ON request (ts)",
    "CREATE INDEX request_session ON request (session, ts) WHERE session IS NOT NULL",
    """
CREATE TABLE event (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request text COLLATE "C" NOT NULL,
    event text NOT NULL
)
""",
    "CREATE INDEX event_request ON event (request, number)",
    """
CREATE TABLE usage (
    day text NOT NULL,
    ts double precision NOT NULL,
    node text NOT NULL,
    request text NOT NULL,
    model text NOT NULL,
    input bigint NOT NULL,
    cached bigint NOT NULL,
    output bigint NOT NULL,
    reasoning bigint NOT NULL,
    calls bigint NOT NULL,
    PRIMARY KEY (day, node, request, model)
)
""",
    """
CREATE TABLE master (
    boot text PRIMARY KEY,
    lock bigint NOT NULL,
    alive_until timestamptz NOT NULL,
    written bigint
) WITH (fillfactor = 50)
""",
    """
CREATE VIEW holder AS
SELECT classid::bigint AS mesh, objid::bigint AS lock, pid, usename = current_user AS is_ours
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""",
)
"""One statement each, of version 1. `record` and `event` are JSON; where a column beside them says the same, it is the
column that holds. `holder` tells which session holds which lock."""
LATER_TABLES: Final = {2: 'CREATE TABLE setting (name text COLLATE "C" PRIMARY KEY, value text NOT NULL)'}
"""What each later version has added."""

_PLAIN_ROOT: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_LONGEST_ROOT: Final = 50
_NO_WORD: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Locks:
    """The numbers of advisory locks: *mesh* is common to all masters of one mesh, *own* is one master's."""

    mesh: int
    own: int


def schema_of(root: str) -> str:
    """The name of the PostgreSQL schema for the mesh below *root*: another for each root, and one that needs no quotes.

    ``mesh_pibot`` for ``pibot``, and ``mesh_home_pibot__`` with a check sum for ``home/pibot``.
    """
    if len(root) <= _LONGEST_ROOT and _PLAIN_ROOT.fullmatch(root):
        return f"mesh_{root}"
    words = _NO_WORD.sub("_", root.lower()).strip("_")[:40]
    return f"mesh_{words}__{_digest(root).hex()[:12]}"


def locks_of(schema: str, boot: str) -> Locks:
    """The locks for the master *boot* of the mesh with *schema*; each is 1 to 2^31 - 1, so *own* is not `LEADER`."""
    return Locks(_number(schema), _number(f"{schema} {boot}"))


def _number(text: str) -> int:
    return int.from_bytes(_digest(text)[:4], "big") % (2**31 - 1) + 1


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
