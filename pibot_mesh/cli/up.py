"""``pibot up``: a whole mesh with one command."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.engines import DEFAULT_PORT, ENGINES, Engine
from pibot_mesh.cli.model_options import master_settings, model_choice, model_words
from pibot_mesh.cli.options import Connection, connection, environment, mesh_options
from pibot_mesh.cli.screen import log_in_words, say
from pibot_mesh.errors import BrokerError

if TYPE_CHECKING:
    from pibot_mesh.cli.conversation import Conversation
    from pibot_mesh.config.settings import MasterSettings
    from pibot_mesh.mqtt.client import Message
    from pibot_mesh.mqtt.embedded import EmbeddedBroker
    from pibot_mesh.mqtt.private import PrivateMosquitto
    from pibot_mesh.protocol.topics import Address

HOST: Final = "127.0.0.1"
_ONLINE_S: Final = 10.0
_BROKER_S: Final = 3.5
_LOOK_S: Final = 0.5
"""What the broker has kept of a master comes at once."""
_END_S: Final = 2.8
"""What has not ended by then after a signal is left behind; outputs are safe within the first second."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What was asked for on the command line."""

    engine: Engine
    port: int | None
    nodes: int
    text: str | None
    state_dir: Path | None
    mesh: Connection
    is_broker_given: bool
    master: MasterSettings


@click.command("up")
@click.option("--engine", type=click.Choice(ENGINES), default="auto", help="auto: Mosquitto where it is installed.")
@click.option("--port", type=click.IntRange(0, 65535), help="The broker's port. Else 1883, or the next free one.")
@click.option("--nodes", type=click.IntRange(1, 50), default=3, show_default=True, help="How many simulated nodes.")
@click.option("--ask", "text", metavar="TEXT", help="Do one request, show what happens, and end.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="The folder for what must survive a restart.")
@click.option("--config", metavar="FILE", help="A master's file: all in it counts but broker, root and state_dir.")
@model_choice
@mesh_options
def command(
    *,
    engine: Engine,
    port: int | None,
    nodes: int,
    text: str | None,
    state_dir: Path | None,
    config: str | None,
    provider: str | None,
    model: str | None,
    base_url: str | None,
    broker: str | None,
    root: str | None,
) -> None:
    """Run a broker, a master and simulated nodes, all in this process, with a prompt for requests.

    With --broker, the broker there is used and none is run. Without a model, the sentences of the offline engine are
    understood. --ask ends with 0 when the request was completed, else with 2. Ctrl-C ends the mesh; while a request
    runs, it cancels that.
    """
    is_broker_given = bool(environment(broker, root).get("PIBOT_BROKER", "").strip())
    if is_broker_given and (port is not None or engine != "auto"):
        raise click.UsageError("--port and --engine start a broker; --broker or PIBOT_BROKER names one that runs.")
    log_in_words(logging.WARNING)
    mesh, master = connection(broker, root), master_settings(config, provider, model, base_url)
    choices = Choices(engine, port, nodes, text, state_dir, mesh, is_broker_given, master)
    click.get_current_context().exit(asyncio.run(_up(choices)))


class Signals:
    """Ctrl-C and SIGTERM: cancel the request that runs, or else the task that made this."""

    def __init__(self) -> None:
        self.number = 0
        """The signal that ends everything, once it came."""
        self.cancel_request: Callable[[], None] | None = None
        """What Ctrl-C does while a request runs."""
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.came, number)

    @property
    def exit_code(self) -> int:
        """As shells say it."""
        return 128 + self.number

    def came(self, number: signal.Signals) -> None:
        """Handle a signal."""
        if self.number:
            return
        if number is signal.SIGINT and self.cancel_request is not None:
            self.cancel_request()
            return
        self.number = number
        log_in_words(logging.ERROR)
        watchdog = threading.Timer(_END_S, os._exit, [self.exit_code])
        watchdog.daemon = True
        watchdog.start()
        assert self._task is not None
        self._task.cancel()


async def _up(choices: Choices) -> int:
    signals = Signals()
    try:
        async with AsyncExitStack() as stack:
            return await _run(choices, stack, signals)
    except asyncio.CancelledError:
        if not signals.number:
            raise
        return signals.exit_code


async def _run(choices: Choices, stack: AsyncExitStack, signals: Signals) -> int:
    from pibot_mesh.agent.providers import is_configured
    from pibot_mesh.cli.conversation import Conversation
    from pibot_mesh.cli.greeting import greet
    from pibot_mesh.cli.local_mesh import LocalMesh
    from pibot_mesh.cli.state_dir import default_state_dir, locked
    from pibot_mesh.client import Client

    mesh, broker_name = await _broker(choices, stack)
    base = choices.state_dir or default_state_dir()
    place = mesh.broker.port if not choices.is_broker_given else f"{mesh.broker.host}-{mesh.broker.port}"
    folder = stack.enter_context(locked(choices.state_dir or base / str(place)))
    local = await stack.enter_async_context(LocalMesh(mesh, choices.nodes, folder, choices.master))
    if choices.is_broker_given:
        await local.master.wait_connected(_BROKER_S)
    await local.wait_online(_ONLINE_S)
    client = await stack.enter_async_context(Client(mesh.broker, root=mesh.root))
    conversation = Conversation(client, mesh, signals)
    if choices.text is not None:
        model = choices.master.model
        thinks = f" with {model_words(model)}" if is_configured(model) else ""
        say(f"{broker_name} on {mesh.broker}, a master{thinks}, {_nodes(choices.nodes)}", dim=True)
        say(f"> {choices.text}", bold=True)
        return await conversation.request(choices.text, ctrl_c_cancels=False)
    await stack.enter_async_context(conversation.others())
    greet(mesh, broker_name, [node.card() for node in local.nodes], folder, choices.master.model)
    return await _converse(conversation, base / "history", signals)


async def _broker(choices: Choices, stack: AsyncExitStack) -> tuple[Connection, str]:
    """A connection to the broker that was named, or to one that is started here; and its name for people."""
    from pibot_mesh.cli.engines import engine_name, start_broker
    from pibot_mesh.config.settings import BrokerSettings

    if choices.is_broker_given:
        await _require_no_master(choices.mesh)
        return choices.mesh, "Broker"
    broker = await start_broker(choices.engine, HOST, choices.port)
    stack.push_async_callback(broker.stop)
    guard = asyncio.create_task(_keep(broker))
    stack.callback(guard.cancel)
    if choices.port is None and broker.port != DEFAULT_PORT:
        say(f"Port {DEFAULT_PORT} is taken by another program: using {broker.port}.", tone="odd")
        say(f"(If that is a broker which you want to use: --broker {HOST}:{DEFAULT_PORT})", dim=True)
    return Connection(BrokerSettings(HOST, broker.port), choices.mesh.root), engine_name(broker)


async def _require_no_master(mesh: Connection) -> None:
    """Two masters with one name would take the connection from each other for ever. Raises Failure."""
    from pibot_mesh.cli.main import Failure
    from pibot_mesh.cli.viewer import viewing
    from pibot_mesh.protocol.messages import decode_presence
    from pibot_mesh.protocol.topics import Kind

    is_online = asyncio.Event()

    def receive(_: Address, message: Message) -> None:
        if decode_presence(message.payload):
            is_online.set()

    async with viewing(mesh, [Kind.MASTER_STATUS], receive):
        try:
            async with asyncio.timeout(_LOOK_S):
                await is_online.wait()
        except TimeoutError:
            return
    raise Failure(
        f"a master is online at {mesh.broker} under {mesh.root!r} already: ask it with 'pibot ask', or give this mesh "
        "another --root (a master that was just killed counts as online for some seconds)"
    )


async def _keep(broker: PrivateMosquitto | EmbeddedBroker) -> None:
    """Start the broker again where it ended by itself."""
    from pibot_mesh.cli.engines import ended

    while True:
        await ended(broker)
        say("The broker ended by itself: starting it again.", tone="odd", err=True)
        await broker.stop()
        try:
            await broker.start()
        except BrokerError as error:
            say(f"The broker is gone for good: {error}", tone="bad", err=True)
            return


async def _converse(conversation: Conversation, history: Path, signals: Signals) -> int:
    from pibot_mesh.cli.typing_in import typed_lines

    code = 0
    try:
        async for text in typed_lines(history):
            if not sys.stdin.isatty():
                say(f"> {text}", bold=True)
            code = await conversation.request(text) or code
            say()
    except KeyboardInterrupt:
        signals.came(signal.SIGINT)
        await asyncio.sleep(0)
    return 0 if sys.stdin.isatty() else code


def _nodes(number: int) -> str:
    return f"{number} nodes" if number > 1 else "1 node"
