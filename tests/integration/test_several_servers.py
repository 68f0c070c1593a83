"""A client that knows several servers, against real Mosquittos: which one it tries, and what it says of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pibot_mesh.config.settings import BrokerSettings, Tls
from pibot_mesh.errors import BrokerError
from pibot_mesh.mqtt import client as client_module
from tests.brokers import HOST, Mosquitto, Recorder, free_port, needs_mosquitto, needs_openssl, until
from tests.integration.test_mqtt_faults import make_certificates

pytestmark = needs_mosquitto


@pytest.fixture
def servers() -> Iterator[tuple[Mosquitto, Mosquitto]]:
    """Two Mosquittos. They know nothing of each other, which a client cannot tell."""
    with Mosquitto() as first, Mosquitto() as second:
        yield first, second


def both(first: Mosquitto, second: Mosquitto) -> BrokerSettings:
    """The settings that name *first* and then *second*."""
    return replace(first.settings, others=((HOST, second.port),))


async def test_a_client_goes_on_to_the_next_server_and_stays_there(servers: tuple[Mosquitto, Mosquitto]) -> None:
    """The first one that comes back does not draw it home; it is the next again when the second one goes."""
    first, second = servers
    async with (
        Recorder(both(first, second), "a", "t") as recorder,
        Recorder(first.settings, "at-first") as at_first,
        Recorder(second.settings, "at-second") as at_second,
    ):
        first.kill()
        await until(lambda: recorder.has_connected(2), "the second server")
        at_second.client.publish("t", b"second", qos=1)
        await until(lambda: recorder.has_received(1), "a message at the second server")
        first.start()
        await until(lambda: at_first.has_connected(2), "the first server is back")
        assert recorder.connects == 2
        second.kill()
        await until(lambda: recorder.has_connected(3), "the first server again")
        at_first.client.publish("t", b"first", qos=1)
        await until(lambda: recorder.has_received(2), "a message at the first server")

        assert [message.payload for message in recorder.received] == [b"second", b"first"]


async def test_what_waited_goes_out_to_the_next_server(servers: tuple[Mosquitto, Mosquitto]) -> None:
    """A message that the first one never took arrives at the second."""
    first, second = servers
    async with (
        Recorder(both(first, second), "a") as recorder,
        Recorder(second.settings, "at-second", "t") as at_second,
    ):
        first.freeze()
        recorder.client.publish("t", b"x", qos=1)
        first.kill()
        await until(lambda: at_second.received, "the message")

        assert [message.payload for message in at_second.received] == [b"x"]


async def test_a_frozen_server_is_left_for_the_next(
    servers: tuple[Mosquitto, Mosquitto], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts the connection and says nothing: that is waited for, once."""
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.2)
    first, second = servers
    first.freeze()
    async with Recorder(both(first, second), "a") as recorder:
        assert recorder.connects == 1
        assert repr(recorder.client) == f"<MqttClient 'a' at {HOST}:{second.port}, MQTT 5>"


async def test_each_server_is_named_when_it_is_tried_and_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line for each, however often they are tried; the error has the last one."""
    ports = free_port(), free_port()
    settings = BrokerSettings(HOST, ports[0], others=((HOST, ports[1]),))
    with caplog.at_level(logging.WARNING):
        async with Recorder(settings, "a", wait=False) as recorder:
            with pytest.raises(
                BrokerError, match=rf"no connection within 0.5 s; broker at {HOST}:({ports[0]}|{ports[1]}): "
            ):
                await recorder.client.wait_connected(0.5)

    assert [record.getMessage().split(": connection refused")[0] for record in caplog.records] == [
        f"broker at {HOST}:{port}" for port in ports
    ]


@needs_openssl
async def test_each_server_is_known_by_its_own_certificate(tmp_path: Path) -> None:
    """One whose certificate has another name is left for the next."""
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
    with Mosquitto(config=config, port=port):
        tls = Tls(ca_file=tmp_path / "ca.crt")
        settings = BrokerSettings("localhost", port, tls=tls, others=((HOST, port),))
        async with Recorder(settings, "a") as recorder:
            assert f"at {HOST}:{port}," in repr(recorder.client)
