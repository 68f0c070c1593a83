"""Too much at once: everybody gets an answer in words, memory stays bounded, and then all is as fast as before."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from pibot_mesh.client import Client
from pibot_mesh.errors import ErrorCode
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Reply, State, Task
from tests.brokers import HOST, Recorder, needs_mosquitto, until
from tests.faults.mesh import NODES, QUICK_TO_NOTICE, REQUEST_TIMEOUT_S, Mesh, running_mesh
from tests.faults.table import Row
from tests.garbage import garbage

pytestmark = [needs_mosquitto, pytest.mark.asyncio(loop_scope="module")]

_log = logging.getLogger(__name__)

ASKERS = 4
REQUESTS = 1_000
QUICK, SLOW = NODES
SENSOR_S = 0.5
LOCKSTEP = 7
"""Round trips, one after the other, whose median is taken."""
AS_FAST = 2.5
"""How much slower a round trip may be that counts as fast as one before: the machine does other things as well."""
FAST_AGAIN_WITHIN_S = 2.0
AWAY = frozenset((ErrorCode.OVERLOADED, ErrorCode.OFFLINE, ErrorCode.BAD_PLAN))
MORE_MB = 48
"""By how much a master, or a broker, may grow: a queue without a bound would take more with so many messages."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Its sensors are slow."""
    ailment = replace(QUICK_TO_NOTICE, keepalive_s=15, sensor_s=SENSOR_S)
    async with running_mesh(tmp_path_factory.mktemp("overload"), ailment, options=(), has_proxies=False) as one:
        yield one


async def _ask(client: Client, sentence: str) -> Reply:
    return await client.ask(sentence, timeout_s=REQUEST_TIMEOUT_S)


async def _round_trip_s(mesh: Mesh) -> float:
    """The median of some, one after the other."""
    loop, times = asyncio.get_running_loop(), []
    for number in range(LOCKSTEP):
        began = loop.time()
        reply = await _ask(mesh.client, f"turn {'off' if number % 2 else 'on'} the fan on {QUICK}")
        assert reply.state is State.COMPLETED, reply.text
        times.append(loop.time() - began)
    return statistics.median(times)


async def _is_fast_again(mesh: Mesh, usual_s: float) -> float:
    """Wait until a round trip is about as quick as it was, and tell after how many seconds it was."""
    loop = asyncio.get_running_loop()
    began, times = loop.time(), [await _round_trip_s(mesh)]
    while times[-1] > AS_FAST * usual_s and loop.time() < began + FAST_AGAIN_WITHIN_S:
        times.append(await _round_trip_s(mesh))
    assert times[-1] <= AS_FAST * usual_s, f"{usual_s:.4f} s before, and now {times}"
    _log.info("round trip %.1f ms before, %.1f ms after", usual_s * 1e3, times[-1] * 1e3)
    return loop.time() - began


async def _ask_at_once(mesh: Mesh, sentences: list[str]) -> list[Reply]:
    """By several askers; each must get its answer."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(mesh.broker.settings, root=mesh.root, wait_s=10))
            for _ in range(ASKERS)
        ]
        return await asyncio.gather(*(_ask(clients[n % ASKERS], each) for n, each in enumerate(sentences)))


def _sentences(number: int) -> list[str]:
    return [f"set the lamp on {NODES[n % len(NODES)]} to {n % 100} %" for n in range(number)]


@contextmanager
def _bounded(mesh: Mesh) -> Iterator[None]:
    """Neither the master nor the broker grows by more than it may."""

    def peaks() -> dict[str, int]:
        return {"master": _peak_kb(mesh.parties["master"].pid), "broker": _peak_kb(mesh.broker.pid)}

    before = peaks()
    yield
    grown = {party: (peak - before[party]) / 1000 for party, peak in peaks().items()}
    _log.info("peaks before %s kB, grown by %s MB", before, grown)
    assert all(more_mb < MORE_MB for more_mb in grown.values()), grown


def _judged(
    mesh: Mesh,
    what: str,
    replies: list[Reply],
    recovery_s: float | None,
    refusals: frozenset[str] = frozenset((ErrorCode.OVERLOADED,)),
) -> Row:
    """Each was done once, or was refused, in words (with one of *refusals*), and was not done."""
    effects = mesh.effects()
    refused = [reply for reply in replies if reply.state is State.REJECTED]
    _log.info("%s: %s", what, Counter(str(reply.state) for reply in replies))
    assert [reply.text for reply in replies if reply not in refused and reply.state is not State.COMPLETED] == []
    codes = {reply.id: reply.error.code for reply in refused if reply.error is not None}
    assert set(codes.values()) <= refusals
    assert all("ask again later" in reply.text for reply in refused if codes[reply.id] == ErrorCode.OVERLOADED)
    done = {reply.id: effects[f"{reply.id}-s1"] for reply in replies}
    untrue = [reply for reply in replies if done[reply.id] != (reply not in refused)]
    assert [f"{reply.id}: {reply.state}, and done {done[reply.id]} times" for reply in untrue] == []
    answers = mesh.replies()
    assert [reply.id for reply in replies if len(answers.get(reply.id, ())) > 1] == [], "two different replies"
    recovered_s = None if recovery_s is None else round(recovery_s, 3)
    return Row(what, len(replies) - len(refused), len(replies), 0, 0, recovered_s)


async def test_of_1000_requests_at_once_each_is_answered_and_then_all_is_as_fast_as_before(
    mesh: Mesh, rows: list[Row]
) -> None:
    """A master holds 500 open ones; the rest are refused in words."""
    usual_s = await _round_trip_s(mesh)
    with _bounded(mesh):
        replies = await _ask_at_once(mesh, _sentences(REQUESTS))
        recovery_s = await _is_fast_again(mesh, usual_s)

    rows.append(_judged(mesh, "1,000 requests at once", replies, recovery_s))
    assert len(replies) == REQUESTS
    assert any(reply.state is State.REJECTED for reply in replies)


async def test_1000_requests_outlive_a_broker_that_is_killed_meanwhile(mesh: Mesh, rows: list[Row]) -> None:
    """It loses all that it knew; nothing is lost, and nothing is done twice."""
    usual_s = await _round_trip_s(mesh)
    asked = asyncio.ensure_future(_ask_at_once(mesh, _sentences(REQUESTS)))
    heard = len(mesh.watcher.received)
    await until(lambda: len(mesh.watcher.received) > heard + 100, "it works on them", timeout_s=30)
    mesh.broker.kill()
    mesh.broker.forget()
    mesh.broker.start()
    replies = await asked
    recovery_s = await _is_fast_again(mesh, usual_s)

    # A node of which a busy machine hears nothing for a moment is away, and so refused work, in words too.
    rows.append(_judged(mesh, "1,000 requests at once, the broker killed", replies, recovery_s, AWAY))
    assert len(replies) == REQUESTS


async def test_1000_requests_are_each_answered_by_a_master_whose_line_is_slow(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    """It cannot send as fast as it would have to: what it drops for that must not be a reply that it owes."""
    folder, ailment = tmp_path_factory.mktemp("slow"), replace(QUICK_TO_NOTICE, keepalive_s=15)
    async with running_mesh(folder, ailment, options=()) as slow:
        slow.proxies["master"].delay(0.02, 0.04)
        replies = await _ask_at_once(slow, _sentences(REQUESTS))
        await slow.proxies["master"].heal()

        rows.append(_judged(slow, "1,000 requests at once, the master's line slow", replies, None))


async def test_a_slow_node_slows_nobody_else_and_gets_its_work_as_it_can_take_it(mesh: Mesh) -> None:
    """Somebody else fills its queue too, so that it says that it is busy; what it cannot take, the master holds."""
    usual_s = await _round_trip_s(mesh)
    heard = len(mesh.watcher.received)
    async with Recorder(mesh.broker.settings, "somebody") as somebody:
        for number in range(10):
            task = Task(f"other-{number}", "other", "call", tool="sensor_read", args={"device": "climate"})
            somebody.client.publish(f"{mesh.root}/node/{SLOW}/task", encode(task), qos=1)
        await somebody.settle()
    reads = [asyncio.ensure_future(_ask(mesh.client, f"read the temperature on {SLOW}")) for _ in range(18)]
    await until(lambda: mesh.has_heard('"busy"', since=heard), "it says that it is busy", timeout_s=30)
    assert await _round_trip_s(mesh) <= AS_FAST * usual_s
    assert not all(read.done() for read in reads), "it is still at work"

    replies = await asyncio.gather(*reads)

    assert {reply.state for reply in replies} == {State.COMPLETED}


async def test_a_subscriber_that_does_not_read_stops_nobody(mesh: Mesh) -> None:
    """It has subscribed to everything; its broker drops what it does not take, instead of keeping it."""
    usual_s = await _round_trip_s(mesh)
    with socket.socket() as deaf, _bounded(mesh):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((HOST, mesh.broker.port))
        deaf.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04deaf" + b"\x82\x06\x00\x01\x00\x01#\x01")
        async with Recorder(mesh.broker.settings, "talker") as talker:
            for number in range(2_000):
                talker.client.publish("noise", bytes(20_000))
                if number % 50 == 0:
                    await talker.settle()
            await talker.settle()
        replies = await _ask_at_once(mesh, _sentences(100))
        assert {reply.state for reply in replies} == {State.COMPLETED}
        await _is_fast_again(mesh, usual_s)


async def test_a_flood_of_garbage_and_of_retained_requests_stops_nobody(mesh: Mesh) -> None:
    """What is retained is refused each time; what was flooded is answered where it can be, and leaves no trace."""
    usual_s, chance = await _round_trip_s(mesh), random.Random(5)
    topic, log = f"{mesh.root}/request", len(mesh.parties["master"].log)
    retained = b'{"id": "kept", "text": "turn on the fan on ' + QUICK.encode() + b'"}'
    with _bounded(mesh):
        async with Recorder(mesh.broker.settings, "flooder") as flooder:
            for number in range(1_500):
                flooder.client.publish(topic, garbage(chance)[:65_000], qos=1)
                if number % 4 == 0:
                    flooder.client.publish(topic, retained, qos=0, retain=True)
                if number % 100 == 0:
                    await flooder.settle()
            flooder.client.publish(topic, b"", qos=1, retain=True)
            await flooder.settle()
        await _is_fast_again(mesh, usual_s)

    assert len(mesh.parties["master"].log[log:].splitlines()) < 100


def _peak_kb(pid: int) -> int:
    """The most memory that a process has had so far, in kB."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])
