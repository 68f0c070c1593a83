"""Whole meshes in memory, from one seed each: whatever goes wrong, the promises of docs/protocol.md hold.

More seeds, and larger worlds, are run by ``python -m pibot_mesh.testing.simulation``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import pytest

from pibot_mesh.errors import ErrorCode
from pibot_mesh.protocol.messages import State
from pibot_mesh.testing.simulation.run import run, run_many
from pibot_mesh.testing.simulation.world import Size, World

SMALL = Size(nodes=4, requests=60, faults="harsh")
MIDDLE = Size(nodes=30, requests=300, faults="usual")
SHARED = Size(nodes=4, requests=60, masters=2, faults="harsh")
THREE = Size(nodes=12, requests=120, masters=3, faults="usual")


@pytest.mark.no_cover  # to measure here what is covered would take several times as long
@pytest.mark.parametrize(
    ("size", "seeds"),
    [(SMALL, range(1, 41)), (MIDDLE, range(1, 6)), (SHARED, range(1, 41)), (THREE, range(1, 4))],
    ids=["four nodes, harsh", "thirty nodes", "two masters, harsh", "three masters"],
)
def test_all_promises_hold_whatever_goes_wrong(size: Size, seeds: Sequence[int]) -> None:
    """One reply a request, what may run once runs once, nothing stale, nothing unsaid, and everything ends."""
    broken = [outcome.broken for outcome in run_many(seeds, size) if outcome.broken]

    assert not broken, "\n\n".join(broken)


@pytest.mark.parametrize("masters", [1, 2])
def test_where_nothing_goes_wrong_nothing_fails_but_what_has_to(masters: int) -> None:
    """Without faults no step is lost: what ends badly was denied, cancelled, too late, or failed by its own tool."""
    world = World(1, Size(nodes=8, requests=80, masters=masters, faults="none"))

    world.live()

    steps = [step for record in world.ledger.records.values() for step in record.steps]
    errors = {step.error.code for step in steps if step.error is not None}
    assert sum(step.state is State.COMPLETED for step in steps) > 60
    assert not errors & {ErrorCode.INTERRUPTED, ErrorCode.OFFLINE, ErrorCode.EXPIRED, ErrorCode.INTERNAL}
    assert {step.error and step.error.code for step in steps if step.state is State.UNKNOWN} <= {ErrorCode.TIMEOUT}
    assert world.nature.tally.keys() <= {"request lost to another master"}, "both hear of each, and one gets it"


def test_the_worlds_meet_what_they_are_made_to_meet() -> None:
    """Over some seeds: each kind of fault, each state of a step, new attempts, and requests that change hands."""
    met: Counter[str] = Counter()
    states: set[State] = set()
    attempts = 0
    for seed in range(1, 21):
        world = World(seed, SHARED)
        world.live()
        met += world.nature.tally
        steps = [step for record in world.ledger.records.values() for step in record.steps]
        states |= {step.state for step in steps}
        attempts = max([attempts, *(step.attempt for step in steps)])

    missing = {
        *("lost message", "doubled message", "late message", "late will", "connection cut", "one direction silent"),
        *("connection loss that no broker noticed", "partition", "broker restart", "broker restart, store lost"),
        *("crash before the store", "crash between two effects", "crash behind the last effect", "power lost"),
        *("freeze", "freeze before the store", "freeze between two effects", "freeze behind the last effect"),
        *("slow disk", "broken disk", "wall clock jump", "emergency stop", "ledger restart"),
        *("node joins", "node leaves", "node swapped", "node swapped, with a copy of another"),
        *("request taken over", "request lost to another master", "stale task refused"),
    } - met.keys()
    assert not missing
    assert states >= {State.COMPLETED, State.FAILED, State.REJECTED, State.CANCELED, State.UNKNOWN, State.SKIPPED}
    assert attempts > 2


@pytest.mark.no_cover
def test_a_seed_gives_the_same_world_in_every_process() -> None:
    """What a failure prints can be seen again, on any machine: no order of a set, no clock and no address decides."""

    def world(hash_seed: str) -> str:
        command = [sys.executable, "-m", "pibot_mesh.testing.simulation", "--seed", "7", "--masters", "2"]
        size = ["--nodes", "8", "--requests", "60", "--faults", "harsh"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.check_output([*command, *size], env=environment, text=True, timeout=120)
        return done.splitlines()[0]

    first, second = world("1"), world("4711")

    assert first == second
    assert run(7, Size(8, 60, 2, "harsh")).digest in first
    assert run(8, Size(8, 60, 2, "harsh")).digest not in first


def test_a_broken_promise_tells_seed_command_and_what_happened() -> None:
    """Whoever sees it fail can see it again, and read why."""
    from tests.simulation.mutations import MUTATIONS

    outcome = run(1, SMALL, parts=MUTATIONS["a journal without ends"].parts)

    first, again, *lines = outcome.broken.splitlines()
    assert first.startswith("seed 1: at ")
    assert "its result was said before it was stored" in first
    assert again == (
        "again: python -m pibot_mesh.testing.simulation --seed 1 --nodes 4 --requests 60 --masters 1 --faults harsh"
    )
    assert any("ask" in line for line in lines)
    assert any("decides" in line for line in lines)
