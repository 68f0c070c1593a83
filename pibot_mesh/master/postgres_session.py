"""A connection to PostgreSQL that comes back by itself, and never makes its caller wait for more than some seconds."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pibot_mesh.errors import StoreError

T = TypeVar("T")
Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

STATEMENT_S: Final = 3.0
"""The server gives up a statement after so long."""
ANSWER_S: Final = 5.0
"""A server that has said nothing for so long is taken for frozen: the connection is cut."""
_LOCK_S: Final = 2.0
_PORTS: Final = re.compile("[0-9,]*")
_OLDEST: Final = 130_000
"""PostgreSQL 13, as its number says it."""
_CONNECTING: Final = {
    "connect_timeout": "3",
    "keepalives_idle": "3",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",
    "target_session_attrs": "read-write",
}
"""What the address may say otherwise. With several hosts in it, the one that can be written is found."""
_SERVER_SIDE: Final = {
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "5000",
    "lock_timeout": f"{_LOCK_S:g}s",
    "idle_in_transaction_session_timeout": f"{ANSWER_S:g}s",
}
"""So that the server notices a machine that is gone, and lets go of its locks."""


logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of each lost connection, which is an error here


class _Frozen(psycopg.OperationalError):
    """The server has said nothing for too long."""


class Session:
    """One connection to the database at *url*, used by one thread at a time; *schema* is where unqualified names are.

    *greet* is called with each new connection before anything else. *name* is shown in ``pg_stat_activity``.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str,
        name: str,
        statement_s: float = STATEMENT_S,
        is_read_only: bool = False,
        greet: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        self._greet = greet
        self._answer_s = statement_s + ANSWER_S - STATEMENT_S
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._is_closed = False
        settings = {**_SERVER_SIDE, "search_path": schema, "statement_timeout": f"{statement_s:g}s"}
        if is_read_only:
            settings["default_transaction_read_only"] = "on"
        given = _read(url)
        self.address = _shown(given)
        options = " ".join(f"-c {key}={value}" for key, value in settings.items())
        usual = {**_CONNECTING, **({"target_session_attrs": "any"} if is_read_only else {})}
        self._secret = given.get("password", "")
        self._conninfo = make_conninfo(
            **{**usual, "application_name": name, **given, "options": f"{given.get('options', '')} {options}".strip()}
        )

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that has not been found broken."""
        connection = self._connection
        return connection is not None and not connection.closed

    def open(self) -> None:
        """Connect, where there is no connection. Raises StoreError."""
        self.run(lambda _: None, doing="opened")

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a SELECT. Raises StoreError."""
        return self._on_connection(lambda connection: connection.execute(query, values).fetchall(), "read")

    def run(self, work: Callable[[Connection], T], *, doing: str) -> T:
        """What *work* returns; all that it does is one transaction. Raises StoreError: the ledger cannot be *doing*.

        Statements are sent without waiting for each other's answers. Where the server has dropped a connection that
        stood before (it was restarted), *work* is called once more on a new one. What was done by a transaction
        whose end was not heard is not known: *work* must find out.
        """

        def in_transaction(connection: Connection) -> T:
            with connection.pipeline(), connection.transaction():
                return work(connection)

        return self._on_connection(in_transaction, doing)

    def close(self) -> None:
        """Close the connection; there will be no other."""
        with self._turn:
            self._is_closed = True
            self._drop()

    def _on_connection(self, call: Callable[[Connection], T], doing: str) -> T:
        with self._turn:
            was_connected = self.is_connected
            try:
                try:
                    return self._limited_call(call)
                except psycopg.OperationalError as error:
                    if self.is_connected or not was_connected or isinstance(error, _Frozen):
                        raise
                return self._limited_call(call)
            except psycopg.Error as error:
                if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                    self._drop()  # it has become a standby: another of the hosts may be the server now
                raise self._store_error(error, doing) from error

    def _limited_call(self, call: Callable[[Connection], T]) -> T:
        connection = self._connected()
        with self._limited(connection):
            return call(connection)

    def _connected(self) -> Connection:
        if self._is_closed:
            raise StoreError(f"{self.address}: the ledger is closed")
        connection = self._connection
        if connection is None or connection.closed:
            connection = psycopg.connect(self._conninfo, autocommit=True)
            try:
                if connection.info.server_version < _OLDEST:
                    raise StoreError(f"{self.address}: is older than PostgreSQL 13, which is needed")
                with self._limited(connection):
                    self._greet(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return connection

    @contextlib.contextmanager
    def _limited(self, connection: Connection) -> Iterator[None]:
        """Cut *connection* where the block takes too long: a frozen server keeps no time limit of its own."""
        is_over, is_cut, turn = False, False, threading.Lock()

        def cut() -> None:
            nonlocal is_cut
            with turn:
                if not is_over:
                    is_cut = True
                    # libpq owns the socket and closes it; the copy ends the connection under it.
                    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as copy:
                        copy.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._answer_s, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error as error:
            if not is_cut:
                raise
            connection.close()
            raise _Frozen(f"no answer within {self._answer_s:g} s") from error
        finally:
            with turn:
                is_over = True
            timer.cancel()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _store_error(self, error: psycopg.Error, doing: str) -> StoreError:
        cause = _cause(error)
        if self._secret:
            cause = cause.replace(self._secret, "***")
        return StoreError(f"{self.address}: cannot be {doing}: {cause}: {_advice(error)}")


def _read(url: str) -> dict[str, str]:
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error:
        given = {}
    if not given or not _PORTS.fullmatch(given.get("port", "")):
        # Neither the address nor the cause is shown: either may hold a password.
        raise StoreError("the ledger's address is none of a PostgreSQL database: postgresql://HOST/NAME")
    return given


def _shown(given: dict[str, str]) -> str:
    """The address without what must not be seen."""
    user = f"{given['user']}@" if "user" in given else ""
    port = f":{given['port']}" if "port" in given else ""
    return f"postgresql://{user}{given.get('host', '')}{port}/{given.get('dbname', '')}"


def _cause(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


def _advice(error: psycopg.Error) -> str:
    match error:
        case psycopg.errors.InsufficientPrivilege():
            return "give its user the right to it (GRANT CREATE ON DATABASE ... TO ...)"
        case psycopg.errors.UndefinedTable():
            return "no master has kept its ledger there under this root"
        case psycopg.errors.QueryCanceled() | psycopg.errors.LockNotAvailable():
            return "it is too slow, or another program holds the tables"
        case psycopg.OperationalError():
            return "see that PostgreSQL runs there, has room on its disk, and lets this user in"
    return "see the log of PostgreSQL"
