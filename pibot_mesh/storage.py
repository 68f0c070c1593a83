"""Files that must survive a pulled plug: the master's ledger and a node's journal stand on this."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pibot_mesh.errors import StoreError
from pibot_mesh.protocol.codec import from_dict

_log = logging.getLogger(__name__)
M = TypeVar("M")

Connection: TypeAlias = sqlite3.Connection


class Database:
    """One SQLite file in WAL mode. One thread at a time writes (any thread), and one reads (the same or another).

    Who reads sees what is stored for good, and never waits for who writes: each has a connection of its own.

    A file that is no database (a card that lost its mind) is set aside under another name, which is logged, and an
    empty one takes its place. Raises StoreError where the file cannot be opened or written.
    """

    def __init__(self, path: Path, schema: str) -> None:
        try:
            self.path = path = path.expanduser()
            path.parent.mkdir(parents=True, exist_ok=True)
        except RuntimeError as error:
            raise StoreError(f"{path}: there is no home directory: name another folder") from error
        except OSError as error:
            raise StoreError(f"{path}: cannot be created: {error.strerror}") from error
        try:
            self._connection = self._open(schema)
            self._reader = self._connect()
        except sqlite3.OperationalError as error:
            raise StoreError(f"{path}: cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            aside = path.with_name(f"{path.name}.broken-{int(time.time())}")
            _log.error("%s is damaged (%s): set aside as %s; a new one is begun", path, error, aside.name)
            try:
                self._set_aside(aside)
                self._connection = self._open(schema)
                self._reader = self._connect()
            except (OSError, sqlite3.Error) as problem:
                raise StoreError(f"{path}: is damaged, and cannot be set aside: {problem}") from problem

    def _open(self, schema: str) -> sqlite3.Connection:
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            [[verdict]] = connection.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            connection.executescript(schema)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        connection.execute("PRAGMA cache_size=-512")
        return connection

    def _set_aside(self, aside: Path) -> None:
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))

    @contextlib.contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """All or nothing. After it, what was written survives a killed process; with *durable*, a pulled plug too."""
        try:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be written: {error}") from error

    def rows(self, query: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT. Raises StoreError."""
        try:
            return self._reader.execute(query, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be read: {error}") from error

    def messages(self, cls: type[M], query: str, values: Iterable[Any] = ()) -> list[M]:
        """The rows of a SELECT of one column that holds *cls* as JSON. Raises StoreError."""
        try:
            return [from_dict(cls, json.loads(text)) for [text] in self.rows(query, values)]
        except ValueError as error:
            raise StoreError(
                f"{self.path}: holds what this version cannot read ({error}): use the version that wrote it, or move "
                "the file away"
            ) from error

    def let_shrink(self, *, up_to_bytes: int) -> None:
        """Have ``PRAGMA incremental_vacuum`` give free pages back to the disk from now on.

        The file is written anew for this, once. It is left as it is where it is larger than *up_to_bytes*, or where
        that fails (no room for a copy): then free pages are used again, and stay in it.
        """
        incremental = 2
        [[mode]] = self.rows("PRAGMA auto_vacuum")
        if mode == incremental or self.path.stat().st_size > up_to_bytes:
            return
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._connect()) as connection:
            connection.execute(f"PRAGMA auto_vacuum={incremental}")
            connection.execute("VACUUM")

    def close(self) -> None:
        """Close the file. Nothing is lost by not calling it."""
        self._reader.close()
        self._connection.close()


class Alone:
    """A file that one process has at a time; it is free again when that ends, in whatever way.

    Raises StoreError where another process has it, and where it cannot be had. *who* is whose file it is.
    """

    def __init__(self, path: Path, who: str) -> None:
        path = path.expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+", encoding="ascii")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n")
            self._file.flush()
        except BlockingIOError:
            self._file.seek(0)
            process = self._file.read().strip()
            self._file.close()
            raise StoreError(
                f"{path}: {who} runs already, as process {process}: end that one, or give this one an id or a state "
                "folder of its own"
            ) from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Let another have it."""
        self._file.close()


def rows_of_file(path: Path, table: str, query: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]] | None:
    """The rows of a SELECT on *table* in the file at *path*, which is not changed; somebody may write it meanwhile.

    None where there is no such file, and no rows where it has no such table. Raises StoreError.
    """
    try:
        is_there = path.is_file()
        # Without a log beside it nobody has the file open, and it can be read where nothing may be written.
        is_open = path.with_name(f"{path.name}-wal").exists()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_there:
        return None
    uri = f"{path.absolute().as_uri()}?{'mode=ro' if is_open else 'immutable=1'}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            has_table = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchall()
            return connection.execute(query, tuple(values)).fetchall() if has_table else []
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
