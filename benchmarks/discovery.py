"""How long it takes until Home Assistant could see a whole mesh, and what is said when nothing changes.

    .venv/bin/python benchmarks/discovery.py [--json FILE] [--nodes 100] [--quiet 30]

A real node with ten devices shows its card; a publisher shows it, retained, in the name of every node. Then a master
starts on the same Mosquitto. Counts the seconds until one retained payload stands for each node and for the master,
their bytes and components, and all messages below ``homeassistant/`` while nothing changes: after that, and again after
a restart of the master. Those two must be 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pibot_mesh.config.settings import BrokerSettings, DeviceSettings, MasterSettings, NodeSettings
from pibot_mesh.master.home_assistant.naming import MASTER, Naming
from pibot_mesh.master.service import Master
from pibot_mesh.mqtt.client import Message, MqttClient, Subscription
from pibot_mesh.mqtt.private import PrivateMosquitto, next_free_port
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import NodeCard

DEVICES = (
    DeviceSettings("fan", "fan", 17, "fan", "hall"),
    DeviceSettings("lamp", "light", 18, "lamp", "hall"),
    DeviceSettings("stripe", "led", 12, "stripe", "hall"),
    DeviceSettings("socket", "relay", 23, "socket", "hall"),
    DeviceSettings("pump", "switch", 24, "pump", "garden"),
    DeviceSettings("door", "contact", 25, "door", "hall"),
    DeviceSettings("window", "contact", 22, "window", "hall"),
    DeviceSettings("presence", "motion", 27, "presence", "hall"),
    DeviceSettings("bell", "button", 5, "bell", "hall"),
    DeviceSettings("meter", "counter", 6, "meter", "garden"),
)
WAIT_S = 120.0


class Listener:
    """Hears all that is said to Home Assistant, as Home Assistant does."""

    def __init__(self, broker: BrokerSettings) -> None:
        self.kept: dict[str, bytes] = {}
        self.messages = 0
        self._cards: asyncio.Future[NodeCard] = asyncio.get_running_loop().create_future()
        self.client = MqttClient(
            broker,
            client_id="listener",
            on_message=self._on_message,
            subscriptions=[Subscription("homeassistant/#"), Subscription("pibot/node/model/card")],
        )

    async def card(self) -> NodeCard:
        """What the one real node shows."""
        return await self._cards

    def _on_message(self, message: Message) -> None:
        self.client.ack(message)
        if message.topic.startswith("homeassistant/"):
            self.messages += 1
            self.kept[message.topic] = message.payload
        elif message.payload and not self._cards.done():
            self._cards.set_result(decode(NodeCard, message.payload))


async def shown(broker: BrokerSettings, listener: Listener, nodes: int) -> None:
    """The cards of so many nodes are kept by the broker, and of no other."""
    settings = NodeSettings("model", broker=broker, state_dir=Path(tempfile.mkdtemp()), devices=DEVICES, simulate=True)
    async with Node(settings):
        card = await listener.card()
    taken: list[int] = []
    messages = [("pibot/node/model/card", b"")]
    messages += [(f"pibot/node/n{number}/card", encode(replace(card, node=f"n{number}"))) for number in range(nodes)]
    for topic, payload in messages:
        listener.client.publish(topic, payload, qos=1, retain=True, on_ack=lambda: taken.append(1))
        await asyncio.sleep(0)
    while len(taken) < len(messages):
        await asyncio.sleep(0.01)


async def run(nodes: int, quiet_s: float) -> dict[str, Any]:
    naming = Naming()
    topics = {naming.config_topic(node) for node in (MASTER, *(f"n{number}" for number in range(nodes)))}
    mosquitto = PrivateMosquitto(port=next_free_port("127.0.0.1", 0))
    await mosquitto.start()
    broker = BrokerSettings(port=mosquitto.port)
    settings = MasterSettings(broker=broker, state_dir=Path(tempfile.mkdtemp()))
    listener = Listener(broker)
    await listener.client.start()
    try:
        await shown(broker, listener, nodes)
        began, busy = time.monotonic(), time.process_time()
        async with Master(settings):
            while set(listener.kept) != topics:
                if time.monotonic() - began > WAIT_S:
                    raise SystemExit(f"only {len(listener.kept)} of {len(topics)} payloads within {WAIT_S:g} s")
                await asyncio.sleep(0.01)
            took_s, busy_s, messages = time.monotonic() - began, time.process_time() - busy, listener.messages
            await asyncio.sleep(quiet_s)
            in_silence = listener.messages - messages
        messages = listener.messages
        async with Master(settings):
            await asyncio.sleep(quiet_s)
            after_restart = listener.messages - messages
    finally:
        await listener.client.stop()
        await mosquitto.stop()
    sizes = [len(payload) for topic, payload in listener.kept.items() if topic != naming.config_topic(MASTER)]
    one = json.loads(listener.kept[naming.config_topic("n0")])
    return {
        "nodes": nodes,
        "devices of each": len(DEVICES),
        "components of each": len(one["cmps"]),
        "payloads": len(listener.kept),
        "seconds until all stand": round(took_s, 2),
        "of processor time meanwhile": round(busy_s, 2),
        "bytes of a node's payload, median": statistics.median(sizes),
        "bytes of a node's payload, most": max(sizes),
        "bytes of the master's payload": len(listener.kept[naming.config_topic(MASTER)]),
        "seconds of silence": quiet_s,
        "messages in silence": in_silence,
        "messages after a restart of the master": after_restart,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--nodes", type=int, default=100, help="how many")
    parser.add_argument("--quiet", type=float, default=30, help="seconds in which nothing changes")
    arguments = parser.parse_args()
    logging.basicConfig(level="WARNING")
    figures = asyncio.run(run(arguments.nodes, arguments.quiet))
    for name, figure in figures.items():
        print(f"{name:40} {figure:>8g}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
