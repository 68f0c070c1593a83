"""A real PostgreSQL for tests: on a free port of the loopback interface, killed and started again, ended by its id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.brokers import HOST, free_port

READY_S: Final = 30.0


def _programs() -> Path | None:
    """The folder of the newest PostgreSQL that is installed."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).parent
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(folders, key=lambda folder: float(folder.parent.name), default=None)


PROGRAMS: Final = _programs()
needs_postgres = pytest.mark.skipif(PROGRAMS is None, reason="postgresql is not installed: sudo apt install postgresql")


class Postgres:
    """The installed PostgreSQL with a database of its own. As a context it runs.

    It syncs to disk, as in earnest. Since it refuses to run as root, it then runs as another user.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-test-postgres-"))
        self._user = _other_user() if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._data = self.folder / "data"
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        initdb = ["initdb", "-D", str(self._data), "-U", "pibot", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(self._command(initdb), check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        """The address of its database."""
        return f"postgresql://pibot@{HOST}:{self.port}/postgres"

    @property
    def log(self) -> str:
        """What it has written since it was made."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def uptime_s(self) -> float:
        """Seconds since it was started."""
        [[seconds]] = self.rows("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8")
        assert isinstance(seconds, float)
        return seconds

    def start(self) -> None:
        """Start it, and wait until it lets clients in."""
        deadline = time.monotonic() + READY_S
        self._launch()
        while not self._answers():
            assert time.monotonic() < deadline, f"PostgreSQL lets nobody in:\n{self.log}"
            if self._process is not None and self._process.poll() is not None:
                self._launch()  # what a killed one has left behind is still in use
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL to all its processes: as if the power went."""
        if self._process is not None:
            for process in self._processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again on the same port."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP to all its processes: connections stay, and nothing is answered until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """What a query returns."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def __enter__(self) -> Postgres:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self) -> None:
        settings = [
            f"listen_addresses={HOST}",
            f"port={self.port}",
            "unix_socket_directories=",
            "fsync=on",
            "max_connections=40",
            "shared_buffers=16MB",
            "log_min_messages=warning",
        ]
        options = [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(["postgres", "-D", str(self._data), *options]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def _command(self, words: Sequence[str]) -> list[str]:
        assert PROGRAMS is not None
        command = [str(PROGRAMS / words[0]), *words[1:]]
        if self._user is None:
            return command
        return ["setpriv", f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups", *command]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def _processes(self) -> list[int]:
        """The first one, and those that it has begun."""
        assert self._process is not None
        first = self._process.pid
        try:
            children = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split()
        except OSError:
            children = []
        return [first, *map(int, children)]

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


def _other_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
