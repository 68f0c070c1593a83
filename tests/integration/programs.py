"""Programs as a person starts them: real processes, whose output is read as it comes, ended by their own id."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

DEADLINE_S = 15.0
PIBOT = (sys.executable, "-c", "import sys; sys.argv[0] = 'pibot'; from pibot_mesh.cli.main import main; main()")


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user whose home is *home*, and who has set nothing for the mesh."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PIBOT_")}
    return {**ours, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **more}


class Program:
    """A process in a session of its own. On leaving it is killed, where it has not ended by then."""

    def __init__(self, args: Sequence[str], *, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            args,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._texts = {"out": "", "err": ""}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._texts["out"]

    @property
    def err(self) -> str:
        """What it has said on standard error so far."""
        return self._texts["err"]

    def wait_for(self, pattern: str, *, timeout_s: float = DEADLINE_S) -> re.Match[str]:
        """Wait until its output (of both kinds) has *pattern*, lines as MULTILINE means them."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for text in self._texts.values():
                    if match := re.search(pattern, text, re.MULTILINE):
                        return match
                left = deadline - time.monotonic()
                assert left > 0, f"{pattern!r} did not come; out:\n{self.out}\nerr:\n{self.err}"
                self._changed.wait(min(left, 0.5))

    def say(self, line: str) -> None:
        """Give it one line on standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send a signal as a terminal does: to all processes of its group."""
        os.killpg(self.process.pid, number)

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Its exit code, once it has ended and all its output is here."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(timeout_s)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None and stream is self.process.stdin:
                stream.close()

    def _read(self, name: str, stream: IO[str] | None) -> None:
        assert stream is not None
        for line in stream:
            with self._changed:
                self._texts[name] += line
                self._changed.notify_all()


def descendants(pid: int) -> set[int]:
    """The ids of the processes that *pid* and its children have started and that still run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found, waiting = set(), [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    stat = _stat(pid)
    return stat is not None and stat[0] != "Z"


def _stat(pid: int) -> list[str] | None:
    """State, parent and so on; what stands behind the name of the program."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
