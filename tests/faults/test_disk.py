"""The disk of a master or of a node is full, or cannot be written: said in words, nothing is done that is not stored.

What is refused is not done; when the disk is well again, so is the mesh, and the process is the same.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.brokers import needs_mosquitto, until
from tests.faults.disk import Disk, needs_disk
from tests.faults.mesh import NODES, Fault, Mesh, endure, running_mesh, seeds
from tests.faults.party import READ_ONLY
from tests.faults.table import Row

pytestmark = [needs_mosquitto, needs_disk, pytest.mark.asyncio(loop_scope="module")]

NODE = NODES[0]
PARTIES = ("master", NODE)
REFUSED_WITHIN_S = 30.0
STUCK = "nothing can be stored, and so nothing is done: "

Harm = Callable[[Mesh, str], None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def meshes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Mesh]]:
    """One whose master has a small disk of its own, and one whose first node has."""
    async with AsyncExitStack() as stack:
        found = []
        for party in PARTIES:
            folder = tmp_path_factory.mktemp(f"disk-{party}")
            found.append(await stack.enter_async_context(running_mesh(folder, disks={party: Disk(folder / "disk")})))
        yield found


def _fill(mesh: Mesh, party: str) -> None:
    mesh.disks[party].fill(mesh.parties[party].pid)


def _make_room(mesh: Mesh, party: str) -> None:
    mesh.disks[party].make_room(mesh.parties[party].pid)


def _write_protect(mesh: Mesh, party: str) -> None:
    (mesh.parties[party].state_dir / READ_ONLY).touch()


def _allow_writing(mesh: Mesh, party: str) -> None:
    (mesh.parties[party].state_dir / READ_ONLY).unlink()


def _harmed(party: str, harm: Harm, heal: Harm, why: str) -> Callable[[Mesh, random.Random], Awaitable[None]]:
    """From the harm, until the party has named it and somebody was refused for it, to the heal."""

    async def strike(mesh: Mesh, _: random.Random) -> None:
        victim, heard = mesh.parties[party], len(mesh.watcher.received)
        pid, log = victim.pid, len(victim.log)
        harm(mesh, party)
        try:
            await until(
                lambda: mesh.has_heard('"storage"', since=heard) and mesh.has_heard(why, since=heard),
                f"{party} refuses, in words",
                timeout_s=REFUSED_WITHIN_S,
            )
        finally:
            heal(mesh, party)
        await until(lambda: "storing works again" in victim.log[log:], f"{party} stores again")
        said = victim.log[log:]
        assert (victim.is_running, victim.pid) == (True, pid)
        assert said.count(STUCK) == 1, "once, however often it was tried"
        assert why in said.partition(STUCK)[2].partition("\n")[0]

    return strike


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize(
    ("name", "harm", "heal", "why"),
    [
        ("disk is full", _fill, _make_room, "database or disk is full"),
        ("disk cannot be written", _write_protect, _allow_writing, "attempt to write a readonly database"),
    ],
)
async def test_what_cannot_be_stored_is_refused_in_words_and_all_goes_on_when_it_can(
    name: str, harm: Harm, heal: Harm, why: str, seed: int, meshes: list[Mesh], rows: list[Row]
) -> None:
    """A master refuses requests; a node refuses tasks, which its master holds until it can have them."""
    faults = [
        Fault(f"the master's {name}", _harmed("master", harm, heal, why)),
        Fault(f"a node's {name}", _harmed(NODE, harm, heal, why), NODE),
    ]
    rows += await asyncio.gather(*(endure(mesh, fault, seed) for mesh, fault in zip(meshes, faults, strict=True)))


@pytest.mark.parametrize("party", [["master"], ["node", "--id", "n1", "--simulate"]], ids=["master", "node"])
@pytest.mark.parametrize(
    "before",
    ['dd if=/dev/zero of="$0/filler" bs=4k 2>/dev/null; true', 'mount -o remount,ro "$0"'],
    ids=["full", "read-only"],
)
async def test_a_start_on_such_a_disk_ends_with_one_line_that_names_the_file_and_the_trouble(
    party: list[str], before: str, tmp_path: Path
) -> None:
    """Not with a traceback; and nobody is told that it is online."""
    disk = Disk(tmp_path / "disk", before)
    command = [*disk.prefix, sys.executable, "-m", "pibot_mesh", *party, "--state-dir", str(disk.folder)]
    ended = await asyncio.to_thread(
        subprocess.run,
        [*command, "--broker", "127.0.0.1:9"],
        capture_output=True,
        text=True,
        check=False,
        timeout=REFUSED_WITHIN_S,
    )

    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert str(disk.folder) in line
