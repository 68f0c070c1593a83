"""``pibot ha``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import TYPE_CHECKING

import click

from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import WIDE, clean, log_in_words, say, say_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from pibot_mesh.cli.ha_view import Device, Heard
    from pibot_mesh.master.home_assistant.naming import Naming
    from pibot_mesh.protocol.messages import NodeCard

    Option = Callable[[Callable[..., None]], Callable[..., None]]


def _prefix_option(function: Callable[..., None]) -> Callable[..., None]:
    option: Option = click.option(
        "--prefix",
        metavar="TOPIC",
        default="homeassistant",
        show_default=True,
        help="Below which topic Home Assistant looks for devices, as its MQTT integration is set.",
    )
    return option(function)


@click.group("ha")
def command() -> None:
    """See what Home Assistant is shown of the mesh, and what it would drop of that without a word."""


@command.command("check")
@click.argument("files", metavar="[FILE...]", nargs=-1)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
@_prefix_option
@mesh_options
def check_(files: tuple[str, ...], *, is_json: bool, prefix: str, broker: str | None, root: str | None) -> None:
    """Check all that is published for Home Assistant, or what the nodes with these FILEs would publish.

    Without FILE, the nodes' cards are read from the broker, and what is published there, also by other versions and
    other meshes. Ends with 2 where Home Assistant would drop anything or warn of it, and with 3 without a broker.
    """
    from pibot_mesh.cli.ha_view import as_json, devices_of
    from pibot_mesh.master.home_assistant.naming import Naming
    from pibot_mesh.protocol.topics import Topics

    log_in_words(logging.ERROR)
    mesh = connection(broker, root)
    naming = Naming(mesh.root, prefix)
    heard = _from_files(files) if files else asyncio.run(_from_broker(mesh, naming))
    devices = devices_of(heard, Topics(mesh.root), naming, is_live=not files)
    if is_json:
        say_json(as_json(devices))
    else:
        _say(devices, mesh)
    if any(device.flaws for device in devices):
        click.get_current_context().exit(FAILED)


@command.command("show")
@click.argument("node")
@_prefix_option
@mesh_options
def show(*, node: str, prefix: str, broker: str | None, root: str | None) -> None:
    """Print what is published for Home Assistant of NODE, or of the master with "master", as JSON.

    Ends with 2 where there is no such node, and with 3 without a broker.
    """
    from pibot_mesh.cli.ha_view import built
    from pibot_mesh.master.home_assistant.naming import Naming
    from pibot_mesh.protocol.topics import Topics

    log_in_words(logging.ERROR)
    mesh = connection(broker, root)
    naming = Naming(mesh.root, prefix)
    made = built(asyncio.run(_from_broker(mesh, naming)), Topics(mesh.root), naming)
    nodes = {naming.node_of(topic) or topic: each for topic, each in made.items()}
    if node not in nodes:
        there = f"there are: {', '.join(nodes)}" if nodes else "no node has ever been seen here"
        say(f"pibot: there is no node {node!r} at {mesh.broker}: {there}", err=True)
        click.get_current_context().exit(FAILED)
    click.echo(_indented(nodes[node].payload))


async def _from_broker(mesh: Connection, naming: Naming) -> Heard:
    """What the broker keeps. Raises BrokerError where there is none."""
    from pibot_mesh.cli.ha_view import KINDS, Heard
    from pibot_mesh.cli.viewer import until_quiet, viewing
    from pibot_mesh.mqtt.client import Message, Subscription
    from pibot_mesh.protocol.topics import Address

    heard, changed = Heard(), asyncio.Event()

    def receive(address: Address, message: Message) -> None:
        changed.set()
        heard.see(address, message)

    def receive_other(message: Message) -> None:
        changed.set()
        heard.see_kept(message)

    kept = [Subscription(naming.config_filter)]
    async with viewing(mesh, KINDS, receive, also=kept, receive_other=receive_other):
        await until_quiet(changed)
    return heard


def _from_files(files: Sequence[str]) -> Heard:
    """The nodes with these *files*. Raises ConfigError with everything that is wrong with them."""
    from pibot_mesh.cli.ha_view import Heard
    from pibot_mesh.errors import ConfigError

    heard, problems = Heard(), list[str]()
    for file in files:
        try:
            card = _card(file)
        except ConfigError as error:
            problems += error.problems
        else:
            if card.node in heard.cards:
                problems.append(f"{file}: another file has the same id {card.node!r}: give each node its own")
            heard.cards[card.node] = card
    if problems:
        raise ConfigError(problems)
    return heard


def _card(file: str) -> NodeCard:
    """The card of a node with this *file*, as far as Home Assistant is shown of it."""
    from pibot_mesh import __version__
    from pibot_mesh.config.loader import load_node
    from pibot_mesh.hardware.kinds import spec
    from pibot_mesh.node.check import check_node
    from pibot_mesh.node.reflex_words import reflex_words
    from pibot_mesh.protocol.messages import NodeCard, ReflexSpec, ToolSpec

    settings = load_node(file, {}, check=check_node)
    devices = {device.id: spec(device) for device in settings.devices}
    return NodeCard(
        settings.id,
        "check",
        __version__,
        labels=settings.labels,
        tools=(ToolSpec("timer_set"),) if "timers" in settings.skills.shipped else (),
        devices=tuple(devices.values()),
        simulated=settings.simulate,
        reflexes=tuple(ReflexSpec(reflex.id, reflex_words(reflex, devices)) for reflex in settings.reflexes),
    )


def _say(devices: Sequence[Device], mesh: Connection) -> None:
    from rich.console import Console

    if not devices:
        say(f"Nothing is shown of the mesh at {mesh.broker}: no node has ever been seen there.")
        return
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(_table(devices))
    for device in devices:
        for flaw in device.flaws:
            say(f"{device.name}: {flaw}", tone="bad")
    if not any(device.flaws for device in devices):
        say("Home Assistant takes all of it.", tone="good")


def _table(devices: Sequence[Device]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("device", overflow="fold")
    for title in ("entities", "bytes", "flaws"):
        table.add_column(title, justify="right")
    if any(device.at_broker for device in devices):
        table.add_column("at the broker", overflow="fold")
    for device in devices:
        flaws = Text(str(len(device.flaws)), style="bold red" if device.flaws else "green")
        name = Text(clean(device.name), style="bold")
        table.add_row(name, str(device.entities), str(device.size), flaws, *filter(None, [device.at_broker]))
    return table


def _indented(payload: object) -> str:
    """*payload* over several lines, in which nothing moves anybody's cursor."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(payload, ensure_ascii=not is_utf8, indent=2)
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)
