"""What a real master leaves at a real Mosquitto for Home Assistant, and when it says it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pibot_mesh.config.settings import (
    DeviceSettings,
    HomeAssistantSettings,
    MasterSettings,
    NodeSettings,
    ScheduleSettings,
)
from pibot_mesh.master.home_assistant import discovery as core
from pibot_mesh.master.home_assistant.naming import Naming
from pibot_mesh.master.home_assistant.rules import check_all
from pibot_mesh.master.service import Master
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import JSON
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until

pytestmark = needs_mosquitto

NAMING = Naming()
LAMP = DeviceSettings("lamp", "switch", 17, "lamp", "hall")
FAN = DeviceSettings("fan", "fan", 18, "fan", "hall")
DOOR = DeviceSettings("door", "contact", 22, "door", "porch")
MORNING = ScheduleSettings("morning", "turn on the lamp", "0 7 * * *")
SILENCE_S = 3.0
"""More than it takes to settle after a connection, and to say something."""


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto(["persistence true", "autosave_interval 1", "autosave_on_changes true"]) as broker:
        broker.add(f"persistence_location {broker.folder}/")
        broker.restart()
        yield broker


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits are tried by a clock of their own elsewhere."""
    monkeypatch.setattr(core, "REST_S", 1.0)
    monkeypatch.setattr(core, "STALE_S", 3.0)
    monkeypatch.setattr(core, "BIRTH_S", (0.1, 0.2))


class Ear(Recorder):
    """Who hears as Home Assistant does."""

    def said(self, node: str) -> list[dict[str, JSON] | None]:
        """Every payload of *node* since `forget`; None where it was taken away."""
        topic = NAMING.config_topic(node)
        return [json.loads(each.payload) if each.payload else None for each in self.received if each.topic == topic]

    def forget(self) -> None:
        """Hear only what comes from now on."""
        self.received.clear()

    @property
    def nodes(self) -> list[str | None]:
        """Of whom was said something."""
        return [NAMING.node_of(each.topic) for each in self.received]


@asynccontextmanager
async def ear(broker: Mosquitto, name: str = "ear") -> AsyncIterator[Ear]:
    async with Ear(broker.settings, name, NAMING.config_filter) as heard:
        assert isinstance(heard, Ear)
        yield heard


async def kept(broker: Mosquitto) -> dict[str | None, bytes]:
    """What the broker keeps now."""
    async with ear(broker, "look") as look:
        await look.settle()
        return {NAMING.node_of(each.topic): each.payload for each in look.received}


def master(broker: Mosquitto, folder: Path, **fields: object) -> Master:
    settings = MasterSettings(broker=broker.settings, state_dir=folder, schedules=(MORNING,))
    return Master(replace(settings, **fields))  # type: ignore[arg-type]


def node(broker: Mosquitto, folder: Path, id: str, *devices: DeviceSettings) -> Node:  # noqa: A002 - as it is called
    return Node(NodeSettings(id, broker=broker.settings, state_dir=folder, devices=devices, simulate=True))


async def until_kept(broker: Mosquitto, *nodes: str) -> dict[str | None, bytes]:
    """What the broker keeps, once that is of *nodes* and nobody else."""
    found: dict[str | None, bytes] = {}
    async with asyncio.timeout(20):
        while set(found) != set(nodes):
            await asyncio.sleep(0.1)
            found = await kept(broker)
    return found


async def test_each_node_and_the_master_have_one_payload_without_a_flaw(broker: Mosquitto, tmp_path: Path) -> None:
    """Said once each, though the nodes come one by one."""
    async with (
        ear(broker) as heard,
        master(broker, tmp_path),
        node(broker, tmp_path, "hall", LAMP, FAN),
        node(broker, tmp_path, "porch", DOOR),
    ):
        found = await until_kept(broker, "master", "hall", "porch")
        await asyncio.sleep(SILENCE_S)

    assert sorted(map(str, heard.nodes)) == ["hall", "master", "porch"]
    payloads = {NAMING.config_topic(str(name)): json.loads(payload) for name, payload in found.items()}
    assert not any(check_all(payloads).values())
    platforms = [each["p"] for each in payloads[NAMING.config_topic("hall")]["cmps"].values()]
    assert {"switch", "fan"} <= set(platforms)


async def test_a_restart_of_the_master_says_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    """All stands; and a node that starts anew shows the same."""
    async with node(broker, tmp_path, "hall", LAMP):
        async with master(broker, tmp_path):
            await until_kept(broker, "master", "hall")
        async with ear(broker) as heard:
            await heard.settle()
            heard.forget()
            async with master(broker, tmp_path) as again:
                await again.wait_online("hall")
                await asyncio.sleep(SILENCE_S)

    assert heard.nodes == []


async def test_what_changes_is_said_in_the_order_that_home_assistant_needs(broker: Mosquitto, tmp_path: Path) -> None:
    """A device that went away is removed by its platform, and then left out."""
    async with master(broker, tmp_path):
        async with node(broker, tmp_path, "hall", LAMP, FAN):
            before = json.loads((await until_kept(broker, "master", "hall"))["hall"])["cmps"]
        async with ear(broker) as heard, node(broker, tmp_path, "hall", LAMP):
            await heard.settle()
            heard.forget()
            await until(lambda: len(heard.said("hall")) == 2, "both steps")

    first, second = (each["cmps"] for each in heard.said("hall") if each)
    [gone] = [key for key, each in before.items() if each["p"] == "fan"]
    assert first[gone] == {"p": "fan"}
    assert first.keys() == before.keys()
    assert gone not in second


async def test_a_card_that_is_taken_away_takes_the_device_along(broker: Mosquitto, tmp_path: Path) -> None:
    """At once where the master hears it; else after its start."""
    async with master(broker, tmp_path):
        async with node(broker, tmp_path, "hall", LAMP), node(broker, tmp_path, "porch", DOOR):
            await until_kept(broker, "master", "hall", "porch")
        async with ear(broker, "person") as person:
            person.client.publish("pibot/node/hall/card", b"", qos=1, retain=True)
            await until_kept(broker, "master", "porch")
    async with ear(broker, "person") as person:
        person.client.publish("pibot/node/porch/card", b"", qos=1, retain=True)
        await person.settle()
    async with master(broker, tmp_path):
        await until_kept(broker, "master")


async def test_when_home_assistant_comes_all_is_said_again(broker: Mosquitto, tmp_path: Path) -> None:
    """As it stands."""
    async with master(broker, tmp_path), node(broker, tmp_path, "hall", LAMP):
        found = await until_kept(broker, "master", "hall")
        async with ear(broker) as heard:
            await heard.settle()
            heard.forget()
            heard.client.publish(NAMING.birth_topic, b"online", qos=1)
            await until(lambda: len(heard.received) == 2, "both again")

    assert heard.nodes == ["master", "hall"]
    assert {NAMING.node_of(each.topic): each.payload for each in heard.received} == found


@pytest.mark.parametrize("is_forgetful", [True, False])
async def test_a_broker_that_starts_anew_has_all_again(broker: Mosquitto, tmp_path: Path, is_forgetful: bool) -> None:
    """Where it has lost what it kept it is said again, else not."""
    async with master(broker, tmp_path), node(broker, tmp_path, "hall", LAMP):
        found = await until_kept(broker, "master", "hall")
        await until((broker.folder / "mosquitto.db").exists, "the broker has stored it")
        await asyncio.sleep(SILENCE_S)
        broker.kill()
        if is_forgetful:
            broker.forget()
        broker.start()
        async with ear(broker) as heard:
            again = await until_kept(broker, "master", "hall")
            await asyncio.sleep(SILENCE_S)
            live = [message for message in heard.received if not message.retain]

    assert again == found
    assert len(live) == (2 if is_forgetful else 0)


async def test_without_discovery_nothing_is_left_of_the_mesh(broker: Mosquitto, tmp_path: Path) -> None:
    """What was there is taken away; what is another mesh's stays."""
    other = Naming("home/pibot").config_topic("hall")
    async with node(broker, tmp_path, "hall", LAMP):
        async with master(broker, tmp_path):
            await until_kept(broker, "master", "hall")
        async with ear(broker, "other") as person:
            person.client.publish(other, b"{}", qos=1, retain=True)
            await person.settle()
        async with master(broker, tmp_path, home_assistant=HomeAssistantSettings(discovery=False)):
            left = await until_kept(broker, None)  # type: ignore[arg-type]

    assert left == {None: b"{}"}
