"""What waits to be sent at QoS 1, and what was sent and is not acknowledged yet. Pure: no sockets and no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_MESSAGES: Final = 1000
MAX_BYTES: Final = 4 * 1024 * 1024
FOR_STATES: Final = 0.5
"""How much more there is for retained messages, as a part of both bounds: a party whose connection was away for long
must be able to say that it is back, whatever waits."""


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """A message on its way out.

    *keep*: over a lost connection too. *expires_at* is an instant of the clock that the caller uses throughout.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    keep: bool = True
    droppable: bool = False
    expires_at: float | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    content_type: str | None = None
    on_ack: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Bytes of topic, payload and correlation: what it costs to keep."""
        return len(self.topic.encode()) + len(self.payload) + len(self.correlation or b"")


class Outbox:
    """QoS 1 messages in the order in which they were handed over, at most *max_messages* and *max_bytes* of them.

    For retained ones there is half as much again. Messages in flight count. When it is full, the oldest droppable
    message makes room; where there is none, the new message is the one that is lost.
    """

    def __init__(self, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waiting: deque[Outgoing] = deque()
        self._backlog: deque[Outgoing] = deque()
        self._in_flight: dict[int, Outgoing] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._backlog) + len(self._in_flight)

    @property
    def in_flight(self) -> int:
        """How many messages were sent and are not acknowledged."""
        return len(self._in_flight)

    def add(self, message: Outgoing) -> list[Outgoing]:
        """Keep *message* until it is acknowledged. Returns what is lost for it: older droppable ones, or itself."""
        lost: list[Outgoing] = []
        while not self._has_room(message):
            victim = self._oldest_droppable()
            if victim is None:
                return [*lost, message]
            lost.append(victim)
        self._waiting.append(message)
        self._bytes += message.size
        return lost

    def take(self, now: float) -> Outgoing | None:
        """The next message to send, or None. Expired ones are forgotten. Call `sent`, `put_back` or `forget`."""
        while self._waiting:
            message = self._waiting.popleft()
            if message.expires_at is None or message.expires_at > now:
                return message
            self._bytes -= message.size
        return None

    def put_back(self, message: Outgoing) -> None:
        """The message just taken could not be sent: it is the next one again."""
        self._waiting.appendleft(message)

    def forget(self, message: Outgoing) -> None:
        """The message just taken can never be sent."""
        self._bytes -= message.size

    def sent(self, mid: int, message: Outgoing) -> None:
        """The message just taken went out under the packet id *mid*."""
        self._in_flight[mid] = message

    def acknowledged(self, mid: int) -> Outgoing | None:
        """The broker has answered for *mid*: the message is forgotten. None for an id that is not in flight."""
        message = self._in_flight.pop(mid, None)
        if message is not None:
            self._bytes -= message.size
        return message

    def connection_lost(self) -> None:
        """What is in flight must be sent again, before everything else; what need not be kept is forgotten.

        A retained message is a state, and states are published anew on the next connection: an old one sent then
        could overwrite a newer one. So it is never to be kept.
        """
        messages = [*self._in_flight.values(), *self._backlog, *self._waiting]
        self._in_flight.clear()
        self._backlog.clear()
        self._waiting = deque(message for message in messages if message.keep)
        self._bytes = sum(message.size for message in self._waiting)

    def hold_backlog(self) -> None:
        """Hold back what waits from earlier, so that what is added from now on goes out first."""
        self._backlog.extend(self._waiting)
        self._waiting.clear()

    def release_backlog(self) -> None:
        """Let the backlog follow what was added since `hold_backlog`."""
        self._waiting.extend(self._backlog)
        self._backlog.clear()

    def _has_room(self, message: Outgoing) -> bool:
        share = 1 + FOR_STATES if message.retain else 1
        return len(self) < self._max_messages * share and self._bytes + message.size <= self._max_bytes * share

    def _oldest_droppable(self) -> Outgoing | None:
        for queue in (self._backlog, self._waiting):
            for index, message in enumerate(queue):
                if message.droppable:
                    del queue[index]
                    self._bytes -= message.size
                    return message
        return None
