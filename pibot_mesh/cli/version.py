"""``pibot version``."""

from __future__ import annotations

import platform

import click

from pibot_mesh import __version__
from pibot_mesh.cli.screen import say


@click.command("version")
def command() -> None:
    """Show the versions of the program, of its protocol and of Python."""
    from pibot_mesh.protocol.codec import VERSION

    say(f"pibot-mesh {__version__}, wire protocol {VERSION}, Python {platform.python_version()}")
