"""One trial: a system does tasks while its parts are killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from reliability_peers.counting import Count, Done, Restart, count
from reliability_peers.order import VARIABLE, Order
from reliability_peers.peer import Peer, PeerError, answers

BENCHMARKS: Final = Path(__file__).resolve().parents[1]
DOWN_S: Final = 0.3
"""How long a killed part stays away."""
WORKS_S: Final = (0.05, 0.4)
"""A part is killed that long, by the seed, after work has gone on."""
START_S: Final = 30.0
LIMIT_S: Final = 150.0
"""How long the submitter, and then the rest, may take; what is not done by then is lost."""
LOOK_S: Final = 0.01


class Child:
    """A process in a group of its own; *name* is that of its log."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._command = command
        self._env = env
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._env),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL for it and all that it has started, as when the power goes."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def code(self) -> int | None:
        """The exit code of one that ended by itself."""
        return None if self._process is None else self._process.poll()

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-6:])

    @property
    def _log(self) -> Path:
        return self._folder / f"{self.name}.log"


class Effects:
    """What has been done so far, read from the workers' file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.done: list[Done] = []

    def look(self) -> None:
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._at)
            block = file.read()
            whole = block[: block.rfind(b"\n") + 1]
            self._at += len(whole)
            for line in whole.decode().splitlines():
                task, at_s = line.split()
                self.done.append(Done(task, float(at_s)))

    @property
    def latest_s(self) -> float:
        return self.done[-1].at_s if self.done else 0.0

    @property
    def tasks(self) -> int:
        """How many different tasks have been done."""
        return len({one.id for one in self.done})


class Trial:
    """*peer* with the tasks of *order*; *kills* says how often each of its parts is killed."""

    def __init__(self, peer: Peer, python: str, order: Order, kills: Mapping[str, int]) -> None:
        folder = Path(order.folder)
        env = {**_clean(), VARIABLE: str(order.save())}
        setup = peer.setup(python, order)
        self._peer = peer
        self._order = order
        self._kills = kills
        self._parts = {name: Child(name, command, env, folder) for name, command in setup.parts.items()}
        self._submitter = Child("submitter", setup.submitter, env, folder)
        self._effects = Effects(order.effects)
        self._restarts: list[Restart] = []
        self._is_down: set[str] = set()
        self._fallen = 0

    async def run(self) -> Count:
        """What came of it. Raises PeerError where the system does not start, or its submitter fails."""
        watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_up())]
        try:
            await self._start()
            settled = asyncio.create_task(self._settle())
            watching.append(settled)
            chances = {part: random.Random(f"{self._order.seed} {part}") for part in self._kills}
            await asyncio.gather(*(self._harm(part, chances[part], settled) for part in self._kills))
            await settled
            await self._settle()  # again: the last kill may have come as the rest was over
        finally:
            for one in watching:
                one.cancel()
            for child in (self._submitter, *self._parts.values()):
                child.kill()
        said = _read_said(self._order.said)
        tasks = (task.id for task in self._order.all_tasks())
        self._effects.look()
        return count(tasks, self._effects.done, said, self._restarts, fallen=self._fallen)

    async def _start(self) -> None:
        """Broker first, then the rest, then the submitter, once the first worker is ready."""
        self._is_down = set(self._parts)
        for name, child in self._parts.items():
            child.start()
            self._is_down.discard(name)
            if name == "broker":
                await self._until(lambda: answers(self._order.port), START_S, "the broker does not answer")
        await self._until(self._order.ready.exists, START_S, "the worker does not come up")
        self._submitter.start()
        await self._until(lambda: self._effects.done, START_S, "no task is done")

    async def _harm(self, part: str, chance: random.Random, settled: asyncio.Task[None]) -> None:
        """Kill *part* and start it again, as often as it is to be, while there is work; each time amid the work."""
        child, since_s = self._parts[part], 0.0
        for _ in range(self._kills[part]):
            while self._effects.latest_s <= since_s and not settled.done():
                await asyncio.sleep(LOOK_S)
            await asyncio.sleep(chance.uniform(*WORKS_S))
            if settled.done() or self._effects.tasks == self._order.tasks:
                return
            self._is_down.add(part)
            child.kill()
            await asyncio.sleep(DOWN_S)
            since_s = time.monotonic()
            child.start()
            self._is_down.discard(part)
            self._restarts.append(Restart(part, since_s))

    async def _settle(self) -> None:
        """Wait until nothing more happens: all is submitted, nothing waits at the broker, and no effect comes."""
        with suppress(PeerError):
            await self._until(lambda: self._submitter.code is not None, LIMIT_S, "")
        if self._submitter.code:
            raise PeerError(f"the submitter of {self._peer.name} failed: {self._submitter.last_words}")
        quiet_since_s, deadline_s = time.monotonic(), time.monotonic() + LIMIT_S
        while time.monotonic() < deadline_s:
            await asyncio.sleep(0.1)
            if not self._peer.is_drained(self._order):
                quiet_since_s = time.monotonic()
            if time.monotonic() - max(quiet_since_s, self._effects.latest_s) > self._peer.quiet_s:
                return

    async def _watch(self) -> None:
        while True:
            self._effects.look()
            await asyncio.sleep(LOOK_S)

    async def _keep_up(self) -> None:
        """Start again what ended by itself, as a supervisor does."""
        while True:
            await asyncio.sleep(DOWN_S)
            for name, child in self._parts.items():
                if name not in self._is_down and child.code is not None:
                    self._fallen += 1
                    child.start()

    async def _until(self, condition: Callable[[], object], within_s: float, complaint: str) -> None:
        deadline_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline_s:
                words = "\n".join(child.last_words for child in self._parts.values())
                raise PeerError(f"{self._peer.name}: {complaint} within {within_s:g} s:\n{words}")
            await asyncio.sleep(LOOK_S)


def _clean() -> dict[str, str]:
    """The environment variables of all programs: no proxies, no settings of a user's; our code from this tree."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), str(BENCHMARKS)])}


def _read_said(path: Path) -> dict[str, str]:
    with suppress(FileNotFoundError):
        said: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return said
    return {}
