"""From the edges of simulated pins to MQTT, over a real Mosquitto: nothing lost, nothing twice, all in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pibot_mesh.config.settings import DeviceSettings, NodeSettings
from pibot_mesh.hardware.pins import Pin
from pibot_mesh.node.service import Node
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until

pytestmark = needs_mosquitto

DOOR = DeviceSettings("door", "contact", 24, options={"bounce_s": 0})
METER = DeviceSettings("meter", "counter", 25, options={"bounce_s": 0, "interval_s": 0.05, "per_pulse": 0.001})
BELL = DeviceSettings("bell", "button", 22, options={"bounce_s": 0.4, "hold_s": 0.6, "double_s": 0.2})
CHIME = DeviceSettings("chime", "button", 23, options={"bounce_s": 0, "double_s": 5})
ROOT = "pibot/node/porch"
EDGES = 1000


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    """A Mosquitto of the test's own."""
    with Mosquitto() as broker:
        yield broker


@asynccontextmanager
async def watched_node(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[tuple[Node, Recorder]]:
    """A node that is online, and what is heard of its inputs."""
    devices = (DOOR, METER, BELL, CHIME)
    settings = NodeSettings("porch", broker=broker.settings, state_dir=tmp_path, devices=devices, simulate=True)
    topics = (f"{ROOT}/in/+", f"{ROOT}/event", f"{ROOT}/status")
    async with Recorder(broker.settings, "watcher", *topics) as heard, Node(settings) as node:
        await until(lambda: said(heard, "status") == ["online"], "the node is online")
        yield node, heard


def said(heard: Recorder, topic: str) -> list[str]:
    """What came on a topic of the node."""
    return [message.payload.decode() for message in heard.received if message.topic == f"{ROOT}/{topic}"]


def events(heard: Recorder, device: str) -> list[str]:
    """The events of a device, in order."""
    told = [json.loads(payload) for payload in said(heard, "event")]
    return [event["event_type"] for event in told if event["device"] == device]


def drive(pin: Pin, edges: int) -> None:
    """From high to low and back, as fast as it goes; to be called in a thread, as a driver's."""
    for index in range(edges):
        (pin.drive_low if index % 2 == 0 else pin.drive_high)()


async def test_every_edge_and_every_pulse_arrives(broker: Mosquitto, tmp_path: Path) -> None:
    """From two threads at once, in their order; the last sum is the number of pulses made."""
    async with watched_node(broker, tmp_path) as (node, heard):
        pins = [node.board.simulated_pin(device) for device in ("door", "meter")]
        for _ in range(10):  # in ten gusts: a broker queues a bounded number of messages for its subscriber
            already = len(said(heard, "in/door"))
            await asyncio.gather(*(asyncio.to_thread(drive, pin, EDGES // 10) for pin in pins))
            await until(lambda: len(said(heard, "in/door")) == already + EDGES // 10, "the states")  # noqa: B023
        total = EDGES / 2 / 1000
        await until(lambda: said(heard, "in/meter")[-1] == f"{total:g}", "the last sum")
        await until(lambda: len(events(heard, "door")) == EDGES, "the events")

    assert said(heard, "in/door") == ["ON", *["OFF", "ON"] * (EDGES // 2)]
    assert events(heard, "door") == ["closed", "opened"] * (EDGES // 2)
    sums = [float(payload) for payload in said(heard, "in/meter")]
    assert sums == sorted(set(sums))


async def test_a_bouncing_button_gives_one_press(broker: Mosquitto, tmp_path: Path) -> None:
    """Held down after thirty edges, and let go with as many; the state goes before its event."""
    async with watched_node(broker, tmp_path) as (node, heard):
        bell = node.board.simulated_pin("bell")
        await asyncio.to_thread(drive, bell, 31)
        await until(lambda: "held" in events(heard, "bell"), "the button is held")
        bell.drive_high()
        await asyncio.to_thread(drive, bell, 30)
        await until(lambda: "released" in events(heard, "bell"), "the button is released")

    assert events(heard, "bell") == ["pressed", "held", "released"]
    assert said(heard, "in/bell") == ["OFF", "ON", "OFF"]
    order = [m.topic.removeprefix(ROOT) for m in heard.received if m.topic.endswith(("/in/bell", "/event"))]
    assert order == ["/in/bell", "/in/bell", "/event", "/event", "/in/bell", "/event"]


async def test_a_single_press_is_clicked_and_two_are_a_double_press(broker: Mosquitto, tmp_path: Path) -> None:
    """Each once; a click waits until it can be nothing else."""
    async with watched_node(broker, tmp_path) as (node, heard):
        await asyncio.to_thread(drive, node.board.simulated_pin("bell"), 2)
        await asyncio.to_thread(drive, node.board.simulated_pin("chime"), 4)
        await until(lambda: "clicked" in events(heard, "bell"), "the click")
        await until(lambda: len(events(heard, "chime")) == 5, "the double press")

    assert events(heard, "bell") == ["pressed", "released", "clicked"]
    assert events(heard, "chime") == ["pressed", "released", "pressed", "double_pressed", "released"]


async def test_what_changed_while_the_broker_was_gone_is_there_when_it_is_back(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """The state and the sum, as they are then."""
    async with watched_node(broker, tmp_path) as (node, heard):
        broker.kill()
        await until(lambda: not heard.client.is_connected, "the broker is gone")
        await asyncio.to_thread(drive, node.board.simulated_pin("door"), 5)
        await asyncio.to_thread(drive, node.board.simulated_pin("meter"), 40)
        heard.received.clear()
        broker.start()
        await until(lambda: said(heard, "in/door")[-1:] == ["OFF"], "the state")
        await until(lambda: said(heard, "in/meter")[-1:] == ["0.02"], "the sum")
