"""``pibot watch``."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import stat
import sys
import time
import uuid
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.exits import PIPE_CLOSED
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words, say, say_json

if TYPE_CHECKING:
    from pibot_mesh.mqtt.client import Message

_WAITING: Final = 10_000
"""Messages that may wait for a slow terminal; more are dropped, and counted."""

_LONG: Final = 300
"""Characters of a payload that a terminal shows; a pipe gets them all."""


@click.command("watch")
@click.argument("pattern", metavar="[FILTER]", default="#")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line: ts, topic, payload, retain.")
@mesh_options
def command(pattern: str, is_json: bool, broker: str | None, root: str | None) -> None:
    """Show every message of the mesh, until Ctrl-C; first those that the broker keeps.

    FILTER is an MQTT filter below the root, such as 'node/worker-1/#' or 'request/+/event'.
    """
    log_in_words(logging.ERROR)
    mesh = connection(broker, root)
    topics = _below(mesh.root, pattern)
    click.get_current_context().exit(asyncio.run(_watch(mesh, topics, is_json)))


def _below(root: str, pattern: str) -> str:
    levels = pattern.removeprefix(root + "/").split("/")
    is_bad = "#" in levels[:-1] or any(
        not level or "\0" in level or (level not in ("+", "#") and ("+" in level or "#" in level)) for level in levels
    )
    if is_bad:
        raise click.BadParameter(
            "an MQTT filter is expected, such as 'node/+/status' or 'request/#'", param_hint="FILTER"
        )
    return "/".join([root, *levels])


async def _watch(mesh: Connection, topics: str, is_json: bool) -> int:
    from pibot_mesh.cli.viewer import WAIT_S
    from pibot_mesh.mqtt.client import MqttClient, Subscription

    connections = _Connections()
    arrived: asyncio.Queue[tuple[float, Message]] = asyncio.Queue(_WAITING)
    lost = 0

    def receive(message: Message) -> None:
        nonlocal lost
        if arrived.full():
            lost += 1
        else:
            arrived.put_nowait((time.time(), message))

    client = MqttClient(
        mesh.broker,
        client_id=f"pibot-watch-{uuid.uuid4().hex[:12]}",
        on_message=receive,
        on_connect=connections.stands,
        on_disconnect=connections.ended,
        on_error=lambda error: say(f"warning: {error}", tone="odd", err=True),
        subscriptions=[Subscription(topics, qos=0)],
        session_expiry_s=0,
    )
    reader_gone = _when_nobody_reads()
    await client.start()
    try:
        await client.wait_connected(WAIT_S)
        while not reader_gone.is_set():
            getting = asyncio.ensure_future(arrived.get())
            leaving = asyncio.ensure_future(reader_gone.wait())
            await asyncio.wait([getting, leaving], return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not getting.done():
                getting.cancel()
                break
            _show(*getting.result(), is_json)
            if lost:
                say(f"warning: {lost} messages were not shown: they came faster than they could be printed", err=True)
                lost = 0
    finally:
        await client.stop()
    return PIPE_CLOSED


class _Connections:
    """Tells that the broker went away, in one line, and in another that it is back."""

    def __init__(self) -> None:
        self._is_away = False

    def stands(self) -> None:
        """There is a connection."""
        if self._is_away:
            self._is_away = False
            say("the broker is back", tone="odd", err=True)

    def ended(self, reason: str) -> None:
        """The connection is gone."""
        self._is_away = True
        say(f"the broker went away ({reason}); waiting for it to come back", tone="odd", err=True)


def _when_nobody_reads() -> asyncio.Event:
    """An event that is set when our output is a pipe whose reader went away, even while there is nothing to print."""
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()

    def left() -> None:
        loop.remove_reader(number)
        gone.set()

    try:
        number = sys.stdout.fileno()
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            loop.add_reader(number, left)
    except (OSError, ValueError):
        pass
    return gone


def _show(ts: float, message: Message, is_json: bool) -> None:
    try:
        text = message.payload.decode()
    except UnicodeDecodeError:
        text = None
    if is_json:
        payload = (
            {"payload": text} if text is not None else {"payload_base64": base64.b64encode(message.payload).decode()}
        )
        say_json({"ts": round(ts, 3), "topic": message.topic, **payload, "retain": message.retain})
        return
    clock = f"{time.strftime('%H:%M:%S', time.localtime(ts))}.{int(ts % 1 * 1000):03d}"
    shown = text.replace("\n", "\\n") if text is not None else str(message.payload)
    # Whoever approves a call must have seen all of it.
    may_be_cut = b'"approval_required"' not in message.payload
    if len(shown) > _LONG and may_be_cut and sys.stdout.isatty():
        shown = f"{shown[:_LONG]}… ({len(message.payload)} bytes)"
    say(f"{clock} {'kept' if message.retain else '    '} {message.topic} {shown}", dim=message.retain)
