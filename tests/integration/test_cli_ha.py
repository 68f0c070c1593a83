"""``pibot ha`` against a mesh that runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pibot_mesh.config.settings import BrokerSettings, DeviceSettings, MasterSettings, NodeSettings
from pibot_mesh.master.service import Master
from pibot_mesh.mqtt.client import MqttClient
from pibot_mesh.node.service import Node
from tests.brokers import HOST, Mosquitto, free_port, needs_mosquitto, until
from tests.integration.programs import PIBOT, environment

pytestmark = needs_mosquitto
FAN = DeviceSettings("fan", "switch", 17, "fan", "attic")
BAD = DeviceSettings("door", "contact", 24, "door", "attic", device_class="garagedoor")


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[BrokerSettings]:
    """A master, a node that is right, and a node with a device class that there is not."""
    with Mosquitto() as broker:
        settings = broker.settings
        master = Master(MasterSettings(broker=settings, state_dir=tmp_path))
        attic = NodeSettings("attic", broker=settings, state_dir=tmp_path / "a", devices=(FAN,), simulate=True)
        porch = NodeSettings("porch", broker=settings, state_dir=tmp_path / "p", devices=(BAD,), simulate=True)
        async with master, Node(attic), Node(porch):
            await until(lambda: {"attic", "porch"} <= set(master.pool.online()), "the nodes are online")
            yield settings


async def pibot(home: Path, broker: BrokerSettings, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, beside the mesh that runs in this process."""

    def run() -> subprocess.CompletedProcess[str]:
        env = environment(home, PIBOT_BROKER=str(broker))
        return subprocess.run([*PIBOT, "ha", *args], env=env, capture_output=True, text=True, check=False, timeout=30)

    return await asyncio.to_thread(run)


async def keep(broker: BrokerSettings, topic: str, payload: bytes) -> None:
    """Have *broker* keep *payload*, as any other program may."""
    done = asyncio.Event()
    client = MqttClient(broker, client_id="other", on_message=lambda _: None)
    await client.start()
    await client.wait_connected(10)
    client.publish(topic, payload, qos=1, retain=True, on_ack=done.set)
    await asyncio.wait_for(done.wait(), 10)
    await client.stop()


async def test_check_shows_every_device_and_names_what_is_wrong(mesh: BrokerSettings, tmp_path: Path) -> None:
    """The nodes and the master in a table, the flaw in a line; 2, since there is one."""
    done = await pibot(tmp_path, mesh, "check")

    assert (done.returncode, done.stderr) == (2, "")
    rows = {words[0]: words[1:] for line in done.stdout.splitlines() if (words := line.split())}
    assert {"attic", "porch", "master"} <= set(rows)
    assert (rows["attic"][2], rows["porch"][2]) == ("0", "1")
    [flaw] = [line for line in done.stdout.splitlines() if line.startswith("porch: ")]
    assert "door" in flaw
    assert "'garage_door'" in flaw


async def test_check_judges_what_others_published(mesh: BrokerSettings, tmp_path: Path) -> None:
    """A device that another program left there, which Home Assistant drops."""
    await keep(mesh, "homeassistant/device/pibot/other-root_shed/config", b'{"dev": {"ids": ["x"]}, "cmps": {}}')

    done = await pibot(tmp_path, mesh, "check", "--json")

    assert done.returncode == 2
    found = {device["device"]: device for device in json.loads(done.stdout)["devices"]}
    shed = found["homeassistant/device/pibot/other-root_shed/config"]
    assert shed["at_broker"] == "of another mesh"
    assert "o" in [flaw["where"] for flaw in shed["flaws"]]
    assert found["attic"]["flaws"] == []


async def test_show_prints_what_is_published(mesh: BrokerSettings, tmp_path: Path) -> None:
    """As JSON over several lines; a name that is none ends with 2 and names those that there are."""
    node, master = await pibot(tmp_path, mesh, "show", "attic"), await pibot(tmp_path, mesh, "show", "master")
    nobody = await pibot(tmp_path, mesh, "show", "cellar")

    assert (node.returncode, master.returncode, nobody.returncode) == (0, 0, 2)
    assert json.loads(node.stdout)["cmps"]
    assert json.loads(master.stdout)["cmps"]
    assert "attic" in nobody.stderr
    assert "Traceback" not in nobody.stderr


async def test_an_empty_broker_is_said_to_be_one(tmp_path: Path) -> None:
    """Nothing is wrong there."""
    with Mosquitto() as broker:
        done = await pibot(tmp_path, broker.settings, "check")
        shown = await pibot(tmp_path, broker.settings, "show", "attic")

    assert done.returncode == 0
    assert "no node has ever been seen" in done.stdout
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "no node 'attic'" in shown.stderr
    assert "no node has ever been seen here" in shown.stderr


@pytest.mark.parametrize("command", [["check"], ["show", "attic"]])
async def test_without_a_broker_there_is_one_line_and_3(tmp_path: Path, command: list[str]) -> None:
    """As with every command."""
    done = await pibot(tmp_path, BrokerSettings(HOST, free_port()), *command)

    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert "connection refused" in line
