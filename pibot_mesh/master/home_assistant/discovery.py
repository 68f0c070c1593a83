"""When Home Assistant is told what of the mesh. Pure: no sockets, threads or clocks.

All that is told is retained, so the broker knows what was told before, also by another process. Only what differs from
that is told anew, and in no haste: Home Assistant loses components of a device that changes while it sets it up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from pibot_mesh.master.events import Note
from pibot_mesh.master.home_assistant.delivery import Check, in_canonical_form, sendable, step
from pibot_mesh.master.home_assistant.model import Built, Flaw
from pibot_mesh.master.home_assistant.naming import MASTER, Naming
from pibot_mesh.protocol.messages import NodeCard, RoutineState

SETTLE_S: Final = 1.0
"""From the first change of a device on, further ones are waited for. So long nothing comes, all that is kept came."""
KEPT_WITHIN_S: Final = 3.0
"""After a connection was made, what the broker keeps is waited for no longer than that."""
STALE_S: Final = 15.0
"""After a connection was made, a device whose node has shown no card within so long is none any more."""
REST_S: Final = 5.0
"""A device is published no sooner than so long after the last time, by whomever."""
GAP_S: Final = 0.05
"""Between two devices: neither the master nor Home Assistant has to do with many at once."""
BIRTH_S: Final = (1.0, 5.0)
"""Home Assistant wants it so: after it has come, each who speaks to it waits for a time of its own."""
_LONG_AGO: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish *payload*, retained, at QoS 1; tell `Discovery.acknowledged`. Empty: nothing is kept of the device."""

    topic: str
    payload: bytes


DiscoveryEffect: TypeAlias = Publish | Note


@dataclass(frozen=True, slots=True)
class Builders:
    """What makes the payloads of nodes and of the master, and what finds fault with them."""

    node: Callable[[NodeCard], Built]
    master: Callable[[Sequence[RoutineState]], Built]
    check: Check


@dataclass(slots=True)
class _Device:
    node: str
    topic: str
    card: NodeCard | None = None
    changed_at: float | None = None
    """When what is wanted changed. None: `wanted` is up to date."""
    wanted: bytes | None = None
    """What is to stand. Empty: nothing. None: what stands is left alone."""
    kept: bytes = b""
    """What the broker is known to keep."""
    sent: bytes | None = None
    """What it will keep, but has not acknowledged."""
    published_at: float = _LONG_AGO
    is_seen: bool = False
    """Whether its card, or that it has none, was told on this connection."""
    is_unreadable: bool = False
    """Whether its card is there, but cannot be read."""
    is_found: bool = False
    """Whether the broker kept something of it already when this connection was made."""
    is_asked: bool = False
    """Whether it is to be published though it stands."""
    told: frozenset[Flaw] = frozenset()

    @property
    def stands(self) -> bytes:
        return self.kept if self.sent is None else self.sent

    def change(self, now: float) -> None:
        if self.changed_at is None:
            self.changed_at = now

    def forget_broker(self) -> None:
        self.kept, self.sent = b"", None
        self.is_seen = self.is_unreadable = self.is_found = self.is_asked = False


class Discovery:
    """What stands of the mesh below Home Assistant's prefix, and what is to stand there.

    Tell it all that happens, and `tick` it at `wake_at`. It speaks only while connected and leading; what it hears in
    between it remembers. With *is_on* False, all that this mesh has left there is taken away. Times are of a monotonic
    clock, in seconds.

    A builder that raises is a bug: `tick` raises, what stands of its device is left alone, and the next `tick` goes on
    with the others.
    """

    def __init__(
        self, naming: Naming, builders: Builders, *, jitter: random.Random, is_on: bool = True, is_leading: bool = True
    ) -> None:
        self.naming = naming
        self._builders = builders
        self._jitter = jitter
        self._is_on = is_on
        self._is_leading = is_leading
        self._devices: dict[str, _Device] = {}
        self._due: dict[str, float] = {}
        """The devices that are to be looked at, and when."""
        self._routines: tuple[RoutineState, ...] | None = None
        self._connected_at: float | None = None
        self._heard_at = _LONG_AGO
        self._free_at = _LONG_AGO
        self._birth_at: float | None = None

    # In: what happens

    def connected(self, now: float) -> None:
        """There is a broker (again), and nobody knows what it keeps before it has told."""
        self._connected_at = self._heard_at = now
        for device in self._devices.values():
            device.forget_broker()
        self._look_at(self._devices, now)

    def disconnected(self) -> None:
        """There is no broker: what it has not acknowledged may be lost."""
        self._connected_at = self._birth_at = None
        self._due.clear()

    def lead(self, is_leading: bool, now: float) -> None:
        """Of several masters, the leader speaks; who comes to lead puts right what differs."""
        if is_leading and not self._is_leading:
            self._look_at(self._devices, now)
        if not is_leading:
            self._birth_at = None
        self._is_leading = is_leading

    def hear_config(self, topic: str, payload: bytes, now: float, *, is_retained: bool) -> None:
        """The broker keeps *payload* on *topic*. Other meshes' devices are none of our business."""
        node = self.naming.node_of(topic)
        if node is None:
            return
        device = self._device(node)
        self._keeps(device, in_canonical_form(payload) if payload else b"", now)
        device.published_at = now
        if is_retained:
            self._heard_at = now
            device.is_found = True
        if not self._is_on:
            device.wanted = b""

    def acknowledged(self, topic: str, payload: bytes, now: float) -> None:
        """The broker has taken what was to be published."""
        node = self.naming.node_of(topic)
        assert node is not None
        self._keeps(self._device(node), payload, now)

    def hear_birth(self, payload: bytes, now: float, *, is_retained: bool) -> None:
        """A word on Home Assistant's status topic: after ``online`` all is told again. A retained one is old."""
        is_heeded = self._is_on and self._is_leading and self._connected_at is not None
        if is_heeded and payload == b"online" and not is_retained and self._birth_at is None:
            self._birth_at = now + self._jitter.uniform(*BIRTH_S)

    def card(self, node: str, card: NodeCard | None, now: float) -> None:
        """*node* shows its *card*, or it was taken away."""
        if not self._is_on:
            return
        device = self._device(node)
        if card is None or card != device.card:
            device.change(now)
        device.card, device.is_seen, device.is_unreadable = card, True, False
        self._look_at([node], now)

    def unreadable_card(self, node: str) -> None:
        """*node* shows a card that cannot be read: what stands of it stays."""
        if self._is_on:
            device = self._device(node)
            device.is_seen = device.is_unreadable = True

    def routines(self, routines: Iterable[RoutineState], now: float) -> None:
        """The master's routines, of which only names and words count. Before, nothing is told of the master."""
        words = tuple(
            replace(each, is_on=True, last_ts=None, next_ts=None, boot="", seq=0)
            for each in sorted(routines, key=lambda each: each.id)
        )
        if self._is_on and words != self._routines:
            self._routines = words
            self._device(MASTER).change(now)
            self._look_at([MASTER], now)

    # Out: what is to be done

    def tick(self, now: float) -> list[DiscoveryEffect]:
        """What is to be done now, for one device that needs work at most."""
        effects: list[DiscoveryEffect] = []
        if self._connected_at is None or not self._is_leading or now < self._ready_at(self._connected_at):
            return effects
        if self._birth_at is not None and now >= self._birth_at:
            self._tell_all(now)
        for node in self._by_turns(now):
            if now < self._free_at:
                break
            self._due[node] = now + REST_S  # also where looking at it raises: the others have their turn
            effects += self._look(self._devices[node], self._connected_at, now)
        return effects

    def wake_at(self) -> float | None:
        """When `tick` must be called next, or None."""
        if self._connected_at is None or not self._is_leading:
            return None
        times = [] if self._birth_at is None else [self._birth_at]
        if self._due:
            times.append(max(min(self._due.values()), self._free_at))
        return max(min(times), self._ready_at(self._connected_at)) if times else None

    def _ready_at(self, connected_at: float) -> float:
        return min(connected_at + KEPT_WITHIN_S, self._heard_at + SETTLE_S)

    def _device(self, node: str) -> _Device:
        if node not in self._devices:
            self._devices[node] = _Device(node, self.naming.config_topic(node))
        return self._devices[node]

    def _look_at(self, nodes: Iterable[str], now: float) -> None:
        self._due |= dict.fromkeys(nodes, now)

    def _keeps(self, device: _Device, payload: bytes, now: float) -> None:
        device.kept = payload
        if device.sent == payload:
            device.sent = None
        self._look_at([device.node], now)

    def _by_turns(self, now: float) -> list[str]:
        """Who is to be looked at: the master first, since it is the way to all the others (``via_device``)."""
        due = [node for node, at in self._due.items() if at <= now]
        return sorted(due, key=lambda node: (node != MASTER, self._due[node], node))

    def _tell_all(self, now: float) -> None:
        self._birth_at = None
        for device in self._devices.values():
            device.is_asked = True
        self._look_at(self._devices, now)

    def _look(self, device: _Device, connected_at: float, now: float) -> list[DiscoveryEffect]:
        """Bring *device* one step on, or note when to look at it again."""
        stale_at = connected_at + STALE_S
        if not device.is_seen and now >= stale_at:
            self._drop_stale(device)
        if device.changed_at is not None and now < device.changed_at + SETTLE_S:
            self._due[device.node] = device.changed_at + SETTLE_S
            return []
        effects: list[DiscoveryEffect] = []
        if device.changed_at is not None:
            self._free_at = now + GAP_S
            effects += self._build(device)
        payload = None if device.wanted is None else step(device.stands, device.wanted)
        if payload is None or (payload == device.stands and not (device.is_asked and payload)):
            device.is_asked = False
            self._leave(device, stale_at, now)
        elif now < device.published_at + REST_S:
            self._due[device.node] = device.published_at + REST_S
        else:
            effects += self._publish(device, payload, now)
        return effects

    def _drop_stale(self, device: _Device) -> None:
        """Its card is gone, unless the broker has lost all that it kept: then the node will show it when it comes."""
        if device.node != MASTER and (device.is_found or device.card is None):
            device.card, device.changed_at, device.wanted = None, None, b""

    def _leave(self, device: _Device, stale_at: float, now: float) -> None:
        """All is as it is to be. A device of which nothing is left is forgotten, but not before it could come back."""
        is_there = bool(device.card or device.stands) or device.is_unreadable or device.node == MASTER
        until = _LONG_AGO if device.is_seen and is_there else stale_at
        if not is_there:
            until = max(until, device.published_at + REST_S)
        if now < until:
            self._due[device.node] = until
            return
        del self._due[device.node]
        if not is_there:
            del self._devices[device.node]

    def _publish(self, device: _Device, payload: bytes, now: float) -> list[DiscoveryEffect]:
        device.sent, device.published_at, device.is_asked = payload, now, False
        self._free_at = now + GAP_S
        self._due[device.node] = now + REST_S
        publish = Publish(device.topic, payload)
        if payload:
            return [publish]
        return [publish, Note(f"Home Assistant: {_name(device)} is taken away there", "info")]

    def _build(self, device: _Device) -> list[DiscoveryEffect]:
        """Bring what is wanted up to date; of its flaws those that are new are told."""
        device.changed_at = None
        if self._routines is not None and device.node == MASTER:
            built = self._builders.master(self._routines)
        elif device.card is not None:
            built = self._builders.node(device.card)
        else:
            device.wanted, device.told = b"", frozenset()
            return []
        found = sendable(device.topic, built, self._builders.check)
        device.wanted = found.payload
        notes: list[DiscoveryEffect] = [
            Note(f"Home Assistant: {_name(device)}: {flaw}") for flaw in found.flaws if flaw not in device.told
        ]
        device.told = frozenset(found.flaws)
        return notes


def _name(device: _Device) -> str:
    return "the master" if device.node == MASTER else f"node {device.node}"
