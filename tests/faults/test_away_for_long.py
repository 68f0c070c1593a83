"""A node comes back when nobody waits for it any more: it does nothing of what it was to do, and tells what it did."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pibot_mesh.protocol.messages import Reply, State
from tests.brokers import needs_mosquitto, until
from tests.faults.mesh import NODES, STARTS_WITHIN_S, Mesh, seeds
from tests.faults.table import Row

pytestmark = [needs_mosquitto, pytest.mark.asyncio(loop_scope="module")]

NODE = NODES[0]
NOTICED_WITHIN_S = 30.0
GIVEN_UP_S = 2.0
"""The requests are given up after so long; the node is away for longer, and what the broker kept for it is lost."""


@pytest.mark.parametrize("seed", seeds())
async def test_nothing_stale_is_acted_on_and_no_result_is_kept_for_nobody(
    seed: int, lanes: list[Mesh], rows: list[Row]
) -> None:
    """One node ran on without a network, another was killed. Both have results of which no master ever heard."""
    rows += await asyncio.gather(_away(lanes[0], seed, is_killed=False), _away(lanes[1], seed, is_killed=True))


async def _away(mesh: Mesh, seed: int, *, is_killed: bool) -> Row:
    chance, loop = random.Random(f"{is_killed} {seed}"), asyncio.get_running_loop()
    proxy, name = mesh.proxies[NODE], f"away-{seed}-{chance.getrandbits(32):08x}"

    async def ask(number: int, timeout_s: float = GIVEN_UP_S) -> Reply:
        sentence = f"set the lamp on {NODE} to {number + 1} %"
        return await mesh.client.ask(sentence, request_id=f"{name}-{number}", timeout_s=timeout_s)

    def done(numbers: range) -> int:
        return sum(mesh.effects()[f"{name}-{number}-s1"] for number in numbers)

    await mesh.works()
    proxy.up.cut()
    unheard, unseen = range(8), range(8, 16)
    waiting = [asyncio.ensure_future(ask(number)) for number in unheard]
    await until(lambda: done(unheard) > 0, "it works, and is not heard")
    log = len(mesh.parties[NODE].log)
    proxy.silence()
    replies = await asyncio.gather(*waiting, *map(ask, unseen))
    assert {reply.state for reply in replies} <= {State.UNKNOWN, State.FAILED, State.REJECTED}
    was_done = done(unheard)
    assert all(reply.state is State.UNKNOWN for reply in replies if mesh.effects()[f"{reply.id}-s1"])

    mesh.broker.kill()
    mesh.broker.forget()
    if is_killed:
        mesh.parties[NODE].kill()
        mesh.parties[NODE].start()
    else:
        noticed = f"{NODE}: the broker is gone"
        await until(lambda: noticed in mesh.parties[NODE].log[log:], "it notices", timeout_s=NOTICED_WITHIN_S)
    mesh.broker.start()
    await proxy.heal()
    healed = loop.time()
    await until(mesh.is_online, "it is back", timeout_s=STARTS_WITHIN_S)
    fresh = await ask(99, 60)
    recovery_s = round(loop.time() - healed, 3)

    assert fresh.state is State.COMPLETED, fresh.text
    assert done(unseen) == 0
    assert done(unheard) == was_done <= len(unheard)
    await until(lambda: _kept(mesh.folder / NODE / f"node-{NODE}.sqlite") == 0, "all that it keeps is forgotten")
    what = "killed" if is_killed else "without a network"
    return Row(f"a node is away for longer than anybody waits, {what}", 17, 17, 0, 0, recovery_s)


def _kept(journal: Path) -> int:
    """How many tasks stand in a journal."""
    with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        [[number]] = connection.execute("SELECT count(*) FROM task").fetchall()
    return int(number)
