"""``pibot stop-all``: the emergency stop, and its end."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words, say
from pibot_mesh.errors import BrokerError

if TYPE_CHECKING:
    from pibot_mesh.cli.mesh_view import MeshView
    from pibot_mesh.mqtt.client import Message
    from pibot_mesh.protocol.topics import Address

_TAKEN_WITHIN_S: Final = 5.0
_OBEYED_WITHIN_S: Final = 6.0
"""A node says at once that it obeys; where that message is lost, it says so with its next health."""


@click.command("stop-all")
@click.option("--release", "is_released", is_flag=True, help="End the emergency stop: outputs may be set again.")
@click.option("--yes", "is_sure", is_flag=True, help="With --release: do not ask.")
@mesh_options
def command(is_released: bool, is_sure: bool, broker: str | None, root: str | None) -> None:
    """Stop everything: every output of every node goes to its safe value, and stays there.

    It needs a broker, and no master. It holds for nodes that are offline or start later, too, until a person ends it
    with --release; that sets nothing, it only lets outputs be set again. Ends with 2 where a node that is online did
    not say that it obeys.
    """
    if is_sure and not is_released:
        raise click.UsageError("--yes goes with --release only: to stop, nothing is asked.")
    log_in_words(logging.ERROR)
    mesh = connection(broker, root)
    if is_released and not is_sure and not _is_wanted():
        say("Nothing was changed.")
        click.get_current_context().exit(FAILED)
    click.get_current_context().exit(asyncio.run(_order(mesh, not is_released)))


def _is_wanted() -> bool:
    """What the person at the terminal says. Raises UsageError where there is none."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("--release asks a person, and here is no terminal: add --yes where that was done.")
    say("The emergency stop ends for all nodes: masters, rules and people can switch their outputs again.", tone="odd")
    try:
        return click.confirm("Is everybody clear of what may move or heat up?", default=False)
    except click.Abort:
        return False


async def _order(mesh: Connection, is_stopped: bool) -> int:
    await _send(mesh, is_stopped)
    if is_stopped:
        say("STOP is sent, and the broker keeps it.", tone="bad", bold=True)
    else:
        say("RUN is sent: the emergency stop is over.", tone="good")
    return await _watch(mesh, is_stopped)


async def _send(mesh: Connection, is_stopped: bool) -> None:
    """Send the word on a connection of its own, that does nothing before. Raises BrokerError unless it is taken."""
    from pibot_mesh.mqtt.client import MqttClient
    from pibot_mesh.protocol.messages import encode_stop
    from pibot_mesh.protocol.topics import DELIVERY, Kind, Topics

    taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    delivery, topic = DELIVERY[Kind.STOP], Topics(mesh.root).topic(Kind.STOP)

    def speak() -> None:
        client.publish(topic, encode_stop(is_stopped), qos=delivery.qos, retain=delivery.retain, on_ack=answered)

    def answered() -> None:
        if not taken.done():
            taken.set_result(None)

    def failed(error: Exception) -> None:
        if not taken.done():
            taken.set_exception(error)

    client = MqttClient(
        mesh.broker,
        client_id=f"pibot-stop-{uuid.uuid4().hex[:12]}",
        on_message=lambda _: None,
        on_connect=speak,
        on_error=failed,
        session_expiry_s=0,
    )
    await client.start()
    try:
        await client.wait_connected(_TAKEN_WITHIN_S)
        await asyncio.wait_for(taken, _TAKEN_WITHIN_S)
    except TimeoutError:
        raise BrokerError(f"broker at {mesh.broker}: no answer to the message within {_TAKEN_WITHIN_S:g} s") from None
    finally:
        await client.stop()


async def _watch(mesh: Connection, is_stopped: bool) -> int:
    """Wait until every node that is online obeys, and tell of each. Returns the exit code."""
    from pibot_mesh.cli.mesh_view import MeshView
    from pibot_mesh.cli.obedience import late_nodes, obedience_lines
    from pibot_mesh.cli.viewer import until_quiet, viewing
    from pibot_mesh.protocol.topics import Kind

    view, changed = MeshView(), asyncio.Event()

    def receive(address: Address, message: Message) -> None:
        view.see(address, message.payload)
        changed.set()

    kinds = [Kind.STOP, Kind.NODE_STATUS, Kind.NODE_CARD, Kind.NODE_HEALTH, Kind.OUTPUT]
    async with viewing(mesh, kinds, receive):
        await until_quiet(changed)
        if view.is_stopped != is_stopped:
            raise BrokerError(
                f"broker at {mesh.broker}: it took the message and does not pass it on, or somebody else was faster: "
                f"may this user write to {mesh.root}/stop?"
            )
        await _until_obeyed(view, changed, is_stopped)
    for line in obedience_lines(view, is_stopped):
        say(line.text, tone=line.tone, dim=line.dim)
    return FAILED if late_nodes(view, is_stopped) else 0


async def _until_obeyed(view: MeshView, changed: asyncio.Event, is_stopped: bool) -> None:
    from pibot_mesh.cli.obedience import late_nodes

    try:
        async with asyncio.timeout(_OBEYED_WITHIN_S):
            while late_nodes(view, is_stopped):
                changed.clear()
                await changed.wait()
    except TimeoutError:
        return
