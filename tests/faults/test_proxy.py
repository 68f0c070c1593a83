"""The bad network itself: what goes through, what does not, and what is left when it is good again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.brokers import HOST
from tests.faults.proxy import Proxy

SOON_S = 5.0
NEVER_S = 0.2


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """The port of a server that sends back what it hears."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(1000):
                writer.write(piece)
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def line(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection through *proxy*."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read(reader: asyncio.StreamReader, length: int) -> bytes:
    """So many bytes, soon."""
    async with asyncio.timeout(SOON_S):
        return await reader.readexactly(length)


async def hears_nothing(reader: asyncio.StreamReader) -> bool:
    """Whether neither a byte nor an end comes."""
    try:
        async with asyncio.timeout(NEVER_S):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_a_good_network_carries_both_ways_and_the_end() -> None:
    """As if nothing stood between."""
    async with echo() as port, Proxy(port) as proxy, line(proxy) as (reader, writer):
        writer.write(b"hello")
        assert await read(reader, 5) == b"hello"
        writer.write_eof()
        async with asyncio.timeout(SOON_S):
            assert await reader.read() == b""


async def test_a_silent_network_closes_nothing_and_brings_what_was_sent_once_it_is_good_again() -> None:
    """As TCP does when a cable is plugged in again."""
    async with echo() as port, Proxy(port) as proxy, line(proxy) as (reader, writer):
        writer.write(b"1")
        await read(reader, 1)
        proxy.silence()
        writer.write(b"2")
        assert await hears_nothing(reader)
        await proxy.heal()
        assert await read(reader, 1) == b"2"


@pytest.mark.parametrize("way", ["up", "down"])
async def test_one_way_can_be_cut(way: str) -> None:
    """The echo is missing either way; what the server had heard before it is known by what comes after the heal."""
    async with echo() as port, Proxy(port) as proxy, line(proxy) as (reader, writer):
        writer.write(b"1")
        await read(reader, 1)
        (proxy.up if way == "up" else proxy.down).cut()
        writer.write(b"2")
        assert await hears_nothing(reader)
        await proxy.heal()
        assert await read(reader, 1) == b"2"


async def test_a_connection_that_was_given_up_in_the_silence_never_reaches_the_broker() -> None:
    """Nothing came about then."""
    heard: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(note, HOST, 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        proxy.silence()
        async with line(proxy) as (_, writer):
            writer.write(b"given up")
            await writer.drain()
        async with line(proxy) as (reader, writer):
            writer.write(b"patient")
            await proxy.heal()
            async with asyncio.timeout(SOON_S):
                await reader.read()

    assert heard == [b"patient"]


async def test_a_slow_network_takes_at_least_so_long_each_way() -> None:
    """Twice 50 ms for an echo."""
    async with echo() as port, Proxy(port) as proxy, line(proxy) as (reader, writer):
        proxy.delay(0.05, 0.06)
        began = asyncio.get_running_loop().time()
        writer.write(b"1")
        await read(reader, 1)

        assert asyncio.get_running_loop().time() - began >= 0.1


async def test_a_trickle_brings_all_of_it_in_order() -> None:
    """Three bytes at a time."""
    async with echo() as port, Proxy(port) as proxy, line(proxy) as (reader, writer):
        proxy.trickle(3, 0.001)
        writer.write(bytes(range(100)))

        assert await read(reader, 100) == bytes(range(100))


async def test_a_reset_is_felt_and_the_next_connection_is_welcome() -> None:
    """An RST, not a polite end."""
    async with echo() as port, Proxy(port) as proxy:
        async with line(proxy) as (reader, writer):
            writer.write(b"1")
            await read(reader, 1)
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                await read(reader, 1)
        async with line(proxy) as (reader, writer):
            writer.write(b"2")
            assert await read(reader, 1) == b"2"


async def test_a_refusal_is_one_until_the_network_is_good_again() -> None:
    """Nobody listens."""
    async with echo() as port, Proxy(port) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            async with line(proxy):
                pass
        await proxy.heal()
        async with line(proxy) as (reader, writer):
            writer.write(b"1")
            assert await read(reader, 1) == b"1"
