"""What ``pibot up`` says about requests: its own, and those of others on the same broker."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final, Protocol

from pibot_mesh.cli.approval_prompt import ApprovalPrompt, can_ask_here
from pibot_mesh.cli.asking import Asking
from pibot_mesh.cli.exits import FAILED, exit_code
from pibot_mesh.cli.options import Connection
from pibot_mesh.cli.screen import say
from pibot_mesh.cli.story import Line, event_lines, reply_line
from pibot_mesh.cli.viewer import viewing
from pibot_mesh.client import Client
from pibot_mesh.errors import MeshError
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.codec import decode
from pibot_mesh.protocol.messages import Event, Reply
from pibot_mesh.protocol.topics import Address, Kind

_LAST_WORD_S: Final = 0.8
"""How long a request that runs at the end of the mesh may take to say what was done."""


class Interruptible(Protocol):
    """Has Ctrl-C do something else while a request runs."""

    cancel_request: Callable[[], None] | None


class Conversation:
    """Sends requests through *client*, all in one session, and shows plan, events and answers."""

    def __init__(self, client: Client, mesh: Connection, signals: Interruptible) -> None:
        self._client = client
        self._mesh = mesh
        self._signals = signals
        self._session = uuid.uuid4().hex
        self._own: deque[str] = deque(maxlen=100)

    async def request(self, text: str, *, ctrl_c_cancels: bool = True) -> int:
        """Do one request, and return its exit code."""
        asking = Asking(self._client, text, session=self._session)
        self._own.append(asking.id)
        if ctrl_c_cancels:
            self._signals.cancel_request = lambda: self._cancel(asking)
        prompt = ApprovalPrompt(asking.control, lambda: self._cancel(asking)) if can_ask_here() else None
        try:
            async for event in asking:
                for line in event_lines(event, options=self._mesh.options if prompt is None else None):
                    _show(line, indent="  ")
                if prompt is not None:
                    prompt.see(event)
            reply = asking.reply
        except MeshError as error:
            say(str(error), tone="bad")
            return FAILED
        except BaseException:
            await asking.cancelled_within(_LAST_WORD_S, "the mesh is being ended")
            raise
        finally:
            self._signals.cancel_request = None
            if prompt is not None:
                await prompt.close()
        if reply is None:
            return FAILED
        _show(reply_line(reply))
        return exit_code(reply.state)

    def others(self) -> AbstractAsyncContextManager[Link]:
        """A context in which the requests of others are shown too, shortly."""
        return viewing(self._mesh, [Kind.REQUEST_EVENT, Kind.REQUEST_REPLY], self._overhear)

    def _cancel(self, asking: Asking) -> None:
        """The first Ctrl-C cancels the request; another one ends the mesh."""
        self._signals.cancel_request = None
        asking.cancel("Ctrl-C")

    def _overhear(self, address: Address, message: Message) -> None:
        if address.id in self._own:
            return
        with suppress(BrokenPipeError):  # whoever prints next notices it as well, and may end the program
            if address.kind is Kind.REQUEST_REPLY:
                _show(reply_line(decode(Reply, message.payload)), indent="[mqtt] ")
                return
            event = decode(Event, message.payload)
            if event.type == "request_accepted":
                say(f"[mqtt] > {event.data.get('text', '')}", tone="key")
            elif event.type in ("approval_required", "approval_answered"):
                for line in event_lines(event, options=self._mesh.options):
                    _show(line, indent="[mqtt] ")


def _show(line: Line, *, indent: str = "") -> None:
    for text in line.text.splitlines() or [""]:
        say(indent + text, tone=line.tone, dim=line.dim)
