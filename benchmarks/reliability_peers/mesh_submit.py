"""Asks the mesh for every task, waits for every reply, and asks again where the reply says that it may."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from pibot_mesh.client import Client
from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import MeshError
from pibot_mesh.protocol.messages import Reply, State
from reliability_peers.order import Task, given
from reliability_peers.pacing import paced_async, tell

AGAIN_S: Final = 0.5
PATIENCE_S: Final = 60.0

_log = logging.getLogger(__name__)


def is_retryable(reply: Reply) -> bool:
    """Whether *reply* says that nothing was done, and that it is worth asking again."""
    errors = [reply.error, *(result.error for result in reply.results)]
    return reply.state in {State.REJECTED, State.FAILED} and any(error and error.retryable for error in errors)


async def ask(client: Client, task: Task) -> str:
    """What the mesh says of *task* in the end. Asking again is a new request: one that was refused stays so."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        reply = await client.ask(f"append {task.text}")
        if reply.state != State.COMPLETED:
            _log.info("%s: %s: %s", task.id, reply.state, reply.text or reply.error)
        if not is_retryable(reply) or time.monotonic() > deadline:
            break
        await asyncio.sleep(AGAIN_S)
    return {State.COMPLETED: "completed", State.UNKNOWN: "unknown"}.get(reply.state, "refused")


async def ask_noting(client: Client, task: Task, said: dict[str, str]) -> None:
    try:
        said[task.id] = await ask(client, task)
    except MeshError as error:  # without a reply it counts as lost, where it was not done
        _log.info("%s: %s", task.id, error)


async def run() -> None:
    order = given()
    said: dict[str, str] = {}
    async with Client(BrokerSettings(port=order.port), wait_s=15) as client:
        while (await client.ask("append t 0.01", mode="plan_only")).state == State.REJECTED:
            await asyncio.sleep(0.05)
        async with asyncio.TaskGroup() as asking:
            async for task in paced_async(order):
                asking.create_task(ask_noting(client, task, said))
    tell(order, said)


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s")
    asyncio.run(run())
