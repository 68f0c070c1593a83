"""What displays see of the master, and orders whose topic cannot name a request, on a real broker."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pibot_mesh.config.settings import ApprovalSettings, BrokerSettings, DeviceSettings, MasterSettings, NodeSettings
from pibot_mesh.master.service import Master
from pibot_mesh.node.service import Node
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until

pytestmark = needs_mosquitto
FAN = DeviceSettings("fan", kind="switch", pin=17)


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with Mosquitto() as running:
        yield running


class Mesh:
    """A master that asks a person before it sets anything, a node, and somebody who watches."""

    def __init__(self, root: str, watcher: Recorder, node: Node) -> None:
        self.root = root
        self.watcher = watcher
        self.node = node

    def send(self, topic: str, payload: str | dict[str, object], *, retain: bool = False) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self.watcher.client.publish(f"{self.root}/{topic}", text.encode(), qos=1, retain=retain)

    def seen(self, topic: str) -> list[Any]:
        whole = f"{self.root}/{topic}"
        return [json.loads(message.payload) for message in self.watcher.received if message.topic == whole]

    async def state(self, state: str) -> Any:
        """The last one, once it is *state*."""
        await until(lambda: self.seen("master/state")[-1:] and self.seen("master/state")[-1]["state"] == state, state)
        return self.seen("master/state")[-1]

    async def event(self, event_type: str) -> Any:
        def of_type() -> list[Any]:
            return [event for event in self.seen("master/event") if event["event_type"] == event_type]

        await until(of_type, f"the event {event_type}")
        return of_type()[-1]


@asynccontextmanager
async def mesh(broker: Mosquitto, folder: Path) -> AsyncIterator[Mesh]:
    settings, root = BrokerSettings(port=broker.port), f"test-{uuid.uuid4().hex[:8]}"
    asks = ApprovalSettings(ask=("actuate",))
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(Recorder(settings, f"watcher-{root}", f"{root}/#"))
        master = await stack.enter_async_context(Master(MasterSettings(root, settings, folder, approval=asks)))
        node = await stack.enter_async_context(
            Node(NodeSettings("porch", root, settings, folder, devices=(FAN,), simulate=True))
        )
        await master.wait_online("porch")
        yield Mesh(root, watcher, node)


@pytest.mark.parametrize(("action", "event", "is_on"), [("approve", "answered", True), ("deny", "failed", False)])
async def test_a_word_about_a_call_that_is_shown_is_heeded(
    broker: Mosquitto, tmp_path: Path, action: str, event: str, is_on: bool
) -> None:
    """Bound to the request and the call that the state shows."""
    async with mesh(broker, tmp_path) as home:
        home.send("request", "turn on the fan on porch")
        pending = (await home.state("needs_approval"))["pending"]
        assert (pending["tool"], pending["node"], pending["args"]["device"]) == ("output_set", "porch", "fan")
        assert (await home.event("needs_approval"))["pending"] == pending

        home.send("master/control", {"action": action, "request": pending["request"], "call": pending["call"]})

        told = await home.event(event)
        assert (told["id"], told["asked"]) == (pending["request"], "turn on the fan on porch")
        idle = await home.state("idle")
        assert ("pending" in idle, idle["answer"]) == (False, told["text"])
        assert home.node.board.state("fan") is is_on


async def test_a_word_about_another_call_changes_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    """It is refused in an event of the request, and the call goes on waiting. So is one that the broker had kept."""
    async with mesh(broker, tmp_path) as home:
        home.send("request", "turn on the fan on porch")
        pending = (await home.state("needs_approval"))["pending"]

        home.send("master/control", {"action": "approve", "request": pending["request"], "call": "another"})

        events = f"request/{pending['request']}/event"
        await until(lambda: any(one["type"] == "control_refused" for one in home.seen(events)), "it is refused")
        assert home.seen("master/state")[-1]["pending"] == pending
        assert home.node.board.state("fan") is False


async def test_a_request_can_be_cancelled_by_its_id(broker: Mosquitto, tmp_path: Path) -> None:
    """As it stands in the state."""
    async with mesh(broker, tmp_path) as home:
        home.send("request", "turn on the fan on porch")
        waiting = await home.state("needs_approval")

        home.send("master/control", {"action": "cancel", "request": waiting["request"], "by": "a display"})

        assert (await home.event("failed"))["state"] == "canceled"
        assert (await home.state("idle"))["outcome"] == "canceled"


async def test_an_order_that_is_none_is_counted_and_the_master_goes_on(broker: Mosquitto, tmp_path: Path) -> None:
    """An approval without a call, for example."""
    async with mesh(broker, tmp_path) as home:
        home.send("master/control", {"action": "approve", "request": "r1"})
        home.send("master/control", "yes")

        home.send("stop", "STOP", retain=True)

        assert (await home.state("stopped"))["is_stopped"] is True
        home.send("stop", "RUN", retain=True)
        assert (await home.state("idle"))["is_stopped"] is False


async def test_a_master_that_comes_back_shows_that_the_stop_holds(broker: Mosquitto, tmp_path: Path) -> None:
    """The broker keeps it."""
    settings, root = BrokerSettings(port=broker.port), f"test-{uuid.uuid4().hex[:8]}"
    async with Recorder(settings, f"watcher-{root}", f"{root}/master/state") as watcher:
        watcher.client.publish(f"{root}/stop", b"STOP", qos=1, retain=True)
        await watcher.settle()

        async with Master(MasterSettings(root, settings, tmp_path)):
            await until(lambda: b'"state":"stopped"' in b"".join(one.payload for one in watcher.received), "stopped")
