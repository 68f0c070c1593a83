"""A broker inside this process: amqtt, for one machine. Mosquitto is the broker for a house."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import ItemsView, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from pibot_mesh.errors import BrokerError
from pibot_mesh.mqtt.private import next_free_port, require_free_port

if TYPE_CHECKING:
    from amqtt.broker import Broker

_log = logging.getLogger(__name__)

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
LISTENER: Final = "default"
FIRST_PACKET_S: Final = 5.0
STOP_S: Final = 2.0
CONNECT: Final = 0x10
MQTT_5: Final = 5
_NOISY: Final = ("amqtt", "transitions")
WRONG_VERSION: Final = bytes((0x20, 0x03, 0x00, 0x84, 0x00))
"""An MQTT 5 CONNACK with the reason «unsupported protocol version»."""


class EmbeddedBroker:
    """amqtt on one TCP port: MQTT 3.1.1 only, retained messages in memory, nothing kept over a restart.

    It has no passwords, so it listens on the loopback interface only. *port* 0 takes a free one; after `start`, `port`
    tells which.

    The port is ours, not amqtt's: amqtt takes the properties of an MQTT 5 CONNECT for a client id of thousands of bytes
    and waits for the rest of it, so such a client is answered here, and tries 3.1.1 at once.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 1883) -> None:
        if host not in LOOPBACK:
            raise BrokerError(
                f"the embedded broker has no passwords and listens on this machine only, not on {host}: use Mosquitto"
            )
        self.host = host
        self.port = port
        self._broker: Broker | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises BrokerError where amqtt is not installed or the port is taken."""
        try:
            from amqtt.broker import Broker
        except ImportError:
            raise BrokerError(
                'the embedded broker needs amqtt: pip install "pibot-mesh[embedded]", or use Mosquitto'
            ) from None
        for noisy in _NOISY:
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self.port == 0:
            self.port = next_free_port(self.host, 0)
        require_free_port(self.host, self.port)
        broker = Broker(
            {
                "listeners": {LISTENER: {"type": "external", "bind": f"{self.host}:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        broker._subscriptions = Steady()
        await broker.start()
        self._broker = broker
        try:
            # asyncio sets TCP_NODELAY on every connection that a server accepts.
            self._server = await asyncio.start_server(self._accept, self.host, self.port)
        except OSError as error:
            await self.stop()
            raise BrokerError(f"the embedded broker cannot listen on {self.host}:{self.port}: {error}") from None

    async def stop(self) -> None:
        """Stop listening and end every connection, within some seconds. Does nothing where it does not run."""
        server, self._server = self._server, None
        broker, self._broker = self._broker, None
        if server is not None:
            server.close()
        if broker is not None:
            # What amqtt has not delivered when it ends is delivered to nobody: not worth a line.
            for noisy in _NOISY:
                logging.getLogger(noisy).setLevel(logging.CRITICAL)
            with suppress(TimeoutError):
                await asyncio.wait_for(broker.shutdown(), timeout=STOP_S)
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def __aenter__(self) -> EmbeddedBroker:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(self._serve(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter

        stream = cast(asyncio.StreamWriter, Heedful(writer))
        try:
            async with asyncio.timeout(FIRST_PACKET_S):
                start, version = await _read_version(reader)
            if version == MQTT_5:
                writer.write(WRONG_VERSION)
                await writer.drain()
            elif version is not None and self._broker is not None:
                await self._broker.external_connected(
                    StreamReaderAdapter(_Rewound(start, reader)), StreamWriterAdapter(stream), LISTENER
                )
        except (OSError, EOFError, TimeoutError):
            pass  # the client went away, or said nothing: nobody is there to be told
        except Exception:  # noqa: BLE001 - amqtt's own bugs ("dictionary changed size") end one connection, no more
            _log.info("amqtt lost a connection", exc_info=True)
        finally:
            writer.close()


class Steady(dict[str, list[Any]]):
    """A dict of lists that may change while somebody loops over it: the loop sees what was there when it began.

    amqtt awaits inside its loops over subscriptions. With a plain dict, a client that subscribes meanwhile ends
    another's connection or has a message lost ("dictionary changed size during iteration").
    """

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().keys()))

    def items(self) -> ItemsView[str, list[Any]]:  # type: ignore[override]  # a view of a copy, which is what is wanted
        """The keys and copies of the lists, as they are now."""
        return {key: list(value) for key, value in super().items()}.items()


class Heedful:
    """A stream writer that says when the connection is gone, before anything more is written.

    amqtt goes on to send to a client that has gone, until its queue is empty; asyncio logs each of these writes.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Write *data*. Raises ConnectionResetError where the connection is closing or gone."""
        if self._writer.is_closing():
            raise ConnectionResetError("the client is gone")
        self._writer.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class _Rewound(asyncio.StreamReader):
    """*source* from before *start*, which has been read from it already."""

    def __init__(self, start: bytes, source: asyncio.StreamReader) -> None:
        super().__init__()
        self._start = start
        self._source = source

    async def readexactly(self, n: int) -> bytes:
        head, self._start = self._start[:n], self._start[n:]
        return head + await self._source.readexactly(n - len(head)) if len(head) < n else head

    async def read(self, n: int = -1) -> bytes:
        if not self._start:
            return await self._source.read(n)
        size = len(self._start) if n < 0 else n
        head, self._start = self._start[:size], self._start[size:]
        return head + await self._source.read(-1) if n < 0 else head

    def feed_eof(self) -> None:
        self._source.feed_eof()


async def _read_version(reader: asyncio.StreamReader) -> tuple[bytes, int | None]:
    """What was read, up to the protocol version of a CONNECT packet, and that version; None where it is no CONNECT."""
    start = await reader.readexactly(2)
    if start[0] != CONNECT:
        return start, None
    while start[-1] & 0x80 and len(start) < 5:  # the remaining length: up to four bytes
        start += await reader.readexactly(1)
    size_of_name = await reader.readexactly(2)
    rest = await reader.readexactly(min(16, int.from_bytes(size_of_name, "big")) + 1)
    return start + size_of_name + rest, rest[-1]
