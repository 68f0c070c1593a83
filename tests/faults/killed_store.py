"""Kills who writes to a store, in the middle of a write, over and over.

``python -m tests.faults.killed_store WHAT PATH KILLS SEED``: WHAT is ``journal`` or ``ledger``. This process forks a
writer for each kill, which is quicker than starting a program; it has no threads of its own. A writer says each write
that has returned, and after some it is killed, at a random moment of the next. Then the file is opened and must hold
all that was said, and nothing half. The last line is ``KILLS kills, WRITES writes, UNSAID of them unsaid``.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol

from pibot_mesh.master.events import Origin, Record, Save as SaveRecord, SendEvent
from pibot_mesh.master.ledger import Ledger
from pibot_mesh.node.events import Entry, Forgotten, Save, SaveStop
from pibot_mesh.node.journal import Journal
from pibot_mesh.protocol.messages import Event, Request, Result, State, Task

WRITES_AT_MOST = 4
"""So many writes return before the one that is cut off, at most."""


class Store(Protocol):
    """A store under test. Each write is of several rows, all or none."""

    def write(self, number: int) -> None: ...

    def holds(self, number: int) -> list[bool]:
        """Of each row of a write, whether it is there, as it was written."""
        ...

    def close(self) -> None: ...


class NodeJournal:
    """Write n ends the task a-n, lets the task b-n run, forgets both of write n-1, and keeps the stop's state."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)

    def write(self, number: int) -> None:
        forgotten = Forgotten({f"a-{number - 1}": 1, f"b-{number - 1}": 1})
        saves = [Save(_ended(number), True), Save(_running(number), True)]
        self._journal.write([*saves, SaveStop(bool(number % 2)), forgotten])

    def holds(self, number: int) -> list[bool]:
        remembered = self._journal.read()
        entries = {entry.task.id: entry for entry in remembered.entries}
        is_over = f"a-{number}" in remembered.forgotten and f"b-{number}" in remembered.forgotten
        return [
            is_over or entries.get(f"a-{number}") == _ended(number),
            is_over or entries.get(f"b-{number}") == _running(number),
            f"a-{number - 1}" in remembered.forgotten and f"a-{number - 1}" not in entries,
            f"b-{number - 1}" in remembered.forgotten and f"b-{number - 1}" not in entries,
        ]

    def close(self) -> None:
        self._journal.close()


class MasterLedger:
    """Write n stores two requests and an event of each."""

    def __init__(self, path: Path) -> None:
        self._ledger = Ledger(path)

    def write(self, number: int) -> None:
        for_both = [f"a-{number}", f"b-{number}"]
        records = [SaveRecord(_record(name)) for name in for_both]
        self._ledger.write([*records, *(SendEvent(_event(name)) for name in for_both)])

    def holds(self, number: int) -> list[bool]:
        rows = []
        for name in (f"a-{number}", f"b-{number}"):
            story = self._ledger.story(name)
            rows.append(story is not None and story.record == _record(name))
            rows.append(story is not None and story.events == (_event(name),))
        return rows

    def close(self) -> None:
        self._ledger.close()


STORES: Final[dict[str, Callable[[Path], Store]]] = {"journal": NodeJournal, "ledger": MasterLedger}
LONG = "x" * 3_000
"""A row of more than a page is written in parts."""


def _ended(number: int) -> Entry:
    task = Task(f"a-{number}", f"r-{number}", "call", tool="press", args={"value": LONG}, epoch=1)
    return Entry(task, "ended", Result(task.id, task.request, 1, State.COMPLETED, boot="b1", seq=number))


def _running(number: int) -> Entry:
    return Entry(Task(f"b-{number}", f"r-{number}", "call", tool="press", args={"value": LONG}), "running")


def _record(name: str) -> Record:
    return Record(Request(name, LONG), Origin(), State.SUBMITTED, accepted_ts=float(name.split("-")[1]))


def _event(name: str) -> Event:
    return Event(name, "request_accepted", "b1", 0, 1000.0, {"text": LONG})


def _write_until_killed(store: Store, number: int, said: int) -> None:
    os.write(said, b".")
    while True:
        store.write(number)
        os.write(said, b".")
        number += 1


def kill_once(what: str, path: Path, number: int, chance: random.Random) -> tuple[int, int]:
    """Begin with write *number*, and kill. Returns the next number, and how many were done and not said."""
    hears, said = os.pipe()
    child = os.fork()
    if child == 0:
        _write_until_killed(STORES[what](path), number, said)
    os.close(said)
    heard, took_s = 0, 0.0
    for _ in range(
        2 + chance.randrange(WRITES_AT_MOST)
    ):  # one for its start, and one more to see how long a write takes
        began = time.perf_counter()
        assert os.read(hears, 1), "the writer ended by itself"
        heard += 1
        took_s = time.perf_counter() - began
    time.sleep(chance.uniform(0, took_s))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with open(hears, "rb") as rest:
        heard += len(rest.read())
    return check(what, path, number, heard - 1)


def check(what: str, path: Path, number: int, said: int) -> tuple[int, int]:
    """What was said is there, whole; of one more write at most all or nothing; and the file is sound."""
    store = STORES[what](path)
    for each in range(number, number + said):
        assert all(store.holds(each)), f"write {each} was said, and is not there: {store.holds(each)}"
    unsaid = store.holds(number + said)
    assert len(set(unsaid)) == 1, f"write {number + said} is there by half: {unsaid}"
    assert not any(store.holds(number + said + 1))
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert list(path.parent.glob("*.broken-*")) == [], "it was set aside as damaged"
    return number + said + unsaid[0], int(unsaid[0])


def main(what: str, path: Path, kills: int, seed: int) -> str:
    chance, number, unsaid = random.Random(seed), 1, 0
    for _ in range(kills):
        number, more = kill_once(what, path, number, chance)
        unsaid += more
    return f"{kills} kills, {number - 1} writes, {unsaid} of them unsaid"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])) + "\n")
