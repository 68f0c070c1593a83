"""A whole mesh of processes, each behind a network of its own, and somebody who asks it at a steady pace."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from pibot_mesh.client import Client
from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import NoMaster
from pibot_mesh.protocol.messages import Event, Reply, State
from tests.brokers import Mosquitto, Recorder, until
from tests.faults.disk import Disk
from tests.faults.party import Ailment
from tests.faults.proxy import Proxy
from tests.faults.table import Row

_log = logging.getLogger(__name__)

NODES: Final = ("worker-1", "worker-2")
QUICK_TO_NOTICE: Final = Ailment(keepalive_s=3, will_delay_s=1)
STARTS_WITHIN_S: Final = 30.0
RECOVERS_WITHIN_S: Final = 60.0
REQUEST_TIMEOUT_S: Final = 90.0
PACE_S: Final = 0.08
"""A request follows the one before after so long, whatever has become of it, unless `IN_FLIGHT` wait for a reply."""
IN_FLIGHT: Final = 40
AT_LEAST: Final = 40
"""Requests that are made around each fault, if it is over sooner."""
KEPT: Final = ("persistence true", "autosave_interval 1")
"""A broker that keeps over a kill what it knew a second before."""


class Party:
    """A master or a node in a process of its own; its state is on *disk*, where it has one, else in *state_dir*."""

    def __init__(
        self,
        name: str,
        port: int,
        state_dir: Path,
        root: str,
        ailment: Ailment = QUICK_TO_NOTICE,
        *,
        disk: Disk | None = None,
    ) -> None:
        self.name = name
        self.state_dir = state_dir
        prefix = []
        if disk is not None:
            prefix, ailment = disk.prefix, replace(ailment, disk=str(disk.folder))
        module = [sys.executable, "-m", "tests.faults.party"]
        self._command = [*prefix, *module, name, str(port), str(state_dir), root, json.dumps(asdict(ailment))]
        self._log = state_dir / "log.txt"
        state_dir.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written since it was made."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether its process has not ended."""
        return self._process.poll() is None

    def start(self) -> None:
        """Start it, for the first time or again."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)


class Mesh:
    """A broker, a master and nodes, each behind a proxy, an asker behind another, and a watcher with a good line."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder = folder
        self.root = f"test-{uuid.uuid4().hex[:8]}"
        self.broker = broker
        self.parties: dict[str, Party] = {}
        self.proxies: dict[str, Proxy] = {}
        self.disks: Mapping[str, Disk] = {}
        self.watcher: Recorder
        self.client: Client

    async def begin(
        self,
        stack: AsyncExitStack,
        ailment: Ailment,
        nodes: Sequence[str],
        disks: Mapping[str, Disk],
        *,
        has_proxies: bool,
    ) -> None:
        """Start all, and wait until all are online. What was started ends with *stack*."""
        self.disks = disks
        ports = dict.fromkeys(("master", *nodes, "asker"), self.broker.port)
        if has_proxies:
            self.proxies = {name: await stack.enter_async_context(Proxy(port)) for name, port in ports.items()}
            ports = {name: proxy.port for name, proxy in self.proxies.items()}
        for name in ("master", *nodes):
            party = Party(name, ports[name], self.folder / name, self.root, ailment, disk=disks.get(name))
            stack.callback(party.kill)
            self.parties[name] = party
        shown = [
            f"{self.root}/{each}"
            for each in ("master/status", "node/+/status", "node/+/out/+", "node/+/task/+/event", "request/+/reply")
        ]
        self.watcher = await stack.enter_async_context(Recorder(self.broker.settings, "watcher", *shown))
        await until(self.is_online, "all are online", timeout_s=STARTS_WITHIN_S)
        settings = BrokerSettings(port=ports["asker"], keepalive_s=ailment.keepalive_s)
        self.client = await stack.enter_async_context(Client(settings, root=self.root, wait_s=STARTS_WITHIN_S))

    def is_online(self) -> bool:
        """Whether the last word of every party was ``online``."""
        return all(self.says(party, b"online") for party in self.parties)

    async def works(self) -> None:
        """Wait until every node does what is asked: what was done to them before may be but just healed."""
        for node in NODES:
            async with asyncio.timeout(STARTS_WITHIN_S):
                while await self._tried(node) is not State.COMPLETED:
                    await asyncio.sleep(0.1)

    async def _tried(self, node: str) -> State:
        reply = await self.client.ask(f"turn on the fan on {node}", timeout_s=STARTS_WITHIN_S)
        return reply.state

    def says(self, party: str, status: bytes) -> bool:
        """Whether this is the status of *party*."""
        topic = "master/status" if party == "master" else f"node/{party}/status"
        return self.last(topic) == status

    def last(self, topic: str) -> bytes | None:
        """The last message on a topic under the root, where there was one."""
        whole = f"{self.root}/{topic}"
        return next((each.payload for each in reversed(self.watcher.received) if each.topic == whole), None)

    def replies(self) -> dict[str, set[bytes]]:
        """All different replies that were ever published, by request."""
        seen: dict[str, set[bytes]] = {}
        for message in self.watcher.received:
            if message.topic.endswith("/reply"):
                seen.setdefault(message.topic.split("/")[-2], set()).add(message.payload)
        return seen

    def has_heard(self, words: str, *, since: int) -> bool:
        """Whether *words* stand in a message that came after *since* others: a reply, or a word of a node."""
        return any(words.encode() in message.payload for message in self.watcher.received[since:])

    def effects(self) -> Counter[str]:
        """How often each task set an output, as the nodes' own records tell."""
        return Counter(line.split()[1] for name in self._nodes for line in self._made(name) if line.startswith("task "))

    def states_are_true(self) -> bool:
        """Whether each output that was set since its node started is shown as it was set last."""
        for node in self._nodes:
            made = self._made(node)
            since = len(made) - made[::-1].index("start")
            shown = {line.split()[2]: line.split()[3] for line in made[since:]}
            if any(self.last(f"node/{node}/out/{device}") != _payload(value) for device, value in shown.items()):
                return False
        return True

    @property
    def _nodes(self) -> list[str]:
        return [name for name in self.parties if name != "master"]

    def _made(self, node: str) -> list[str]:
        return (self.folder / node / "effects.log").read_text(encoding="utf-8").splitlines()


@asynccontextmanager
async def running_mesh(
    folder: Path,
    ailment: Ailment = QUICK_TO_NOTICE,
    *,
    options: Sequence[str] = KEPT,
    nodes: Sequence[str] = NODES,
    disks: Mapping[str, Disk] = MappingProxyType({}),
    has_proxies: bool = True,
) -> AsyncIterator[Mesh]:
    """A mesh of which everything is online. Without proxies, nothing of it goes through this process."""
    async with AsyncExitStack() as stack:
        broker = Mosquitto()
        broker.add(*options, f"persistence_location {broker.folder}/") if options else None
        stack.enter_context(broker)
        mesh = Mesh(folder, broker)
        await mesh.begin(stack, ailment, nodes, disks, has_proxies=has_proxies)
        yield mesh


@dataclass(slots=True, eq=False)
class Asked:
    """One request: whose work it needs, and what became of it. Instants are those of the running loop."""

    id: str
    node: str
    is_accepted: bool = False
    reply: Reply | None = None
    replied_at: float = 0.0

    @property
    def is_completed(self) -> bool:
        return self.reply is not None and self.reply.state is State.COMPLETED


class Asking:
    """Requests at a steady pace, from entering until `finish`; leaving gives up what has no reply."""

    def __init__(self, mesh: Mesh, chance: random.Random) -> None:
        self._mesh = mesh
        self._chance = chance
        self._name = uuid.uuid4().hex[:6]
        self.asked: list[Asked] = []
        self._work: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._pace = asyncio.ensure_future(self._ask_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in {self._pace, *self._work}:
            task.cancel()
        await asyncio.gather(self._pace, *self._work, return_exceptions=True)

    async def finish(self) -> None:
        """Ask no more, and wait for all replies."""
        self._pace.cancel()
        await asyncio.gather(*self._work)

    def has_completed(self, since: float, node: str | None = None) -> float | None:
        """When the first request after *since* was completed whose work needed *node*, or any."""
        instants = [
            each.replied_at
            for each in self.asked
            if each.is_completed and each.replied_at >= since and node in (None, each.node)
        ]
        return min(instants, default=None)

    async def _ask_on(self) -> None:
        while True:
            asked = Asked(f"{self._name}-{len(self.asked)}", NODES[len(self.asked) % len(NODES)])
            self.asked.append(asked)
            task = asyncio.ensure_future(self._ask(asked))
            self._work.add(task)
            task.add_done_callback(self._work.discard)
            await asyncio.sleep(PACE_S * self._chance.uniform(0.5, 1.5))
            while len(self._work) >= IN_FLIGHT:
                await asyncio.wait(self._work, return_when=asyncio.FIRST_COMPLETED)

    async def _ask(self, asked: Asked) -> None:
        def note(event: Event) -> None:
            asked.is_accepted |= event.type == "request_accepted"

        with suppress(NoMaster):  # without a reply, then
            asked.reply = await self._mesh.client.ask(
                sentence(asked.node, self._chance), request_id=asked.id, timeout_s=REQUEST_TIMEOUT_S, on_event=note
            )
            asked.replied_at = asyncio.get_running_loop().time()
            asked.is_accepted |= asked.reply.state is not State.REJECTED


def sentence(node: str, chance: random.Random) -> str:
    """A request that sets one output of *node*, and sometimes reads as well."""
    return chance.choice(
        [
            f"turn on the fan on {node}",
            f"turn off the fan on {node}",
            f"set the lamp on {node} to {chance.randint(1, 99)} %",
            f"turn on the fan on {node} and read the temperature on {node}",
        ]
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """Harm to one party. *strike* lasts from the first blow until all is well again.

    *node* is the node that the harm is done to, where it is one. *kills*: work may be cut off in the middle, and end as
    unknown.
    """

    name: str
    strike: Callable[[Mesh, random.Random], Awaitable[None]]
    node: str | None = None
    kills: bool = False


async def endure(mesh: Mesh, fault: Fault, seed: int) -> Row:
    """Ask, have *fault* strike in the middle, ask on until the mesh has recovered, and judge what became of it all."""
    chance = random.Random(f"{fault.name} {seed}")
    loop = asyncio.get_running_loop()
    what = f"{fault.name}, seed {seed}"
    async with Asking(mesh, chance) as asking:
        began = loop.time()
        await until(lambda: asking.has_completed(began, fault.node), f"{what}: it works before", timeout_s=30)
        await asyncio.sleep(chance.uniform(0.0, 0.5))  # the moment of the blow
        await fault.strike(mesh, chance)
        healed = loop.time()
        await until(
            lambda: asking.has_completed(healed, fault.node), f"{what}: it works again", timeout_s=RECOVERS_WITHIN_S
        )
        recovered = asking.has_completed(healed, fault.node)
        assert recovered is not None
        await until(lambda: len(asking.asked) >= AT_LEAST, f"{what}: enough was asked", timeout_s=RECOVERS_WITHIN_S)
        await asking.finish()
    await until(mesh.is_online, f"{what}: all are online again", timeout_s=STARTS_WITHIN_S)
    row = _judged(mesh, asking.asked, fault, recovered - healed)
    _log.info("%s: %s", what, row)
    assert row.lost == 0, f"{what}: no reply to {[each.id for each in asking.asked if each.reply is None]}"
    assert row.duplicated == 0, f"{what}: {_twice(mesh, asking.asked)}"
    untrue = [f"{each.id}: {why}" for each in asking.asked if (why := _untrue(mesh.effects(), each, fault))]
    assert untrue == [], f"{what}: {'; '.join(untrue)}"
    await until(mesh.states_are_true, f"{what}: every output is shown as it is")
    return row


def _judged(mesh: Mesh, asked: Sequence[Asked], fault: Fault, recovery_s: float) -> Row:
    return Row(
        fault.name,
        accepted=sum(each.is_accepted for each in asked),
        replied=sum(each.reply is not None for each in asked),
        duplicated=len(_twice(mesh, asked)),
        lost=sum(each.reply is None for each in asked),
        recovery_s=round(recovery_s, 3),
    )


def _twice(mesh: Mesh, asked: Sequence[Asked]) -> list[str]:
    """What happened more than once, of which it may not: a task's effect, or two different replies to one request."""
    ids = {each.id for each in asked}
    tasks = [task for task, count in mesh.effects().items() if count > 1 and task.rpartition("-")[0] in ids]
    replies = [request for request, payloads in mesh.replies().items() if len(payloads) > 1 and request in ids]
    return tasks + replies


def _untrue(effects: Counter[str], asked: Asked, fault: Fault) -> str:
    """What of the reply is not so, in words; nothing where all is.

    A node that is missed is refused new work. One that was killed between an effect and its record looks after its
    start what its pins are at, so that a request can count as completed whose effect nobody made.
    """
    assert asked.reply is not None
    state, is_made = asked.reply.state, effects[f"{asked.id}-s1"] > 0
    if state is State.COMPLETED:
        return "" if is_made or fault.kills else "completed, and was not done"
    if is_made and not (fault.kills and state is State.UNKNOWN):
        return f"{state}, and was done: {asked.reply.text}"
    return "" if fault.kills or state is State.REJECTED else f"{state}: {asked.reply.text}"


def _payload(value: str) -> bytes:
    """What stands on the topic of an output that was set so."""
    return {"True": b"ON", "False": b"OFF"}.get(value) or f"{float(value):.6g}".encode()


def seeds() -> list[int]:
    """The seeds of this run: one, or as ``PIBOT_FAULT_SEEDS`` says (``7`` or ``7-9``)."""
    first, _, last = os.environ.get("PIBOT_FAULT_SEEDS", "1").partition("-")
    return list(range(int(first), int(last or first) + 1))
