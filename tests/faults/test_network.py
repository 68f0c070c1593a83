"""The network of the master, of a node, of the asker goes bad, each alone, while dozens of requests are in flight."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.brokers import needs_mosquitto, until
from tests.faults.mesh import NODES, Fault, Mesh, endure, seeds
from tests.faults.proxy import Proxy
from tests.faults.table import Row

pytestmark = [needs_mosquitto, pytest.mark.asyncio(loop_scope="module")]

NOTICED_WITHIN_S = 30.0


async def _slow(_: Mesh, proxy: Proxy, chance: random.Random) -> None:
    proxy.delay(0.05, 0.3)
    await asyncio.sleep(chance.uniform(1.0, 3.0))
    await proxy.heal()


async def _trickling(_: Mesh, proxy: Proxy, chance: random.Random) -> None:
    proxy.trickle(chance.randint(5, 30), 0.005)
    await asyncio.sleep(chance.uniform(1.0, 3.0))
    await proxy.heal()


async def _silent_for_a_moment(_: Mesh, proxy: Proxy, chance: random.Random) -> None:
    proxy.silence()
    await asyncio.sleep(chance.uniform(0.2, 2.0))
    await proxy.heal()


async def _silent_until_noticed(mesh: Mesh, proxy: Proxy, chance: random.Random) -> None:
    proxy.silence()
    await _noticed(mesh, proxy)
    await asyncio.sleep(chance.uniform(0.0, 1.0))
    await proxy.heal()


async def _cut_on_the_way_up(mesh: Mesh, proxy: Proxy, chance: random.Random) -> None:
    proxy.up.cut()
    await _noticed(mesh, proxy)
    await proxy.heal()


async def _cut_on_the_way_down(_: Mesh, proxy: Proxy, chance: random.Random) -> None:
    proxy.down.cut()
    await asyncio.sleep(chance.uniform(1.0, 8.0))
    await proxy.heal()


async def _reset(_: Mesh, proxy: Proxy, chance: random.Random) -> None:
    for _again in range(3):
        proxy.reset()
        await asyncio.sleep(chance.uniform(0.0, 0.5))
    proxy.reset()


async def _refusing(_: Mesh, proxy: Proxy, chance: random.Random) -> None:
    proxy.refuse()
    await asyncio.sleep(chance.uniform(0.2, 2.0))
    await proxy.heal()


async def _noticed(mesh: Mesh, proxy: Proxy) -> None:
    """Wait until the broker has said that the party is gone; an asker, who has no will, notices itself."""
    [party] = [name for name, one in mesh.proxies.items() if one is proxy]
    if party == "asker":
        await until(lambda: not mesh.client._link.is_connected, "the asker notices", timeout_s=NOTICED_WITHIN_S)
    else:
        await until(lambda: mesh.says(party, b"offline"), f"{party} is missed", timeout_s=NOTICED_WITHIN_S)


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize(
    ("harm", "strike"),
    [
        ("slow (50 to 300 ms, jittered)", _slow),
        ("a few bytes at a time", _trickling),
        ("silent for a moment", _silent_for_a_moment),
        ("silent until it is missed", _silent_until_noticed),
        ("cut to the broker", _cut_on_the_way_up),
        ("cut from the broker", _cut_on_the_way_down),
        ("reset four times", _reset),
        ("refused", _refusing),
    ],
)
async def test_a_bad_network_loses_nothing_and_does_nothing_twice(
    harm: str,
    strike: Callable[[Mesh, Proxy, random.Random], Awaitable[None]],
    seed: int,
    lanes: list[Mesh],
    rows: list[Row],
) -> None:
    """Every request is done, once, and its one reply says so; every state shown is true again."""
    node = random.Random(seed).choice(NODES)

    def to(party: str) -> Fault:
        def strike_it(mesh: Mesh, chance: random.Random) -> Awaitable[None]:
            return strike(mesh, mesh.proxies[party], chance)

        is_node = party == node
        return Fault(
            f"connection of {'a node' if is_node else f'the {party}'}: {harm}", strike_it, node if is_node else None
        )

    faults = [to("master"), to(node), to("asker")]
    rows += await asyncio.gather(*(endure(mesh, fault, seed) for mesh, fault in zip(lanes, faults, strict=True)))
