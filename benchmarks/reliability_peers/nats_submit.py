"""Publishes every task to NATS under a message id, again until the server acknowledges it."""

from __future__ import annotations

import asyncio

from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.errors import APIError

from reliability_peers.nats_ends import SUBJECT, connect
from reliability_peers.order import Task, given
from reliability_peers.pacing import paced_async, tell


async def submit(stream: JetStreamContext, task: Task, said: dict[str, str]) -> None:
    while task.id not in said:
        try:
            await stream.publish(SUBJECT, task.text.encode(), timeout=2, headers={"Nats-Msg-Id": task.id})
            said[task.id] = "accepted"
        except (Error, APIError, TimeoutError):
            await asyncio.sleep(0.1)


async def run() -> None:
    order = given()
    said: dict[str, str] = {}
    client, stream = await connect(order)
    async with asyncio.TaskGroup() as submitting:
        async for task in paced_async(order):
            submitting.create_task(submit(stream, task, said))
    await client.close()
    tell(order, said)


if __name__ == "__main__":
    asyncio.run(run())
