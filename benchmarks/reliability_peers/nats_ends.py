"""What both ends of NATS have in common: the connection, and the stream with its consumer."""

from __future__ import annotations

import asyncio

import nats
from nats.aio.client import Client
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType
from nats.js.errors import APIError

from reliability_peers.order import REDELIVERY_S, Order

SUBJECT = "tasks"
CONSUMER = "worker"


async def _ignore(_: Exception) -> None:
    """Lost connections are what this is about."""


async def connect(order: Order) -> tuple[Client, JetStreamContext]:
    """Connected, however long it takes, with stream and consumer there."""
    while True:
        try:
            client = await nats.connect(
                f"nats://127.0.0.1:{order.port}",
                reconnect_time_wait=0.1,
                max_reconnect_attempts=-1,
                connect_timeout=1,
                error_cb=_ignore,
            )
            stream = client.jetstream(timeout=2)
            await stream.add_stream(
                name="tasks", subjects=[SUBJECT], storage=StorageType.FILE, retention=RetentionPolicy.WORK_QUEUE
            )
            config = ConsumerConfig(
                durable_name=CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=REDELIVERY_S, max_deliver=-1
            )
            await stream.add_consumer("tasks", config)
        except (OSError, Error, APIError, TimeoutError):
            await asyncio.sleep(0.1)
        else:
            return client, stream
