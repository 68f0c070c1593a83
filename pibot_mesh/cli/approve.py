"""``pibot approve``."""

from __future__ import annotations

import asyncio
import logging

import click

from pibot_mesh.cli.options import check_id, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words


@click.command("approve")
@click.argument("request_id", metavar="REQUEST", callback=check_id)
@click.argument("call", metavar="[CALL]", required=False, callback=check_id)
@mesh_options
def command(request_id: str, call: str | None, broker: str | None, root: str | None) -> None:
    """Say yes to a call that waits for a person: once, and with the arguments that were shown.

    The question names REQUEST and CALL; "pibot watch 'request/+/event'" shows it, too. Without CALL, what waits is
    named. Ends with 2 where nothing waits, or somebody was faster.
    """
    from pibot_mesh.cli.control import give_order
    from pibot_mesh.protocol.messages import Control

    log_in_words(logging.ERROR)
    order = Control("approve", call=call)
    click.get_current_context().exit(asyncio.run(give_order(connection(broker, root), request_id, order)))
