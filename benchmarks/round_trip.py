"""Round trips over a real Mosquitto: bare paho-mqtt, the mesh's client, and a whole request, in one run.

    .venv/bin/python benchmarks/round_trip.py [--json FILE]

Prints medians, and their ratios to bare paho with TCP_NODELAY; the machine's speed cancels out of those.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from pibot_mesh.client import Client
from pibot_mesh.config.settings import BrokerSettings, MasterSettings, NodeSettings
from pibot_mesh.hardware.board import default_simulated_devices
from pibot_mesh.master.service import Master
from pibot_mesh.mqtt.client import Message, MqttClient, Subscription
from pibot_mesh.mqtt.private import PrivateMosquitto, next_free_port
from pibot_mesh.node.service import Node

ROUNDS = 300


def bare_paho(port: int, *, is_nodelay: bool) -> float:
    """Milliseconds, median: one client asks at QoS 1, another answers at QoS 1, with nothing of ours in between."""

    def party(topic: str, on_message: Callable[[paho.Client], None]) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        if is_nodelay:
            client.on_socket_open = lambda *args: args[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready = threading.Event()
        client.on_message = lambda client, *_: on_message(client)
        client.on_subscribe = lambda *_: ready.set()
        client.connect("127.0.0.1", port)
        client.subscribe(topic, qos=1)
        client.loop_start()
        ready.wait(5)
        return client

    answered = threading.Event()
    asker = party("bench/answer", lambda _: answered.set())
    answerer = party("bench/ask", lambda client: client.publish("bench/answer", b"x", qos=1) and None)
    times = []
    for _ in range(ROUNDS if is_nodelay else ROUNDS // 10):
        answered.clear()
        begun = time.perf_counter()
        asker.publish("bench/ask", b"x", qos=1)
        answered.wait(5)
        times.append(time.perf_counter() - begun)
    for client in (asker, answerer):
        client.disconnect()
        client.loop_stop()
    return statistics.median(times) * 1000


async def mesh_client(port: int) -> float:
    """Milliseconds, median: the same with the mesh's client on both sides."""
    broker = BrokerSettings(port=port)
    answered = asyncio.Event()

    def answer(message: Message) -> None:
        answerer.ack(message)
        answerer.publish("bench/answer", b"x", qos=1)

    def note(message: Message) -> None:
        asker.ack(message)
        answered.set()

    asker = MqttClient(broker, client_id="asker", on_message=note, subscriptions=[Subscription("bench/answer")])
    answerer = MqttClient(broker, client_id="answerer", on_message=answer, subscriptions=[Subscription("bench/ask")])
    for client in (asker, answerer):
        await client.start()
        await client.wait_connected(5)
    times = []
    for _ in range(ROUNDS):
        answered.clear()
        begun = time.perf_counter()
        asker.publish("bench/ask", b"x", qos=1)
        await answered.wait()
        times.append(time.perf_counter() - begun)
    for client in (asker, answerer):
        await client.stop()
    return statistics.median(times) * 1000


async def whole_request(port: int) -> tuple[float, float]:
    """Milliseconds, medians: a request with one task, and a read, from asking to the reply; all stored on the way."""
    broker = BrokerSettings(port=port)
    state_dir = Path(tempfile.mkdtemp())
    node = NodeSettings(
        "worker-1", broker=broker, state_dir=state_dir, devices=default_simulated_devices(), simulate=True
    )
    acting, reading = [], []
    async with Master(MasterSettings(broker=broker, state_dir=state_dir)), Node(node), Client(broker) as client:
        while (await client.ask("turn on the fan on worker-1")).state != "completed":
            await asyncio.sleep(0.1)
        for _ in range(ROUNDS // 3):
            for text, times in (("turn on the fan on worker-1", acting), ("read the temperature on worker-1", reading)):
                begun = time.perf_counter()
                await client.ask(text)
                times.append(time.perf_counter() - begun)
    return statistics.median(acting) * 1000, statistics.median(reading) * 1000


async def run() -> dict[str, float]:
    broker = PrivateMosquitto(port=next_free_port("127.0.0.1", 0))
    await broker.start()
    try:
        slow = await asyncio.to_thread(bare_paho, broker.port, is_nodelay=False)
        base = await asyncio.to_thread(bare_paho, broker.port, is_nodelay=True)
        client = await mesh_client(broker.port)
        acting, reading = await whole_request(broker.port)
    finally:
        await broker.stop()
    return {
        "paho, no TCP_NODELAY on the client": slow,
        "paho": base,
        "mesh client": client,
        "a request that sets an output": acting,
        "a request that reads a sensor": reading,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    logging.basicConfig(level="ERROR")
    figures = asyncio.run(run())
    for name, milliseconds in figures.items():
        print(f"{name:38} {milliseconds:8.2f} ms   {milliseconds / figures['paho']:6.1f} x paho")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
