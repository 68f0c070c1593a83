"""The mesh in Home Assistant, beside a broker and a clock."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from pibot_mesh.config.settings import MasterSettings
from pibot_mesh.master.events import Note
from pibot_mesh.master.home_assistant.discovery import Builders, Discovery, DiscoveryEffect, Publish
from pibot_mesh.master.home_assistant.master_device import master_payload
from pibot_mesh.master.home_assistant.naming import Naming
from pibot_mesh.master.home_assistant.node_device import node_payload
from pibot_mesh.master.home_assistant.rules import check
from pibot_mesh.mqtt.client import Subscription
from pibot_mesh.protocol.messages import NodeCard, RoutineState
from pibot_mesh.protocol.topics import Topics

_log = logging.getLogger(__name__)

LEAD_S: Final = 1.0
"""How often it is looked at who leads."""


def discovery_of(settings: MasterSettings, version: str) -> Discovery:
    """What a master of this *version* with these *settings* shows."""
    topics, naming = Topics(settings.root), naming_of(settings)
    return Discovery(
        naming,
        Builders(
            node=functools.partial(node_payload, topics=topics, naming=naming, version=version),
            master=lambda routines: master_payload(version, routines, topics, naming),
            check=check,
        ),
        jitter=random.Random(),
        is_on=settings.home_assistant.discovery,
    )


def naming_of(settings: MasterSettings) -> Naming:
    """How the mesh is called in Home Assistant."""
    return Naming(settings.root, settings.home_assistant.prefix)


def topics_of(naming: Naming) -> tuple[Subscription, ...]:
    """What `HomeAssistantRunner.hear` must hear: what the broker keeps, and that Home Assistant has come."""
    return Subscription(naming.config_filter), Subscription(naming.birth_topic)


class HomeAssistantRunner:
    """Runs *discovery*, where this master leads; all methods belong to the event loop.

    *publish* publishes a payload, retained at QoS 1, on a topic; its third argument is to be called once a broker has
    it. What it publishes after `disconnected` may be dropped.
    """

    def __init__(
        self,
        discovery: Discovery,
        *,
        is_leader: Callable[[], bool],
        publish: Callable[[str, bytes, Callable[[], None]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._discovery = discovery
        self._is_leader = is_leader
        self._to_broker = publish
        self._clock = clock
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task of its own."""
        self._discovery.lead(self._is_leader(), self._clock())
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End. What stands stays: the nodes are there without the master, and the next one goes on from it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def connected(self) -> None:
        """There is a broker (again)."""
        self._discovery.connected(self._clock())
        self._wake.set()

    def disconnected(self) -> None:
        """There is no broker."""
        self._discovery.disconnected()

    def hear(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        """A message on one of `topics_of`."""
        if topic == self._discovery.naming.birth_topic:
            self._discovery.hear_birth(payload, self._clock(), is_retained=is_retained)
        else:
            self._discovery.hear_config(topic, payload, self._clock(), is_retained=is_retained)
        self._wake.set()

    def card(self, node: str, card: NodeCard | None) -> None:
        """*node* shows its *card*, or it was taken away."""
        self._discovery.card(node, card, self._clock())
        self._wake.set()

    def unreadable_card(self, node: str) -> None:
        """*node* shows a card that cannot be read: what stands of it stays."""
        self._discovery.unreadable_card(node)

    def routines(self, routines: Iterable[RoutineState]) -> None:
        """The master's routines. Without this word, which may be an empty one, nothing is told of the master."""
        self._discovery.routines(routines, self._clock())
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._sleep()
            try:
                self._turn()
            except Exception:  # noqa: BLE001 - the top of a service loop: the next turn goes on with another device
                _log.exception("a bug: Home Assistant could not be told of a device")

    async def _sleep(self) -> None:
        """Until something is to be done, or may be."""
        wake_at = self._discovery.wake_at()
        delay_s = LEAD_S if wake_at is None else min(LEAD_S, wake_at - self._clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, delay_s)):
                await self._wake.wait()
        self._wake.clear()

    def _turn(self) -> None:
        now = self._clock()
        self._discovery.lead(self._is_leader(), now)
        for effect in self._discovery.tick(now):
            self._perform(effect)

    def _perform(self, effect: DiscoveryEffect) -> None:
        match effect:
            case Publish(topic, payload):
                self._to_broker(topic, payload, functools.partial(self._acknowledged, topic, payload))
            case Note(text, level):
                _log.log(logging.getLevelName(level.upper()), "%s", text)

    def _acknowledged(self, topic: str, payload: bytes) -> None:
        self._discovery.acknowledged(topic, payload, self._clock())
        self._wake.set()
