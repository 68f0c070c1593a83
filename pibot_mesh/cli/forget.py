"""``pibot forget``."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words, say
from pibot_mesh.errors import BrokerError

if TYPE_CHECKING:
    from pibot_mesh.mqtt.client import Message, MqttClient
    from pibot_mesh.protocol.topics import Address

_TAKEN_WITHIN_S: Final = 5.0
_ALIVE_WITHIN_S: Final = 2.0
"""A node that lives shows itself again at once; this is for its way to the broker and back."""
_READ_QOS: Final = 0
"""At QoS 1 Mosquitto sends the first 1,100 retained messages, and drops the others without a word."""
_NAMED: Final = 5
"""So many topics are named; of the others, how many they are."""


def _check_node(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    from pibot_mesh.protocol.topics import NODE_PATTERN

    if not re.fullmatch(NODE_PATTERN, value):
        raise click.BadParameter("a node is 1 to 32 small letters, digits or '-', not '-' first", ctx, parameter)
    return value


@click.command("forget")
@click.argument("node", callback=_check_node)
@click.option("--force", "is_forced", is_flag=True, help="Though the broker still counts it as online.")
@mesh_options
def command(node: str, is_forced: bool, broker: str | None, root: str | None) -> None:
    """Have the mesh forget NODE: a machine that is gone for good.

    Clears all that the broker keeps of it: card, status, states, causes, sensors, reflexes. Masters forget it then, and
    Home Assistant loses its device. A node that comes back shows itself again.

    Only a user who may write below node/NODE/ can do it: "caretaker" in mosquitto/acl, by PIBOT_USERNAME and
    PIBOT_PASSWORD. Ends with 2 where the node is online, is not known, or was not forgotten altogether.
    """
    log_in_words(logging.ERROR)
    click.get_current_context().exit(asyncio.run(_forget(connection(broker, root), node, is_forced)))


def why_not(node: str, kept: Mapping[str, bytes], *, is_forced: bool = False) -> str:
    """Why a *node* of which this is *kept* (by topic, below its own) cannot be forgotten now, or nothing. Pure."""
    if kept.get("status") != b"online" or is_forced:
        return ""
    return (
        f"{node} is online: end it first. Where it lost its power just now, wait for a minute: the broker has not "
        "noticed yet. Add --force where you know that it is gone"
    )


def why_left(node: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    """What was not forgotten of *node*, and why, by what was kept of it *before* and *after*; or nothing. Pure."""
    if not after:
        return ""
    topics = sorted(after)
    more = f" and {len(topics) - _NAMED} more" if len(topics) > _NAMED else ""
    cleared = len(before.keys() - after.keys())
    what = f"{node}: {cleared} of {len(before)} retained messages cleared; kept: {', '.join(topics[:_NAMED])}{more}."
    if after.get("status") == b"offline" and before.get("status") != b"offline":
        return f"{what} The broker has noticed just now that the node is gone: try again"
    if any(before.get(topic) != payload for topic, payload in after.items()):
        return f"{what} Something of it is new: the node is alive; end it first"
    return f"{what} This user may not write there: be one who may, by PIBOT_USERNAME and PIBOT_PASSWORD"


async def _forget(mesh: Connection, node: str, is_forced: bool) -> int:
    kept = await _kept(mesh, node)
    problem = why_not(node, kept, is_forced=is_forced) if kept else await _why_unknown(mesh, node)
    if not problem:
        await _clear(mesh, node, kept)
        if is_forced:
            await _wait_for_life(mesh, node)
        problem = why_left(node, kept, await _kept(mesh, node))
    if problem:
        say(f"pibot: {problem}", err=True)
        return FAILED
    say(f"{node}: {len(kept)} retained message{'s' if len(kept) > 1 else ''} cleared", tone="good")
    if kept.get("status") == b"online":
        say("Where the broker has yet to notice that it is gone, it comes back as offline: forget it again then.")
    return 0


async def _kept(mesh: Connection, node: str) -> dict[str, bytes]:
    """What the broker keeps of *node*, by topic below the node's own, read from it anew. Raises BrokerError."""
    from pibot_mesh.cli.viewer import until_quiet

    kept, changed, errors = dict[str, bytes](), asyncio.Event(), list[Exception]()
    below = _below(mesh, node)

    def receive(message: Message) -> None:
        if message.retain:
            kept[message.topic.removeprefix(below)] = message.payload
            changed.set()

    async with _connected(mesh, filters=[f"{below}#"], receive=receive, failed=errors.append):
        await until_quiet(changed)
    for error in errors:
        raise error
    return kept


async def _wait_for_life(mesh: Connection, node: str) -> None:
    """Wait until *node* says that it is online, for `_ALIVE_WITHIN_S` seconds at most."""
    alive = asyncio.Event()

    def receive(message: Message) -> None:
        if message.payload == b"online":
            alive.set()

    async with _connected(mesh, filters=[f"{_below(mesh, node)}status"], receive=receive, failed=lambda _: None):
        with suppress(TimeoutError):
            await asyncio.wait_for(alive.wait(), _ALIVE_WITHIN_S)


async def _why_unknown(mesh: Connection, node: str) -> str:
    """That there is no such node, and which there are."""
    from pibot_mesh.cli.mesh_view import MeshView
    from pibot_mesh.cli.reflex_list import known_nodes
    from pibot_mesh.cli.viewer import until_quiet, viewing
    from pibot_mesh.protocol.topics import Kind

    view, changed = MeshView(), asyncio.Event()

    def receive(address: Address, message: Message) -> None:
        view.see(address, message.payload)
        changed.set()

    async with viewing(mesh, [Kind.NODE_STATUS, Kind.NODE_CARD], receive):
        await until_quiet(changed)
    return known_nodes(view, node) or f"nothing was kept of {node} just now: it begins to show itself"


async def _clear(mesh: Connection, node: str, kept: Collection[str]) -> None:
    """Clear the topics that are *kept*. Returns when the broker has answered to each, be it by a refusal.

    The card goes first: with it the node is forgotten, and the rest is news to nobody. The status goes last: a node
    that lives shows itself again then. Raises BrokerError.
    """
    from pibot_mesh.errors import PublishRefused

    order = sorted(kept, key=lambda each: (each != "card", each == "status", each))
    topics = [_below(mesh, node) + each for each in order]
    waiting, answered = set(topics), asyncio.Event()

    def taken(topic: str) -> None:
        waiting.discard(topic)
        if not waiting:
            answered.set()

    def failed(error: Exception) -> None:
        if isinstance(error, PublishRefused):
            taken(error.topic)

    async with _connected(mesh, failed=failed, max_queued=len(topics)) as client:
        for topic in topics:
            client.publish(topic, b"", qos=1, retain=True, on_ack=partial(taken, topic))
        try:
            await asyncio.wait_for(answered.wait(), _TAKEN_WITHIN_S)
        except TimeoutError:
            raise BrokerError(
                f"broker at {mesh.broker}: no answer to {len(waiting)} of {len(topics)} messages within "
                f"{_TAKEN_WITHIN_S:g} s: try again"
            ) from None


def _below(mesh: Connection, node: str) -> str:
    return f"{mesh.root}/node/{node}/"


@asynccontextmanager
async def _connected(
    mesh: Connection,
    *,
    failed: Callable[[Exception], None],
    filters: Sequence[str] = (),
    receive: Callable[[Message], None] = lambda _: None,
    max_queued: int = 1,
) -> AsyncIterator[MqttClient]:
    """A connection that may speak of topics of no kind, which an older version has left. Raises BrokerError."""
    from pibot_mesh.cli.viewer import WAIT_S
    from pibot_mesh.mqtt.client import MqttClient, Subscription

    def received(message: Message) -> None:
        receive(message)
        client.ack(message)

    client = MqttClient(
        mesh.broker,
        client_id=f"pibot-forget-{uuid.uuid4().hex[:12]}",
        on_message=received,
        on_error=failed,
        subscriptions=[Subscription(each, _READ_QOS) for each in filters],
        session_expiry_s=0,
        max_queued=max_queued,
    )
    await client.start()
    try:
        await client.wait_connected(WAIT_S)
        yield client
    finally:
        await client.stop()
