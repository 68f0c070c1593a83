"""The asyncio MQTT client: connects, stays connected, and keeps what must not be lost until the broker has it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from pibot_mesh.config.settings import Address, BrokerSettings, address_text
from pibot_mesh.errors import BrokerError, PayloadTooLarge, PublishRefused, QueueFull
from pibot_mesh.mqtt.connection import ConnectFailed, Connection, Ending, Listener, Session
from pibot_mesh.mqtt.discovery import discovery_for
from pibot_mesh.mqtt.model import Message, Subscription, Will
from pibot_mesh.mqtt.outbox import MAX_MESSAGES, Outbox, Outgoing
from pibot_mesh.mqtt.reconnect import AddressChoice, Backoff, Protocol, ProtocolChoice
from pibot_mesh.mqtt.states import States
from pibot_mesh.protocol.codec import MAX_PAYLOAD

__all__ = ["Message", "MqttClient", "Subscription", "Will"]

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds for each step of a connection. NATS needs up to four while it elects a leader, and carries out a CONNECT that
was given up before it answered: that would evict our next connection."""
FLUSH_S: Final = 1.0
DISCONNECT_S: Final = 0.5
REFUSED_PAUSE_S: Final = 1.0
BRIEF_S: Final = 5.0
BRIEF_IN_A_ROW: Final = 5
"""So many connections accepted and lost within `BRIEF_S` seconds, without a failed attempt between them, are no chance:
another client has our id. Mosquitto 2.0.11 evicts the one for the other without giving this reason."""
BRIEF_PAUSE_S: Final = 1.0
"""Seconds to stay away, at least, after two of them: who has our id must find the time to see that we are there."""
CONTESTED_PAUSE_S: Final = 5.0
"""Seconds to stay away then, at least: two clients must not evict each other without pause."""


class MqttClient:
    """A client of one broker. Make it in a running loop; every callback is called in that loop.

    - It connects for ever, with back-off, and subscribes anew each time. *on_connect* runs once the broker has answered
      CONNECT and SUBSCRIBE; what it publishes goes out before what waited, and messages arrive only after it.
      *on_disconnect* gets the reason, once for each *on_connect*, except after `stop`.
    - Where the settings name several servers, it stays with the one that works. When that fails it tries the next ones
      at once, and pauses only after all have failed. Where they say to discover it, it looks on the network for it
      each time before it begins with the first; making the client raises ConfigError where that cannot be done.
    - It speaks MQTT 5, with a session that outlives the connection by *session_expiry_s* (0: none), and 3.1.1 with a
      clean session where the broker does not know 5.
    - QoS 1 messages that are not retained are kept (at most 1,000 and 4 MiB) until the broker has acknowledged them,
      over any number of connections. Retained messages are states: *on_connect* publishes them anew, so they, and
      QoS 0, are lost without a connection.
    - A QoS 1 message that arrived is acknowledged by `ack`. Until then an MQTT 5 broker holds it for us, and after 100
      of them it sends no more. One whose callback raised is logged and acknowledged: it would raise again.
    - *on_error* gets what nobody awaits: PublishRefused, QueueFull, PayloadTooLarge (at the limit of a broker that came
      later), and BrokerError for a refused subscription and for another client with our id.

    An exception in a callback is logged and ends nothing.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        client_id: str,
        on_message: Callable[[Message], None],
        on_connect: Callable[[], None] | None = None,
        on_disconnect: Callable[[str], None] | None = None,
        on_error: Callable[[Exception], None] | None = None,
        subscriptions: Sequence[Subscription] = (),
        will: Will | None = None,
        session_expiry_s: int = 60,
        max_queued: int = MAX_MESSAGES,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._session = Session(client_id, will, session_expiry_s)
        self._on_message = on_message
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._on_error = on_error
        self._subscriptions = tuple(subscriptions)
        self._listener = Listener(self._arrived, self._answered)
        self._backoff = Backoff(rng or random.Random())
        self._discovery = discovery_for(settings)
        self._server_name: str | None = None
        self._address = AddressChoice(settings.addresses)
        self._choices: dict[Address, ProtocolChoice] = {}
        self._problems: dict[Address, str] = {}
        self._outbox = Outbox(max_messages=max_queued)
        self._states = States()
        self._connection: Connection | None = None
        self._number = 0
        self._brief_in_a_row = 0
        self._early: list[Message] = []
        self._is_ready = False
        self._is_stopping = False
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.last_problem = ""
        """Why there is no connection, in one line with the address; empty while there is one."""
        self.dropped = 0
        """How many messages were lost since the start because too much waited, or because there was no connection."""
        self.protocol: Protocol = "5"
        """The version of MQTT of the connection, or of the last attempt."""

    def __repr__(self) -> str:
        state = f"MQTT {self.protocol}" if self.is_connected else "not connected"
        return f"<MqttClient {self._session.client_id!r} at {self._place}, {state}>"

    @property
    def _choice(self) -> ProtocolChoice:
        return self._choices.setdefault(self._address.current, ProtocolChoice())

    @property
    def _place(self) -> str:
        if self._discovery is not None and self._server_name is None:
            return "an address not known yet"
        return address_text(*self._address.current)

    @property
    def is_connected(self) -> bool:
        """Whether a message published now goes out: from just before *on_connect* runs until the connection ends."""
        return self._is_ready and self._connection is not None and self._connection.is_alive

    async def start(self) -> None:
        """Begin to connect, in the background. Returns at once; see `wait_connected`."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"mqtt {self._session.client_id}")

    async def stop(self) -> None:
        """Send what was handed over (for at most a second), disconnect so that no will fires, and end. Never raises."""
        self._is_stopping = True
        try:
            if self.is_connected and self._connection is not None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._flushed(self._connection), FLUSH_S)
                await self._connection.close(DISCONNECT_S)
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            self._is_ready = False
            self._connected.clear()

    async def wait_connected(self, timeout_s: float) -> None:
        """Wait until connected. Raises BrokerError, one line with address and reason, after *timeout_s*."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            problem = self.last_problem or f"broker at {self._place}: no answer"
            raise BrokerError(f"no connection within {timeout_s:g} s; {problem}") from None

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        expiry_s: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        content_type: str | None = None,
        keep: bool = True,
        droppable: bool = False,
        on_ack: Callable[[], None] | None = None,
    ) -> None:
        """Hand over a message of QoS 0 or 1. Never blocks.

        *keep* False: do not keep it over a lost connection, its sender sends it again anyway.
        *expiry_s*: after so many seconds it is not worth sending any more, nor (on MQTT 5) delivering. *droppable*: it
        is the first to go when too much waits. *on_ack* is called when the broker has taken a QoS 1 message; never
        after a refusal. *response_topic*, *correlation* and *content_type* travel on MQTT 5 only.

        Raises PayloadTooLarge over 64 KiB or the broker's own limit, and ValueError for a topic that is none.
        """
        if not topic or any(character in topic for character in "+#\0"):
            raise ValueError(f"{topic!r} is no topic to publish to")
        if qos not in (0, 1):
            raise ValueError(f"quality of service {qos}: 0 or 1 is expected")
        message = Outgoing(
            topic,
            payload,
            qos,
            retain,
            keep and not retain,
            droppable,
            None if expiry_s is None else self._now() + expiry_s,
            response_topic,
            correlation,
            content_type,
            on_ack,
        )
        self._check_size(message)
        if qos == 0:
            self._publish_now(message)
        elif self.is_connected or (message.keep and not self._is_stopping):
            self._states.said(message)
            self._lost(self._outbox.add(message))
            self._send_waiting()
        else:
            self.dropped += 1

    def ack(self, message: Message) -> None:
        """Acknowledge *message*, once it is stored. Does nothing at QoS 0, twice, or after its connection ended.

        In the last case an MQTT 5 broker delivers it again within *session_expiry_s*, with *dup* set.
        """
        if self._connection is not None:
            self._connection.ack(message)

    async def _run(self) -> None:
        while True:
            pause_s: float | None = 0.0
            try:
                await self._discover()
                self._number += 1
                self.protocol = self._choice.next(self._now())
                pause_s = await self._live()
            except ConnectFailed as error:
                pause_s = self._note_failure(error)
            except Exception:
                logger.exception("the client of the broker at %s failed; connecting again", self._place)
                self._address.failed()
            finally:
                self._is_ready = False
                self._connected.clear()
                if self._connection is not None:
                    self._connection.drop()
                self._outbox.connection_lost()
                self._states.clear()
                self._early.clear()
            if pause_s is not None:
                await asyncio.sleep(self._backoff.next_delay_s(at_least_s=pause_s))

    async def _discover(self) -> None:
        """Where the broker is looked for, and all that was found has been tried: look anew. Raises ConnectFailed."""
        if self._discovery is None or not self._address.is_new_round:
            return
        self._address = AddressChoice([self._address.current])  # a search that fails is a round of its own
        broker = await self._discovery.find()
        self._server_name = broker.host
        self._address = AddressChoice(broker.addresses)

    async def _live(self) -> float:
        """One connection, from its beginning to its end. Returns how many seconds to pause at least."""
        self._connection = connection = Connection(
            self._settings,
            self._address.current,
            self._session,
            self._listener,
            protocol=self.protocol,
            number=self._number,
            server_name=self._server_name,
        )
        await connection.open(CONNECT_TIMEOUT_S)
        self._choice.accepted(self._now())
        began = self._now()
        for topic_filter, reason in await connection.subscribe(self._subscriptions, CONNECT_TIMEOUT_S):
            self._report(BrokerError(f"broker at {self._place}: refused to subscribe us to {topic_filter}: {reason}"))
        if connection.is_alive:
            self._become_ready()
        ending = await connection.ended
        return self._note_ending(ending, lived_s=self._now() - began)

    def _become_ready(self) -> None:
        logger.info("connected to the broker at %s (MQTT %s)", self._place, self.protocol)
        self.last_problem = ""
        self._problems.clear()
        self._backoff.reset()
        self._outbox.hold_backlog()
        self._is_ready = True
        if self._on_connect is not None:
            self._call(self._on_connect)
        self._outbox.release_backlog()
        self._send_waiting()
        early, self._early = self._early, []
        for message in early:
            self._deliver(message)
        self._connected.set()

    def _note_failure(self, error: ConnectFailed) -> float | None:
        """Returns how many seconds to pause at least, or None where there is something else to try at once."""
        self._brief_in_a_row = 0
        self.last_problem = text = str(error)
        level = logging.DEBUG if text == self._problems.get(self._address.current) else logging.WARNING
        self._problems[self._address.current] = text
        if error.cause == "version" and self.protocol == "5":
            logger.info("%s; trying 3.1.1", text)
            self._choice.refused(self._now())
            return None
        logger.log(level, "%s; trying again", text)
        if error.cause == "closed":
            self._choice.closed_early()
        if not self._address.failed():
            return None
        return REFUSED_PAUSE_S if error.cause == "refused" else 0.0

    def _note_ending(self, ending: Ending, *, lived_s: float) -> float:
        was_ready, self._is_ready = self._is_ready, False
        self._connected.clear()
        if was_ready:
            self._brief_in_a_row = self._brief_in_a_row + 1 if lived_s < BRIEF_S else 0
        is_contested = ending.is_taken_over or self._brief_in_a_row >= BRIEF_IN_A_ROW
        self.last_problem = f"broker at {self._place}: {ending.reason}"
        if was_ready:
            self._address.ended()
        else:
            self._address.failed()
        if is_contested:
            self.last_problem += f": another program seems to use our client id {self._session.client_id!r}"
        if self._is_stopping:
            return 0.0
        logger.warning("%s; connecting again", self.last_problem)
        if was_ready and self._on_disconnect is not None:
            self._call(self._on_disconnect, ending.reason)
        if not is_contested:
            return BRIEF_PAUSE_S if self._brief_in_a_row >= 2 else 0.0
        self._report(BrokerError(f"{self.last_problem}; give each an id of its own"))
        return CONTESTED_PAUSE_S

    def _check_size(self, message: Outgoing) -> None:
        if len(message.payload) > MAX_PAYLOAD:
            raise PayloadTooLarge(message.topic, [f"{len(message.payload)} bytes, at most {MAX_PAYLOAD} are allowed"])
        limit = self._connection.max_packet_bytes if self._connection is not None else None
        if limit is not None and self._connection is not None and self._connection.packet_bytes(message) > limit:
            raise PayloadTooLarge(
                message.topic, [f"{len(message.payload)} bytes, and the broker takes packets of at most {limit}"]
            )

    def _publish_now(self, message: Outgoing) -> None:
        connection = self._connection
        if not self.is_connected or connection is None:
            self.dropped += 1
        elif connection.publish(message, self._now()) is None:
            self._lost([message])

    def _send_waiting(self) -> None:
        connection = self._connection
        while (
            self.is_connected
            and connection is not None
            and self._outbox.in_flight < connection.max_in_flight
            and (message := self._outbox.take(self._now())) is not None
        ):
            try:
                self._check_size(message)
            except PayloadTooLarge as error:
                self._outbox.forget(message)
                self._report(error)
                continue
            mid = connection.publish(message, self._now())
            if mid is None:
                self._outbox.put_back(message)
                return
            self._outbox.sent(mid, message)
            self._states.sent(message, self._now())

    def _answered(self, mid: int, refusal: str | None) -> None:
        message = self._outbox.acknowledged(mid)
        if message is not None and refusal is not None:
            self._report(PublishRefused(message.topic, refusal))
        elif message is not None:
            again = self._states.acknowledged(message, self._now())
            if again is not None:
                self._lost(self._outbox.add(again))
            if message.on_ack is not None:
                self._call(message.on_ack)
        self._send_waiting()

    def _arrived(self, message: Message) -> None:
        if self._is_ready:
            self._deliver(message)
        elif len(self._early) < MAX_MESSAGES:
            self._early.append(message)
        else:
            self.dropped += 1

    def _deliver(self, message: Message) -> None:
        if not self._call(self._on_message, message):
            self.ack(message)

    def _lost(self, messages: Sequence[Outgoing]) -> None:
        self.dropped += len(messages)
        for message in messages:
            if not message.droppable:
                self._report(
                    QueueFull(
                        f"broker at {self._place}: {len(self._outbox)} messages wait for it; "
                        f"the one to {message.topic} is lost"
                    )
                )

    def _report(self, error: Exception) -> None:
        if self._on_error is not None:
            self._call(self._on_error, error)
        else:
            logger.warning("%s", error)

    def _call(self, function: Callable[..., None], *arguments: object) -> bool:
        """Call back; log what it raises and return whether it returned. A service's bug must not end its connection."""
        try:
            function(*arguments)
        except Exception:
            logger.exception("%s failed", getattr(function, "__qualname__", function))
            return False
        return True

    async def _flushed(self, connection: Connection) -> None:
        # Nobody tells when paho has written, and this runs once, for a second at most.
        while connection.is_alive and (len(self._outbox) or not connection.is_written):  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
