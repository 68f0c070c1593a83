"""``pibot``: the group of commands, and what every one of them ends with."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import IO, Any, Final, NoReturn

import click

from pibot_mesh import __version__
from pibot_mesh.cli.exits import FAILED, INTERRUPTED, NOBODY, PIPE_CLOSED
from pibot_mesh.cli.screen import clean, say
from pibot_mesh.errors import BrokerError, MeshError


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: the module that holds it as ``command``, and its line in ``pibot --help``."""

    module: str
    says: str


COMMANDS: Final[Mapping[str, Entry]] = {
    "up": Entry("up", "Run a broker, a master and simulated nodes, with a prompt."),
    "master": Entry("master", "Run a master."),
    "node": Entry("node", "Run a node."),
    "broker": Entry("broker", "Run a broker."),
    "ask": Entry("ask", "Ask for something, and wait for the answer."),
    "status": Entry("status", "Show the master, the nodes and their devices."),
    "watch": Entry("watch", "Show every message of the mesh."),
    "why": Entry("why", "Tell who or what set an output last."),
    "stop-all": Entry("stop_all", "Stop everything: all outputs safe, until a person ends it."),
    "reflexes": Entry("reflexes", "List and switch the rules that nodes keep by themselves."),
    "routines": Entry("routines", "List, switch and run what is asked at times and after events."),
    "forget": Entry("forget", "Forget a node that is gone for good."),
    "ha": Entry("ha", "Check what Home Assistant is shown of the mesh."),
    "gpio": Entry("gpio", "Show and try the pins of this machine."),
    "cancel": Entry("cancel", "Cancel a request."),
    "approve": Entry("approve", "Say yes to a call that waits for a person."),
    "deny": Entry("deny", "Say no to it."),
    "steer": Entry("steer", "Tell the agents of a request something more."),
    "chat": Entry("chat", "Talk with the model, on this machine alone."),
    "model": Entry("model", "Try the language model."),
    "history": Entry("history", "Show the last requests, or the whole story of one."),
    "usage": Entry("usage", "Show what the model was used for, and what it cost."),
    "skills": Entry("skills", "List, check and write skills: tools of your own."),
    "check-config": Entry("check_config", "Say everything that is wrong with configuration files."),
    "version": Entry("version", "Show the version."),
}
_EXTRAS: Final = {
    "hassil": "master",
    "prompt_toolkit": "master",
    "gpiozero": "node",
    "amqtt": "embedded",
    "psycopg": "postgres",
    "zeroconf": "discovery",
    "cronsim": "master",
    "astral": "master",
    "smbus2": "sensors",
}
"""Which extra of the package brings a module that not every machine needs."""


class Failure(click.ClickException):
    """What a user sees of an error: its lines on standard error, each after ``pibot:``, and the exit code."""

    exit_code = FAILED

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 - click's own signature
        """Print it."""
        for line in self.message.splitlines():
            say(f"pibot: {line}", err=True)


class NobodyThere(Failure):
    """No broker, or no master."""

    exit_code = NOBODY


class Commands(click.Group):
    """A group that imports a command's module when the command is called, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command *cmd_name*, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"pibot_mesh.cli.{COMMANDS[cmd_name].module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.says) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; where there is none of that name, say which one may be meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"There is no command {clean(args[0])!r}. {_nearest(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Whatever a user can cause ends as lines on standard error and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
            ctx.exit(PIPE_CLOSED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except MeshError as error:
            raise (NobodyThere if isinstance(error, BrokerError) else Failure)(str(error)) from None
        except ModuleNotFoundError as error:
            raise _missing(error) from None
        except OSError as error:
            _drop_output()
            raise Failure(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None
        return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="pibot-mesh %(version)s")
def pibot() -> None:
    """Say what you want of a house full of Raspberry Pis.

    Start with "pibot up": it needs no hardware, no key and no network.

    Exit codes: 0 done, 2 failed or refused, 3 no broker or no master, 130 Ctrl-C.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The program. Ends with one of the exit codes above, and never with a traceback for what a user can cause."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that knows no "°" still shows the rest of the line.
            stream.reconfigure(errors="replace")
    try:
        pibot.main(args, prog_name="pibot")
    except BrokenPipeError:
        _drop_output()
        sys.exit(PIPE_CLOSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


def _nearest(name: str) -> str:
    if " " in name.strip():
        return f'Did you mean: pibot ask "{clean(name)}"?'
    near = difflib.get_close_matches(name.lower(), list(COMMANDS), 1, 0.5)
    return f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(COMMANDS)}."


def _missing(error: ModuleNotFoundError) -> Failure | ModuleNotFoundError:
    module = (error.name or "").split(".", 1)[0]
    if module not in _EXTRAS:
        return error
    return Failure(f'this needs {module}, which is not installed: pip install "pibot-mesh[{_EXTRAS[module]}]"')


def _drop_output() -> None:
    """Nobody takes the output any more: what is still buffered must not fail again at the end of the program."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), number)
