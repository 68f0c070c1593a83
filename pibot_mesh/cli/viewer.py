"""A connection that only looks on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from pibot_mesh.cli.options import Connection
from pibot_mesh.mqtt.client import Message, Subscription
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.topics import Address, Kind, Topics

WAIT_S: Final = 3.5
"""How long a broker and a master are waited for: with the program's own start, an answer within 5 s."""
_QUIET_S: Final = 0.3
"""The retained messages have all come when nothing came for so long,"""
_ENOUGH_S: Final = 1.5
"""or after so long: a busy mesh is never quiet."""


@asynccontextmanager
async def viewing(
    mesh: Connection,
    kinds: Sequence[Kind],
    receive: Callable[[Address, Message], None],
    *,
    also: Sequence[Subscription] = (),
    receive_other: Callable[[Message], None] | None = None,
) -> AsyncIterator[Link]:
    """Listen to the topics of *kinds*, of all nodes. Raises BrokerError where there is no broker within `WAIT_S`.

    *also* are topics outside of the mesh, and *receive_other* gets what comes on them.
    """

    def received(address: Address, message: Message) -> None:
        receive(address, message)
        link.ack(message)

    def received_other(message: Message) -> None:
        if receive_other is not None:
            receive_other(message)
        link.ack(message)

    link = Link(
        mesh.broker,
        Topics(mesh.root),
        client_id=f"pibot-view-{uuid.uuid4().hex[:12]}",
        listen=[(kind, "+") for kind in kinds],
        receive=received,
        also=also,
        receive_other=received_other,
    )
    await link.start()
    try:
        await link.wait_connected(WAIT_S)
        yield link
    finally:
        await link.stop()


async def until_quiet(changed: asyncio.Event) -> None:
    """Wait until what the broker keeps has come, for two seconds at most; *changed* is set at every message."""
    try:
        async with asyncio.timeout(_ENOUGH_S):
            while True:
                changed.clear()
                await asyncio.wait_for(changed.wait(), _QUIET_S)
    except TimeoutError:
        return
