"""``pibot why``."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import click

from pibot_mesh.cli.ledger_options import ledger_options
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words, say, say_json

if TYPE_CHECKING:
    from pibot_mesh.cli.causes import Asked
    from pibot_mesh.cli.mesh_view import MeshView
    from pibot_mesh.mqtt.client import Message
    from pibot_mesh.protocol.topics import Address


@click.command("why")
@click.argument("words", metavar="NODE/OUTPUT", nargs=-1, required=True)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
@ledger_options
@mesh_options
def command(
    *,
    words: tuple[str, ...],
    is_json: bool,
    config: str | None,
    state_dir: str | None,
    ledger: str | None,
    broker: str | None,
    root: str | None,
) -> None:
    """Tell who or what set an output last, and when.

    Words do as well as NODE/OUTPUT, where they fit one output only: "pibot why kitchen fan". On the master's machine,
    or with the ledger named, the words of the request are told, too.
    """
    from pibot_mesh.cli.causes import find_output, sentences
    from pibot_mesh.cli.exits import FAILED

    log_in_words(logging.ERROR)
    why = find_output(asyncio.run(_seen(connection(broker, root))), " ".join(words))
    asked = None
    if why.cause is not None and why.cause.request is not None:
        asked = _asked(why.cause.request, config, state_dir, ledger)
    if is_json:
        say_json(why.to_json(asked))
    else:
        now_ts = time.time()
        first, *others = sentences(why, now_ts=now_ts, clock=lambda ts: _clock(ts, now_ts), asked=asked)
        say(first)
        for line in others:
            say(line, dim=True)
    click.get_current_context().exit(0 if why.value is not None else FAILED)


async def _seen(mesh: Connection) -> MeshView:
    from pibot_mesh.cli.mesh_view import MeshView
    from pibot_mesh.cli.viewer import until_quiet, viewing
    from pibot_mesh.protocol.topics import Kind

    view, changed = MeshView(), asyncio.Event()

    def receive(address: Address, message: Message) -> None:
        view.see(address, message.payload)
        changed.set()

    async with viewing(mesh, [Kind.NODE_STATUS, Kind.NODE_CARD, Kind.OUTPUT, Kind.OUTPUT_CAUSE], receive):
        await until_quiet(changed)
    return view


def _asked(request_id: str, config: str | None, state_dir: str | None, ledger: str | None) -> Asked | None:
    """The request, where a ledger is at hand; None where it is not in it. Raises StoreError for one that was named."""
    from pibot_mesh.cli.causes import Asked
    from pibot_mesh.cli.ledger_options import ledger_settings, reading
    from pibot_mesh.errors import ConfigError, StoreError

    try:
        with reading(ledger_settings(config, state_dir, ledger)) as reader:
            story = reader.story(request_id)
    except (StoreError, ConfigError):
        if config or state_dir or ledger:
            raise
        return None
    return Asked(story.record.request.text, story.record.origin.is_plain) if story is not None else None


def _clock(ts: float, now_ts: float) -> str:
    """The time of day; with its date, where that is another day."""
    at, today = time.localtime(ts), time.localtime(now_ts)
    return time.strftime("%H:%M:%S" if at[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", at)
