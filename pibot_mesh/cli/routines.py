"""``pibot routines``."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

import click

from pibot_mesh.cli.exits import FAILED, NOBODY
from pibot_mesh.cli.options import Connection, check_id, connection, mesh_options
from pibot_mesh.cli.screen import WIDE, clean, log_in_words, say, say_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rich.table import Table

    from pibot_mesh.mqtt.client import Message
    from pibot_mesh.mqtt.link import Link
    from pibot_mesh.protocol.messages import RoutineState
    from pibot_mesh.protocol.topics import Address

_ANSWER_S: Final = 5.0
"""How long a switch may take: to the master, into its ledger, and back."""
_ACTIONS: Final = ("list", "on", "off", "run")


@click.command("routines")
@click.argument("action", type=click.Choice(_ACTIONS), default="list", metavar="[list|on|off|run]")
@click.argument("routine", metavar="[ID]", required=False, callback=check_id)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object: of all routines, or of ID.")
@mesh_options
def command(
    *,
    action: Literal["list", "on", "off", "run"],
    routine: str | None,
    is_json: bool,
    broker: str | None,
    root: str | None,
) -> None:
    """Show what the master asks by itself: at a time (schedules), or when something happens (triggers).

    "on" and "off" switch the routine ID, until it is switched again or changed in the master's file. "run" makes its
    request now, also where it is off, and prints the request's id. Ends with 2 where there is no such routine or the
    master does not do it, and with 3 where no master is online.
    """
    if (routine is None) is not (action == "list"):
        text = "'pibot routines' lists all of them" if routine else f"say which one: pibot routines {action} ID"
        raise click.UsageError(text)
    log_in_words(logging.ERROR)
    mesh = connection(broker, root)
    work = _list(mesh, is_json) if routine is None else _order(mesh, action, routine, is_json)
    click.get_current_context().exit(asyncio.run(work))


class Heard:
    """What is heard of routines. Pure: no I/O."""

    def __init__(self) -> None:
        self.is_master_online = False
        self.states: dict[str, RoutineState] = {}
        self.fresh: dict[str, RoutineState] = {}
        """Those that were told since we listen, and not kept by the broker."""
        self.requests: list[str] = []
        """The ids of requests that were accepted since then."""

    def see(self, address: Address, message: Message) -> None:
        """Take in one message. Raises ProtocolError."""
        from pibot_mesh.protocol.codec import decode
        from pibot_mesh.protocol.messages import Event, RoutineState, decode_presence
        from pibot_mesh.protocol.topics import Kind

        payload = message.payload
        if address.kind is Kind.MASTER_STATUS:
            self.is_master_online = bool(payload) and decode_presence(payload)
        elif address.kind is Kind.REQUEST_EVENT:
            if decode(Event, payload).type == "request_accepted":
                self.requests.append(address.id)
        elif not payload:
            self.states.pop(address.id, None)
        else:
            state = self.states[address.id] = decode(RoutineState, payload)
            if not message.retain:
                self.fresh[address.id] = state

    def run_of(self, routine: str) -> str | None:
        """The request of a run of *routine* by hand, where there is one."""
        found = (each for each in self.requests if re.fullmatch(f"run-{re.escape(routine)}-[a-z0-9]{{12}}", each))
        return next(found, None)


@asynccontextmanager
async def _listening(mesh: Connection) -> AsyncIterator[tuple[Heard, Link, asyncio.Event]]:
    """What the broker keeps of routines, and all that comes from now on."""
    from pibot_mesh.cli.viewer import until_quiet, viewing
    from pibot_mesh.protocol.topics import Kind

    heard, changed = Heard(), asyncio.Event()

    def receive(address: Address, message: Message) -> None:
        changed.set()
        heard.see(address, message)

    async with viewing(mesh, [Kind.MASTER_STATUS, Kind.ROUTINE, Kind.REQUEST_EVENT], receive) as link:
        await until_quiet(changed)
        yield heard, link, changed


async def _list(mesh: Connection, is_json: bool) -> int:
    async with _listening(mesh) as (heard, _, _):
        pass
    states = sorted(heard.states.values(), key=lambda state: (state.next_ts or float("inf"), state.id))
    if is_json:
        from pibot_mesh.protocol.codec import to_dict

        say_json({"master": {"online": heard.is_master_online}, "routines": [to_dict(state) for state in states]})
    elif states:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            console.width = WIDE
        console.print(_table(states))
    elif heard.is_master_online:
        say("The master has no schedules and no triggers: docs/routines.md tells how to write some.")
    return 0 if heard.is_master_online else _nobody(mesh)


async def _order(mesh: Connection, action: str, routine: str, is_json: bool) -> int:
    from pibot_mesh.protocol.topics import Kind

    async with _listening(mesh) as (heard, link, changed):
        if not heard.is_master_online:
            return _nobody(mesh)
        if routine not in heard.states:
            say(f"pibot: {_unknown(routine, list(heard.states))}", err=True)
            return FAILED
        link.send(Kind.ROUTINE_SET, action.upper().encode(), id=routine)
        if not await _comes(lambda: _is_done(heard, action, routine), changed):
            say(f"pibot: the master did not answer within {_ANSWER_S:g} s: look into its log", err=True)
            return FAILED
    if is_json:
        from pibot_mesh.protocol.codec import to_dict

        say_json({"request": heard.run_of(routine), "routine": to_dict(heard.states[routine])})
    elif action == "run":
        say(f"request {heard.run_of(routine)}: {heard.states[routine].request}", tone="good")
    else:
        say(f"{routine} is {action}", tone="good")
    return 0


def _is_done(heard: Heard, action: str, routine: str) -> bool:
    if action == "run":
        return heard.run_of(routine) is not None
    return routine in heard.fresh and heard.fresh[routine].is_on is (action == "on")


async def _comes(condition: Callable[[], bool], changed: asyncio.Event) -> bool:
    """Whether *condition* comes to hold within `_ANSWER_S`; it may when *changed* is set."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            while not condition():
                changed.clear()
                await changed.wait()
    except TimeoutError:
        return False
    return True


def _unknown(routine: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(routine, known, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(known)) or 'none'}"
    return f"the master has no routine {routine!r}: {hint}"


def _nobody(mesh: Connection) -> int:
    say(f"pibot: no master is online at {mesh.broker}: start one with 'pibot master'", err=True)
    return NOBODY


def _table(states: list[RoutineState]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("routine", "", "when", "request", "next", "last"):
        table.add_column(title, overflow="fold")
    for state in states:
        table.add_row(
            Text(clean(state.id), style="bold"),
            Text("on", style="green") if state.is_on else Text("off", style="red"),
            clean(state.says),
            clean(state.request),
            _local(state.next_ts),
            _local(state.last_ts),
            style="" if state.is_on else "dim",
        )
    return table


def _local(ts: float | None) -> str:
    """A time as the clock on this wall shows it."""
    if ts is None:
        return ""
    try:
        return f"{datetime.fromtimestamp(ts).astimezone():%a %Y-%m-%d %H:%M:%S}"
    except (OverflowError, OSError, ValueError):
        return "?"
