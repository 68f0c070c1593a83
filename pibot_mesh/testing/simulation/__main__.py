"""Runs simulated meshes from the command line; exits with 1 where a promise was broken."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Final

from pibot_mesh.testing.simulation.faults import BY_NAME
from pibot_mesh.testing.simulation.run import Summary, run, run_many
from pibot_mesh.testing.simulation.world import Size

_TELL_EVERY: Final = 50
"""Worlds after which it is said how far it is."""


def main(arguments: list[str] | None = None) -> int:
    """Run what *arguments* say, print what came of it, and return the exit code."""
    options = _parser().parse_args(arguments)
    size = Size(options.nodes, options.requests, options.masters, options.faults)
    seeds = options.seeds or range(options.seed, options.seed + 1)
    summary, began_at = Summary(size), time.monotonic()
    outcomes = (
        (run(seed, size, is_told=True) for seed in seeds)
        if options.trace
        else run_many(seeds, size, workers=min(options.workers, len(seeds)))
    )
    for outcome in outcomes:
        summary.add(outcome)
        if outcome.broken:
            _say(outcome.broken)
        elif len(seeds) == 1:
            _say(f"seed {outcome.seed}: {outcome.simulated_s:.0f} s simulated, trace {outcome.digest}")
        if summary.seeds % _TELL_EVERY == 0 and summary.seeds < len(seeds):
            print(f"{summary.seeds} of {len(seeds)} seeds", file=sys.stderr, flush=True)  # noqa: T201
    elapsed_s = time.monotonic() - began_at
    for line in summary.lines(elapsed_s):
        _say(line)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(_figures(summary, elapsed_s), file, indent=2)
    return 1 if summary.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pibot_mesh.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the world to live (1)")
    parser.add_argument("--seeds", type=_range, help="many of them: FIRST-LAST")
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--masters", type=int, default=1, help="with a shared ledger, where there are several (1)")
    parser.add_argument("--faults", choices=sorted(BY_NAME), default="usual")
    parser.add_argument("--workers", type=int, default=1, help="processes that run side by side (1)")
    parser.add_argument("--trace", action="store_true", help="print all that happens")
    parser.add_argument("--json", help="write the figures to this file")
    return parser


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _figures(summary: Summary, elapsed_s: float) -> dict[str, object]:
    size = summary.size
    return {
        "nodes": size.nodes,
        "requests_asked": size.requests,
        "masters": size.masters,
        "faults": size.faults,
        "seeds": summary.seeds,
        "broken": [outcome.seed for outcome in summary.broken],
        "requests": summary.requests,
        "tasks": summary.tasks,
        "simulated_s": round(summary.simulated_s),
        "elapsed_s": round(elapsed_s, 1),
        "tasks_per_s": round(summary.tasks / max(summary.took_s, 1e-9)),
        "faults_by_kind": dict(sorted(summary.tally.items())),
    }


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is what the command is for


if __name__ == "__main__":
    sys.exit(main())
