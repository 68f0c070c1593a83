"""A party's MQTT client in a simulated world: the real outbox, and a connection that is made again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Final, Protocol

from pibot_mesh.mqtt.outbox import FOR_STATES, MAX_MESSAGES, Outbox
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.topics import DELIVERY, Address, Kind
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.network import KEEPALIVE_S, Broker, Line, Message, Parcel

_IN_FLIGHT: Final = 20
_NOMINAL: Final = bytes(400)
"""What stands for a payload that is not written."""
_DROPPABLE: Final = frozenset((Kind.REQUEST_EVENT, Kind.TASK_EVENT, Kind.NODE_EVENT, Kind.REPLY))


class Party(Protocol):
    """Whose client it is."""

    def soon(self, action: Callable[..., object], *args: object) -> None:
        """Do it now, or as soon as the party can do anything."""

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...

    def received(self, message: Message) -> None: ...


class Client:
    """One client, for the life of one process. *listen* are kinds with a node's id, ``+`` or nothing."""

    def __init__(
        self,
        nature: Nature,
        broker: Broker,
        party: Party,
        client_id: str,
        *,
        listen: Sequence[tuple[Kind, str]],
        will: Address | None,
    ) -> None:
        self.id = client_id
        self.listen = tuple(listen)
        self.will = will
        self.line: Line | None = None
        """The connection, as far as the client knows."""
        self._nature = nature
        self._broker = broker
        self._party = party
        self._outbox = Outbox()
        self._mid = 0
        self._published = 0
        self._is_over = False

    @property
    def waiting(self) -> int:
        """How many messages wait to be sent, or for an acknowledgement."""
        return len(self._outbox)

    @property
    def is_bounded(self) -> bool:
        """Whether no more wait than may."""
        return len(self._outbox) <= MAX_MESSAGES * (1 + FOR_STATES)

    def connect_soon(self) -> None:
        """Try to connect, in a moment."""
        self._nature.after(self._nature.between(0.02, 2.0), self._party.soon, self._connect)

    def leave(self) -> None:
        """Disconnect in peace."""
        self._is_over = True
        if self.line is not None:
            self.line.up.send(self._broker.disconnected, self.line)

    def end(self) -> Line | None:
        """The process is no more. Returns the connection that it had."""
        self._is_over = True
        line, self.line = self.line, None
        return line

    def publish(
        self,
        kind: Kind,
        content: object,
        *,
        node: str = "",
        id: str = "",  # noqa: A002 - the wire's own name
        keep: bool = True,
        is_delta: bool = False,
        expiry_s: float | None = None,
        delivered: Callable[[], None] | None = None,
    ) -> None:
        """As `pibot_mesh.mqtt.link.Link.send` does. *content* is what its payload says; one in eight is written so.

        To write and read them all would take most of the time, and has tests of its own.
        """
        self._published += 1
        payload = _NOMINAL
        if self._published % 8 == 0 and is_dataclass(content) and not isinstance(content, type):
            payload = encode(content)
            content = decode(type(content), payload)
        qos, retain = 0 if is_delta else DELIVERY[kind].qos, DELIVERY[kind].retain
        expires_at = None if expiry_s is None else self._nature.now + expiry_s
        keep, droppable = keep and not retain and not is_delta, kind in _DROPPABLE
        address = Address(kind, node, id)
        parcel = Parcel(
            topic=kind.value,
            payload=payload,
            qos=qos,
            retain=retain,
            keep=keep,
            droppable=droppable,
            expires_at=expires_at,
            on_ack=delivered,
            address=address,
            content=content,
        )
        if qos == 0:
            if self.line is not None:
                self.line.up.send(self._broker.receive, self.line, parcel, 0)
        elif self.line is not None or keep:
            self._outbox.add(parcel)
            self._send_waiting()

    def ack(self, message: Message) -> None:
        """The message is taken, and need not come again."""
        if message.mid and message.line is self.line:
            self.line.up.send(self._broker.acknowledged, self.line, message.mid)

    # From the network

    def arrived(self, message: Message) -> None:
        """The network brings *message*."""
        self._party.soon(self._arrived, message)

    def answered(self, line: Line, mid: int) -> None:
        """The broker has taken what went out under *mid*."""
        self._party.soon(self._answered, line, mid)

    def lost(self, line: Line) -> None:
        """The client notices that *line* is gone."""
        self._party.soon(self._lost, line)

    def _connect(self) -> None:
        if self._is_over or self.line is not None:
            return
        self.line = self._broker.connect(self)
        if self.line is None:
            self.connect_soon()
            return
        self._outbox.hold_backlog()
        self._party.connected()
        self._outbox.release_backlog()
        self._send_waiting()

    def _arrived(self, message: Message) -> None:
        if message.line is self.line:
            self._party.received(message)

    def _answered(self, line: Line, mid: int) -> None:
        if line is not self.line:
            return
        parcel = self._outbox.acknowledged(mid)
        if parcel is not None and parcel.on_ack is not None:
            parcel.on_ack()
        self._send_waiting()

    def _lost(self, line: Line) -> None:
        if line is not self.line:
            return
        self.line = None
        self._outbox.connection_lost()
        self._party.disconnected()
        self.connect_soon()

    def _send_waiting(self) -> None:
        while self.line is not None and self._outbox.in_flight < _IN_FLIGHT:
            parcel = self._outbox.take(self._nature.now)
            if parcel is None:
                return
            assert isinstance(parcel, Parcel)
            self._mid = self._mid % 65_535 + 1
            self._outbox.sent(self._mid, parcel)
            self.line.up.send(self._broker.receive, self.line, parcel, self._mid)

    # What goes wrong

    def cut(self, *, is_quick: bool = True) -> None:
        """The connection breaks; each end notices soon or late, the broker perhaps never."""
        if self.line is not None:
            self.break_off(self.line, is_quick=is_quick)

    def break_off(self, line: Line, *, is_quick: bool = True) -> None:
        """*line* is dead from now on."""
        nature = self._nature
        line.die()
        latest_s = 3.0 if is_quick else 1.5 * KEEPALIVE_S
        nature.after(nature.between(0.01, latest_s), self.lost, line)
        if nature.happens(nature.faults.mute):
            nature.fault("connection loss that no broker noticed", self.id)
        else:
            nature.after(nature.between(0.01, latest_s), self._broker.lost, line)

    def fall_silent(self, for_s: float, *, up: bool, down: bool) -> None:
        """One direction of the connection, or both, carries nothing for so long; too long, and it is given up."""
        line, nature = self.line, self._nature
        if line is None:
            return
        for way in [line.up] * up + [line.down] * down:
            way.fall_silent()
            if for_s < KEEPALIVE_S:
                nature.after(for_s, way.speak)
        if for_s >= KEEPALIVE_S:
            nature.after(nature.between(KEEPALIVE_S, 1.5 * KEEPALIVE_S), self.break_off, line)
