"""``pibot status``."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.exits import NOBODY
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import WIDE, clean, log_in_words, say, say_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from pibot_mesh.cli.mesh_view import MeshView, NodeView
    from pibot_mesh.mqtt.client import Message
    from pibot_mesh.protocol.messages import OutputValue
    from pibot_mesh.protocol.topics import Address

_REDRAW_S: Final = 0.25
_STARTED_AFTER: Final = {"crash": "after a crash", "power_loss": "after a power loss"}
"""What is told of a node's start: that which nobody ordered."""


@click.command("status")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", "is_watched", is_flag=True, help="Go on showing it, until Ctrl-C.")
@mesh_options
def command(is_json: bool, is_watched: bool, broker: str | None, root: str | None) -> None:
    """Show the master, the nodes and the values of their devices, as the broker keeps them.

    Ends with 3 where no master is online.
    """
    if is_json and is_watched:
        raise click.UsageError("--json and --watch do not go together: 'pibot watch --json' follows every message.")
    log_in_words(logging.ERROR)
    mesh = connection(broker, root)
    click.get_current_context().exit(asyncio.run(_watch(mesh) if is_watched else _show(mesh, is_json)))


async def _show(mesh: Connection, is_json: bool) -> int:
    from pibot_mesh.cli.mesh_view import KINDS, MeshView
    from pibot_mesh.cli.viewer import until_quiet, viewing

    view, changed = MeshView(), asyncio.Event()

    def receive(address: Address, message: Message) -> None:
        changed.set()
        view.see(address, message.payload)

    async with viewing(mesh, KINDS, receive):
        await until_quiet(changed)
    if is_json:
        say_json(view.to_json())
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            console.width = WIDE
        console.print(_render(view, mesh))
    if not view.is_master_online:
        say(f"pibot: no master is online at {mesh.broker}: start one with 'pibot master'", err=True)
        return NOBODY
    return 0


async def _watch(mesh: Connection) -> int:
    from rich.live import Live

    from pibot_mesh.cli.mesh_view import KINDS, MeshView
    from pibot_mesh.cli.viewer import until_quiet, viewing

    view, changed = MeshView(), asyncio.Event()

    def receive(address: Address, message: Message) -> None:
        changed.set()
        view.see(address, message.payload)

    async with viewing(mesh, KINDS, receive) as link:
        await until_quiet(changed)
        with Live(_render(view, mesh), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(_REDRAW_S)
                if not link.is_connected:
                    view.forget()
                    live.update(f"no broker at {mesh.broker}: connecting again", refresh=True)
                elif changed.is_set():
                    changed.clear()
                    live.update(_render(view, mesh), refresh=True)


def _render(view: MeshView, mesh: Connection) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_master_line(view, mesh)]
    if view.is_stopped or any(node.is_online and node.is_stopped for node in view.nodes.values()):
        clear = f"pibot stop-all --release {mesh.options}".rstrip()
        parts.append(
            Text(f"EMERGENCY STOP: outputs are held safe until a person clears it: {clean(clear)}", style="bold red")
        )
    parts.append(_table(view) if view.nodes else Text("no node has ever been seen here", style="dim"))
    return Group(*parts)


def _master_line(view: MeshView, mesh: Connection) -> Text:
    from rich.text import Text

    line = Text("master ")
    line.append("online" if view.is_master_online else "offline", "green" if view.is_master_online else "red")
    line.append(f" at {mesh.broker}, root {clean(mesh.root)}")
    if view.is_master_online and view.master is not None:
        line.append(f", version {clean(view.master.version)}, {'with' if view.has_model else 'without'} a model")
    if view.is_master_online and "open_requests" in view.master_health:
        line.append(f", open requests: {view.master_health['open_requests']:.0f}")
    return line


def _table(view: MeshView) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("node", "state", "outputs", "inputs", "sensors", "health"):
        table.add_column(title, overflow="fold")
    for name, node in sorted(view.nodes.items()):
        places = [Text(clean(place), style="dim") for place in _places(node)]
        table.add_row(
            Text("\n").join([Text(name, style="bold"), *places]),
            _state(node),
            _states(node, node.outputs),
            _states(node, node.inputs),
            _sensors(node),
            _health(node),
            style="" if node.is_online else "dim",
        )
    return table


def _places(node: NodeView) -> list[str]:
    """Rooms and labels, each once."""
    if node.card is None:
        return []
    return list(dict.fromkeys([*(device.room for device in node.card.devices if device.room), *node.card.labels]))


def _state(node: NodeView) -> Text:
    from rich.text import Text

    if not node.is_online:
        return Text("offline", style="red")
    running, queued = node.health.get("running", 0), node.health.get("queued", 0)
    tasks = [Text(f"{count:.0f} {word}") for count, word in ((running, "running"), (queued, "queued")) if count]
    # A broker that forgot the retained stop does not free a node: its journal holds it until a person says RUN.
    stop = [Text("STOPPED", style="bold red")] if node.is_stopped else []
    agent = [Text("agent", style="dim")] if node.is_agent else []
    started_after = _STARTED_AFTER.get(node.card.start_reason or "") if node.card is not None else None
    start = [Text(started_after, style="yellow")] if started_after else []
    return Text("\n").join([Text("online", style="green"), *stop, *agent, *start, *tasks])


def _states(node: NodeView, states: dict[str, OutputValue]) -> Text:
    from rich.text import Text

    from pibot_mesh.cli.values import is_on, value_text

    lines = []
    for device, value in sorted(states.items()):
        if node.has(device):
            style = "bold yellow" if is_on(value) else "dim"
            color = [(" ■", value)] if isinstance(value, str) else []
            words = value_text(value, node.spec(device))
            lines.append(Text.assemble(f"{_title(node, device)} ", (words, style), *color))
    return Text("\n").join(lines)


def _title(node: NodeView, device: str) -> str:
    """What the device is called, and its id where that is another word: the topics have it."""
    spec = node.spec(device)
    return clean(f"{spec.label} ({device})") if spec is not None and spec.label not in ("", device) else device


def _sensors(node: NodeView) -> str:
    lines = []
    for device, values in sorted(node.sensors.items()):
        if node.has(device):
            spec = node.spec(device)
            is_plain = len(node.sensors) == 1 and (spec is None or not spec.label)
            title = "" if is_plain else f"{_title(node, device)} "
            for quantity, value in values.items():
                lines.append(f"{title}{quantity} {value:g} {node.unit(device, quantity)}".rstrip())
    return clean("\n".join(lines))


def _health(node: NodeView) -> Text:
    """What a person would ask first; in colour where it is near a limit."""
    from rich.text import Text

    health, parts = node.health, []
    if "cpu_temp_c" in health:
        parts.append(Text(f"{health['cpu_temp_c']:.0f} °C", style="red" if health["cpu_temp_c"] >= 80 else ""))
    if "load1" in health:
        parts.append(Text(f"load {health['load1']:g}"))
    if "mem_free_mb" in health:
        parts.append(Text(f"{health['mem_free_mb']:.0f} MB free", style="red" if health["mem_free_mb"] < 30 else ""))
    if health.get("rejected_messages"):
        parts.append(Text(f"{health['rejected_messages']:.0f} refused", style="yellow"))
    return Text("\n").join(parts)
