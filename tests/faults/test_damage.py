"""The file of a ledger or of a journal is damaged: it is set aside, the log names it, and its owner goes on."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from pibot_mesh.protocol.messages import State
from tests.brokers import needs_mosquitto, until
from tests.faults.mesh import NODES, STARTS_WITHIN_S, Mesh, seeds
from tests.faults.table import Row

pytestmark = [needs_mosquitto, pytest.mark.asyncio(loop_scope="module")]

NODE = NODES[0]
AGAIN_S = 5.0


def _store_of(mesh: Mesh, party: str) -> Path:
    return mesh.folder / party / ("master.sqlite" if party == "master" else f"node-{party}.sqlite")


def _ruin(path: Path, chance: random.Random) -> None:
    """Garbage, as a dying card leaves it: over all of it, or its beginning; and over what stands beside."""
    content = path.read_bytes()
    garbage = chance.randbytes(len(content))
    path.write_bytes(chance.choice([garbage, garbage[:4096] + content[4096:]]))
    for beside in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if beside.exists():
            beside.write_bytes(chance.randbytes(beside.stat().st_size))


async def _set_aside(mesh: Mesh, party: str, log: int) -> None:
    """Wait until the party has said that it has put its store away, and see that it has."""
    path, victim = _store_of(mesh, party), mesh.parties[party]
    await until(lambda: " is damaged " in victim.log[log:], f"{party} names the damage", timeout_s=STARTS_WITHIN_S)
    [line] = [line for line in victim.log[log:].splitlines() if " is damaged " in line]
    assert f"{path} is damaged (" in line
    aside = line.partition("set aside as ")[2].partition(";")[0]
    assert path.with_name(aside).exists()


async def _damage(mesh: Mesh, party: str, seed: int) -> Row:
    """Some is done, the store is damaged, the same is asked again, and then something new."""
    chance, loop = random.Random(f"{party} {seed}"), asyncio.get_running_loop()
    victim, log = mesh.parties[party], len(mesh.parties[party].log)
    names = [f"{party}-{seed}-{chance.getrandbits(32):08x}-{number}" for number in range(6)]

    async def ask(name: str, timeout_s: float) -> State:
        reply = await mesh.client.ask(f"turn on the fan on {NODE}", request_id=name, timeout_s=timeout_s)
        return reply.state

    await mesh.works()
    assert set(await asyncio.gather(*(ask(name, 60) for name in names))) == {State.COMPLETED}
    victim.kill()
    _ruin(_store_of(mesh, party), chance)
    victim.start()
    started = loop.time()
    await _set_aside(mesh, party, log)
    await until(mesh.is_online, f"{party} is back", timeout_s=STARTS_WITHIN_S)
    while await ask(f"{names[0]}-new-{time.monotonic_ns()}", 60) is not State.COMPLETED:
        pass  # its card has not been seen yet
    recovery_s = round(loop.time() - started, 3)
    again = await asyncio.gather(*(ask(name, AGAIN_S) for name in names))
    assert set(again) <= {State.COMPLETED, State.UNKNOWN}, "done, or nobody knows it any more"
    twice = [name for name in names if mesh.effects()[f"{name}-s1"] != 1]
    assert twice == []
    what = "the ledger is damaged" if party == "master" else "a journal is damaged"
    return Row(what, len(names) + 1, len(names) + 1, len(twice), 0, recovery_s)


@pytest.mark.parametrize("seed", seeds())
async def test_a_damaged_store_is_set_aside_and_its_owner_goes_on(
    seed: int, lanes: list[Mesh], rows: list[Row]
) -> None:
    """What a master has forgotten its nodes have not, and the other way round: nothing that was done is done again."""
    rows += await asyncio.gather(_damage(lanes[0], "master", seed), _damage(lanes[1], NODE, seed))
