"""A bad network on loopback: a TCP proxy that stands between one party and a real broker, and does what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from types import TracebackType
from typing import Final, Self

from tests.brokers import HOST, free_port

_AT_ONCE: Final = 65_536


class Way:
    """One direction. What is read while it is cut is kept, as TCP would send it again, and follows when it is open."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._is_open = asyncio.Event()
        self.heal()

    def heal(self) -> None:
        """Everything goes through at once."""
        self._delay_s = (0.0, 0.0)
        self._most_bytes = _AT_ONCE
        self._is_open.set()

    def cut(self) -> None:
        """Nothing goes through, not even that a side has hung up."""
        self._is_open.clear()

    def delay(self, least_s: float, most_s: float) -> None:
        """Each piece that is read waits for so long, at random between the two."""
        self._delay_s = (least_s, most_s)

    def trickle(self, most_bytes: int, every_s: float) -> None:
        """A few bytes go through, then a pause follows."""
        self._most_bytes = most_bytes
        self._delay_s = (every_s, every_s)

    async def opened(self) -> None:
        """Wait until it is not cut."""
        await self._is_open.wait()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b"") -> None:
        """Carry *first* and what is read to *writer*, until the reader's side ends."""
        piece = first or await reader.read(self._most_bytes)
        while piece:
            await self.opened()
            await asyncio.sleep(self._chance.uniform(*self._delay_s))
            await self.opened()
            writer.write(piece)
            await writer.drain()
            piece = await reader.read(self._most_bytes)
        await self.opened()


class Proxy:
    """What a party connects to instead of the broker at *target*, a port on loopback.

    ``async with Proxy(1883) as proxy:`` listens on ``proxy.port``. *up* is the way to the broker, *down* the one back.
    """

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.port = free_port()
        self._target = target
        chance = random.Random(seed)
        self.up, self.down = Way(chance), Way(chance)
        self._server: asyncio.Server | None = None
        self._sockets: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deafen()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many parties are connected."""
        return len(self._carrying)

    async def heal(self) -> None:
        """The network is good again. What was connected and is not reset goes on."""
        self.up.heal()
        self.down.heal()
        if self._server is None:
            await self._listen()

    def silence(self) -> None:
        """Nothing goes either way, and no socket is closed: the cable is out."""
        self.up.cut()
        self.down.cut()

    def delay(self, least_s: float, most_s: float) -> None:
        """Both ways take so long, at random between the two, for each piece that is read."""
        self.up.delay(least_s, most_s)
        self.down.delay(least_s, most_s)

    def trickle(self, most_bytes: int, every_s: float) -> None:
        """Both ways carry a few bytes at a time."""
        self.up.trickle(most_bytes, every_s)
        self.down.trickle(most_bytes, every_s)

    def reset(self) -> None:
        """Every connection ends with an RST on both sides; a new one is welcome."""
        for writer in self._sockets:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # the other side was faster
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def refuse(self) -> None:
        """As if the broker's machine ran, and the broker did not: connections are reset, and new ones refused."""
        self._deafen()
        self.reset()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, HOST, self.port)

    def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        self._sockets.add(writer)
        _send_at_once(writer)
        try:
            await self._carry(reader, writer)
        except OSError:
            pass  # reset, by a side or by us
        except asyncio.CancelledError:
            pass  # the proxy ends, and asyncio would log the end of this task as an error
        finally:
            writer.transport.abort()
            self._sockets.discard(writer)
            self._carrying.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await self._first_words(reader)
        if not first:
            return
        to_read, to_write = await asyncio.open_connection(HOST, self._target)
        self._sockets.add(to_write)
        _send_at_once(to_write)
        try:
            ways = {
                asyncio.ensure_future(self.up.pass_on(reader, to_write, first)),
                asyncio.ensure_future(self.down.pass_on(to_read, writer)),
            }
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            for way in done:
                way.result()
        finally:
            to_write.close()
            self._sockets.discard(to_write)

    async def _first_words(self, reader: asyncio.StreamReader) -> bytes:
        """What a party says first, once the way to the broker is open; nothing where it has given up before that.

        While nothing goes through, no connection comes about: the broker must not hear later of one that was given up.
        """
        first = b""
        opened = asyncio.ensure_future(self.up.opened())
        try:
            while not (opened.done() and first):
                reading = asyncio.ensure_future(reader.read(_AT_ONCE))
                waits = {reading} if opened.done() else {reading, opened}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                elif piece := reading.result():
                    first += piece
                else:
                    return b""
        finally:
            opened.cancel()
        return first


def _send_at_once(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
