"""Orders about a request that is under way, and what comes of them: for cancel, approve, deny and steer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.options import Connection
from pibot_mesh.cli.screen import say
from pibot_mesh.cli.story import Line, reply_line
from pibot_mesh.cli.viewer import WAIT_S, viewing
from pibot_mesh.client import who
from pibot_mesh.errors import NoMaster
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.codec import JSON, decode, encode
from pibot_mesh.protocol.messages import Control, Event, Reply, decode_presence
from pibot_mesh.protocol.topics import Address, Kind

_TAKEN_WITHIN_S: Final = 5.0
"""How long an order may take: to the master, to a node, and back."""


class Watched:
    """One request, as it is heard of from now on."""

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.is_master_online = asyncio.Event()
        self.is_heard = asyncio.Event()
        """Whether anything came of the request: then it is open, or has just ended."""
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    def receive(self, address: Address, message: Message) -> None:
        """Take in one message."""
        if address.kind is Kind.MASTER_STATUS:
            if decode_presence(message.payload):
                self.is_master_online.set()
        elif address.id == self.id:
            if address.kind is Kind.REQUEST_EVENT:
                self._events.put_nowait(decode(Event, message.payload))
            elif not self.reply.done():
                self.reply.set_result(decode(Reply, message.payload))
                self._events.put_nowait(None)
            self.is_heard.set()

    async def line_of(self, tells: Callable[[Event], Line | None]) -> Line | None:
        """What the first event that is told says; None where the request ends without it."""
        while (event := await self._events.get()) is not None:
            if (line := tells(event)) is not None:
                return line
        return None


@asynccontextmanager
async def watching(mesh: Connection, request_id: str) -> AsyncIterator[tuple[Watched, Link]]:
    """Listen to one request, and be able to give orders about it. Raises BrokerError, and NoMaster without a master."""
    request = Watched(request_id)
    async with viewing(mesh, [Kind.MASTER_STATUS, Kind.REQUEST_EVENT, Kind.REQUEST_REPLY], request.receive) as link:
        try:
            async with asyncio.timeout(WAIT_S / 2):
                await request.is_master_online.wait()
        except TimeoutError:
            raise NoMaster(f"no master is online at {mesh.broker}: start one with 'pibot master'") from None
        yield request, link


def send(link: Link, request_id: str, control: Control) -> None:
    """Give an order about a request; it says by whom it is given."""
    order = replace(control, by=who(f"pibot {control.action}"))
    link.send(Kind.REQUEST_CONTROL, encode(order), id=request_id)


async def give_order(mesh: Connection, request_id: str, control: Control) -> int:
    """Approve, deny or steer, say in one line what came of it, and return the exit code.

    0 where it was done as ordered, else FAILED. Raises BrokerError and NoMaster.
    """
    async with watching(mesh, request_id) as (request, link):
        send(link, request_id, control)
        try:
            async with asyncio.timeout(_TAKEN_WITHIN_S):
                line = await request.line_of(lambda event: outcome_line(control, event))
        except TimeoutError:
            say(f"pibot: {_silence(request, control)}", err=True)
            return FAILED
    if line is None:
        say(f"pibot: request {request_id} has ended: {reply_line(request.reply.result()).text}", err=True)
        return FAILED
    is_done = line.tone == "good"
    say(line.text if is_done else f"pibot: {line.text}", tone=line.tone if is_done else "", err=not is_done)
    return 0 if is_done else FAILED


def outcome_line(control: Control, event: Event) -> Line | None:
    """What *event* says about the order *control*: good where it was done; None where it says nothing about it."""
    facts = event.data
    is_of_call = control.call is None or facts.get("call", control.call) == control.call
    match event.type:
        case "control_refused" if facts.get("action") == control.action and is_of_call:
            return Line(f"the master refuses: {_text(facts.get('reason'))}", "bad")
        case "approval_answered" if control.action in ("approve", "deny") and is_of_call:
            return _answered_line(control, event)
        case "steered" if control.action == "steer" and facts.get("text") == control.text:
            tasks = facts.get("tasks")
            number = len(tasks) if isinstance(tasks, list) else 0
            return Line(f"told {'one agent' if number == 1 else f'{number} agents'}; read before the next step", "good")
    return None


def _answered_line(control: Control, event: Event) -> Line:
    is_granted, tool = event.data.get("granted") is True, _text(event.data.get("tool"))
    call = f"{tool} (call {_text(event.data.get('call'))})"
    if is_granted != (control.action == "approve"):
        was = "approved" if is_granted else "denied"
        return Line(f"{call} was {was} already: {_text(event.data.get('reason'))}", "bad")
    return Line(f"approved: {call}" if is_granted else f"denied: {call}", "good")


def _silence(request: Watched, control: Control) -> str:
    if control.action == "steer" or not request.is_heard.is_set():
        unless = f", or call {control.call} does not wait" if control.call else ""
        return f"nobody took it: request {request.id} is not open{unless}"
    what = f"call {control.call} does not wait for an answer" if control.call else "no call waits for an answer"
    return f"nobody took it: {what} in request {request.id}"


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else ""
