"""The shipped Mosquitto configuration, loaded as it is, and the least rights tried by round trip."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pibot_mesh.errors import PublishRefused
from pibot_mesh.mqtt.bridge import Bridge, bridge_config
from pibot_mesh.mqtt.client import Message, MqttClient, Subscription
from tests.brokers import HOST, Mosquitto, free_port, needs_mosquitto_passwd, until

pytestmark = needs_mosquitto_passwd

FOLDER = Path(__file__).parents[2] / "mosquitto"
USERS = ("master", "master-2", "worker-1", "worker-2", "worker-3", "homeassistant", "person", "monitor", "caretaker")
CONFIG = "homeassistant/device/pibot/worker-1/config"
MASTER_WRITES = (
    "pibot/master/status",
    "pibot/master/info",
    "pibot/master/health",
    "pibot/master/log",
    "pibot/master/state",
    "pibot/master/event",
    "pibot/request/r1/event",
    "pibot/request/r1/reply",
    "pibot/reply",
    "pibot/reply/me",
    "pibot/routine/morning",
    "pibot/node/worker-1/task",
    "pibot/node/worker-1/task/t1/control",
    "pibot/node/worker-1/control",
    "pibot/node/worker-1/llm/c1/chunk",
    "pibot/stop",
    CONFIG,
)
NODE_WRITES = (
    "pibot/node/{}/status",
    "pibot/node/{}/health",
    "pibot/node/{}/card",
    "pibot/node/{}/event",
    "pibot/node/{}/task/t1/event",
    "pibot/node/{}/task/t1/result",
    "pibot/node/{}/llm/c1/request",
    "pibot/node/{}/in/button",
    "pibot/node/{}/out/fan",
    "pibot/node/{}/out/fan/cause",
    "pibot/node/{}/sensor/climate",
    "pibot/node/{}/reflex/cool",
)
PERSON_WRITES = (
    "pibot/request",
    "pibot/request/r1/control",
    "pibot/node/worker-1/out/fan/set",
    "pibot/node/worker-1/reflex/cool/set",
    "pibot/routine/morning/set",
    "pibot/master/control",
    "pibot/stop",
)
NODE_READS = (
    "pibot/node/{}/task",
    "pibot/node/{}/task/t1/control",
    "pibot/node/{}/control",
    "pibot/node/{}/out/fan/set",
    "pibot/node/{}/reflex/cool/set",
    "pibot/node/{}/llm/c1/chunk",
    "pibot/node/{}/status",
    "pibot/node/{}/card",
    "pibot/stop",
    "pibot/master/status",
    "pibot/master/health",
)
OTHERS = ("homeassistant/status", "pibot/other")
SETS = ("out/fan/set", "reflex/cool/set")
LEFT_BEHIND = ("status", "health", "card", "in/button", "out/fan", "out/fan/cause", "sensor/climate", "reflex/cool")


def of(node: str, templates: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(template.format(node) for template in templates)


EVERY_TOPIC = tuple(
    dict.fromkeys(
        MASTER_WRITES
        + PERSON_WRITES
        + OTHERS
        + tuple(topic for node in USERS for topic in of(node, NODE_WRITES))
        + tuple(topic for node in ("worker-1", "worker-2", "monitor", "person") for topic in of(node, NODE_READS))
    )
)
MAY_WRITE = {
    "master": {*MASTER_WRITES, *(topic.replace("worker-1", "worker-2") for topic in MASTER_WRITES)}
    | {f"pibot/node/{name}/{rest}" for name in ("person", "monitor") for rest in ("task", "control")}
    | {f"pibot/node/{name}/{rest}" for name in ("person", "monitor") for rest in ("task/t1/control", "llm/c1/chunk")},
    "worker-1": set(of("worker-1", NODE_WRITES)),
    "worker-3": set(of("worker-3", NODE_WRITES)),
    "person": {*PERSON_WRITES} | {f"pibot/node/{name}/{what}" for name in ("worker-2", "monitor") for what in SETS},
    "homeassistant": {*PERSON_WRITES, "homeassistant/status"}
    | {f"pibot/node/{name}/{what}" for name in ("worker-2", "monitor", "person") for what in SETS},
    "monitor": set(),
}
MAY_WRITE["master-2"] = MAY_WRITE["master"]
MAY_WRITE["caretaker"] = {f"pibot/node/{node}/{what}" for node in USERS if node != "caretaker" for what in LEFT_BEHIND}
MASTER_READS = (
    "pibot/request",
    "pibot/request/r1/control",
    "pibot/routine/morning/set",
    "pibot/master/control",
    "pibot/stop",
    "pibot/master/status",
    "homeassistant/status",
    CONFIG,
    *of("worker-1", NODE_WRITES),
)


SEEN_OUTSIDE = {
    topic
    for topic in (*MASTER_WRITES, *(topic for node in USERS for topic in of(node, NODE_WRITES)))
    if not topic.endswith(("/log", "/task", "/control", "/chunk", "/config", "reply/me", "/llm/c1/request"))
    and "/task/" not in topic
}


def shipped(folder: Path, port: int) -> str:
    """The shipped configuration with *port*, paths and passwords of the test's own, and a user who may do all."""
    passwords, acl = folder / "passwords", folder / "acl"
    passwords.touch(mode=0o600)
    for user in (*USERS, "admin"):
        subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, f"secret of {user}"], check=True)
    acl.write_text((FOLDER / "acl").read_text() + "\nuser admin\ntopic readwrite #\n")
    acl.chmod(0o600)
    config = (FOLDER / "mosquitto.conf").read_text()
    for line, here in (
        ("listener 1883\n", f"listener {port} 127.0.0.1\n"),
        ("/etc/mosquitto/pibot/passwords", str(passwords)),
        ("/etc/mosquitto/pibot/acl", str(acl)),
        ("/var/lib/mosquitto/", f"{folder}/"),
    ):
        assert config.count(line) == 1
        config = config.replace(line, here)
    return config


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A Mosquitto with the shipped files."""
    port = free_port()
    with Mosquitto(config=shipped(tmp_path_factory.mktemp("mosquitto"), port), port=port) as broker:
        yield broker


class Watcher:
    """A connected client, what it received, and what the broker refused it."""

    def __init__(self, broker: Mosquitto, user: str, filters: tuple[str, ...] = ()) -> None:
        self.received: list[Message] = []
        self.refused: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.client = MqttClient(
            replace(broker.settings, username=user, password=f"secret of {user}"),
            client_id=user,
            on_message=self._on_message,
            on_error=self._on_error,
            subscriptions=[Subscription(each) for each in filters],
            session_expiry_s=0,
        )

    @property
    def topics(self) -> set[str]:
        return {message.topic for message in self.received}

    async def publish_all(self, topics: Collection[str], payload: bytes) -> None:
        """Publish to each (no topic twice) and wait until the broker has answered for each."""
        self.refused.clear()
        self.acknowledged.clear()
        for topic in topics:
            self.client.publish(topic, payload, qos=1, on_ack=partial(self.acknowledged.add, topic))
        await until(lambda: len(self.refused) + len(self.acknowledged) == len(topics), "an answer to every message")

    def _on_message(self, message: Message) -> None:
        self.client.ack(message)
        self.received.append(message)

    def _on_error(self, error: Exception) -> None:
        assert isinstance(error, PublishRefused)
        self.refused[error.topic] = error.reason


@asynccontextmanager
async def connected(broker: Mosquitto, user: str, *filters: str) -> AsyncIterator[Watcher]:
    watcher = Watcher(broker, user, filters)
    await watcher.client.start()
    try:
        await watcher.client.wait_connected(5)
        yield watcher
    finally:
        await watcher.client.stop()


@pytest.mark.parametrize("user", sorted(MAY_WRITE))
async def test_each_role_writes_what_the_protocol_gives_it_and_nothing_else(broker: Mosquitto, user: str) -> None:
    """What is allowed arrives at one who reads everything; what is not does not, and MQTT 5 says 0x87."""
    allowed = MAY_WRITE[user] & set(EVERY_TOPIC)
    end = f"end/{user}"
    async with connected(broker, "admin", "#") as admin, connected(broker, user) as writer:
        assert writer.client.protocol == "5"
        await writer.publish_all(EVERY_TOPIC, b"x")
        admin.client.publish(end, b"", qos=1)
        await until(lambda: end in admin.topics, "the end marker")

        assert admin.topics - {end} == allowed
        assert set(writer.refused) == set(EVERY_TOPIC) - allowed
        assert all("0x87" in reason for reason in writer.refused.values())


@pytest.mark.parametrize("node", ["worker-1", "worker-2", "worker-3"])
async def test_a_node_cannot_command_itself_or_another(broker: Mosquitto, node: str) -> None:
    """Not its own task, control, set or chunk, and nothing of another node's."""
    other = "worker-2" if node == "worker-1" else "worker-1"
    forbidden = {
        f"pibot/node/{node}/task",
        f"pibot/node/{node}/task/t1/control",
        f"pibot/node/{node}/control",
        f"pibot/node/{node}/out/fan/set",
        f"pibot/node/{node}/llm/c1/chunk",
        *of(other, NODE_WRITES),
        *of(other, NODE_READS),
        "pibot/request",
    }
    async with connected(broker, "admin", "#") as admin, connected(broker, node) as writer:
        await writer.publish_all(forbidden, b"x")
        admin.client.publish("end", b"", qos=1)
        await until(lambda: "end" in admin.topics, "the end marker")

        assert admin.topics == {"end"}


async def reads(broker: Mosquitto, user: str, *filters: str) -> set[str]:
    """Of `EVERY_TOPIC`, what reaches *user*."""
    end = "pibot/stop" if user.startswith(("worker", "master")) else "pibot/end"
    async with connected(broker, user, *filters) as reader, connected(broker, "admin") as admin:
        await admin.publish_all(tuple(topic for topic in EVERY_TOPIC if topic != end), b"x")
        await admin.publish_all((end,), b"end")
        await until(lambda: any(message.payload == b"end" for message in reader.received), "the end marker")
        return reader.topics - ({"pibot/end"} if end == "pibot/end" else set())


async def test_a_node_reads_what_is_meant_for_it(broker: Mosquitto) -> None:
    """A node that subscribes to everything gets its own commands, the stop and the master's presence."""
    assert await reads(broker, "worker-1", "#") == set(of("worker-1", NODE_READS))


@pytest.mark.parametrize("master", ["master", "master-2"])
async def test_a_master_reads_requests_and_what_nodes_say(broker: Mosquitto, master: str) -> None:
    """And not, for example, its own log or the tasks that it sends. A second master may do what the first one may."""
    received = await reads(broker, master, "#")

    assert received >= set(MASTER_READS)
    assert not {topic for topic in received if topic.endswith(("/task", "/control", "/chunk", "/set", "/log"))} - {
        "pibot/request/r1/control",
        "pibot/routine/morning/set",
        "pibot/master/control",
    }


@pytest.mark.parametrize(("user", "more"), [("person", {CONFIG}), ("monitor", {CONFIG}), ("caretaker", set[str]())])
async def test_people_and_monitors_read_everything_below_the_root(broker: Mosquitto, user: str, more: set[str]) -> None:
    """One subscription shows the whole mesh. The node of their own name, which cannot be, is the exception.

    And for `pibot ha check`, what Home Assistant is told.
    """
    everything = {topic for topic in EVERY_TOPIC if topic.startswith("pibot/")}

    received = await reads(broker, user, "pibot/#", "homeassistant/#")

    assert received == {topic for topic in everything if not topic.startswith(f"pibot/node/{user}/")} | more


async def test_home_assistant_reads_the_mesh_and_its_own_topics(broker: Mosquitto) -> None:
    """Discovery, presence and everything below the root."""
    received = await reads(broker, "homeassistant", "pibot/#", "homeassistant/#")

    assert {"homeassistant/device/pibot/worker-1/config", "homeassistant/status"} <= received
    assert {topic for topic in EVERY_TOPIC if topic.startswith("pibot/node/worker-1/")} <= received


async def test_two_masters_are_there_at_once(broker: Mosquitto) -> None:
    """Each under a name of its own, whatever client id they ask for."""
    async with (
        connected(broker, "master", "pibot/request") as first,
        connected(broker, "master-2", "pibot/request") as second,
    ):
        async with connected(broker, "person") as person:
            await person.publish_all(["pibot/request"], b"x")
            await until(lambda: first.received and second.received, "the request at both")

        assert first.client.is_connected
        assert second.client.is_connected


async def test_a_bridge_needs_no_user_in_the_house_and_heeds_no_rules(tmp_path: Path) -> None:
    """Beside the shipped configuration, the lines of the bridge alone decide what passes."""
    port, outside = free_port(), list[str]()
    with Mosquitto() as far:
        made = bridge_config(Bridge("home", ((HOST, far.port),), "pibot", "home", is_asked=True), (2, 0))
        with Mosquitto(config=shipped(tmp_path, port) + made, port=port) as near:
            visitor = MqttClient(
                far.settings,
                client_id="visitor",
                on_message=lambda message: outside.append(message.topic),
                subscriptions=[Subscription("#", qos=0)],
            )
            await visitor.start()
            async with connected(near, "admin", "pibot/request") as admin:
                await until(lambda: "home/pibot/bridge" in outside, "the bridge", timeout_s=20)
                visitor.publish("home/pibot/request", b"from outside", qos=1)
                await until(lambda: admin.received, "the request")
                await admin.publish_all(EVERY_TOPIC, b"x")
                await admin.publish_all(["pibot/reply"], b"end")
                await until(lambda: outside.count("home/pibot/reply") == 2, "the end marker")
            await visitor.stop()

    assert set(outside) == {f"home/{topic}" for topic in SEEN_OUTSIDE} | {"home/pibot/bridge", "home/pibot/request"}


async def test_a_client_id_cannot_be_borrowed(broker: Mosquitto) -> None:
    """A person who connects with a node's id does not evict the node."""
    async with connected(broker, "worker-1", "pibot/stop") as node:
        intruder = MqttClient(
            replace(broker.settings, username="person", password="secret of person"),
            client_id="worker-1",
            on_message=lambda _: None,
        )
        await intruder.start()
        await intruder.wait_connected(5)
        intruder.publish("pibot/stop", b"STOP", qos=1)
        await until(lambda: node.received, "the stop")
        await intruder.stop()

        assert node.client.is_connected


async def test_nobody_enters_without_a_password(broker: Mosquitto) -> None:
    """The shipped configuration lets nobody in anonymously."""
    anonymous = MqttClient(broker.settings, client_id="x", on_message=lambda _: None)
    await anonymous.start()
    try:
        with pytest.raises(ConnectionError, match="it wants a username and a password"):
            await anonymous.wait_connected(1)
    finally:
        await anonymous.stop()
