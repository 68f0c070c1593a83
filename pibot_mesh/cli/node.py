"""``pibot node``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from pibot_mesh.cli.options import environment, mesh_options

if TYPE_CHECKING:
    from pibot_mesh.config.settings import NodeSettings
    from pibot_mesh.config.source import Problem


def _check_id(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from pibot_mesh.protocol.topics import NODE_PATTERN

    if value is not None and not re.fullmatch(NODE_PATTERN, value):
        raise click.BadParameter("use 1 to 32 small letters, digits or '-', not '-' first", ctx, parameter)
    return value


@click.command("node")
@click.argument("config", required=False)
@click.option("--config", "config_option", metavar="FILE", help="The same as CONFIG.")
@click.option("--id", "node_id", metavar="NAME", callback=_check_id, help="Its name; or WORKER_ID. Else the machine's.")
@click.option("--simulate", is_flag=True, help="Touch no pins; where CONFIG has no devices, simulate some.")
@click.option("--state-dir", metavar="DIR", help="The folder for the journal; or PIBOT_STATE_DIR.")
@mesh_options
def command(
    *,
    config: str | None,
    config_option: str | None,
    node_id: str | None,
    simulate: bool,
    state_dir: str | None,
    broker: str | None,
    root: str | None,
) -> None:
    """Run a node in the foreground, by the file CONFIG and the environment.

    Without CONFIG the defaults hold. It ends on Ctrl-C or SIGTERM, with its outputs safe, and waits for a broker that
    is not there yet. Where another node has its id already it leaves the mesh and ends, with exit code 3.
    """
    from pibot_mesh.cli.model_options import model_words
    from pibot_mesh.cli.running import serve
    from pibot_mesh.logs import log_to_terminal
    from pibot_mesh.node.service import Node

    env = environment(broker, root, WORKER_ID=node_id, PIBOT_STATE_DIR=state_dir)
    settings = node_settings(config or config_option, env, is_forced=simulate)
    log_to_terminal(settings.log_level)

    async def run() -> None:
        devices = f"{len(settings.devices)} devices{', simulated' if settings.simulate else ''}"
        model = model_words(settings.model)
        node = Node(settings)
        greeting = f"node {settings.id}: broker {settings.broker}, {devices}, model: {model}"
        await serve(node, greeting, until=node.wait_given_way)

    asyncio.run(run())


def node_settings(config: str | None, env: dict[str, str], *, is_forced: bool) -> NodeSettings:
    """The settings of a node, with its devices checked; *is_forced*: simulated, whatever they say. Raises ConfigError.

    A simulated node that has no devices gets some.
    """
    from pibot_mesh.config.loader import load_node
    from pibot_mesh.hardware.board import default_simulated_devices
    from pibot_mesh.node.check import check_node

    def check(settings: NodeSettings) -> Sequence[Problem]:
        return check_node(replace(settings, simulate=settings.simulate or is_forced))

    settings = load_node(config, env, check=check)
    if is_forced:
        settings = replace(settings, simulate=True)
    if settings.simulate and not settings.devices:
        settings = replace(settings, devices=default_simulated_devices())
    return settings
