"""``pibot cancel``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

import click

from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.options import Connection, check_id, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words, say

_HEARD_WITHIN_S: Final = 2.0
_LAST_WORD_S: Final = 8.0


@click.command("cancel")
@click.argument("request_id", metavar="ID", callback=check_id)
@mesh_options
def command(request_id: str, broker: str | None, root: str | None) -> None:
    """Cancel the request ID, and show its reply: it says what had been done.

    "pibot ask" and "pibot history" show the ids. Ends with 2 where the request is not open, or ended otherwise.
    """
    log_in_words(logging.ERROR)
    click.get_current_context().exit(asyncio.run(_cancel(connection(broker, root), request_id)))


async def _cancel(mesh: Connection, request_id: str) -> int:
    from pibot_mesh.cli.control import send, watching
    from pibot_mesh.cli.story import reply_line
    from pibot_mesh.protocol.messages import Control, State

    async with watching(mesh, request_id) as (request, link):
        send(link, request_id, Control("cancel"))
        if not await _within(_HEARD_WITHIN_S, request.is_heard.wait()):
            say(f"pibot: request {request_id} is not open: it has ended, or never was", err=True)
            return FAILED
        if not await _within(_LAST_WORD_S, request.reply):
            say(f"pibot: request {request_id} is being cancelled, and its reply has not come yet", err=True)
            return FAILED
    reply = request.reply.result()
    line = reply_line(reply)
    say(line.text, tone=line.tone)
    return 0 if reply.state is State.CANCELED else FAILED


async def _within(timeout_s: float, thing: Awaitable[object]) -> bool:
    """Whether *thing* happened within *timeout_s* seconds."""
    try:
        await asyncio.wait_for(thing, timeout_s)
    except TimeoutError:
        return False
    return True
