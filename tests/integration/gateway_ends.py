"""Both ends of the model gateway, each with an MQTT connection of its own and nothing else of a master or a node.

As a program it is the master's end alone, to be killed: ``python -m tests.integration.gateway_ends PORT BASE_URL``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.model import Answer, ModelFailure, ModelRequest, StreamPart
from pibot_mesh.config.settings import BrokerSettings, GatewaySettings, ModelSettings
from pibot_mesh.master.gateway import Gateway
from pibot_mesh.mqtt.client import Message, MqttClient, Subscription, Will
from pibot_mesh.node.mesh_model import GatewayLine
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import LLMChunk, LLMRequest, Usage, decode_presence
from pibot_mesh.protocol.topics import Kind, Topics
from tests.brokers import DEADLINE_S, HOST, until

TOPICS = Topics("pibot")
STATUS = TOPICS.topic(Kind.MASTER_STATUS)
NODE = "attic"
KEY = "not-a-real-key-" + "x1" * 12


class MasterEnd:
    """The gateway of a master whose model is the service at *base_url*. A task named ``unknown`` is not open."""

    def __init__(
        self,
        broker: BrokerSettings,
        base_url: str,
        settings: GatewaySettings = GatewaySettings(),  # noqa: B008 - frozen
    ) -> None:
        self.used: list[tuple[str, str, Usage]] = []
        self.model = LLMClient(ModelSettings("custom", base_url=base_url, model="m", api_key=KEY, transport="standard"))
        self.gateway = Gateway(
            self.model,
            settings,
            budget=lambda node, task: None if task == "unknown" else 100_000,
            send=self._send,
            used=lambda node, task, usage: self.used.append((node, task, usage)),
            today=lambda: "2025-03-01",
        )
        self.client = MqttClient(
            broker,
            client_id="master",
            on_message=self._read,
            on_connect=lambda: self.client.publish(STATUS, b"online", qos=1, retain=True),
            subscriptions=[Subscription(TOPICS.filter(Kind.LLM_REQUEST))],
            will=Will(STATUS, b"offline", delay_s=0),
        )

    async def __aenter__(self) -> Self:
        await self.client.start()
        await self.client.wait_connected(DEADLINE_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.gateway.stop()
        await self.client.stop()
        await self.model.aclose()

    def _send(self, node: str, chunk: LLMChunk) -> None:
        self.client.publish(TOPICS.topic(Kind.LLM_CHUNK, node=node, id=chunk.id), encode(chunk), qos=1)

    def _read(self, message: Message) -> None:
        address = TOPICS.parse(message.topic)
        assert address is not None
        self.gateway.ask(address.node, decode(LLMRequest, message.payload))
        self.client.ack(message)


class NodeEnd:
    """The node attic, which asks the gateway."""

    def __init__(self, broker: BrokerSettings) -> None:
        self.line = GatewayLine(self._send, first_content_s=20, between_s=20)
        self.is_master_here = False
        self.asked: list[str] = []
        """The ids of its calls."""
        self.client = MqttClient(
            broker,
            client_id=NODE,
            on_message=self._read,
            subscriptions=[Subscription(TOPICS.filter(Kind.LLM_CHUNK, node=NODE)), Subscription(STATUS)],
        )

    async def __aenter__(self) -> Self:
        await self.client.start()
        await self.client.wait_connected(DEADLINE_S)
        await until(lambda: self.is_master_here, "the master is there")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.line.close()
        await self.client.stop()

    async def ask(self, request: ModelRequest, task: str = "t1") -> list[StreamPart]:
        """All parts of one call."""
        return [part async for part in self.line.model(task).stream(request)]

    async def outcome(self, request: ModelRequest, task: str = "t1") -> Answer | ModelFailure:
        """How one call ends."""
        [*_, last] = await self.ask(request, task)
        assert isinstance(last, (Answer, ModelFailure))
        return last

    def _send(self, request: LLMRequest) -> None:
        if not request.cancel:
            self.asked.append(request.id)
        self.client.publish(TOPICS.topic(Kind.LLM_REQUEST, node=NODE, id=request.id), encode(request), qos=1)

    def _read(self, message: Message) -> None:
        address = TOPICS.parse(message.topic)
        assert address is not None
        if address.kind is Kind.LLM_CHUNK:
            self.line.received(address.id, decode(LLMChunk, message.payload))
        else:
            self.is_master_here = decode_presence(message.payload)
            (self.line.master_here if self.is_master_here else self.line.master_gone)()
        self.client.ack(message)


async def main(arguments: Sequence[str]) -> None:
    """The master's end, until it is killed."""
    port, base_url = arguments
    async with MasterEnd(BrokerSettings(HOST, int(port)), base_url):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
