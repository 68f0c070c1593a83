"""Reflexes of a real node: taught by a sentence over a real Mosquitto, and kept with nobody there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pibot_mesh.client import Client
from pibot_mesh.config.settings import (
    Action,
    BrokerSettings,
    Condition,
    DeviceSettings,
    MasterSettings,
    NodeSettings,
    ReflexSettings,
)
from pibot_mesh.master.service import Master
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import JSON, decode
from pibot_mesh.protocol.messages import Cause, Control, Event, NodeCard, Reply
from tests.brokers import Mosquitto, Recorder, free_port, needs_mosquitto, until

DEVICES = (
    DeviceSettings("lamp", "light", 18, "lamp"),
    DeviceSettings("button", "button", 22, "button"),
)
HELD = ReflexSettings("held", Condition("button", state=True), (Action("lamp", 40.0),), (Action("lamp", False),))
TEACH = "whenever the button is pressed, turn on the lamp"


def settings(folder: Path, broker: BrokerSettings, *reflexes: ReflexSettings) -> NodeSettings:
    return NodeSettings(
        "n1", broker=broker, state_dir=folder / "node", devices=DEVICES, simulate=True, reflexes=reflexes
    )


def lamp(node: Node) -> int:
    """Percent."""
    return round(float(node.board.state("lamp")))


def press(node: Node) -> None:
    node.board.simulated_pin("button").drive_low()


def release(node: Node) -> None:
    node.board.simulated_pin("button").drive_high()


async def test_a_reflex_needs_nobody(tmp_path: Path) -> None:
    """No broker listens: the button holds the lamp on all the same."""
    async with Node(settings(tmp_path, BrokerSettings(port=free_port()), HELD)) as node:
        press(node)
        await until(lambda: lamp(node) == 40, "the lamp is on")
        release(node)
        await until(lambda: lamp(node) == 0, "the lamp is off")


@needs_mosquitto
async def test_a_reflex_is_shown_and_switched_by_its_topic(tmp_path: Path) -> None:
    """What it is stands on the card, whether it is on on its topic; what it sets has its words as the cause."""
    with Mosquitto() as broker:
        async with (
            Recorder(broker.settings, "watcher", "pibot/#") as watcher,
            Node(settings(tmp_path, broker.settings, HELD)) as node,
        ):

            def last(topic: str) -> bytes | None:
                found = [each.payload for each in watcher.received if each.topic == f"pibot/node/n1/{topic}"]
                return found[-1] if found else None

            await until(lambda: last("reflex/held") == b"ON", "its topic")
            says = "when button is pressed: lamp 40 %; else lamp off"
            [spec] = decode(NodeCard, last("card") or b"").reflexes
            assert (spec.id, spec.says, spec.is_learned) == ("held", says, False)
            press(node)
            await until(lambda: last("out/lamp") == b"40", "the lamp is on")
            await until(lambda: last("out/lamp/cause") is not None, "its cause")
            cause = decode(Cause, last("out/lamp/cause") or b"")
            assert (cause.by, cause.id, cause.reason) == ("rule", "held", says)

            watcher.client.publish("pibot/node/n1/reflex/held/set", b"OFF", qos=1)
            await until(lambda: last("reflex/held") == b"OFF", "it is off")
            release(node)
            await until(lambda: last("in/button") == b"OFF", "the button is released")
            assert lamp(node) == 40


class Asker:
    """A person who answers every question of one request in the same way; *args* are what was asked about last."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.args: JSON = None

    async def ask(self, text: str, answer: Literal["approve", "deny"] = "approve") -> Reply:
        def told(event: Event) -> None:
            if event.type == "approval_required":
                self.args = event.data["args"]
                self.client.control(event.run, Control(answer, call=str(event.data["call"])))

        return await self.client.ask(text, on_event=told, timeout_s=20)


@needs_mosquitto
async def test_a_rule_is_taught_once_a_person_has_approved_it(tmp_path: Path) -> None:
    """It acts at once, and after a restart without a master; it is removed as it came."""
    with Mosquitto() as broker:
        of_master = MasterSettings(broker=broker.settings, state_dir=tmp_path / "master")
        node = Node(settings(tmp_path, broker.settings))
        async with Master(of_master) as master, Client(broker.settings) as client, node:
            await master.wait_online("n1")
            asker = Asker(client)
            denied = await asker.ask(TEACH, "deny")
            assert denied.text == "n1: the reflex was not kept: a person denied it."
            assert (await asker.ask("list the reflexes")).text == "n1: it keeps no reflexes."

            taught = await asker.ask(TEACH)

            assert taught.text == "n1: from now on it keeps the reflex button-lamp: when button sends pressed: lamp on."
            assert asker.args == {"device": "button", "event": "pressed", "then_device": "lamp", "then_value": "ON"}
            press(node)
            await until(lambda: lamp(node) == 100, "the lamp is on")

        async with Node(settings(tmp_path, broker.settings)) as node:
            assert lamp(node) == 0
            press(node)
            await until(lambda: lamp(node) == 100, "the lamp is on again")

            async with Master(of_master) as master, Client(broker.settings) as client:
                await master.wait_online("n1")
                removed = await Asker(client).ask("remove the reflex button-lamp")
                assert removed.text == "n1: the reflex button-lamp is gone, and the outputs are as they were."
                assert (await Asker(client).ask("list the reflexes")).text == "n1: it keeps no reflexes."
