"""Options that several commands share, and what they mean together with the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """Where to find the mesh: the broker, and the root of its topics."""

    broker: BrokerSettings
    root: str


def mesh_options(function: F) -> F:
    """Add ``--broker`` and ``--root``."""
    broker = click.option(
        "--broker",
        metavar="HOST:PORT",
        callback=_check_broker,
        help="The MQTT broker; or PIBOT_BROKER. Else 127.0.0.1:1883.",
    )
    root = click.option(
        "--root", metavar="TOPIC", callback=_check_root, help='The root of all topics; or PIBOT_ROOT. Else "pibot".'
    )
    return broker(root(function))


def _check_broker(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from pibot_mesh.config.loader import parse_broker

    return _checked(parse_broker, ctx, parameter, value)


def _check_root(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from pibot_mesh.protocol.topics import Topics

    return _checked(Topics, ctx, parameter, value)


def _checked(
    check: Callable[[str], object], ctx: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    if value is not None:
        try:
            check(value)
        except ConfigError as error:
            raise click.BadParameter(str(error), ctx, parameter) from None
    return value


def environment(broker: str | None, root: str | None, **others: str | None) -> dict[str, str]:
    """The environment, with what was given as options in place of the variables that say the same."""
    given = {"PIBOT_BROKER": broker, "PIBOT_ROOT": root, **others}
    return {**os.environ, **{name: value for name, value in given.items() if value is not None}}


def connection(broker: str | None, root: str | None) -> Connection:
    """Where the mesh is, by options and environment (with PIBOT_USERNAME and PIBOT_PASSWORD). Raises ConfigError."""
    from pibot_mesh.config.loader import load_master

    names = ("PIBOT_BROKER", "PIBOT_ROOT", "PIBOT_USERNAME", "PIBOT_PASSWORD")
    found = environment(broker, root)
    settings = load_master(None, {name: found[name] for name in names if name in found})
    return Connection(settings.broker, settings.root)
