"""Asking the mesh from outside: for programs, and behind ``pibot ask``."""

from __future__ import annotations

import asyncio
import getpass
import random
import socket
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import NoMaster
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import Control, Event, Reply, Request, decode_presence
from pibot_mesh.protocol.topics import DEFAULT_ROOT, Address, Kind, Topics
from pibot_mesh.timers import resend_delay

_HEARD_WITHIN_S: Final = 2.0
_LAST_TRY: Final = 3
"""From this one on the time between two does not grow: 8 s. A person waits."""
_SILENCE_S: Final = 20.0
"""After how long without a word of a request it is sent again, though the master has it; the next time after twice as
long, up to `_LONGEST_SILENCE_S`."""
_LONGEST_SILENCE_S: Final = 160.0
_GRACE_S: Final = 10.0
"""How long the reply may be later than the request's own time-out before nobody is taken to be there."""
_NAME_LENGTH: Final = 200

Reach: TypeAlias = Literal["master", "broker", "nobody"]
"""How far a client gets: to an online master, to the broker alone, or not even there."""


def who(program: str = "") -> str:
    """Who gives orders from this process, for people to read: ``ann@porch, pibot ask``, as far as it is known."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no variable names one, and neither does the system's list
        user = "somebody"
    name = f"{user}@{socket.gethostname()}{f', {program}' if program else ''}"
    return name.encode(errors="replace").decode()[:_NAME_LENGTH]


async def _comes(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False


@dataclass(slots=True)
class _Asked:
    reply: asyncio.Future[Reply]
    on_event: Callable[[Event], None] | None
    on_reach: Callable[[Reach], None] | None
    is_heard: asyncio.Event = field(default_factory=asyncio.Event)
    first_word: asyncio.Event = field(default_factory=asyncio.Event)


class Client(AbstractAsyncContextManager["Client"]):
    """A connection for asking. ``async with Client(BrokerSettings("hub.local")) as client:``

    Entering raises BrokerError where there is no broker, and NoMaster where no master is online, within *wait_s*.
    *by* is what the orders that it gives say of who gives them; by default the user and this machine (`who`).
    """

    def __init__(
        self,
        broker: BrokerSettings = BrokerSettings(),
        *,
        root: str = DEFAULT_ROOT,
        wait_s: float = 4.0,
        by: str | None = None,
    ) -> None:
        self._broker = broker
        self._by = who() if by is None else by
        self._wait_s = wait_s
        self._asked: dict[str, _Asked] = {}
        self._master_online = asyncio.Event()
        self._jitter = random.Random()
        self._link = Link(
            broker,
            Topics(root),
            client_id=f"pibot-ask-{uuid.uuid4().hex[:12]}",
            listen=[(Kind.REQUEST_EVENT, ""), (Kind.REQUEST_REPLY, ""), (Kind.MASTER_STATUS, "")],
            receive=self._receive,
            disconnected=lambda _: self._reached("nobody"),
        )

    async def __aenter__(self) -> Self:
        deadline = asyncio.get_running_loop().time() + self._wait_s
        await self._link.start()
        try:
            await self._link.wait_connected(self._wait_s)
            async with asyncio.timeout_at(deadline):
                await self._master_online.wait()
        except TimeoutError:
            await self._link.stop()
            raise NoMaster(
                f"the broker at {self._broker} answers, but no master is online there: start one with 'pibot master'"
            ) from None
        except BaseException:
            await self._link.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._link.stop()

    async def ask(
        self,
        text: str,
        *,
        node: str | None = None,
        mode: Literal["auto", "offline", "plan_only"] = "auto",
        timeout_s: float = 120.0,
        session: str | None = None,
        request_id: str | None = None,
        heard_within_s: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_reach: Callable[[Reach], None] | None = None,
    ) -> Reply:
        """Do what *text* says, and return the reply, whatever its state. *on_event* sees the request's events.

        Master and broker may go away and come back meanwhile: *on_reach* is told. A master that was started anew goes
        on with what it had accepted; its events have another ``boot``, and are numbered from 0 again.

        Requests of one *session* (an id) are a conversation: "and now off again" is about the device before. A request
        is sent again, under the same id, until the master says that it has it: it is done once all the same. Raises
        ProtocolError where *text* is empty or over 8,000 characters, or *session* no id, and NoMaster where no reply
        comes within *timeout_s* and some seconds, or not a first word within *heard_within_s*: a master that was killed
        may count as online for a while. On MQTT 5 the broker does not keep the request for longer than that.
        """
        request = Request(
            request_id or uuid.uuid4().hex, text, node=node, mode=mode, timeout_s=timeout_s, session=session
        )
        payload = encode(request)
        asked = _Asked(asyncio.get_running_loop().create_future(), on_event, on_reach)
        self._asked[request.id] = asked
        sender = asyncio.get_running_loop().create_task(self._send_until_heard(payload, asked, heard_within_s))
        try:
            if heard_within_s is not None:
                await self._first_word(request.id, asked, heard_within_s)
            async with asyncio.timeout(timeout_s + _GRACE_S):
                return await asked.reply
        except TimeoutError:
            raise NoMaster(
                f"no reply to request {request.id} within {timeout_s + _GRACE_S:g} s; its master's ledger may know "
                f"more: pibot history {request.id}"
            ) from None
        finally:
            sender.cancel()
            del self._asked[request.id]

    def cancel(self, request_id: str, reason: str = "") -> None:
        """Cancel a request. Its reply still comes, and says what had been done."""
        self.control(request_id, Control("cancel", reason=reason))

    def control(self, request_id: str, control: Control) -> None:
        """Give an order about a request: cancel, steer, approve or deny.

        What comes of it is among the request's events: ``cancel_requested``, ``steered``, ``approval_answered``, or
        ``control_refused``. One that does not say who gives it gets the client's own *by*.
        """
        order = control if control.by is not None else replace(control, by=self._by)
        self._link.send(Kind.REQUEST_CONTROL, encode(order), id=request_id)

    async def _first_word(self, request_id: str, asked: _Asked, within_s: float) -> None:
        """The request may be read yet, by a master that stood still: the cancel is read right behind it."""
        try:
            async with asyncio.timeout(within_s):
                await asked.first_word.wait()
        except TimeoutError:
            self.cancel(request_id, "nobody answered in time")
            raise NoMaster(
                f"the master at {self._broker} counts as online, but has not answered within {within_s:g} s: request "
                f"{request_id} was cancelled, in case it is read later"
            ) from None

    async def _send_until_heard(self, payload: bytes, asked: _Asked, expiry_s: float | None) -> None:
        """Send, and again where nothing is heard; and again when a master comes back, which may have lost it.

        A long silence may be a long task. It may be a broker as well that had too much for this client, and dropped the
        reply: what is sent then is a copy, which is answered with the reply, or with a word that the request is known.
        """
        tries, silence_s = 0, _SILENCE_S
        while True:
            self._link.send(Kind.REQUEST, payload, expiry_s=expiry_s, keep=False)
            delay = _HEARD_WITHIN_S if tries == 0 else resend_delay(min(tries, _LAST_TRY), self._jitter)
            tries += 1
            if not await _comes(asked.is_heard, delay):
                continue
            self._master_online.clear()
            while asked.is_heard.is_set():
                asked.is_heard.clear()
                if await _comes(self._master_online, silence_s):
                    break
            else:
                silence_s = min(2 * silence_s, _LONGEST_SILENCE_S)

    def _reached(self, reach: Reach) -> None:
        for asked in self._asked.values():
            if asked.on_reach is not None:
                asked.on_reach(reach)

    def _receive(self, address: Address, message: Message) -> None:
        match address.kind:
            case Kind.MASTER_STATUS if decode_presence(message.payload):
                self._master_online.set()
                self._reached("master")
            case Kind.MASTER_STATUS:
                self._reached("broker")
            case Kind.REQUEST_EVENT if address.id in self._asked:
                asked = self._asked[address.id]
                asked.is_heard.set()
                asked.first_word.set()
                if asked.on_event is not None:
                    asked.on_event(decode(Event, message.payload))
            case Kind.REQUEST_REPLY if address.id in self._asked:
                asked = self._asked[address.id]
                asked.is_heard.set()
                asked.first_word.set()
                if not asked.reply.done():
                    asked.reply.set_result(decode(Reply, message.payload))
        self._link.ack(message)
