"""The mesh on three NATS servers with JetStream: one after the other is killed and started again under its work."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from operator import sub
from pathlib import Path

import pytest

from pibot_mesh.client import Client
from pibot_mesh.protocol.messages import Reply, State
from tests.brokers import Recorder, until
from tests.nats import NatsCluster, NatsServer, needs_nats

pytestmark = needs_nats

ROOT = "test-nats"
NODES = ("worker-1", "worker-2")
PORTION = 50
"""So many requests are asked for before, during and after each server's absence."""
REQUESTS = 4 * PORTION
KILL_AFTER = 10
"""Replies to a portion before a server is killed."""
ASKERS = 6
DOWN_S = 1.0
BACK_WITHIN_S = 30.0
TIMEOUT_S = 60.0
MESSAGES, RETAINED = "$MQTT_msgs", "$MQTT_rmsgs"
"""The streams in which NATS keeps what MQTT clients send."""
ELECTED_S = 10.0
PAUSE_S = 0.2
STATES = (f"{ROOT}/master/status", f"{ROOT}/node/+/status", f"{ROOT}/node/+/out/lamp")
"""Filters for what is retained: who is there, and how bright the lamps are."""


@pytest.fixture
def cluster() -> Iterator[NatsCluster]:
    """Three servers of the test's own."""
    with NatsCluster() as cluster:
        yield cluster


async def test_nothing_is_lost_and_nothing_done_twice_while_each_server_is_killed(
    cluster: NatsCluster, tmp_path: Path
) -> None:
    """200 requests, parties and askers on different servers: each has one reply, and no output is set twice."""
    work = Work(cluster)
    with mesh(cluster, tmp_path):
        async with Recorder(cluster.settings(), "watcher", *STATES, f"{ROOT}/request/+/reply") as watcher:
            await until(lambda: online(watcher) == {"master", *NODES}, "all are online", timeout_s=BACK_WITHIN_S)
            async with askers(cluster) as clients:
                await asyncio.gather(work.kill_each_in_turn(), *map(work.ask, clients))
            for first in range(len(cluster.servers)):
                await sees_the_last_word(cluster, first, watcher)
            replies = {(message.topic, message.payload) for message in watcher.received if is_reply(message.topic)}
    work.print_silences()

    assert len(work.replies) == REQUESTS
    assert len({topic for topic, _ in replies}) == len(replies), "two different replies to one request"
    counts = effects(tmp_path)
    assert {task: count for task, count in counts.items() if count > 1} == {}
    undone = [reply for reply in work.replies.values() if reply.state is not State.COMPLETED]
    # MQTT 3.1.1 has no will delay: a node is offline for as long as it looks for another server, and that is said.
    assert {(reply.state, "is offline" in reply.text) for reply in undone} <= {(State.REJECTED, True)}, undone
    assert len(counts) == REQUESTS - len(undone)


async def test_a_state_that_was_acknowledged_is_there_for_whoever_comes_later(cluster: NatsCluster) -> None:
    """Also where NATS acknowledged it and had not kept it, since the server that led the retained messages was gone."""
    acknowledged: set[str] = set()
    async with Recorder(cluster.settings(), "first of all"):
        victim = await leads_retained_messages_alone(cluster)
    next_to_it = cluster.servers.index(victim) + 1
    async with Recorder(cluster.settings(next_to_it % 3), "says") as says:
        victim.kill()
        number, until_at = 0, time.monotonic() + ELECTED_S
        while time.monotonic() < until_at:
            topic = f"state/{number}"
            says.client.publish(topic, b"x", qos=1, retain=True, on_ack=partial(acknowledged.add, topic))
            number += 1
            await asyncio.sleep(PAUSE_S)
        victim.start()
        async with Recorder(cluster.settings(next_to_it % 3), "comes-later", "state/+") as late:
            await until(
                lambda: acknowledged <= {message.topic for message in late.received},
                "every state that was acknowledged",
                timeout_s=BACK_WITHIN_S,
            )
    assert acknowledged


async def leads_retained_messages_alone(cluster: NatsCluster) -> NatsServer:
    """The server that leads NATS's stream of retained messages, and not the one through which all messages go."""
    deadline = time.monotonic() + BACK_WITHIN_S
    [first, *_] = cluster.servers
    while (leader := first.leader_of(RETAINED)) in ("", first.leader_of(MESSAGES)):
        assert time.monotonic() < deadline, "one server leads both streams"
        first.step_down(RETAINED)
        await asyncio.sleep(PAUSE_S * 5)
    [found] = [server for server in cluster.servers if server.name == leader]
    return found


class Work:
    """Requests that are asked in portions, and the servers that are killed meanwhile."""

    def __init__(self, cluster: NatsCluster) -> None:
        self.replies: dict[str, Reply] = {}
        self._cluster = cluster
        self._waiting: asyncio.Queue[int | None] = asyncio.Queue()
        self._replied_at: list[float] = []
        self._killed_at: list[float] = []

    async def kill_each_in_turn(self) -> None:
        """Kill a server in the middle of each portion, and start it again; the last portion is undisturbed."""
        for portion, server in enumerate(self._cluster.servers):
            self._hand_out(portion)
            enough = portion * PORTION + KILL_AFTER
            await until(partial(self._has_replies, enough), f"{enough} replies", timeout_s=TIMEOUT_S)
            server.kill()
            self._killed_at.append(time.monotonic())
            await asyncio.sleep(DOWN_S)
            server.start()
            await until(server.meta_leader, f"{server.name} is in the cluster again", timeout_s=BACK_WITHIN_S)
        self._hand_out(len(self._cluster.servers))
        for _ in range(ASKERS):
            self._waiting.put_nowait(None)

    async def ask(self, client: Client) -> None:
        """Ask what is handed out, one request after the other."""
        while (number := await self._waiting.get()) is not None:
            sentence = f"set the lamp on {NODES[number % 2]} to {1 + number % 99} %"
            reply = await client.ask(sentence, request_id=f"r{number}", timeout_s=TIMEOUT_S)
            assert f"r{number}" not in self.replies
            self.replies[f"r{number}"] = reply
            self._replied_at.append(time.monotonic())

    def print_silences(self) -> None:
        """How long after each kill nobody had a reply: the run is for these figures as well."""
        for server, at, until_at in zip(
            self._cluster.servers, self._killed_at, [*self._killed_at[1:], math.inf], strict=True
        ):
            instants = [at, *(instant for instant in self._replied_at if at < instant < until_at)]
            silence_s = max(map(sub, instants[1:], instants))
            print(f"{server.name} killed: no reply for {silence_s:.1f} s at most")

    def _hand_out(self, portion: int) -> None:
        for number in range(portion * PORTION, (portion + 1) * PORTION):
            self._waiting.put_nowait(number)

    def _has_replies(self, number: int) -> bool:
        return len(self.replies) >= number


@contextmanager
def mesh(cluster: NatsCluster, folder: Path) -> Iterator[None]:
    """A master and two nodes, each in a process of its own that tries another server first."""
    with ExitStack() as parties:
        for first, name in enumerate(("master", *NODES)):
            parties.enter_context(party(name, cluster, first, folder / name))
        yield


@contextmanager
def party(name: str, cluster: NatsCluster, first: int, state_dir: Path) -> Iterator[None]:
    """One party; *first* is the server that it tries first."""
    state_dir.mkdir(parents=True)
    ports = ",".join(str(port) for _, port in cluster.settings(first).addresses)
    command = [sys.executable, "-m", "tests.faults.party", name, ports, str(state_dir), ROOT]
    with (state_dir / "log.txt").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield
        finally:
            process.kill()


@asynccontextmanager
async def askers(cluster: NatsCluster) -> AsyncIterator[list[Client]]:
    """Clients on every server."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Client(cluster.settings(number % 3), root=ROOT, wait_s=BACK_WITHIN_S))
            for number in range(ASKERS)
        ]


async def sees_the_last_word(cluster: NatsCluster, first: int, watcher: Recorder) -> None:
    """Whoever comes to any server now finds there what *watcher*, who was there all the time, heard last."""
    async with Recorder(cluster.settings(first), f"late-{first}", *STATES) as late:
        await until(lambda: last_words(late) == last_words(watcher), "the same states", timeout_s=BACK_WITHIN_S)


def last_words(recorder: Recorder) -> dict[str, bytes]:
    """The last payload on each topic but those of replies."""
    return {message.topic: message.payload for message in recorder.received if not is_reply(message.topic)}


def online(watcher: Recorder) -> set[str]:
    """The parties whose last word was ``online``."""
    return {topic.split("/")[-2] for topic, payload in last_words(watcher).items() if payload == b"online"}


def is_reply(topic: str) -> bool:
    return topic.endswith("/reply")


def effects(folder: Path) -> Counter[str]:
    """How often each task set an output, as the nodes' own records tell."""
    lines = [line for node in NODES for line in (folder / node / "effects.log").read_text().splitlines()]
    return Counter(line.split()[1] for line in lines if line.startswith("task "))
