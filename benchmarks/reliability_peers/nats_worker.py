"""Does tasks from NATS, and acknowledges each when it is done, waiting until the server has it (a double ack)."""

from __future__ import annotations

import asyncio

from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.errors import APIError

from reliability_peers.nats_ends import CONSUMER, connect
from reliability_peers.order import SIDE_BY_SIDE, Order, Task, do, given


async def work(subscription: JetStreamContext.PullSubscription, order: Order) -> None:
    while True:
        try:
            for message in await subscription.fetch(1, timeout=0.5):
                await asyncio.to_thread(do, Task.of(message.data.decode()), order.effects)
                await message.ack_sync(timeout=1)
        except (Error, APIError, TimeoutError):
            await asyncio.sleep(0.02)


async def run() -> None:
    order = given()
    _, stream = await connect(order)
    subscription = await stream.pull_subscribe_bind(CONSUMER, "tasks")
    order.ready.touch()
    await asyncio.gather(*(work(subscription, order) for _ in range(SIDE_BY_SIDE)))


if __name__ == "__main__":
    asyncio.run(run())
