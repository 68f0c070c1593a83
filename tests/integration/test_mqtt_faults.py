"""The MQTT client against peers that misbehave, and over TLS."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pibot_mesh.config.settings import BrokerSettings, Tls
from pibot_mesh.errors import BrokerError
from pibot_mesh.mqtt import states
from tests.brokers import HOST, Mosquitto, Recorder, free_port, needs_mosquitto, needs_openssl, until

CONNACK_5 = bytes((0x20, 0x03, 0x00, 0x00, 0x00))
CONNACK_3 = bytes((0x20, 0x02, 0x00, 0x00))
REFUSED_VERSION_3 = bytes((0x20, 0x02, 0x00, 0x01))
CONNACK_5_ONE_AT_A_TIME = bytes((0x20, 0x06, 0x00, 0x00, 0x03, 0x21, 0x00, 0x01))
DISCONNECT_TAKEN_OVER = bytes((0xE0, 0x02, 0x8E, 0x00))
PUBLISH = 0x30

Answer = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def broker_that(answers: Answer) -> AsyncIterator[BrokerSettings]:
    """A peer on loopback: after a CONNECT it does *answers* (with the MQTT version asked for), then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            _, packet = await read_packet(reader)
            await answers(packet[6], reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        yield BrokerSettings(HOST, server.sockets[0].getsockname()[1])


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The first byte and the body of one MQTT packet."""
    first = (await reader.readexactly(1))[0]
    size = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return first, await reader.readexactly(size)


async def test_a_broker_that_refuses_mqtt_5_in_the_old_words_gets_3_1_1() -> None:
    """A CONNACK of two bytes, as brokers send that never heard of MQTT 5."""

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK_3 if version == 4 else REFUSED_VERSION_3)
        await reader.read()

    async with broker_that(answers) as settings, Recorder(settings, "a") as recorder:
        assert recorder.client.protocol == "3.1.1"


async def test_on_3_1_1_everything_is_subscribed_at_qos_0() -> None:
    """A clean session keeps nothing, so that the hand-shake of each message would save none."""
    packets: list[bytes] = []

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK_3 if version == 4 else REFUSED_VERSION_3)
        _, body = await read_packet(reader)
        packets.append(body)
        writer.write(bytes((0x90, 0x04)) + body[:2] + bytes((0, 0)))
        await reader.read()

    async with broker_that(answers) as settings, Recorder(settings, "a", "x", "y"):
        assert packets[0][2:] == b"\0\1x\0\0\1y\0"


async def test_a_broker_that_hangs_up_on_mqtt_5_twice_gets_3_1_1() -> None:
    """Once could be chance; 3.1.1 is kept for the next connections since it works."""
    versions: list[int] = []

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        versions.append(version)
        if version == 4:
            writer.write(CONNACK_3)
            if len(versions) > 3:
                await reader.read()

    async with broker_that(answers) as settings, Recorder(settings, "a") as recorder:
        await until(lambda: len(versions) == 4 and recorder.client.is_connected, "the fourth connection")

        assert versions == [5, 5, 4, 4]


async def test_a_broker_that_hangs_up_on_everything_gets_mqtt_5_again() -> None:
    """A peer that only restarts is not taken for an old one for ever."""
    versions: list[int] = []

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        versions.append(version)
        if len(versions) > 3:
            writer.write(CONNACK_5)
            await reader.read()

    async with broker_that(answers) as settings, Recorder(settings, "a") as recorder:
        assert versions == [5, 5, 4, 5]
        assert recorder.client.protocol == "5"


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\xff\xff\xff\xff\xff",
        b"\x20\x02\x00",
        CONNACK_5 + b"\x30\x05\x00\x02\xff\xfe\x00",
        CONNACK_5 + b"\x32\x02\xff\xff",
        CONNACK_5 + b"\x90\x01\x00",
        CONNACK_5 + b"\x00\x00\xf0\x00",
    ],
)
async def test_garbage_ends_a_connection_and_not_the_client(garbage: bytes) -> None:
    """Whatever a peer sends, the client tries again, and works once the peer does."""
    attempts: list[int] = []

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(version)
        writer.write(garbage if len(attempts) == 1 else CONNACK_5 if version == 5 else CONNACK_3)
        if len(attempts) == 1:
            await asyncio.wait_for(reader.read(1), 0.2)
        else:
            await reader.read()

    async with broker_that(answers) as settings, Recorder(settings, "a"):
        await until(lambda: len(attempts) >= 2, "the second attempt")


async def test_a_state_is_said_again_where_the_broker_took_long_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it answers in time; what it was told meanwhile is not overwritten by what was true before."""
    monkeypatch.setattr(states, "LATE_S", 0.1)
    arrived: list[bytes] = []

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK_5)
        while True:
            first, body = await read_packet(reader)
            if first & 0xF0 == PUBLISH:
                arrived.append(body[-1:])
                if len(arrived) == 1:
                    await asyncio.sleep(0.2)
                writer.write(bytes((0x40, 0x02)) + body[3:5])

    async with broker_that(answers) as settings, Recorder(settings, "a") as recorder:
        recorder.client.publish("s", b"1", qos=1, retain=True)
        await until(lambda: len(arrived) == 2, "the same state again")
        recorder.client.publish("s", b"2", qos=1, retain=True)
        await until(lambda: len(arrived) == 3, "the next state")
        arrived.clear()
        recorder.client.publish("s", b"3", qos=1, retain=True)
        recorder.client.publish("s", b"4", qos=1, retain=True)
        await until(lambda: len(arrived) == 3, "the newest state again")
        recorder.client.publish("t", b"5", qos=1)
        await until(lambda: b"5" in arrived, "the end marker")

        assert arrived == [b"3", b"4", b"4", b"5"]


async def test_the_brokers_receive_maximum_is_kept() -> None:
    """A broker that takes one unacknowledged message at a time gets the second one after it acknowledged the first."""
    arrived: list[bytes] = []
    may_answer = asyncio.Event()

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK_5_ONE_AT_A_TIME)
        while True:
            first, body = await read_packet(reader)
            if first & 0xF0 == PUBLISH:
                arrived.append(body)
                await may_answer.wait()
                writer.write(bytes((0x40, 0x02)) + body[3:5])

    async with broker_that(answers) as settings, Recorder(settings, "a") as recorder:
        for payload in (b"1", b"2", b"3"):
            recorder.client.publish("t", payload, qos=1)
        recorder.client.publish("u", b"at QoS 0 nothing is acknowledged", qos=0)
        await until(lambda: arrived, "the first message")
        assert len(arrived) == 1
        may_answer.set()
        await until(lambda: len(arrived) == 4, "all messages")


async def test_an_eviction_that_the_broker_explains_is_told_at_once() -> None:
    """DISCONNECT with 0x8E: the error names our id, and the next attempt waits."""
    attempts: list[int] = []

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(version)
        writer.write(CONNACK_5 + DISCONNECT_TAKEN_OVER)
        await reader.read()

    async with broker_that(answers) as settings, Recorder(settings, "mine", wait=False) as recorder:
        await until(lambda: recorder.errors, "the error")
        with pytest.raises(BrokerError, match="another program seems to use our client id 'mine'"):
            await recorder.client.wait_connected(0.5)

        assert attempts == [5]


async def test_a_refused_subscription_is_an_error_that_names_the_filter() -> None:
    """The others hold, and so does the connection."""

    async def answers(version: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK_5)
        _, body = await read_packet(reader)
        writer.write(bytes((0x90, 0x05)) + body[:2] + bytes((0x00, 0x01, 0x87)))
        await reader.read()

    async with broker_that(answers) as settings, Recorder(settings, "a", "allowed/#", "secret/#") as recorder:
        [error] = recorder.errors
        assert "refused to subscribe us to secret/#: Not authorized" in str(error)
        assert recorder.client.is_connected


@needs_mosquitto
@needs_openssl
async def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    """Many messages at once pass (TLS holds back what no selector sees); who does not trust the authority stays out."""
    make_certificates(tmp_path)
    port = free_port()
    config = "\n".join(
        (
            f"listener {port} {HOST}",
            "allow_anonymous true",
            f"certfile {tmp_path / 'server.crt'}",
            f"keyfile {tmp_path / 'server.key'}",
        )
    )
    with Mosquitto(config=config, port=port) as broker:
        settings = replace(broker.settings, tls=Tls(ca_file=tmp_path / "ca.crt"))
        async with Recorder(settings, "a", "t") as recorder:
            for number in range(200):
                recorder.client.publish("t", b"%d" % number * 100, qos=1)
            await until(lambda: len(recorder.received) == 200, "all messages")

        for tls, reason in (
            (Tls(), "its certificate is not trusted"),
            (Tls(ca_file=tmp_path / "none.crt"), "a file of the tls settings is missing"),
        ):
            async with Recorder(replace(settings, tls=tls), "b", wait=False) as stranger:
                with pytest.raises(BrokerError, match=reason):
                    await stranger.client.wait_connected(0.5)


@needs_mosquitto
async def test_tls_to_a_port_without_it_is_said() -> None:
    """The most likely mistake is named."""
    with Mosquitto() as broker:
        async with Recorder(replace(broker.settings, tls=Tls()), "a", wait=False) as recorder:
            with pytest.raises(BrokerError, match=rf"{HOST}:{broker.port}: .*(TLS|closed|reset)"):
                await recorder.client.wait_connected(0.5)


def make_certificates(folder: Path) -> None:
    """An authority, and a certificate of it for 127.0.0.1."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={HOST}")
    (folder / "names").write_text(f"subjectAltName=IP:{HOST}\n")
    openssl(
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-out", "server.crt", "-days", "2", "-extfile", "names"),
    )
