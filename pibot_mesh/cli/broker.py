"""``pibot broker``."""

from __future__ import annotations

import asyncio
import logging
import platform
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pibot_mesh.cli.engines import DEFAULT_PORT, ENGINES, Engine
from pibot_mesh.cli.options import connection, root_option
from pibot_mesh.cli.screen import say

if TYPE_CHECKING:
    from pibot_mesh.mqtt.embedded import EmbeddedBroker
    from pibot_mesh.mqtt.private import PrivateMosquitto


@click.group("broker", invoke_without_command=True)
@click.option("--engine", type=click.Choice(ENGINES), default="auto", help="auto: Mosquitto where it is installed.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--announce", "is_announced", is_flag=True, help="Tell the local network of it by mDNS.")
@click.pass_context
def command(ctx: click.Context, engine: Engine, host: str, port: int, is_announced: bool) -> None:
    """Run a broker without passwords in the foreground, for one machine.

    For a house, use the Mosquitto of your system with the configuration in mosquitto/ of this project.
    """
    if ctx.invoked_subcommand is None:
        if is_announced and _is_local(host):
            raise click.UsageError("--announce needs a --host that others can reach, such as 0.0.0.0")
        _run(engine, host, port, is_announced)


def _is_local(host: str) -> bool:
    return host in ("127.0.0.1", "::1", "localhost")


def _run(engine: Engine, host: str, port: int, is_announced: bool) -> None:
    from pibot_mesh.cli.engines import ended, engine_name, make_broker
    from pibot_mesh.cli.running import serve
    from pibot_mesh.cli.screen import log_in_words
    from pibot_mesh.errors import BrokerError
    from pibot_mesh.mqtt.private import next_free_port

    log_in_words(logging.WARNING)
    warning = (
        "" if _is_local(host) else "\nwarning: there are no passwords: whoever reaches it may read and write everything"
    )

    async def run() -> None:
        running = make_broker(engine, host, port or next_free_port(host, 0))

        async def died() -> None:
            await ended(running)
            raise BrokerError(f"the broker on {running.host}:{running.port} ended by itself")

        service = announcing(running) if is_announced else running
        told = ", announced by mDNS" if is_announced else ""
        greeting = f"{engine_name(running)} on {running.host}:{running.port}{told}; Ctrl-C ends it{warning}"
        await serve(service, greeting, until=died)

    asyncio.run(run())


@asynccontextmanager
async def announcing(broker: PrivateMosquitto | EmbeddedBroker) -> AsyncIterator[None]:
    """Run *broker*, and tell the local network of it meanwhile. Raises ConfigError without zeroconf."""
    from pibot_mesh.mqtt.discovery import announced

    async with broker, announced(broker.host, broker.port):
        yield


@command.command("bridge")
@click.argument("remote", metavar="HOST[:PORT]")
@click.option("--name", metavar="NAME", help="What this house is called there; by default as this machine.")
@root_option
@click.option("--remote-prefix", metavar="TOPIC", help="Where the mesh stands there; by default NAME: NAME/pibot/...")
@click.option("--allow-requests", is_flag=True, help="Let those who may publish there ask this house.")
@click.option("--tls", "is_encrypted", is_flag=True, help="Encrypt, and trust the system's certificates; port 8883.")
@click.option("--ca-file", metavar="FILE", help="Encrypt, and trust these certificates (PEM).")
@click.option("--cert-file", metavar="FILE", help="Our own certificate (PEM), where the other broker asks for one.")
@click.option("--key-file", metavar="FILE", help="Its private key (PEM).")
@click.option("--username", metavar="NAME", help="Whom to log in as there. The password is added by hand.")
@click.option("--for-version", metavar="X.Y", help="The Mosquitto to write for; by default the one installed here.")
@click.option("--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write it to FILE.")
def bridge(
    *,
    remote: str,
    name: str | None,
    root: str | None,
    remote_prefix: str | None,
    allow_requests: bool,
    is_encrypted: bool,
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
    username: str | None,
    for_version: str | None,
    output: Path | None,
) -> None:
    """Print a Mosquitto configuration that shows this house's mesh on another broker.

    It belongs into the configuration of this house's Mosquitto. Presence, states, events and replies go out; nothing
    comes in, but requests with --allow-requests. HOST[:PORT] may be the servers of a cluster, with commas between.
    """
    from pibot_mesh.config.broker_section import DEFAULT_PORT, TLS_PORT, parse_brokers
    from pibot_mesh.config.loader import fit_node_id
    from pibot_mesh.config.settings import Tls
    from pibot_mesh.mqtt.bridge import Bridge, bridge_config

    files = [None if each is None else Path(each).absolute() for each in (ca_file, cert_file, key_file)]
    tls = Tls(*files) if is_encrypted or any(files) else None
    name = name or fit_node_id(platform.node())
    made = Bridge(
        name,
        parse_brokers(remote, TLS_PORT if tls else DEFAULT_PORT),
        connection(None, root).root,
        name if remote_prefix is None else remote_prefix,
        is_asked=allow_requests,
        tls=tls,
        username=username,
    )
    text = bridge_config(made, _mosquitto_version(for_version))
    if output is None:
        click.echo(text, nl=False)
        return
    _write(output, text)
    say(f"{output}: written", tone="good")
    say("Have Mosquitto's configuration include it (on Debian from /etc/mosquitto/conf.d), and restart Mosquitto.")
    say(f"The mesh can then be seen there: pibot status --broker {remote} --root {made.remote_root}")


def _mosquitto_version(given: str | None) -> tuple[int, int]:
    """The version *given*, or that of the program on this machine; 2.0 where there is none."""
    from pibot_mesh.mqtt.private import find_mosquitto, mosquitto_version

    if given is not None:
        match = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)?", given)
        if match is None:
            raise click.UsageError(f"--for-version {given!r}: two numbers are expected, such as 2.0")
        return int(match[1]), int(match[2])
    program = find_mosquitto()
    return (2, 0) if program is None else asyncio.run(mosquitto_version(program))


def _write(path: Path, text: str) -> None:
    """Write *text*, in place of an older one of ours only. Raises ConfigError."""
    from pibot_mesh.errors import ConfigError
    from pibot_mesh.mqtt.bridge import HEADER

    try:
        if path.exists() and not path.read_text("utf-8", errors="replace").startswith(HEADER):
            raise ConfigError([f"{path} was not made by this command: choose another file"])
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path} cannot be written: {error.strerror}"]) from None
