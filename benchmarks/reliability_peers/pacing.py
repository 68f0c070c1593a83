"""How submitters submit: one task every so often, whatever became of those before. Standard library only."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping

from reliability_peers.order import Order, Task


def paced(order: Order) -> Iterator[Task]:
    """The tasks, each when its time has come; at once where submitting those before took too long."""
    begun = time.monotonic()
    for number, task in enumerate(order.all_tasks()):
        time.sleep(max(0.0, begun + number * order.every_s - time.monotonic()))
        yield task


async def paced_async(order: Order) -> AsyncIterator[Task]:
    """`paced`, for a loop."""
    begun = time.monotonic()
    for number, task in enumerate(order.all_tasks()):
        await asyncio.sleep(max(0.0, begun + number * order.every_s - time.monotonic()))
        yield task


def tell(order: Order, said: Mapping[str, str]) -> None:
    """Write what the submitter was told: ``accepted``, ``completed``, ``unknown`` or ``refused``, by task."""
    order.said.write_text(json.dumps(said), encoding="utf-8")
