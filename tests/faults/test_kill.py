"""Broker, node and master are killed without warning, or frozen: nothing lost, nothing done twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.brokers import needs_mosquitto, until
from tests.faults.mesh import NODES, Fault, Mesh, Party, endure, seeds
from tests.faults.table import Row

pytestmark = [needs_mosquitto, pytest.mark.asyncio(loop_scope="module")]

NOTICED_WITHIN_S = 30.0


def _node(seed: int) -> str:
    return random.Random(seed).choice(NODES)


def _killed(party: str) -> Callable[[Mesh, random.Random], Awaitable[None]]:
    async def strike(mesh: Mesh, chance: random.Random) -> None:
        mesh.parties[party].kill()
        await asyncio.sleep(chance.uniform(0.0, 1.0))  # so long it is away
        mesh.parties[party].start()

    return strike


def _frozen(party: str) -> Callable[[Mesh, random.Random], Awaitable[None]]:
    """Until it is missed: longer than its will needs."""

    async def strike(mesh: Mesh, chance: random.Random) -> None:
        mesh.parties[party].freeze()
        try:
            await until(lambda: mesh.says(party, b"offline"), f"{party} is missed", timeout_s=NOTICED_WITHIN_S)
            await asyncio.sleep(chance.uniform(0.0, 1.0))
        finally:
            mesh.parties[party].thaw()

    return strike


async def _broker_killed(mesh: Mesh, chance: random.Random) -> None:
    mesh.broker.kill()
    await asyncio.sleep(chance.uniform(0.0, 1.0))
    mesh.broker.start()


async def _broker_loses_all(mesh: Mesh, chance: random.Random) -> None:
    mesh.broker.kill()
    mesh.broker.forget()
    await asyncio.sleep(chance.uniform(0.0, 1.0))
    mesh.broker.start()


async def _broker_frozen(mesh: Mesh, chance: random.Random) -> None:
    """Until the asker has noticed, as the others do at about the same time."""
    mesh.broker.freeze()
    try:
        await until(lambda: not mesh.client._link.is_connected, "it is missed", timeout_s=NOTICED_WITHIN_S)
        await asyncio.sleep(chance.uniform(0.0, 2.0))
    finally:
        mesh.broker.thaw()


async def _all_killed(mesh: Mesh, chance: random.Random) -> None:
    """Broker, with its store, master and nodes at the same time; they come back one after the other, in any order."""
    mesh.broker.kill()
    for party in mesh.parties.values():
        party.kill()
    mesh.broker.forget()
    starting: list[Mesh | Party] = [mesh, *mesh.parties.values()]
    chance.shuffle(starting)
    for victim in starting:
        await asyncio.sleep(chance.uniform(0.0, 0.3))
        mesh.broker.start() if isinstance(victim, Mesh) else victim.start()


KILLS = {
    "killed": lambda seed: [
        Fault("broker killed", _broker_killed),
        Fault("master killed", _killed("master")),
        Fault("node killed", _killed(_node(seed)), _node(seed), kills=True),
    ],
    "killed, and what it knew lost": lambda seed: [
        Fault("broker killed, its store lost", _broker_loses_all),
        Fault("all killed at once, the broker's store lost", _all_killed, kills=True),
        Fault("all killed at once, the broker's store lost", _all_killed, _node(seed), kills=True),
    ],
    "frozen": lambda seed: [
        Fault("broker frozen until it is missed", _broker_frozen),
        Fault("master frozen until it is missed", _frozen("master")),
        Fault("node frozen until it is missed", _frozen(_node(seed)), _node(seed)),
    ],
}


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("how", KILLS)
async def test_each_request_gets_one_reply_and_no_output_is_set_twice(
    how: str, seed: int, lanes: list[Mesh], rows: list[Row]
) -> None:
    """kill -9 and SIGSTOP of the broker, of a node and of the master, each at a random moment, and of all at once."""
    faults = KILLS[how](seed)
    rows += await asyncio.gather(
        *(endure(mesh, fault, 3 * seed + lane) for lane, (mesh, fault) in enumerate(zip(lanes, faults, strict=True)))
    )
