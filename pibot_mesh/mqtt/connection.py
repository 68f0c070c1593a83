"""One connection to the broker, from TCP to its end: paho-mqtt driven by the asyncio loop, without a thread of paho's.

A connection never comes back: `MqttClient` makes a new one, with a fresh paho client, so that no queue inside paho can
send an old state again. paho calls back with its locks held, therefore nothing here calls into paho from a callback
except to queue a packet.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from pibot_mesh.config.settings import Address, BrokerSettings, address_text
from pibot_mesh.errors import BrokerError
from pibot_mesh.mqtt.dial import in_thread, in_words, keep_queued, send_at_once, tls_context
from pibot_mesh.mqtt.model import Message, Subscription, Will
from pibot_mesh.mqtt.outbox import MAX_BYTES, MAX_MESSAGES, Outgoing
from pibot_mesh.mqtt.properties import connect_properties, publish_properties, will_properties
from pibot_mesh.mqtt.reconnect import Protocol

logger = logging.getLogger(__name__)

IN_FLIGHT: Final = 50
"""Messages that we send before the first is acknowledged, where the broker does not ask for fewer."""
IN_FLIGHT_3: Final = 20
"""The same on MQTT 3.1.1, where a broker cannot ask."""
TICK_S: Final = 1.0
STALE_AFTER: Final = 1.5
"""Times the keepalive: so long a broker waits for a sign of life."""
TAKEN_OVER: Final = 0x8E
WRONG_VERSION: Final = 0x84
NOT_LET_IN: Final = (0x86, 0x87)
SILENCE: Final = 0x8D


class ConnectFailed(BrokerError):
    """No connection came about. The text is one line: where, and why in words.

    *cause* is ``version`` where the broker does not speak this version of MQTT, ``closed`` where it closed the
    connection without an answer or never answered, ``refused`` where it answered no, and ``unreachable`` otherwise.
    """

    def __init__(
        self, message: str, *, cause: Literal["version", "closed", "refused", "unreachable"] = "unreachable"
    ) -> None:
        self.cause = cause
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection ended, in words; *is_taken_over* where another client came with the same client id."""

    reason: str
    is_taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """Who we are to the broker."""

    client_id: str
    will: Will | None
    expiry_s: int


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told, in the loop: of an arrived message, and of a PUBACK with the refusal in words (or None)."""

    on_message: Callable[[Message], None]
    on_puback: Callable[[int, str | None], None]


class Connection:
    """One connection to the broker at *address*. Call `open`, then `subscribe`; it has ended when `ended` is done.

    Its certificate must be for *server_name*; without one, for the host of *address*.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        address: Address,
        session: Session,
        listener: Listener,
        *,
        protocol: Protocol,
        number: int,
        server_name: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._address = address
        self._server_name = server_name
        self._listener = listener
        self._number = number
        self.protocol = protocol
        self.ended: asyncio.Future[Ending] = self._loop.create_future()
        self.max_in_flight = IN_FLIGHT if protocol == "5" else IN_FLIGHT_3
        self.max_packet_bytes: int | None = None
        self._connack: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._suback: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._unacknowledged: set[int] = set()
        self._unwritten: dict[int, int] = {}
        self._unwritten_bytes = 0
        self._tick: asyncio.TimerHandle | None = None
        self._ticked_at = math.inf
        self._is_write_planned = False
        self._paho = self._new_paho(session)

    async def open(self, timeout_s: float) -> None:
        """Connect, by name resolution, TCP, TLS and CONNECT. Raises ConnectFailed, within 2 * *timeout_s* seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await in_thread(lambda: self._connect_blocking(timeout_s), self._close_socket)
        except TimeoutError:
            raise self._failed(f"no answer within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise self._failed(in_words(error)) from None
        self._attach()
        await asyncio.wait((self._connack, self.ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not self._connack.done():
            if self.ended.done():
                raise self._failed("it closed the connection before it answered", cause="closed")
            raise self._failed(
                f"it accepted the connection and said nothing for {timeout_s:g} s: is it an MQTT broker?"
            )
        code = self._connack.result()
        if code.value == WRONG_VERSION:
            raise self._failed(f"it does not speak MQTT {self.protocol}", cause="version")
        if code.value in NOT_LET_IN:
            raise self._failed(f"it did not let us in: {self._credentials_in_words()}", cause="refused")
        if code.is_failure:
            raise self._failed(f"it refused the connection: {code}", cause="refused")

    async def subscribe(self, subscriptions: Sequence[Subscription], timeout_s: float) -> list[tuple[str, str]]:
        """Subscribe to all at once. Returns the refused filters with the reason in words; `ended` may be done then.

        Raises ConnectFailed where the broker does not answer within *timeout_s* seconds.
        """
        if not subscriptions:
            return []
        if self.protocol == "5":
            self._paho.subscribe([(one.filter, SubscribeOptions(qos=one.qos)) for one in subscriptions])
        else:
            # A clean session keeps nothing: QoS 1 would cost a hand-shake a message and, on NATS, a replicated queue
            # a filter (0.4 s each, and deaf while its leader is gone), and save no message that QoS 0 loses.
            self._paho.subscribe([(one.filter, 0) for one in subscriptions])
        await asyncio.wait((self._suback, self.ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            return []
        if not self._suback.done():
            raise self._failed(f"it did not answer the subscription within {timeout_s:g} s")
        return [
            (one.filter, str(code))
            for one, code in zip(subscriptions, self._suback.result(), strict=False)
            if code.is_failure
        ]

    @property
    def is_alive(self) -> bool:
        """Whether the broker accepted us and the connection has not ended."""
        return self._connack.done() and not self.ended.done()

    @property
    def is_written(self) -> bool:
        """Whether everything handed over has gone to the operating system."""
        return not self._unwritten and not self._paho.want_write()

    def publish(self, message: Outgoing, now: float) -> int | None:
        """Send *message*. Returns its packet id, or None where it cannot be sent now (QoS 0: where it is lost)."""
        if message.qos == 0 and (len(self._unwritten) >= MAX_MESSAGES or self._unwritten_bytes > MAX_BYTES):
            return None
        info = self._paho.publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            publish_properties(message, now) if self.protocol == "5" else None,
        )
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        if message.qos == 0:
            self._unwritten[info.mid] = message.size
            self._unwritten_bytes += message.size
        return info.mid

    def packet_bytes(self, message: Outgoing) -> int:
        """The size of *message* as a packet, to within 20 bytes above."""
        return message.size + len(message.response_topic or "") * 4 + len(message.content_type or "") * 4 + 35

    def ack(self, message: Message) -> None:
        """Acknowledge a message of this connection; once, however often it is called."""
        if message.connection == self._number and message.mid in self._unacknowledged and self.is_alive:
            self._unacknowledged.remove(message.mid)
            self._paho.ack(message.mid, message.qos)

    async def close(self, timeout_s: float) -> None:
        """Say DISCONNECT, so that the will does not fire, and wait at most *timeout_s* seconds until it is written."""
        if self.is_alive:
            self._paho.disconnect()
            await asyncio.wait((self.ended,), timeout=timeout_s)

    def drop(self) -> None:
        """Close the socket without a word. The connection has then ended."""
        self._end(Ending("closed by us"))
        client = self._paho
        client.on_connect = client.on_disconnect = client.on_message = client.on_publish = client.on_subscribe = None
        client.on_socket_close = client.on_socket_open = client.on_socket_register_write = None
        sock = client.socket()
        if sock is not None and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
        self._close_socket()

    def _new_paho(self, session: Session) -> paho.Client:
        is_5 = self.protocol == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=session.client_id,
            clean_session=None if is_5 else True,
            protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages = 0
        if self._settings.username is not None:
            client.username_pw_set(self._settings.username, self._settings.password)
        if session.will is not None:
            will = session.will
            client.will_set(will.topic, will.payload, will.qos, will.retain, will_properties(will) if is_5 else None)
        client.on_connect = self._on_connack
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_suback
        client.on_publish = self._on_published
        client.on_message = self._on_message
        client.on_socket_open = send_at_once
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = keep_queued
        self._session = session
        return client

    def _connect_blocking(self, timeout_s: float) -> None:
        """Runs in a thread. CONNECT is only queued: were we given up meanwhile, it would evict our next connection."""
        if self._settings.tls is not None:
            self._paho.tls_set_context(tls_context(self._settings.tls, self._server_name))
        self._paho.connect_timeout = timeout_s
        (host, port), keepalive_s = self._address, self._settings.keepalive_s
        if self.protocol == "5":
            properties = connect_properties(self._session.expiry_s)
            is_clean = self._session.expiry_s == 0
            self._paho.connect(host, port, keepalive_s, clean_start=is_clean, properties=properties)
        else:
            self._paho.connect(host, port, keepalive_s)

    def _attach(self) -> None:
        sock = self._paho.socket()
        if sock is None:
            self._end(Ending("the broker closed the connection"))
            return
        self._paho.on_socket_register_write = lambda *_: self._plan_write()
        self._loop.add_reader(sock.fileno(), self._read)
        self._plan_write()
        self._tick = self._loop.call_later(TICK_S, self._on_tick)
        self._ticked_at = self._loop.time()

    def _plan_write(self) -> None:
        if not self._is_write_planned:
            self._is_write_planned = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._is_write_planned = False
        self._guard(self._paho.loop_write)
        sock = self._paho.socket()
        if sock is None or self.ended.done():
            return
        if self._paho.want_write():
            self._loop.add_writer(sock.fileno(), self._write)
        else:
            self._loop.remove_writer(sock.fileno())

    def _read(self) -> None:
        if self._loop.time() - self._ticked_at > STALE_AFTER * self._settings.keepalive_s:
            # The broker has given us up meanwhile, and what lies in the socket may be from long ago.
            self._end(Ending("this process stood still for longer than the broker waits"))
            self.drop()
            return
        self._guard(self._paho.loop_read)
        # TLS decrypts whole records: what it holds already, the loop's selector cannot see.
        while (
            not self.ended.done()
            and isinstance(sock := self._paho.socket(), ssl.SSLSocket)
            and sock.fileno() >= 0
            and sock.pending()
        ):
            self._guard(self._paho.loop_read)

    def _on_tick(self) -> None:
        """paho's own time: keepalive pings, and the end of a connection on which they are not answered."""
        self._guard(self._paho.loop_misc)
        self._ticked_at = self._loop.time()
        if not self.ended.done():
            self._tick = self._loop.call_later(TICK_S, self._on_tick)

    def _guard(self, step: Callable[[], object]) -> None:
        """Run a step of paho. An error in it (a bug of paho, or bytes that no broker sends) ends the connection."""
        if self.ended.done():
            return
        try:
            step()
        except Exception:
            logger.exception("the connection to the broker at %s broke", address_text(*self._address))
            self._end(Ending("an error while reading or writing"))
            self.drop()

    def _end(self, ending: Ending) -> None:
        if self._tick is not None:
            self._tick.cancel()
        if not self.ended.done():
            self.ended.set_result(ending)

    def _close_socket(self) -> None:
        sock = self._paho.socket()
        if sock is not None:
            with suppress(OSError):
                sock.close()

    def _on_connack(
        self, _client: paho.Client, _data: object, _flags: paho.ConnectFlags, code: ReasonCode, facts: Properties | None
    ) -> None:
        if facts is not None:
            self.max_in_flight = min(self.max_in_flight, getattr(facts, "ReceiveMaximum", self.max_in_flight))
            self.max_packet_bytes = getattr(facts, "MaximumPacketSize", None)
        if not self._connack.done():
            self._connack.set_result(code)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            if code.value == TAKEN_OVER:
                self._end(Ending("another client took the connection over", is_taken_over=True))
            else:
                self._end(Ending(f"the broker ended the connection: {code}"))
        elif code.value == SILENCE:
            self._end(Ending("the broker fell silent"))
        else:
            self._end(Ending("the connection was lost" if code.is_failure else "closed by us"))

    def _on_suback(
        self, _client: paho.Client, _data: object, _mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if not self._suback.done():
            self._suback.set_result(codes)

    def _on_published(
        self, _client: paho.Client, _data: object, mid: int, code: ReasonCode, _properties: Properties | None
    ) -> None:
        """A QoS 0 message was written, or a PUBACK came."""
        size = self._unwritten.pop(mid, None)
        if size is not None:
            self._unwritten_bytes -= size
        else:
            self._listener.on_puback(mid, f"{code} (0x{code.value:02x})" if code.is_failure else None)

    def _on_message(self, client: paho.Client, _data: object, arrived: paho.MQTTMessage) -> None:
        try:
            topic = arrived.topic
        except UnicodeDecodeError:
            logger.warning("a message on a topic that is not UTF-8 was dropped")
            client.ack(arrived.mid, arrived.qos)
            return
        if arrived.qos:
            self._unacknowledged.add(arrived.mid)
        self._listener.on_message(
            Message(
                topic,
                bytes(arrived.payload),
                qos=arrived.qos,
                retain=arrived.retain,
                dup=arrived.dup,
                mid=arrived.mid,
                response_topic=getattr(arrived.properties, "ResponseTopic", None),
                correlation=getattr(arrived.properties, "CorrelationData", None),
                connection=self._number,
            )
        )

    def _on_socket_close(self, _client: paho.Client, _data: object, sock: paho.SocketLike) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())

    def _credentials_in_words(self) -> str:
        if self._settings.username is None:
            return "it wants a username and a password"
        return f"the username {self._settings.username!r} or its password is wrong, or it may not connect"

    def _failed(
        self, reason: str, *, cause: Literal["version", "closed", "refused", "unreachable"] = "unreachable"
    ) -> ConnectFailed:
        return ConnectFailed(f"broker at {address_text(*self._address)}: {reason}", cause=cause)
