"""Two masters on one PostgreSQL: each is killed, frozen, and robbed of its database; nothing is lost, nothing twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from pibot_mesh.client import Client
from pibot_mesh.errors import NoMaster
from pibot_mesh.master.postgres import LEASE_S
from pibot_mesh.master.postgres_schema import schema_of
from pibot_mesh.protocol.messages import Reply, State
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until
from tests.postgres import Postgres, needs_postgres

pytestmark = [needs_mosquitto, needs_postgres]

NODES = ("worker-1", "worker-2", "worker-3")
IN_FLIGHT = 100
LONG_S = 60.0


class Party:
    """A master or a node in a process of its own."""

    def __init__(self, state_dir: Path, module: str, *words: str) -> None:
        self.state_dir = state_dir
        state_dir.mkdir()
        self._command = [sys.executable, "-m", module, *words]
        self.start()

    def start(self) -> None:
        with (self.state_dir / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def boot(self) -> str:
        return (self.state_dir / "boot").read_text()

    @property
    def log(self) -> str:
        return (self.state_dir / "log.txt").read_text()


class Mesh:
    """A broker, a database, two masters and three nodes, and somebody who asks without a pause."""

    def __init__(self, folder: Path, broker: Mosquitto, database: Postgres, watcher: Recorder, root: str) -> None:
        self.folder = folder
        self.root = root
        self.broker = broker
        self.database = database
        self.watcher = watcher
        port = str(broker.port)
        self.masters = [
            Party(folder / name, "tests.faults.shared_master", port, str(folder / name), root, database.url)
            for name in ("m1", "m2")
        ]
        self.nodes = [Party(folder / n, "tests.faults.party", n, port, str(folder / n), root) for n in NODES]
        self.replies: dict[str, Reply] = {}
        self.plain: list[int] = []
        self._is_over = False
        self._number = 0

    def online(self) -> set[str]:
        """The nodes whose last word was ``online``."""
        return {name for name in NODES if self._last(f"{self.root}/node/{name}/status") == b"online"}

    def _last(self, topic: str) -> bytes | None:
        return next((each.payload for each in reversed(self.watcher.received) if each.topic == topic), None)

    async def ask(self, client: Client) -> None:
        """One request after the other, until `finish`."""
        while not self._is_over:
            number = self._number
            self._number += 1
            node, other = NODES[number % 3], NODES[(number + 1) % 3]
            sentence = [
                f"turn {'on' if number % 2 else 'off'} the fan on {node}",
                f"set the lamp on {node} to {number % 50} %",
                f"turn on the fan on {node} and read the temperature on {other}",
            ][number % 7 % 3]
            name = f"r{number}"
            try:
                reply = await client.ask(sentence, request_id=name, timeout_s=LONG_S)
            except NoMaster as error:
                raise AssertionError(f"{error}\nthe ledger: {self._standing_of(name)}") from error
            assert name not in self.replies
            self.replies[name] = reply

    async def say(self, every_s: float) -> None:
        """In plain text, something else each time."""
        for percent in range(50, 100):
            if self._is_over:
                return
            self.watcher.client.publish(
                f"{self.root}/request", f"set the lamp on worker-1 to {percent} %".encode(), qos=1
            )
            self.plain.append(percent)
            await asyncio.sleep(every_s)

    def finish(self) -> None:
        self._is_over = True

    async def more_replies(self, number: int = IN_FLIGHT // 2) -> None:
        """Wait for so many further replies."""
        aim = len(self.replies) + number
        await until(lambda: len(self.replies) >= aim, f"{number} more replies", timeout_s=LONG_S)

    async def strike(self, master: Party, blow: Callable[[], None]) -> float:
        """Strike *master* while requests of its own are open; the seconds until none of them is its own any more."""
        boot = master.boot
        with self._tables() as tables:
            await until(lambda: _open_of(tables, boot) > 0, "something is in flight there", timeout_s=LONG_S)
            blow()
            began = time.monotonic()
            await until(lambda: _open_of(tables, boot) == 0, "all is taken over", timeout_s=LONG_S)
        return time.monotonic() - began

    async def takes_requests(self, master: Party) -> None:
        """Wait until something belongs to *master*."""
        with self._tables() as tables:
            await until(lambda: _open_of(tables, master.boot) > 0, f"{master.boot} takes requests", timeout_s=LONG_S)

    def _standing_of(self, name: str) -> object:
        with self._tables() as tables:
            return tables.execute("SELECT owner, epoch, is_done, record FROM request WHERE id = %s", [name]).fetchall()

    def _tables(self) -> psycopg.Connection[tuple[Any, ...]]:
        path = f"-c search_path={schema_of(self.root)}"
        return psycopg.connect(self.database.url, autocommit=True, options=path)

    def differing_replies(self) -> list[str]:
        """The requests to which two different replies were published."""
        said: dict[str, set[bytes]] = {}
        for message in self.watcher.received:
            if message.topic.startswith(f"{self.root}/request/") and message.topic.endswith("/reply"):
                said.setdefault(message.topic, set()).add(message.payload)
        return [f"{topic}: {payloads}" for topic, payloads in said.items() if len(payloads) > 1]

    def effects(self) -> list[list[str]]:
        """What the nodes' own records tell: by whom, for which task, which device, which value."""
        lines = [line for node in self.nodes for line in (node.state_dir / "effects.log").read_text().splitlines()]
        return [line.split() for line in lines if line.startswith("task ")]

    def check(self) -> None:
        """Every request has one reply and was done, and no task and no plain text was done twice."""
        assert len(self.replies) == self._number
        assert self.differing_replies() == []
        tasks = Counter(task for _, task, *_ in self.effects())
        assert {task: count for task, count in tasks.items() if count > 1} == {}
        lamp = Counter(round(float(v)) for _, _, device, v in self.effects() if device == "lamp" and float(v) >= 50)
        assert {percent: count for percent, count in lamp.items() if count > 1} == {}
        assert Counter(reply.state for reply in self.replies.values()) == {State.COMPLETED: self._number}

    def not_done(self) -> list[int]:
        """What was said in plain text, and not done."""
        done = {round(float(v)) for _, _, device, v in self.effects() if device == "lamp"}
        return [percent for percent in self.plain if percent not in done]


@asynccontextmanager
async def mesh(folder: Path) -> AsyncIterator[Mesh]:
    root = f"test-{uuid.uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto())
        database = stack.enter_context(Postgres())
        watcher = await stack.enter_async_context(
            Recorder(broker.settings, "watcher", f"{root}/node/+/status", f"{root}/request/+/reply", f"{root}/reply")
        )
        mesh = Mesh(folder, broker, database, watcher, root)
        for party in (*mesh.masters, *mesh.nodes):
            stack.callback(party.kill)
        await until(lambda: mesh.online() == set(NODES), "all nodes are online", timeout_s=30)
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pibot-master-%%'"
        await until(lambda: database.rows(query) == [(2,)], "both masters are there", timeout_s=30)
        await until(lambda: database.uptime_s > LEASE_S, "silence of a master is believed")
        yield mesh


@asynccontextmanager
async def busy(mesh: Mesh) -> AsyncIterator[None]:
    """100 requests are in flight at any time, and something is said in plain text now and then."""
    async with Client(mesh.broker.settings, root=mesh.root, wait_s=20) as client, asyncio.TaskGroup() as askers:
        for _ in range(IN_FLIGHT):
            askers.create_task(mesh.ask(client))
        askers.create_task(mesh.say(every_s=0.5))
        try:
            await mesh.more_replies(IN_FLIGHT)
            yield
            await mesh.more_replies(IN_FLIGHT)
        finally:
            mesh.finish()


def _open_of(tables: psycopg.Connection[tuple[Any, ...]], boot: str) -> int:
    query = "SELECT count(*) FROM request WHERE owner = %s AND NOT is_done"
    [[count]] = tables.execute(query, [boot]).fetchall()
    return int(count)


def tell(mesh: Mesh, took: list[float]) -> None:
    """The figures of a run."""
    seconds = ", ".join(f"{each:.2f}" for each in took)
    plain = len(mesh.plain) - len(mesh.not_done())
    print(f"{len(mesh.replies)} requests, taken over after {seconds} s")
    print(f"plain text: {plain} of {len(mesh.plain)} done")


async def test_each_master_is_killed_and_then_the_database_with_100_requests_in_flight(tmp_path: Path) -> None:
    """kill -9: each request gets one reply and is done, and none is done twice."""
    took: list[float] = []
    async with mesh(tmp_path) as all_:
        async with busy(all_):
            for master in all_.masters:
                former = master.boot
                took.append(await all_.strike(master, master.kill))
                await all_.more_replies()
                master.start()
                await until(partial(_has_another_boot, master, former), "it starts", timeout_s=LONG_S)
                await all_.takes_requests(master)
            all_.database.restart()
            for master in all_.masters:
                await all_.takes_requests(master)
        tell(all_, took)
        all_.check()


def _has_another_boot(master: Party, former: str) -> bool:
    return master.boot not in ("", former)


async def test_a_master_that_was_frozen_for_longer_than_its_lease_does_nothing_that_is_not_its_own(
    tmp_path: Path,
) -> None:
    """SIGSTOP, first the one and then the other: what was its is done by the other, and it finds that out."""
    took: list[float] = []
    async with mesh(tmp_path) as all_:
        async with busy(all_):
            for master in all_.masters:
                took.append(await all_.strike(master, master.freeze))
                await all_.more_replies()
                master.thaw()
                await all_.takes_requests(master)
        tell(all_, took)
        all_.check()
