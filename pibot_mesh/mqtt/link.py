"""The mesh's topics over one MQTT connection: what a master, a node and a client have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from paho.mqtt.client import topic_matches_sub

from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import MeshError, ProtocolError
from pibot_mesh.logs import Rejections, Throttle
from pibot_mesh.mqtt.client import Message, MqttClient, Subscription, Will
from pibot_mesh.mqtt.reconnect import Protocol
from pibot_mesh.protocol.messages import encode_presence
from pibot_mesh.protocol.topics import DELIVERY, Address, Kind, Topics

_log = logging.getLogger(__name__)
_DROPPABLE: Final = frozenset((Kind.REQUEST_EVENT, Kind.TASK_EVENT, Kind.NODE_EVENT, Kind.REPLY))
"""What makes room for replies and results where too much waits: a gap in ``seq`` shows it (promise 7)."""
_ORDERS: Final = frozenset((Kind.OUTPUT_SET, Kind.REFLEX_SET, Kind.ROUTINE_SET))
"""What is meant for now: read at QoS 0, so that no session keeps an order for whoever is away."""
_WILL_DELAY_S: Final = 10
"""A blink of the Wi-Fi shorter than this is nobody's business (MQTT 5 only)."""


class Link:
    """One party's connection. All callbacks come in the event loop.

    *presence* is the party's retained status, which is also its will; a client that only asks has none. *receive* gets
    every message on one of our topics; where it raises ProtocolError the message is counted, logged (in bounded
    numbers) and acknowledged. Otherwise `ack` is the receiver's to call, once what it must remember is stored.

    *also* are topics outside of our root, and *receive_other* gets what comes on them, in the same way.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        topics: Topics,
        *,
        client_id: str,
        listen: Sequence[tuple[Kind, str]],
        receive: Callable[[Address, Message], None],
        presence: Address | None = None,
        connected: Callable[[], None] | None = None,
        disconnected: Callable[[str], None] | None = None,
        also: Sequence[Subscription] = (),
        receive_other: Callable[[Message], None] | None = None,
    ) -> None:
        self.topics = topics
        self.rejections = Rejections(_log)
        self._errors = Throttle()
        self._presence = presence
        self._receive = receive
        self._receive_other = receive_other
        self._listen = frozenset(listen)
        self._also = tuple(each.filter for each in also)
        will = Will(self._topic(presence), encode_presence(False), delay_s=_WILL_DELAY_S) if presence else None
        self._client = MqttClient(
            broker,
            client_id=client_id,
            on_message=self._on_message,
            on_connect=connected,
            on_disconnect=disconnected,
            on_error=self._on_error,
            subscriptions=[
                *(
                    Subscription(topics.filter(kind, node=node), qos=0 if kind in _ORDERS else DELIVERY[kind].qos)
                    for kind, node in listen
                ),
                *also,
            ],
            will=will,
        )

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, with its subscriptions."""
        return self._client.is_connected

    @property
    def protocol(self) -> Protocol:
        """The version of MQTT of the connection."""
        return self._client.protocol

    async def start(self) -> None:
        """Begin to connect, and keep at it for ever."""
        await self._client.start()

    async def wait_connected(self, timeout_s: float) -> None:
        """Raises BrokerError, in one line, where there is no connection within *timeout_s*."""
        await self._client.wait_connected(timeout_s)

    async def stop(self, *, is_said: bool = True) -> None:
        """Say ``offline`` (a clean disconnect fires no will), unless not *is_said*, and leave."""
        if is_said and self._presence is not None and self.is_connected:
            self.send_presence(False)
        await self._client.stop()

    def send_presence(self, is_online: bool) -> None:
        """Publish the own status."""
        if self._presence is not None:
            self.send(self._presence.kind, encode_presence(is_online), node=self._presence.node)

    def send(
        self,
        kind: Kind,
        payload: bytes,
        *,
        node: str = "",
        id: str = "",  # noqa: A002 - the wire's own name
        device: str = "",
        expiry_s: float | None = None,
        keep: bool = True,
        delivered: Callable[[], None] | None = None,
        is_delta: bool = False,
        droppable: bool = False,
    ) -> None:
        """Publish on a topic of ours, as the protocol's table says. Never blocks.

        *keep*: over a lost connection too; what its sender sends again itself needs no second memory here. *is_delta*:
        a piece that nobody will miss goes without a hand-shake, and not over a lost connection. *droppable*: it makes
        room where too much waits.
        """
        self.publish(
            self.topics.topic(kind, node=node, id=id, device=device),
            payload,
            qos=0 if is_delta else DELIVERY[kind].qos,
            retain=DELIVERY[kind].retain,
            expiry_s=expiry_s,
            keep=keep and not is_delta,
            droppable=droppable or kind in _DROPPABLE,
            delivered=delivered,
        )

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: float | None = None,
        correlation: bytes | None = None,
        keep: bool = True,
        droppable: bool = False,
        delivered: Callable[[], None] | None = None,
    ) -> None:
        """Publish on any topic. What cannot be sent (too large, queue full) is logged, not raised.

        *droppable*: it is the first to go where too much waits.
        """
        try:
            self._client.publish(
                topic,
                payload,
                qos=qos,
                retain=retain,
                expiry_s=max(1, round(expiry_s)) if expiry_s is not None else None,
                correlation=correlation,
                keep=keep,
                droppable=droppable,
                on_ack=delivered,
            )
        except MeshError as error:
            self._on_error(error)

    def ack(self, message: Message) -> None:
        """Tell the broker that *message* need not come again."""
        self._client.ack(message)

    def _topic(self, address: Address) -> str:
        return self.topics.topic(address.kind, node=address.node, id=address.id, device=address.device)

    def _on_message(self, message: Message) -> None:
        address = self.topics.parse(message.topic)
        try:
            if address is not None:
                self._hear(address, message)
            elif self._receive_other is not None and self._is_another(message.topic):
                self._receive_other(message)
            elif message.topic.startswith(f"{self.topics.root}/"):
                raise ProtocolError("topic", ["it is none of the mesh's"])
            else:
                self.ack(message)  # amqtt again: what it keeps for others' subscriptions is nobody's fault
        except ProtocolError as error:
            self.rejections.add(message.topic, error)
            self.ack(message)

    def _hear(self, address: Address, message: Message) -> None:
        if self._is_listened_to(address):
            self._receive(address, message)
        else:
            self.ack(message)

    def _is_another(self, topic: str) -> bool:
        return any(topic_matches_sub(each, topic) for each in self._also)

    def _is_listened_to(self, address: Address) -> bool:
        """amqtt 0.12 sends to a new client what it keeps for anybody's subscriptions."""
        return any((address.kind, node) in self._listen for node in ("", "+", address.node))

    def _on_error(self, error: Exception) -> None:
        dropped = self._errors.admit()
        if dropped is not None:
            _log.error("%s%s", error, f" (and {dropped} more such errors)" if dropped else "")
