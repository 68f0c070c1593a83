"""Runs simulated worlds, one after another or on several processors, and says what came of them."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pibot_mesh.testing.simulation.deeds import BrokenPromise
from pibot_mesh.testing.simulation.world import Parts, Size, World

USUAL: Final = Size()
SOUND: Final = Parts()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one world. *broken* says which promise was broken, with how to see it again; empty for none."""

    seed: int
    requests: int = 0
    """How many stand in the ledger: refused ones do not."""
    tasks: int = 0
    """How many runs of tools and agents have begun."""
    simulated_s: float = 0.0
    took_s: float = 0.0
    digest: str = ""
    tally: Counter[str] = field(default_factory=Counter)
    broken: str = ""
    promise: str = ""
    """The promise that was broken, in short."""


def run(seed: int, size: Size = USUAL, *, parts: Parts = SOUND, is_told: bool = False) -> Outcome:
    """Live the world of *seed*. A bug in a core, which no service would survive either, is a broken promise too."""
    began_at = time.process_time()
    world = World(seed, size, parts=parts, is_told=is_told)
    broken = promise = ""
    try:
        world.live()
    except BrokenPromise as problem:
        promise = str(problem)
        broken = _report(world, command(seed, size), promise, problem.subject)
    except Exception as bug:  # noqa: BLE001 - the seed must be told, whatever it is
        promise = f"at {world.nature.now:.3f} s: a bug: {type(bug).__name__}: {bug}"
        broken = _report(world, command(seed, size), promise, traceback.format_exception(bug)[-6:])
    return Outcome(
        seed,
        len(world.ledger.records),
        sum(world.promises.runs.values()),
        world.nature.now,
        time.process_time() - began_at,
        world.nature.trace.digest,
        world.nature.tally,
        broken,
        promise,
    )


def run_many(seeds: Iterable[int], size: Size, *, workers: int = 1, parts: Parts = SOUND) -> Iterator[Outcome]:
    """The outcomes of *seeds*, as they come."""
    one = partial(run, size=size, parts=parts)
    if workers == 1:
        yield from map(one, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(one, seeds)


def command(seed: int, size: Size) -> str:
    """What to type to see the same again."""
    return (
        f"python -m pibot_mesh.testing.simulation --seed {seed} --nodes {size.nodes} --requests {size.requests} "
        f"--masters {size.masters} --faults {size.faults}"
    )


def _report(world: World, again: str, promise: str, about: str | Sequence[str]) -> str:
    """What went wrong; *about* is the request or task concerned, or lines of a bug."""
    trace, request = world.nature.trace, about.rsplit("-s", 1)[0] if isinstance(about, str) else ""
    lines = trace.about(request) if request else trace.last()
    more = [] if isinstance(about, str) else about
    return "\n".join([f"seed {world.nature.seed}: {promise}", f"again: {again}", *lines, *more])


@dataclass(slots=True)
class Summary:
    """What came of many worlds."""

    size: Size
    seeds: int = 0
    requests: int = 0
    tasks: int = 0
    simulated_s: float = 0.0
    took_s: float = 0.0
    tally: Counter[str] = field(default_factory=Counter)
    broken: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count *outcome*."""
        self.seeds += 1
        self.requests += outcome.requests
        self.tasks += outcome.tasks
        self.simulated_s += outcome.simulated_s
        self.took_s += outcome.took_s
        self.tally += outcome.tally
        if outcome.broken:
            self.broken.append(outcome)

    def lines(self, elapsed_s: float) -> list[str]:
        """The figures, for people."""
        size = self.size
        faults = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.tally.items()))
        verdict = f"{len(self.broken)} of {self.seeds} seeds broke a promise" if self.broken else "no broken promise"
        worlds = f"{self.seeds} seeds of {size.nodes} nodes, {size.requests} requests and {size.masters} master(s)"
        done = (
            f"{self.requests:,} requests accepted, {self.tasks:,} tasks run, {self.simulated_s / 3600:.1f} h simulated"
        )
        return [
            f"{worlds}, faults {size.faults}: {verdict}",
            f"{done} in {elapsed_s:.0f} s ({self.took_s:.0f} s of processor time)",
            f"{self.tasks / max(self.took_s, 1e-9):,.0f} simulated tasks a second and processor",
            f"faults: {faults or 'none'}",
        ]
