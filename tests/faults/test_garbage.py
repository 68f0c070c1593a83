"""Whatever stands on a topic that a master or a node reads: both go on answering."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from pibot_mesh.client import Client
from pibot_mesh.config.settings import BrokerSettings, MasterSettings, NodeSettings
from pibot_mesh.hardware.board import default_simulated_devices
from pibot_mesh.master.service import Master
from pibot_mesh.mqtt import link
from pibot_mesh.mqtt.client import Message
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.messages import State
from pibot_mesh.protocol.topics import Kind, Topics
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until
from tests.garbage import garbage

MASTER_READS = (
    Kind.REQUEST,
    Kind.REQUEST_CONTROL,
    Kind.NODE_STATUS,
    Kind.NODE_HEALTH,
    Kind.NODE_CARD,
    Kind.TASK_EVENT,
    Kind.TASK_RESULT,
    Kind.MASTER_STATUS,
)
NODE_READS = (
    Kind.NODE_TASK,
    Kind.TASK_CONTROL,
    Kind.NODE_CONTROL,
    Kind.OUTPUT_SET,
    Kind.NODE_STATUS,
    Kind.MASTER_STATUS,
    Kind.STOP,
)


def settings(broker: BrokerSettings, root: str, state_dir: Path) -> tuple[MasterSettings, NodeSettings]:
    """A master that takes many requests, and one simulated node."""
    return (
        MasterSettings(root, broker, state_dir, open_requests=100_000, request_timeout_s=20),
        NodeSettings("worker-1", root, broker, state_dir, devices=default_simulated_devices(), simulate=True),
    )


@needs_mosquitto
async def test_10000_odd_payloads_over_the_broker_stop_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They come over a real Mosquitto, on every topic that a master or a node reads; then both still do their work."""
    chance, root = random.Random(7), f"test-{uuid.uuid4().hex[:8]}"
    topics = Topics(root)
    caplog.set_level(logging.WARNING)
    with Mosquitto() as broker:
        for_master, for_node = settings(broker.settings, root, tmp_path)
        async with (
            Master(for_master) as master,
            Node(for_node) as node,
            Recorder(broker.settings, "garbler") as garbler,
        ):
            await master.wait_connected()
            await node.wait_connected()
            for number in range(10_000):
                kind = chance.choice(MASTER_READS + NODE_READS)
                topic = topics.topic(kind, node="worker-1", id=f"x{number % 50}", device="fan")
                payload = garbage(chance)
                if len(payload) <= 65_536:
                    garbler.client.publish(topic, payload, qos=1)
                if number % 100 == 0:
                    await garbler.settle()
            await garbler.settle()
            seq = node.card().seq  # whatever card comes with a later number comes behind all the garbage
            # A last word on the topics that are states, so that what is tried next does not depend on the garbage.
            garbler.client.publish(topics.topic(Kind.STOP), b"RUN", qos=1, retain=True)
            garbler.client.publish(topics.topic(Kind.NODE_CONTROL, node="worker-1"), b'{"action": "reload"}', qos=1)
            await until(
                lambda: (
                    (card := master.pool.online().get("worker-1")) is not None
                    and card.boot == node.boot
                    and card.seq > seq
                ),
                "the node's own card is back",
            )

            async with Client(broker.settings, root=root) as client:
                reply = await client.ask("turn on the fan on worker-1", timeout_s=20)

    assert reply.state is State.COMPLETED, reply.text
    refused = [record for record in caplog.records if "refused a message" in record.getMessage()]
    assert 1 <= len(refused) <= 40, "each side logs at most ten lines a minute"
    assert not [record for record in caplog.records if "a bug" in record.getMessage()]


@pytest.mark.parametrize("kind", MASTER_READS)
async def test_a_master_counts_each_refusal(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 payloads on one topic, handed to the master without a broker: what is no message is counted."""
    refused = await _feed(monkeypatch, kind, lambda: Master(settings(BrokerSettings(), "pibot", tmp_path)[0]))

    assert refused > 5_000


@pytest.mark.parametrize("kind", NODE_READS)
async def test_a_node_counts_each_refusal(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 payloads on one topic, handed to the node without a broker: what is no message is counted."""
    refused = await _feed(monkeypatch, kind, lambda: Node(settings(BrokerSettings(), "pibot", tmp_path)[1]))

    assert refused > 5_000


class _NoBroker:
    """Stands in for the MQTT client: takes what is published, and hands in what the test says."""

    receive: Callable[[Message], None]
    is_connected = True

    def __init__(self, _: BrokerSettings, *, on_message: Callable[[Message], None], **__: object) -> None:
        type(self).receive = staticmethod(on_message)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def ack(self, message: Message) -> None: ...

    def publish(self, topic: str, payload: bytes, **_: object) -> None: ...


async def _feed(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, party: Callable[[], AbstractAsyncContextManager[Master | Node]]
) -> int:
    """How many of 10,000 payloads on a topic of *kind* were refused; all must be worked off."""
    monkeypatch.setattr(link, "MqttClient", _NoBroker)
    chance = random.Random(kind.value)
    topic = Topics("pibot").topic(kind, node="worker-1", id="x1", device="fan")
    async with party() as service:
        for number in range(10_000):
            _NoBroker.receive(Message(topic, garbage(chance), qos=1, mid=number % 60_000))
            if number % 500 == 0:
                await asyncio.sleep(0)
        await until(lambda: service.backlog == 0, "all is worked off", timeout_s=60)
        return service.refused
