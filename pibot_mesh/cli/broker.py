"""``pibot broker``."""

from __future__ import annotations

import asyncio
import logging

import click

from pibot_mesh.cli.engines import DEFAULT_PORT, ENGINES, Engine


@click.command("broker")
@click.option("--engine", type=click.Choice(ENGINES), default="auto", help="auto: Mosquitto where it is installed.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
def command(engine: Engine, host: str, port: int) -> None:
    """Run a broker without passwords in the foreground, for one machine.

    For a house, use the Mosquitto of your system with the configuration in mosquitto/ of this project.
    """
    from pibot_mesh.cli.engines import ended, engine_name, make_broker
    from pibot_mesh.cli.running import serve
    from pibot_mesh.cli.screen import log_in_words
    from pibot_mesh.errors import BrokerError
    from pibot_mesh.mqtt.private import next_free_port

    log_in_words(logging.WARNING)
    is_local = host in ("127.0.0.1", "::1", "localhost")
    warning = "" if is_local else "\nwarning: there are no passwords: whoever reaches it may read and write everything"

    async def run() -> None:
        running = make_broker(engine, host, port or next_free_port(host, 0))

        async def died() -> None:
            await ended(running)
            raise BrokerError(f"the broker on {running.host}:{running.port} ended by itself")

        await serve(
            running, f"{engine_name(running)} on {running.host}:{running.port}; Ctrl-C ends it{warning}", until=died
        )

    asyncio.run(run())
