"""Options that several commands share, and what they mean together with the environment."""

from __future__ import annotations

import os
import re
import shlex
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

    @property
    def options(self) -> str:
        """What another ``pibot`` on this machine must be told to find it, such as ``--broker hub.local:1884``."""
        from pibot_mesh.config.broker_section import DISCOVERED

        is_default = self.broker.addresses in ((("127.0.0.1", 1883),), (("localhost", 1883),))
        place = DISCOVERED if self.broker.discover else "" if is_default else str(self.broker)
        broker = ["--broker", place] if place else []
        return shlex.join([*broker, *([] if self.root == "pibot" else ["--root", self.root])])


def mesh_options(function: F) -> F:
    """Add ``--broker`` and ``--root``."""
    broker = click.option(
        "--broker",
        metavar="HOST:PORT[,...]",
        callback=_check_broker,
        help="The MQTT broker, or the servers of a cluster, or mdns to look for it on the local network; or "
        "PIBOT_BROKER. Else 127.0.0.1:1883.",
    )
    return broker(root_option(function))


def root_option(function: F) -> F:
    """Add ``--root``."""
    return click.option(
        "--root", metavar="TOPIC", callback=_check_root, help='The root of all topics; or PIBOT_ROOT. Else "pibot".'
    )(function)


def _check_broker(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from pibot_mesh.config.broker_section import parse_brokers

    return _checked(parse_brokers, ctx, parameter, value)


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


def check_id(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """For click: *value*, where it can be the id of a request or a call."""
    from pibot_mesh.protocol.codec import ID_PATTERN

    if value is not None and not re.fullmatch(ID_PATTERN, value):
        raise click.BadParameter("an id is 1 to 64 letters, digits, '_' or '-'", ctx, parameter)
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
