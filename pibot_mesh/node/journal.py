"""What a node must remember over a restart, in SQLite: tasks, what is forgotten, whom it obeys, stop and outputs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pibot_mesh.node.core import MAX_FORGOTTEN
from pibot_mesh.node.epochs import MAX_EPOCHS
from pibot_mesh.node.events import Entry, Forgotten, NodeEffect, Remembered, Save, SaveOutput, SaveStop
from pibot_mesh.node.start_reason import LastProcess
from pibot_mesh.protocol.codec import from_dict, to_dict
from pibot_mesh.protocol.messages import Cause, OutputValue
from pibot_mesh.storage import Database

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS task (id TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS forgotten (n INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, attempt INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS epoch (n INTEGER PRIMARY KEY, request TEXT UNIQUE NOT NULL, epoch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS boot (n INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS output (device TEXT PRIMARY KEY, value TEXT NOT NULL, cause TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_NOTE_EPOCH: Final = """
REPLACE INTO epoch (request, epoch)
VALUES (:request, max(:epoch, coalesce((SELECT epoch FROM epoch WHERE request = :request), 0)))
"""
MAX_BOOTS: Final = 100
"""Earlier processes of a node whose ids are kept."""

_FORGET_EPOCHS: Final = "DELETE FROM epoch WHERE n <= (SELECT n FROM epoch ORDER BY n DESC LIMIT 1 OFFSET ?)"


class Journal:
    """The journal file of one node. Raises StoreError where it cannot be opened, read or written."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA)

    def read(self) -> Remembered:
        """All that is remembered."""
        entries = self._database.messages(Entry, "SELECT entry FROM task")
        forgotten = dict(self._database.rows("SELECT id, attempt FROM forgotten ORDER BY n"))
        stop = self._database.rows("SELECT value FROM setting WHERE name = 'stop'")
        epochs = dict(self._database.rows("SELECT request, epoch FROM epoch ORDER BY n"))
        return Remembered(tuple(entries), forgotten, is_stopped=stop == [("STOP",)], epochs=epochs)

    def outputs(self) -> dict[str, tuple[OutputValue, Cause]]:
        """What each output was at when it was set last, and what set it."""
        rows = self._database.rows("SELECT device, value, cause FROM output")
        return {device: (json.loads(value), from_dict(Cause, json.loads(cause))) for device, value, cause in rows}

    def last_process(self) -> LastProcess | None:
        """How the process before this one ended, as long as this one has not begun; None where there was none."""
        if not self._database.rows("SELECT 1 FROM boot LIMIT 1"):
            return None
        facts = dict(self._database.rows("SELECT name, value FROM setting WHERE name IN ('machine_boot', 'ended')"))
        return LastProcess(facts.get("machine_boot", ""), is_ended="ended" in facts)

    def begin(self, boot: str, machine_boot: str = "") -> frozenset[str]:
        """Write down that the process *boot* begins, synced to disk, and return the ids of those before it.

        *machine_boot* is the id of the machine's own start. Until `end` the process counts as one that is not ended.
        """
        earlier = frozenset(boot for [boot] in self._database.rows("SELECT id FROM boot"))
        with self._database.transaction(durable=True) as connection:
            connection.execute("INSERT INTO boot (id) VALUES (?)", (boot,))
            connection.execute("DELETE FROM boot WHERE n <= (SELECT max(n) FROM boot) - ?", (MAX_BOOTS,))
            connection.execute("REPLACE INTO setting VALUES ('machine_boot', ?)", (machine_boot,))
            connection.execute("DELETE FROM setting WHERE name = 'ended'")
        return earlier

    def end(self) -> None:
        """Write down that the process ends in good order, synced to disk."""
        with self._database.transaction(durable=True) as connection:
            connection.execute("REPLACE INTO setting VALUES ('ended', 'yes')")

    def write(self, effects: Sequence[NodeEffect]) -> None:
        """Store the storable among *effects*, all or none; synced to disk where one of them asks for it."""
        stores = [effect for effect in effects if isinstance(effect, (Save, Forgotten, SaveStop, SaveOutput))]
        if not stores:
            return
        with self._database.transaction(durable=needs_sync(stores)) as connection:
            for effect in stores:
                _write(connection, effect)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def needs_sync(effects: Sequence[NodeEffect]) -> bool:
    """Whether one of *effects* must survive a pulled plug before anything else happens."""
    return any(isinstance(effect, SaveStop) or (isinstance(effect, Save) and effect.is_durable) for effect in effects)


def _write(connection: sqlite3.Connection, effect: Save | Forgotten | SaveStop | SaveOutput) -> None:
    match effect:
        case Save(entry):
            connection.execute("REPLACE INTO task VALUES (?, ?)", (entry.task.id, _json(entry)))
            if entry.task.epoch:
                connection.execute(_NOTE_EPOCH, {"request": entry.task.request, "epoch": entry.task.epoch})
        case Forgotten(attempts):
            for task, attempt in attempts.items():
                connection.execute("DELETE FROM task WHERE id = ?", (task,))
                connection.execute("REPLACE INTO forgotten (id, attempt) VALUES (?, ?)", (task, attempt))
            connection.execute("DELETE FROM forgotten WHERE n <= (SELECT max(n) FROM forgotten) - ?", (MAX_FORGOTTEN,))
            connection.execute(_FORGET_EPOCHS, (MAX_EPOCHS,))
        case SaveStop(is_stopped):
            connection.execute("REPLACE INTO setting VALUES ('stop', ?)", ("STOP" if is_stopped else "RUN",))
        case SaveOutput(device, value, cause):
            connection.execute("REPLACE INTO output VALUES (?, ?, ?)", (device, json.dumps(value), _json(cause)))


def _json(message: Entry | Cause) -> str:
    return json.dumps(to_dict(message), ensure_ascii=False, separators=(",", ":"))
