"""A connection that only looks on."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from pibot_mesh.cli.options import Connection
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.topics import Address, Kind, Topics

WAIT_S: Final = 3.5
"""How long a broker and a master are waited for: with the program's own start, an answer within 5 s."""


@asynccontextmanager
async def viewing(
    mesh: Connection, kinds: Sequence[Kind], receive: Callable[[Address, Message], None]
) -> AsyncIterator[Link]:
    """Listen to the topics of *kinds*, of all nodes. Raises BrokerError where there is no broker within `WAIT_S`."""

    def received(address: Address, message: Message) -> None:
        receive(address, message)
        link.ack(message)

    link = Link(
        mesh.broker,
        Topics(mesh.root),
        client_id=f"pibot-view-{uuid.uuid4().hex[:12]}",
        listen=[(kind, "+") for kind in kinds],
        receive=received,
    )
    await link.start()
    try:
        await link.wait_connected(WAIT_S)
        yield link
    finally:
        await link.stop()
