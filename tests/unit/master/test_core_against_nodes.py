"""A master core against three node cores, in memory: loss, copies, delays, and crashes between any two effects."""

from __future__ import annotations

import random

import pytest

from pibot_mesh.master.events import Refusal
from pibot_mesh.protocol.messages import Request, State
from pibot_mesh.testing.bench import Bench
from pibot_mesh.testing.world import NONE, USUAL, Faults, random_plan
from tests.unit.master.play import plan, step

REQUESTS = 12
HARSH = Faults(loss=0.15, twice=0.15, late=0.15, crash=0.03, cut=0.05, mute=0.3)


def live(seed: int, faults: Faults, open_requests: int) -> Bench:
    """A minute in the life of a mesh, and what comes after; the bench checks the promises at each step."""
    bench = Bench(seed, faults=faults, open_requests=open_requests)
    chance = random.Random(seed)
    wishes = sorted((chance.uniform(0, 40), f"r{i}") for i in range(REQUESTS))
    for at, name in wishes:
        bench.run(max(0.0, at - bench.now))
        bench.ask(Request(name, "do it"), random_plan(chance, list(bench.nodes)), times=chance.choice([1, 1, 2]))
        if chance.random() < 0.15:
            bench.cancel(f"r{chance.randrange(REQUESTS)}")
        if chance.random() < 0.1:
            bench.stop(chance.random() < 0.5)
    bench.run(20)
    bench.stop(False)
    bench.settle()
    return bench


@pytest.mark.parametrize("block", range(8))
@pytest.mark.parametrize(("faults", "open_requests"), [(USUAL, 50), (HARSH, 6)])
def test_all_promises_hold_whatever_goes_wrong(faults: Faults, open_requests: int, block: int) -> None:
    """One reply a request, a `never` task once, a `safe` one once an attempt, nothing stale, nothing unsaid."""
    for seed in range(20 * block, 20 * (block + 1)):
        live(seed, faults, open_requests)


def test_every_request_completes_where_nothing_goes_wrong() -> None:
    """The same bench, without faults: nothing is lost that nobody lost."""
    bench = Bench(1, faults=NONE)
    bench.run(5)
    for i in range(10):
        steps = (step(node=None, args={"n": i}), step("s2", "press", "n2", args={"n": i}))
        bench.ask(Request(f"r{i}", "do it"), plan(*steps))
    bench.settle()

    assert [replies[0].state for replies in bench.promises.replies.values()] == [State.COMPLETED] * 10
    assert all(len(replies) == 1 for replies in bench.promises.replies.values())
    assert sum(bench.promises.starts.values()) == 20


def test_the_bench_meets_what_it_is_made_to_meet() -> None:
    """Over its seeds: crashes of each side, tasks that ended as unknown, new attempts, and refusals."""
    benches = [live(seed, HARSH, 6) for seed in range(20)]
    records = [record for bench in benches for record in bench.master.ledger.values()]
    steps = [step for record in records for step in record.steps]

    assert min(bench.master.life for bench in benches) < max(bench.master.life for bench in benches)
    assert any(node.life > 1 for bench in benches for node in bench.nodes.values())
    assert {State.COMPLETED, State.FAILED, State.UNKNOWN, State.SKIPPED} <= {step.state for step in steps}
    assert max(step.attempt for step in steps) > 2
    assert any(isinstance(outcome, Refusal) for bench in benches for outcome in bench.promises.plans.values())
