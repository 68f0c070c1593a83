"""From an edge of a pin to its MQTT message: bare gpiozero and paho-mqtt, and a whole node, in one run.

    .venv/bin/python benchmarks/edges.py [--json FILE] [--seconds 5]

Simulated pins are driven from a thread, as a driver tells edges; a subscriber in another process takes the time of each
message, over a real Mosquitto. Prints medians and percentiles, their ratios to the bare ones (the machine's speed
cancels out of those), and whether every edge and every count came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gpiozero
import paho.mqtt.client as paho
from gpiozero.pins.mock import MockFactory
from paho.mqtt.enums import CallbackAPIVersion

from pibot_mesh.config.settings import BrokerSettings, DeviceSettings, NodeSettings
from pibot_mesh.mqtt.private import PrivateMosquitto, next_free_port
from pibot_mesh.node.service import Node

EDGES = 500
"""Single edges, each long after the one before."""
EDGES_A_SECOND = 200
DOOR = DeviceSettings("door", "contact", 24, options={"bounce_s": 0})
METER = DeviceSettings("meter", "counter", 25, options={"interval_s": 0.1})
BELL = DeviceSettings("bell", "button", 22)
WAIT_S = 10.0


class Heard:
    """A subscriber in a process of its own: what came, and when. The clock is the same in all processes."""

    def __init__(self, port: int, topics: str) -> None:
        processes = multiprocessing.get_context("spawn")
        self._pipe, its_end = processes.Pipe()
        self._process = processes.Process(target=listen, args=(port, topics, its_end), daemon=True)
        self._process.start()
        self._pipe.recv()

    def on(self, topic: str, number: int = 0) -> list[tuple[float, bytes]]:
        """What came on *topic* so far, but at least *number* messages, for which it waits some seconds."""
        deadline = time.monotonic() + WAIT_S
        while True:
            self._pipe.send(topic)
            came: list[tuple[float, bytes]] = self._pipe.recv()
            if len(came) >= number or time.monotonic() > deadline:
                return came
            time.sleep(0.05)

    def close(self) -> None:
        """Leave."""
        self._pipe.send(None)
        self._process.join()


def listen(port: int, topics: str, pipe: Connection) -> None:
    """The subscriber's process: hears, and tells when it is asked."""
    messages: dict[str, list[tuple[float, bytes]]] = {}

    def on_message(client: paho.Client, user: Any, message: paho.MQTTMessage) -> None:  # noqa: ARG001 - paho's
        messages.setdefault(message.topic, []).append((time.perf_counter(), bytes(message.payload)))

    client = bare_client(port)
    client.on_message = on_message
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.subscribe(topics, qos=1)
    subscribed.wait(WAIT_S)
    pipe.send("ready")
    while topic := pipe.recv():
        pipe.send(list(messages.get(topic, ())))
    client.disconnect()
    client.loop_stop()


def bare_client(port: int) -> paho.Client:
    """A started client of paho's own, with TCP_NODELAY."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_socket_open = lambda *args: args[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    connected.wait(WAIT_S)
    return client


def driven(pins: list[Any], heard: Heard, topic: str, pauses: Iterable[float]) -> tuple[list[float], int]:
    """Drive *pins* down and up with *pauses* in between.

    Returns the milliseconds from each edge to its message on *topic*, and how many messages came.
    """
    already = len(heard.on(topic))
    begun_at = []
    for index, pause in enumerate(pauses):
        time.sleep(pause)
        begun_at.append(time.perf_counter())
        for pin in pins:
            (pin.drive_low if index % 2 == 0 else pin.drive_high)()
    came = heard.on(topic, already + len(begun_at))[already:]
    return [(at - begun) * 1000 for begun, (at, _) in zip(begun_at, came, strict=False)], len(came)


def one_by_one() -> Iterator[float]:
    """Pauses so long that an edge comes when the one before is over."""
    chance = random.Random(1)
    return (chance.uniform(0.01, 0.03) for _ in range(EDGES))


def in_a_stream(seconds: float) -> Iterator[float]:
    """Pauses that make so many edges a second. What the thread is late by it makes up for, at twice the pace."""
    due = time.perf_counter()
    for _ in range(round(seconds * EDGES_A_SECOND)):
        due += 1 / EDGES_A_SECOND
        yield max(0.5 / EDGES_A_SECOND, due - time.perf_counter())


def bounce(pin: Any) -> None:
    """A press that bounces, and a release that does: 31 edges each, as fast as the thread goes."""
    for _ in range(2):
        for _ in range(31):
            (pin.drive_high if pin.state == 0 else pin.drive_low)()
        time.sleep(0.2)


def bare(port: int, seconds: float) -> dict[str, Any]:
    """gpiozero's callback publishes, and nothing else."""
    factory = MockFactory()
    device = gpiozero.DigitalInputDevice(24, pull_up=True, pin_factory=factory)
    client = bare_client(port)
    heard = Heard(port, "bare/#")
    device.when_activated = lambda: client.publish("bare/door", b"OFF", qos=1, retain=True) and None
    device.when_deactivated = lambda: client.publish("bare/door", b"ON", qos=1, retain=True) and None
    pins = [factory.pin(24)]
    single, _ = driven(pins, heard, "bare/door", one_by_one())
    stream, came = driven(pins, heard, "bare/door", in_a_stream(seconds))
    device.close()
    heard.close()
    client.disconnect()
    client.loop_stop()
    return {"single": single, "stream": stream, "stream_came": came}


async def mesh(port: int, seconds: float) -> dict[str, Any]:
    """A node with a contact, a meter and a button; no master."""
    settings = NodeSettings(
        "porch",
        broker=BrokerSettings(port=port),
        state_dir=Path(tempfile.mkdtemp()),
        devices=(DOOR, METER, BELL),
        simulate=True,
    )
    heard = await asyncio.to_thread(Heard, port, "pibot/node/porch/#")
    async with Node(settings) as node:
        door, meter, bell = (node.board.simulated_pin(device.id) for device in settings.devices)
        state, event, total = (f"pibot/node/porch/{topic}" for topic in ("in/door", "event", "in/meter"))
        await asyncio.to_thread(heard.on, "pibot/node/porch/status", 1)
        single, _ = await asyncio.to_thread(driven, [door], heard, state, one_by_one())
        events, _ = await asyncio.to_thread(driven, [door], heard, event, one_by_one())
        stream, came = await asyncio.to_thread(driven, [door, meter], heard, state, in_a_stream(seconds))
        await asyncio.to_thread(bounce, bell)
        await asyncio.sleep(1)
        sums = await asyncio.to_thread(heard.on, total)
        told = await asyncio.to_thread(heard.on, event)
    heard.close()
    said = [json.loads(payload)["event_type"] for _, payload in told]
    return {
        "single": single,
        "events": events,
        "stream": stream,
        "stream_came": came,
        "counted": float(sums[-1][1]),
        "presses": said.count("pressed"),
        "releases": said.count("released"),
    }


async def run(seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    broker = PrivateMosquitto(port=next_free_port("127.0.0.1", 0))
    await broker.start()
    try:
        return await asyncio.to_thread(bare, broker.port, seconds), await mesh(broker.port, seconds)
    finally:
        await broker.stop()


def summary(times: list[float]) -> dict[str, float]:
    """Milliseconds: the median, and below what 95 and 99 of a hundred are."""
    hundredths = statistics.quantiles(times, n=100)
    return {"median": statistics.median(times), "p95": hundredths[94], "p99": hundredths[98], "max": max(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--seconds", type=float, default=5, help="how long 200 edges a second come")
    arguments = parser.parse_args()
    logging.basicConfig(level="ERROR")
    base, ours = asyncio.run(run(arguments.seconds))
    rows = {
        "bare, one by one": (base["single"], base["single"]),
        "node, its state, one by one": (ours["single"], base["single"]),
        "node, its event, one by one": (ours["events"], base["single"]),
        "bare, 200 a second": (base["stream"], base["stream"]),
        "node, its state, 200 a second": (ours["stream"], base["stream"]),
    }
    figures: dict[str, Any] = {}
    heads = ("median", "p95", "p99", "max")
    print(f"{'milliseconds from edge to message':36} {' '.join(f'{head:>8}' for head in heads)}   x bare (median, p99)")
    for name, (times, compared) in rows.items():
        figures[name] = here = summary(times)
        there = summary(compared)
        ratios = f"{here['median'] / there['median']:6.1f} {here['p99'] / there['p99']:6.1f}"
        print(f"{name:36} " + " ".join(f"{here[key]:8.2f}" for key in heads) + "   " + ratios)
    edges = round(arguments.seconds * EDGES_A_SECOND)
    figures |= {"edges made": edges, "edges told": ours["stream_came"], "pulses counted": ours["counted"]}
    figures |= {"presses of a bouncing button": ours["presses"], "its releases": ours["releases"]}
    print(f"{edges} edges made, {ours['stream_came']} told; {edges // 2} pulses made, {ours['counted']:g} counted")
    print(f"a bouncing button: {ours['presses']} press, {ours['releases']} release")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
