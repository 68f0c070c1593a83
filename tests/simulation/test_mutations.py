"""A test of the tests: a master, a node or a ledger that breaks a promise is found out by the simulation."""

from __future__ import annotations

import pytest

from pibot_mesh.testing.simulation.run import run
from pibot_mesh.testing.simulation.world import Size
from tests.simulation.mutations import MUTATIONS, Mutation

SEEDS = 200
"""So many worlds of 4 nodes and 60 requests, under harsh faults, are enough for each."""

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_each_broken_part_is_found_out(mutation: Mutation, request: pytest.FixtureRequest) -> None:
    """Within 200 seeds; the first that does is printed."""
    size = Size(nodes=4, requests=60, masters=mutation.masters, faults="harsh")
    for seed in range(1, SEEDS + 1):
        outcome = run(seed, size, parts=mutation.parts)
        if outcome.broken:
            print(f"{request.node.callspec.id}: seed {seed}, {outcome.promise}")
            return
    pytest.fail(f"no promise was seen to be broken in {SEEDS} worlds")
