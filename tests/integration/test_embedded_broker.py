"""The broker in this process (amqtt), with the mesh's own client and with others."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import BrokerError
from pibot_mesh.mqtt.client import Will
from pibot_mesh.mqtt.embedded import EmbeddedBroker, Heedful
from tests.brokers import HOST, Recorder, abort, until


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[EmbeddedBroker]:
    """An embedded broker on a free port."""
    async with EmbeddedBroker(HOST, 0) as broker:
        yield broker


def settings_of(broker: EmbeddedBroker) -> BrokerSettings:
    return BrokerSettings(broker.host, broker.port)


async def test_a_client_falls_back_to_mqtt_3_1_1_at_once(broker: EmbeddedBroker) -> None:
    """The broker refuses MQTT 5 in so many words; nobody waits for a time-out, and nobody is alarmed."""
    async with Recorder(settings_of(broker), "a", "t/#", will=Will("t/will", b"offline")) as recorder:
        recorder.client.publish("t/x", b"1", qos=1, expiry_s=10, correlation=b"c", content_type="text/plain")
        await until(lambda: recorder.received, "the message")

        assert recorder.client.protocol == "3.1.1"
        assert recorder.errors == []
        assert (recorder.received[0].payload, recorder.received[0].correlation) == (b"1", None)


async def test_retained_messages_are_kept_for_who_comes_later(broker: EmbeddedBroker) -> None:
    """A state is told to the next one who subscribes, marked as retained."""
    async with Recorder(settings_of(broker), "a") as first:
        first.client.publish("t/state", b"ON", qos=1, retain=True)
        await first.settle()
        async with Recorder(settings_of(broker), "b", "t/#") as second:
            await until(lambda: second.received, "the state")

            assert (second.received[0].payload, second.received[0].retain) == (b"ON", True)


async def test_the_will_fires_for_a_broken_socket_and_not_after_stop(broker: EmbeddedBroker) -> None:
    """As with Mosquitto, though without a delay."""
    async with Recorder(settings_of(broker), "watcher", "w/#") as watcher:
        async with Recorder(settings_of(broker), "leaves", will=Will("w/leaves", b"offline")):
            pass
        async with Recorder(settings_of(broker), "vanishes", will=Will("w/vanishes", b"offline")) as vanishing:
            abort(vanishing.client)
            await until(lambda: watcher.received, "the will")

        assert [message.topic for message in watcher.received] == ["w/vanishes"]


async def test_clients_come_back_after_a_restart(broker: EmbeddedBroker) -> None:
    """With their subscriptions, and with what they handed over meanwhile, in order."""
    async with Recorder(settings_of(broker), "a", "t") as recorder:
        await broker.stop()
        await until(lambda: recorder.disconnects, "the loss")
        for number in range(20):
            recorder.client.publish("t", b"%d" % number, qos=1)
        await broker.start()
        await until(lambda: len(recorder.received) == 20, "all messages")

        assert [message.payload for message in recorder.received] == [b"%d" % number for number in range(20)]


async def test_hundreds_of_messages_pass_both_ways(broker: EmbeddedBroker) -> None:
    """None is lost, none comes twice, the order holds."""
    async with Recorder(settings_of(broker), "a", "to-a") as one, Recorder(settings_of(broker), "b", "to-b") as other:
        for number in range(300):
            one.client.publish("to-b", b"%d" % number, qos=1)
            other.client.publish("to-a", b"%d" % number, qos=1)
        await until(lambda: len(one.received) >= 300 and len(other.received) >= 300, "all messages")

        for recorder in (one, other):
            assert [message.payload for message in recorder.received] == [b"%d" % number for number in range(300)]


async def test_nothing_is_logged_where_nothing_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    """Not for a port probe, an MQTT 5 client, half a packet or a stop with clients connected."""
    caplog.set_level(logging.WARNING)
    async with EmbeddedBroker(HOST, 0) as broker:
        for first_bytes in (b"", b"\x10", b"GET / HTTP/1.1\r\n\r\n", bytes((0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x01))):
            reader, writer = await asyncio.open_connection(broker.host, broker.port)
            writer.write(first_bytes)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        recorder = Recorder(settings_of(broker), "a", "t/#")
        await recorder.client.start()
        await recorder.client.wait_connected(5)
        await broker.stop()
        await recorder.client.stop()

    assert [record.getMessage() for record in caplog.records if not record.name.startswith("pibot_mesh")] == []


async def test_nothing_more_is_written_to_a_client_that_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    """What waits for it is refused: asyncio would log every further write to a dead connection."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    async with await asyncio.start_server(lambda _, writer: accepted.set_result(writer), HOST, 0) as server:
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer = await accepted
        client.transport.abort()
        await until(lambda: _is_refused(Heedful(writer)), "the writer knows that its client is gone")
        refused = [_is_refused(Heedful(writer)) for _ in range(20)]
        writer.close()

    assert all(refused)
    assert caplog.records == []


def _is_refused(writer: Heedful) -> bool:
    try:
        writer.write(b"x")
    except ConnectionResetError:
        return True
    return False


async def test_stop_leaves_no_task_behind() -> None:
    """Also with a client in the middle of its first packet."""
    before = asyncio.all_tasks()
    broker = EmbeddedBroker(HOST, 0)
    await broker.start()
    _, writer = await asyncio.open_connection(broker.host, broker.port)
    async with Recorder(settings_of(broker), "a", "t/#"):
        await broker.stop()
        await broker.stop()
    writer.close()

    assert asyncio.all_tasks() == before


async def test_a_taken_port_is_named() -> None:
    """With the address, so that the user can name another one."""
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"{HOST}:{port}: another program uses the port"):
            await EmbeddedBroker(HOST, port).start()


async def test_it_listens_on_this_machine_only() -> None:
    """It has no passwords."""
    with pytest.raises(BrokerError, match="use Mosquitto"):
        EmbeddedBroker("0.0.0.0")


async def test_without_amqtt_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "amqtt.broker", None)
    with pytest.raises(BrokerError, match=r'pip install "pibot-mesh\[embedded\]"'):
        await EmbeddedBroker(HOST, 0).start()
