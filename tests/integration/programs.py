"""Programs as a person starts them: real processes, whose output is read as it comes, ended by their own id."""

from __future__ import annotations

import os
import pty
import re
import select
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


class Terminal:
    """A program on a terminal of its own, as a person has it. On leaving it is killed, where it has not ended."""

    def __init__(self, args: Sequence[str], *, env: Mapping[str, str]) -> None:
        self.number, theirs = pty.openpty()
        self.process = subprocess.Popen(
            args,
            env={**env, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm", "NO_COLOR": "1"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.number, keys.encode())

    def wait_for(self, pattern: str) -> None:
        """Read the screen until *pattern* comes, behind what was waited for before."""
        deadline = time.monotonic() + DEADLINE_S
        while not (match := re.search(pattern, self.text)):
            assert self._read(deadline), f"{pattern!r} did not come:\n{self.text}"
        self.text = self.text[match.end() :]

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Read the rest of the screen; the exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        assert time.monotonic() < deadline, "it does not end"
        return self.process.wait(timeout_s)

    def _read(self, deadline: float) -> bool:
        """Read what there is, or wait for it. False at the end, and after *deadline*."""
        readable, _, _ = select.select([self.number], [], [], max(0.0, deadline - time.monotonic()))
        try:
            block = os.read(self.number, 4096) if readable else b""
        except OSError:  # how Linux says that nobody has the terminal open any more
            block = b""
        self.text += block.decode("utf-8", "replace")
        return bool(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.number)


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
