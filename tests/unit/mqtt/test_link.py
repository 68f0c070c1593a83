"""What a link makes of the messages that come: ours, others that were asked for, and those that nobody asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pibot_mesh.errors import ProtocolError
from pibot_mesh.mqtt.client import Message, Subscription
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.topics import Kind, Topics
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until


class Ear:
    """A link that listens to the master's status and to other topics; what it hears it writes down."""

    def __init__(self, broker: Mosquitto, *others: str) -> None:
        self.ours: list[str] = []
        self.others: list[str] = []
        self.link = Link(
            broker.settings,
            Topics(),
            client_id="ear",
            listen=[(Kind.MASTER_STATUS, "")],
            receive=lambda _, message: self._hear(self.ours, message),
            also=[Subscription(each) for each in others],
            receive_other=lambda message: self._hear(self.others, message),
        )

    def _hear(self, heard: list[str], message: Message) -> None:
        if message.payload == b"nonsense":
            raise ProtocolError("status", ["it is nonsense"])
        heard.append(f"{message.topic} {message.payload.decode()}")
        self.link.ack(message)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Ear]:
        await self.link.start()
        try:
            await self.link.wait_connected(5)
            yield self
        finally:
            await self.link.stop()


@needs_mosquitto
async def test_topics_outside_the_mesh_go_to_their_own_receiver() -> None:
    """Those that were asked for, also by a wildcard."""
    with Mosquitto() as broker:
        ear = Ear(broker, "house/+/config", "house/status")
        async with Recorder(broker.settings, "other") as other, ear.listening():
            for topic in ("pibot/master/status", "house/fan/config", "house/status", "house/fan/state"):
                other.client.publish(topic, b"online", qos=1)
            other.client.publish("pibot/master/status", b"offline", qos=1)
            await until(lambda: len(ear.ours) == 2, "all came")

    assert ear.ours == ["pibot/master/status online", "pibot/master/status offline"]
    assert ear.others == ["house/fan/config online", "house/status online"]
    assert ear.link.rejections.total == 0


@needs_mosquitto
async def test_what_a_receiver_refuses_is_counted_and_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    """Of the mesh or not; a hundred that were not acknowledged would stop the broker from sending more."""
    with Mosquitto() as broker:
        ear = Ear(broker, "house/status")
        async with Recorder(broker.settings, "other") as other, ear.listening():
            for _ in range(60):
                other.client.publish("house/status", b"nonsense", qos=1)
                other.client.publish("pibot/master/status", b"nonsense", qos=1)
            other.client.publish("house/status", b"online", qos=1)
            await until(lambda: ear.others, "the last one came")

    assert ear.link.rejections.total == 120
    assert "refused a message on house/status: status: it is nonsense" in caplog.text


@pytest.mark.parametrize(("topic", "refused"), [("garden/status", 0), ("pibot/garden", 1)])
async def test_what_nobody_asked_for_goes_nowhere(topic: str, refused: int) -> None:
    """A broker may send to a new client what others subscribed to. Only what is below our root is a mistake."""
    ear = Ear(Mosquitto(port=1), "house/status")

    ear.link._on_message(Message(topic, b"online"))

    assert (ear.ours, ear.others, ear.link.rejections.total) == ([], [], refused)
