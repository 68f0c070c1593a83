"""``pibot cancel``."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.exits import FAILED, NOBODY
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words, say

if TYPE_CHECKING:
    from pibot_mesh.mqtt.client import Message
    from pibot_mesh.protocol.messages import Reply
    from pibot_mesh.protocol.topics import Address

_HEARD_WITHIN_S: Final = 2.0
_LAST_WORD_S: Final = 8.0


@click.command("cancel")
@click.argument("request_id", metavar="ID")
@mesh_options
def command(request_id: str, broker: str | None, root: str | None) -> None:
    """Cancel the request ID, and show its reply: it says what had been done.

    "pibot watch 'request/#'" shows the ids. Ends with 2 where the request is not open, or ended otherwise.
    """
    import re

    from pibot_mesh.protocol.codec import ID_PATTERN

    if not re.fullmatch(ID_PATTERN, request_id):
        raise click.BadParameter("an id is 1 to 64 letters, digits, '_' or '-'", param_hint="ID")
    log_in_words(logging.ERROR)
    click.get_current_context().exit(asyncio.run(_cancel(connection(broker, root), request_id)))


async def _cancel(mesh: Connection, request_id: str) -> int:
    from pibot_mesh.cli.story import reply_line
    from pibot_mesh.cli.viewer import WAIT_S, viewing
    from pibot_mesh.protocol.codec import decode, encode
    from pibot_mesh.protocol.messages import Control, Reply, State, decode_presence
    from pibot_mesh.protocol.topics import Kind

    loop = asyncio.get_running_loop()
    master, heard, ended = asyncio.Event(), asyncio.Event(), loop.create_future()

    def receive(address: Address, message: Message) -> None:
        if address.kind is Kind.MASTER_STATUS:
            if decode_presence(message.payload):
                master.set()
        elif address.id == request_id:
            heard.set()
            if address.kind is Kind.REQUEST_REPLY and not ended.done():
                ended.set_result(decode(Reply, message.payload))

    kinds = [Kind.MASTER_STATUS, Kind.REQUEST_EVENT, Kind.REQUEST_REPLY]
    async with viewing(mesh, kinds, receive) as link:
        if not await _within(WAIT_S / 2, master.wait()):
            say(f"pibot: no master is online at {mesh.broker}: start one with 'pibot master'", err=True)
            return NOBODY
        link.send(Kind.REQUEST_CONTROL, encode(Control("cancel", reason="pibot cancel")), id=request_id)
        if not await _within(_HEARD_WITHIN_S, heard.wait()):
            say(f"pibot: request {request_id} is not open: it has ended, or never was", err=True)
            return FAILED
        if not await _within(_LAST_WORD_S, ended):
            say(f"pibot: request {request_id} is being cancelled, and its reply has not come yet", err=True)
            return FAILED
    reply: Reply = ended.result()
    line = reply_line(reply)
    say(line.text, tone=line.tone)
    return 0 if reply.state is State.CANCELED else FAILED


async def _within(timeout_s: float, thing: object) -> bool:
    """Whether *thing* happened within *timeout_s* seconds."""
    try:
        await asyncio.wait_for(thing, timeout_s)  # type: ignore[arg-type]
    except TimeoutError:
        return False
    return True
