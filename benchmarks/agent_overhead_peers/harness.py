"""Runs one peer in this process and prints its figures as JSON.

    python PEER.py BASE_URL '[{"turns": 2, "deltas": 12, "warmup": 8, "runs": 40, "skip_over_s": null}, ...]' [ARGUMENT]

It imports little: what it imports counts as the peer's memory.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import script

Run: TypeAlias = Callable[[str], "str | Awaitable[str]"]
"""A whole run of the peer's agent: the person's words in, the final text out."""

_results: list[int] = []


def add(a: int, b: int) -> int:
    """Add two whole numbers.

    Args:
        a: the first number
        b: the second number
    """
    total = a + b
    _results.append(total)
    return total


async def add_async(a: int, b: int) -> int:
    """Add two whole numbers.

    Args:
        a: the first number
        b: the second number
    """
    return add(a, b)


def _memory_kb() -> tuple[int, int]:
    """What this process holds now, and the most that it ever held."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmRSS"].split()[0]), int(fields["VmHWM"].split()[0])


async def _run_once(run: Run, turns: int, deltas: int) -> tuple[float, float]:
    """Seconds that one run takes, by the clock and of the processor. Exits where its answer or a sum is wrong."""
    _results.clear()
    prompt = script.prompt(turns, deltas)
    cpu, begun = time.process_time(), time.perf_counter()
    text = run(prompt)
    if not isinstance(text, str):
        text = await text
    taken, cpu = time.perf_counter() - begun, time.process_time() - cpu
    expected = "".join(script.final_pieces(turns, deltas))
    if text != expected:
        sys.exit(f"wrong answer: {text[:200]!r} instead of {expected[:200]!r}")
    if _results != [script.result(call) for call in range(turns - 1)]:
        sys.exit(f"wrong results of the tool: {_results}")
    return taken, cpu


async def _run_step(run: Run, *, turns: int, deltas: int, warmup: int, runs: int) -> dict[str, object]:
    for _ in range(warmup):
        await _run_once(run, turns, deltas)
    pairs = [await _run_once(run, turns, deltas) for _ in range(runs)]
    rss_kb, peak_kb = _memory_kb()
    return {
        "times_s": [taken for taken, _ in pairs],
        "cpu_s": [cpu for _, cpu in pairs],
        "rss_kb": rss_kb,
        "peak_kb": peak_kb,
    }


async def _run_steps(run: Run, steps: list[dict]) -> list[dict[str, object]]:
    """The figures of each step, in order, up to one that would take too long."""
    done: list[dict] = []
    for step in steps:
        skip_over_s = step.pop("skip_over_s")
        if skip_over_s is not None and max(done[-1]["times_s"]) > skip_over_s:
            break
        done.append(await _run_step(run, **step))
    return done


def measure(prepare: Callable[[str], Run]) -> None:
    """Run the steps of the command line with what *prepare* makes for the base URL; it imports the peer's library."""
    base_url, steps = sys.argv[1], json.loads(sys.argv[2])
    begun = time.perf_counter()
    run = prepare(base_url)
    import_s = time.perf_counter() - begun

    print(json.dumps({"import_s": import_s, "steps": asyncio.run(_run_steps(run, steps))}))
