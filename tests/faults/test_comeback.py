"""After a kill or an outage every retained topic is true again, within seconds, and the master sees it."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from pibot_mesh.config.settings import MasterSettings, NodeSettings
from pibot_mesh.hardware.board import default_simulated_devices
from pibot_mesh.master.service import Master
from pibot_mesh.mqtt.link import Link
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.messages import Cause
from pibot_mesh.protocol.topics import Address, Kind, Topics
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until
from tests.faults.mesh import Party
from tests.faults.party import Ailment

OUTPUTS = ("fan", "lamp")
SHOWN = {
    *("master/status", "master/info", "master/health"),
    *(f"node/n1/{what}" for what in ("status", "health", "card", "in/button", "in/motion", "sensor/climate")),
    *(f"node/n1/out/{output}{what}" for output in OUTPUTS for what in ("", "/cause")),
}


def names() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


def node_settings(broker: Mosquitto, root: str, state_dir: Path) -> NodeSettings:
    return NodeSettings(
        "n1", root, broker.settings, state_dir, devices=default_simulated_devices(), simulate=True, health_interval_s=2
    )


async def retained(broker: Mosquitto, root: str) -> dict[str, bytes]:
    """What the broker keeps of the mesh now, by topic under the root."""
    async with Recorder(broker.settings, f"look-{uuid.uuid4().hex[:6]}", f"{root}/#") as look:
        await look.settle()
        return {m.topic.removeprefix(f"{root}/"): m.payload for m in look.received if m.retain}


@needs_mosquitto
@pytest.mark.parametrize("pause_s", [0.0, 0.3])
async def test_a_node_that_is_killed_and_starts_at_once_ends_as_online(pause_s: float, tmp_path: Path) -> None:
    """Whatever becomes of the will of its earlier connection; five times in a row."""
    root = names()
    with Mosquitto() as broker:
        async with (
            Master(MasterSettings(root, broker.settings, tmp_path)) as master,
            Recorder(broker.settings, "watcher", f"{root}/node/n1/status", f"{root}/node/n1/card") as watcher,
        ):
            party = Party("n1", broker.port, tmp_path / "n1", root, Ailment())
            try:
                for number in range(1, 6):

                    def boots() -> set[bytes]:
                        return {m.payload for m in watcher.received if m.topic.endswith("/card")}

                    await until(
                        lambda number=number: _boots(boots()) == number,  # type: ignore[misc]
                        "the new process shows its card",
                        timeout_s=15,
                    )
                    if number < 5:
                        party.kill()
                        await asyncio.sleep(pause_s)  # so long it is away
                        party.start()
                await asyncio.sleep(11)  # the delay of a will: none may fire for what has come back
                status = [m.payload for m in watcher.received if m.topic.endswith("/status")]
                kept = await retained(broker, root)

                assert status[-1] == b"online"
                assert kept["node/n1/status"] == b"online"
                assert list(master.pool.online()) == ["n1"]
            finally:
                party.kill()


def _boots(cards: set[bytes]) -> int:
    from pibot_mesh.protocol.codec import decode
    from pibot_mesh.protocol.messages import NodeCard

    return len({decode(NodeCard, card).boot for card in cards})


@needs_mosquitto
async def test_after_a_broker_that_forgot_everything_all_is_shown_again(tmp_path: Path) -> None:
    """Within five seconds, and as it is now: an output that changed meanwhile has its new value."""
    root = names()
    with Mosquitto() as broker:
        async with (
            Master(MasterSettings(root, broker.settings, tmp_path)) as master,
            Node(node_settings(broker, root, tmp_path)) as node,
        ):
            await until(lambda: "n1" in master.pool.online(), "the node is online")
            broker.kill()
            await until(lambda: not node._link.is_connected, "the node notices")
            node.board.set("fan", True, cause=Cause("task", "t7"))
            broker.start()
            await until(lambda: node._link.is_connected and master._link.is_connected, "both are back")
            kept: dict[str, bytes] = {}
            async with asyncio.timeout(5):
                while not kept.keys() >= SHOWN:
                    kept = await retained(broker, root)

    assert kept["node/n1/out/fan"] == b"ON"
    assert b'"t7"' in kept["node/n1/out/fan/cause"]
    assert (kept["node/n1/status"], kept["master/status"]) == (b"online", b"online")


@needs_mosquitto
async def test_a_node_that_saw_much_while_it_was_away_comes_back_online(tmp_path: Path) -> None:
    """A button was pressed more often than the connection can keep: presence and states have room all the same."""
    root = names()
    with Mosquitto() as broker:
        async with (
            Master(MasterSettings(root, broker.settings, tmp_path)) as master,
            Node(node_settings(broker, root, tmp_path)) as node,
        ):
            await until(lambda: "n1" in master.pool.online(), "the node is online")
            broker.kill()
            await until(lambda: not node._link.is_connected, "the node notices")
            for _ in range(3000):
                node._link.send(Kind.NODE_EVENT, b"{}", node="n1")
            broker.start()
            await until(lambda: node._link.is_connected and master._link.is_connected, "both are back")
            kept: dict[str, bytes] = {}
            async with asyncio.timeout(5):
                while not kept.keys() >= SHOWN:
                    kept = await retained(broker, root)

    assert kept["node/n1/status"] == b"online"


@needs_mosquitto
async def test_replies_have_room_where_events_wait() -> None:
    """2,400 messages at once, and room for 1,000: events go, the replies all arrive."""
    root = names()
    with Mosquitto() as broker:
        link = Link(
            broker.settings,
            Topics(root),
            client_id="master",
            listen=[(Kind.MASTER_STATUS, "")],
            presence=Address(Kind.MASTER_STATUS),
            receive=lambda _, message: link.ack(message),
        )
        delivered: list[int] = []
        async with Recorder(broker.settings, "watcher", f"{root}/request/+/reply") as watcher:
            await link.start()
            await link.wait_connected(5)
            for number in range(300):
                for _ in range(6):
                    link.send(Kind.REQUEST_EVENT, b"{}", id=f"r{number}")
                link.send(Kind.REPLY, b"done", keep=False)
                link.send(
                    Kind.REQUEST_REPLY,
                    b"{}",
                    id=f"r{number}",
                    keep=False,
                    delivered=lambda n=number: delivered.append(n),  # type: ignore[misc]
                )
            await until(lambda: len(delivered) == 300, "every reply is taken")
            await until(lambda: watcher.has_received(300), "every reply arrives")
            await link.stop()
