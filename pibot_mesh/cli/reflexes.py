"""``pibot reflexes``."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words, say, say_json

if TYPE_CHECKING:
    from pibot_mesh.cli.mesh_view import MeshView
    from pibot_mesh.mqtt.client import Message
    from pibot_mesh.mqtt.link import Link
    from pibot_mesh.protocol.topics import Address

_SWITCHED_WITHIN_S: Final = 5.0
_USAGE: Final = "pibot reflexes [NODE], or pibot reflexes on|off NODE/REFLEX"


@click.command("reflexes")
@click.argument("what", metavar="[NODE | on NODE/REFLEX | off NODE/REFLEX]", nargs=-1)
@click.option("--json", "is_json", is_flag=True, help="Print the list as one JSON object.")
@mesh_options
def command(what: tuple[str, ...], is_json: bool, broker: str | None, root: str | None) -> None:
    """List the reflexes, of all nodes or of one; or switch one on or off.

    A reflex is a rule that a node keeps by itself, without a master. Ends with 2 where there is none of that name, or
    its node did not say that it did it.
    """
    log_in_words(logging.ERROR)
    mesh = connection(broker, root)
    match what:
        case ("on" | "off" as word, target) if "/" in target:
            node, _, reflex = target.partition("/")
            code = asyncio.run(_switch(mesh, node, reflex, word == "on"))
        case () | (_,) if what[:1] not in (("on",), ("off",)):
            code = asyncio.run(_list(mesh, what[0] if what else None, is_json))
        case _:
            raise click.UsageError(f"It is {_USAGE}.")
    click.get_current_context().exit(code)


class _Seen:
    """A mesh as it is seen, and a signal at each change."""

    def __init__(self) -> None:
        from pibot_mesh.cli.mesh_view import MeshView

        self.view: MeshView = MeshView()
        self.changed = asyncio.Event()

    def receive(self, address: Address, message: Message) -> None:
        self.view.see(address, message.payload)
        self.changed.set()


def _viewing(mesh: Connection, seen: _Seen) -> AbstractAsyncContextManager[Link]:
    from pibot_mesh.cli.viewer import viewing
    from pibot_mesh.protocol.topics import Kind

    return viewing(mesh, [Kind.NODE_STATUS, Kind.NODE_CARD, Kind.REFLEX], seen.receive)


async def _list(mesh: Connection, node: str | None, is_json: bool) -> int:
    from pibot_mesh.cli.reflex_list import known_nodes, reflex_lines, reflexes_json
    from pibot_mesh.cli.viewer import until_quiet

    seen = _Seen()
    async with _viewing(mesh, seen):
        await until_quiet(seen.changed)
    problem = known_nodes(seen.view, node)
    if problem:
        say(f"pibot: {problem}", err=True)
        return FAILED
    if is_json:
        say_json(reflexes_json(seen.view, node))
    else:
        for line in reflex_lines(seen.view, node):
            say(line.text, tone=line.tone, dim=line.dim)
    return 0


async def _switch(mesh: Connection, node: str, reflex: str, is_on: bool) -> int:
    from pibot_mesh.cli.reflex_list import why_not
    from pibot_mesh.cli.viewer import until_quiet
    from pibot_mesh.protocol.messages import encode_value
    from pibot_mesh.protocol.topics import Kind

    seen = _Seen()
    async with _viewing(mesh, seen) as link:
        await until_quiet(seen.changed)
        problem = why_not(seen.view, node, reflex)
        if problem:
            say(f"pibot: {problem}", err=True)
            return FAILED
        link.send(Kind.REFLEX_SET, encode_value(is_on), node=node, id=reflex, keep=False)
        try:
            async with asyncio.timeout(_SWITCHED_WITHIN_S):
                while seen.view.nodes[node].reflexes.get(reflex) is not is_on:
                    seen.changed.clear()
                    await seen.changed.wait()
        except TimeoutError:
            say(f"pibot: {node} did not say within {_SWITCHED_WITHIN_S:g} s that it did it", err=True)
            return FAILED
    say(f"{node}/{reflex} is {'on' if is_on else 'off'}.", tone="good")
    return 0
