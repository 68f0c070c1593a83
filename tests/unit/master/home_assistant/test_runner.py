"""The mesh in Home Assistant beside a clock: who speaks, when it wakes, and what it does with a bug."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from pibot_mesh.config.settings import HomeAssistantSettings, MasterSettings
from pibot_mesh.master.home_assistant import discovery as core, runner as module
from pibot_mesh.master.home_assistant.discovery import Builders, Discovery
from pibot_mesh.master.home_assistant.model import Built, Flaw
from pibot_mesh.master.home_assistant.naming import Naming
from pibot_mesh.master.home_assistant.rules import check
from pibot_mesh.master.home_assistant.runner import HomeAssistantRunner, discovery_of, naming_of, topics_of
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard, RoutineState
from tests.brokers import until

NAMING = Naming()
PORCH = NodeCard("porch", "b1", "1.0", devices=(DeviceSpec("fan", "out", "fan", "fan"),))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits are the core's business."""
    monkeypatch.setattr(module, "LEAD_S", 0.02)
    monkeypatch.setattr(core, "SETTLE_S", 0.02)
    monkeypatch.setattr(core, "REST_S", 0.1)
    monkeypatch.setattr(core, "BIRTH_S", (0.01, 0.02))


def node_payload(card: NodeCard) -> Built:
    """A node named ``broken`` cannot be shown."""
    if card.node == "broken":
        raise RuntimeError("no such house")
    return Built({"dev": card.node, "cmps": {}}, (Flaw("fan", "is odd"),) if card.boot == "odd" else ())


def master_payload(routines: Sequence[RoutineState]) -> Built:
    return Built({"dev": "master", "cmps": {each.id: {"p": "switch"} for each in routines}})


class House:
    """One master's runner; the broker takes what it says when it is told to."""

    def __init__(self, *, is_leader: bool = True) -> None:
        self.is_leader = is_leader
        self.said: list[tuple[str | None, bytes]] = []
        self.unanswered: list[Callable[[], None]] = []
        builders = Builders(node_payload, master_payload, lambda *_: [])
        self.runner = HomeAssistantRunner(
            Discovery(NAMING, builders, jitter=Random(1), is_leading=is_leader),
            is_leader=lambda: self.is_leader,
            publish=self._publish,
        )

    def _publish(self, topic: str, payload: bytes, delivered: Callable[[], None]) -> None:
        self.said.append((NAMING.node_of(topic), payload))
        self.unanswered.append(delivered)

    @property
    def told(self) -> list[str | None]:
        """Whom it spoke of."""
        return [node for node, _ in self.said]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[House]:
        self.runner.start()
        self.runner.connected()
        try:
            yield self
        finally:
            await self.runner.stop()


async def test_what_the_nodes_show_is_told() -> None:
    """The master first."""
    async with House().running() as house:
        house.runner.card("porch", PORCH)
        house.runner.routines([])
        await until(lambda: house.told == ["master", "porch"], "both are told")


async def test_a_card_that_comes_later_wakes_it() -> None:
    """And one that goes."""
    async with House().running() as house:
        await until(lambda: house.runner._discovery.wake_at() is None, "it has nothing to do")
        house.runner.card("porch", PORCH)
        await until(lambda: house.told == ["porch"], "it is told")
        house.unanswered.pop()()
        house.runner.card("porch", None)
        await until(lambda: house.said[-1] == ("porch", b""), "it is taken away")


async def test_what_was_not_taken_is_said_to_the_next_broker() -> None:
    """What was taken is not."""
    async with House().running() as house:
        house.runner.card("porch", PORCH)
        house.runner.card("attic", replace(PORCH, node="attic"))
        await until(lambda: len(house.said) == 2, "both are told")
        [(topic, payload)] = [(NAMING.config_topic("attic"), each) for node, each in house.said if node == "attic"]
        house.runner.disconnected()
        house.runner.connected()
        house.runner.hear(topic, payload, is_retained=True)
        await until(lambda: house.told.count("porch") == 2, "it is told again")

    assert house.told.count("attic") == 1


async def test_when_home_assistant_comes_it_is_told_again() -> None:
    """By its word on the status topic."""
    async with House().running() as house:
        house.runner.card("porch", PORCH)
        await until(lambda: house.told == ["porch"], "it is told")
        house.unanswered.pop()()
        house.runner.hear(NAMING.birth_topic, b"online", is_retained=False)
        await until(lambda: house.told == ["porch", "porch"], "it is told again")


async def test_who_comes_to_lead_speaks() -> None:
    """Not before."""
    leader, other = House(), House(is_leader=False)
    async with leader.running(), other.running():
        for house in (leader, other):
            house.runner.card("porch", PORCH)
        await until(lambda: leader.told, "the leader tells it")
        assert other.told == []
        other.is_leader = True
        await until(lambda: other.told == ["porch"], "the next leader tells it")


async def test_an_unreadable_card_is_no_card_that_went(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands of its node stays, and what stands of a node without a card goes."""
    monkeypatch.setattr(core, "STALE_S", 0.2)
    async with House().running() as house:
        for node in ("attic", "porch"):
            house.runner.hear(NAMING.config_topic(node), b'{"cmps":{}}', is_retained=True)
        house.runner.unreadable_card("attic")
        await until(lambda: house.said == [("porch", b"")], "one goes")
        await until(lambda: house.runner._discovery.wake_at() is None, "that is all")

    assert house.said == [("porch", b"")]


async def test_a_bug_and_a_flaw_are_logged_and_stop_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The other nodes are told."""
    caplog.set_level(logging.INFO)
    async with House().running() as house:
        house.runner.card("broken", replace(PORCH, node="broken"))
        house.runner.card("porch", replace(PORCH, boot="odd"))
        await until(lambda: house.told == ["porch"], "it is told")
        await until(lambda: "no such house" in caplog.text, "the bug is logged")

    assert "a bug: Home Assistant could not be told of a device" in caplog.text
    assert "WARNING" in caplog.text
    assert "Home Assistant: node porch: fan: is odd" in caplog.text


async def test_it_can_be_stopped_before_it_began() -> None:
    """As a master does that could not start."""
    await House().runner.stop()


def test_what_a_master_shows_is_sound() -> None:
    """A node with an output, and the master with a routine, go through Home Assistant's rules."""
    settings = MasterSettings(root="home/pibot", home_assistant=HomeAssistantSettings(prefix="ha"))
    naming = naming_of(settings)
    discovery = discovery_of(settings, "1.2.3")
    discovery.routines([RoutineState("morning", "schedule", "At seven", "turn on the lamp", True)], 0)
    discovery.connected(0)
    discovery.card("porch", PORCH, 0)

    effects = [effect for now in range(1, 5) for effect in discovery.tick(now)]

    payloads = {each.topic: json.loads(each.payload) for each in effects if isinstance(each, core.Publish)}
    assert list(payloads) == [naming.config_topic("master"), naming.config_topic("porch")]
    assert all(check(topic, payload) == [] for topic, payload in payloads.items())
    assert all("1.2.3" in json.dumps(payload) for payload in payloads.values())
    assert [each.filter for each in topics_of(naming)] == ["ha/device/pibot/+/config", "ha/status"]


def test_a_master_without_discovery_shows_nothing() -> None:
    """As its file says."""
    discovery = discovery_of(MasterSettings(home_assistant=HomeAssistantSettings(discovery=False)), "1.2.3")
    discovery.connected(0)
    discovery.card("porch", PORCH, 0)

    assert discovery.tick(10) == []
    assert discovery.wake_at() is None
