"""Where requests come in: what a message asks for, and what the ledger knows of it already."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from pibot_mesh.errors import ErrorCode, ProtocolError, StoreError
from pibot_mesh.logs import Throttle
from pibot_mesh.master.books import KEEP_UP_S, Books
from pibot_mesh.master.events import MasterInput, Origin, Record, RequestArrived, RequestControlled, RequestMalformed
from pibot_mesh.master.store import Known
from pibot_mesh.mqtt.client import Message
from pibot_mesh.protocol.codec import decode
from pibot_mesh.protocol.messages import Control, Request, WireError, decode_request
from pibot_mesh.protocol.topics import Address, Kind

_log = logging.getLogger(__name__)

WAITING: Final = 5_000
"""Messages that may wait until a shared ledger was asked about them."""


AT_ONCE: Final = 64
"""Messages about which a shared ledger is asked together."""
PATIENCE_S: Final = 10.0
"""How long messages wait for a shared ledger that does not answer. Then their senders must send them again."""


class House(Protocol):
    """The master behind the door."""

    @property
    def stuck(self) -> StoreError | None:
        """Why nothing can be stored at the moment."""

    def held(self, request_id: str) -> Record | None:
        """The record of a request that the core holds."""

    def admit(self, event: MasterInput, message: Message) -> None:
        """Hand *event* to the core; *message* is acknowledged when what comes of it is stored."""

    def refuse(self, request: Request, origin: Origin, error: WireError) -> None:
        """Say that nothing will come of *request*."""

    def was_refused(self, request_id: str) -> bool:
        """Whether the request was refused a moment ago: a copy of it is refused as well."""

    def dismiss(self, message: Message) -> None:
        """Nothing more comes of *message*."""

    def reject(self, message: Message, why: ProtocolError) -> None:
        """Count *message*, and log it: it is none that could be read."""


class Door:
    """Takes requests and orders about them, in the order in which they come.

    A ledger of our own is asked at once. One that is shared is asked in a thread, while the loop goes on (`run`); then
    only the leader takes plain text, which has no id by which the others would know it for the same. Who leads is asked
    when it comes as well: a master that leads from now on must not take what waited here, and the former leader took.
    """

    def __init__(self, books: Books, house: House) -> None:
        self._books = books
        self._house = house
        self._not_taken = Throttle()
        self._waiting: asyncio.Queue[tuple[Address, Message]] = asyncio.Queue(WAITING)

    def take(self, address: Address, message: Message) -> None:
        """A message came on the topic of requests, or of orders about one. Raises ProtocolError for a bad order."""
        if not self._books.is_shared:
            self._let_in(address, message, self._books.find)
            return
        if address.kind is Kind.REQUEST and _is_plain(message) and not self._books.is_leader:
            self._house.dismiss(message)
            return
        try:
            self._waiting.put_nowait((address, message))
        except asyncio.QueueFull:
            _log.warning("%d requests wait for the ledger: one more was not taken, and must be sent again", WAITING)
            self._house.dismiss(message)

    async def run(self) -> None:
        """For ever, where the ledger is shared: ask it about the messages that wait, then let them in."""
        while True:
            messages = [await self._waiting.get()]
            while len(messages) < AT_ONCE and not self._waiting.empty():
                messages.append(self._waiting.get_nowait())
            named = {_id_in(message) for address, message in messages if address.kind is Kind.REQUEST} - {None}
            held = {name: record for name in named if name and (record := self._held(name)) is not None}
            found = await self._found({name for name in named if name and name not in held})
            for address, message in messages:
                try:
                    self._let_in(address, message, partial(_answer, found, held))
                except ProtocolError as error:
                    self._house.reject(message, error)
                    self._house.dismiss(message)

    async def _found(self, request_ids: set[str]) -> dict[str, Known] | StoreError:
        """What the ledger knows of these; the error, where it has not answered for long."""
        deadline = time.monotonic() + PATIENCE_S
        while request_ids:
            try:
                return await self._books.look_up(request_ids)
            except StoreError as error:
                if time.monotonic() > deadline:
                    return error
            await asyncio.sleep(KEEP_UP_S)
        return {}

    def _let_in(self, address: Address, message: Message, find: Callable[[str], Known | None]) -> None:
        if address.kind is Kind.REQUEST_CONTROL:
            control = RequestControlled(address.id, decode(Control, message.payload), message.retain)
            self._house.admit(control, message)
            return
        try:
            request = decode_request(message.payload, new_id=uuid.uuid4().hex)
        except ProtocolError as error:
            self._malformed(error, message, find)
            return
        origin = _origin(message)
        if origin.is_plain and not self._books.is_leader:
            self._house.dismiss(message)
            return
        # Its record goes along: until the core comes to it, it may hold the request no more.
        known = self._held(request.id)
        # What several masters share is back soon; what it cannot store now waits, and is not refused.
        why = None if known is not None or self._is_for_several(origin) else self._house.stuck
        try:
            known = known or _record(find(request.id))
        except StoreError as error:
            why = error
        if known is None and (why is not None or self._house.was_refused(request.id)):
            self._not_storable(request, origin, why)
            self._house.dismiss(message)
            return
        arrived = RequestArrived(request, origin, message.retain, message.dup, known)
        self._house.admit(arrived, message)

    def _held(self, request_id: str) -> Record | None:
        """What the core holds of a request.

        A reply that it holds may be on its way into the ledger, and another master may have taken the request over: of
        a ledger that is shared, only what stands in it counts as a reply.
        """
        record = self._house.held(request_id)
        return None if record is not None and record.reply is not None and self._books.is_shared else record

    def _malformed(self, error: ProtocolError, message: Message, find: Callable[[str], Known | None]) -> None:
        """Refused in words, where it names an id that nobody has."""
        self._house.reject(message, error)
        try:
            is_known = error.id is not None and find(error.id) is not None
        except StoreError:
            is_known = True  # perhaps: then nothing may be said
        if self._books.is_leader and not is_known:
            self._house.admit(RequestMalformed(error), message)
        else:
            self._house.dismiss(message)

    def _not_storable(self, request: Request, origin: Origin, why: StoreError | None) -> None:
        """Refused in words, unless another master may have taken it: then its sender will ask again."""
        if self._is_for_several(origin):
            dropped = self._not_taken.admit()
            if dropped is not None:
                more = f" (nor were {dropped} before it)" if dropped else ""
                _log.warning("request %s was not taken%s: %s", request.id, more, why)
            return
        text = f"nothing can be accepted now: {why}"
        self._house.refuse(request, origin, WireError(ErrorCode.STORAGE, text, retryable=True))

    def _is_for_several(self, origin: Origin) -> bool:
        """Whether another master may take it as well."""
        return self._books.is_shared and not origin.is_plain


def _is_plain(message: Message) -> bool:
    return message.payload.lstrip()[:1] != b"{"


def _origin(message: Message) -> Origin:
    is_plain = _is_plain(message)
    return Origin(
        is_plain,
        message.response_topic,
        base64.b64encode(message.correlation).decode() if message.correlation else None,
        message.mid if is_plain and message.qos else None,
    )


def _id_in(message: Message) -> str | None:
    """The id that the message names, where it names one."""
    if _is_plain(message):
        return None
    try:
        return decode(Request, message.payload).id
    except ProtocolError as error:
        return error.id


def _answer(found: dict[str, Known] | StoreError, held: dict[str, Record], request_id: str) -> Known | None:
    """What was known of a request when the ledger was asked: the core held it, or the ledger has it."""
    if request_id in held:
        return Known(held[request_id])
    if isinstance(found, StoreError):
        raise found
    return found.get(request_id)


def _record(known: Known | None) -> Record | None:
    return None if known is None else known.record
