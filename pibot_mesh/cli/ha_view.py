"""What a mesh shows in Home Assistant, and what that would drop of it. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pibot_mesh import __version__
from pibot_mesh.errors import ProtocolError
from pibot_mesh.master.home_assistant.delivery import sendable
from pibot_mesh.master.home_assistant.master_device import master_payload
from pibot_mesh.master.home_assistant.model import Built, Flaw, Payload
from pibot_mesh.master.home_assistant.naming import MASTER, Naming
from pibot_mesh.master.home_assistant.node_device import node_payload
from pibot_mesh.master.home_assistant.rules import check, check_all
from pibot_mesh.mqtt.client import Message
from pibot_mesh.protocol.codec import JSON, decode, loads
from pibot_mesh.protocol.messages import MasterInfo, NodeCard, RoutineState
from pibot_mesh.protocol.topics import Address, Kind, Topics

T = TypeVar("T")

KINDS: Final = (Kind.NODE_CARD, Kind.MASTER_INFO, Kind.ROUTINE)
"""What `Heard` is made of, with what stands for Home Assistant."""


class Heard:
    """What the broker keeps of a mesh, and of what was published for Home Assistant."""

    def __init__(self) -> None:
        self.cards: dict[str, NodeCard] = {}
        self.routines: dict[str, RoutineState] = {}
        self.master: MasterInfo | None = None
        self.kept: dict[str, bytes] = {}
        """The payloads for Home Assistant by topic, also other meshes'."""

    def see(self, address: Address, message: Message) -> None:
        """Take in one message of the mesh. Raises ProtocolError."""
        payload = message.payload
        match address.kind:
            case Kind.NODE_CARD:
                _keep(self.cards, address.node, decode(NodeCard, payload) if payload else None)
            case Kind.ROUTINE:
                _keep(self.routines, address.id, decode(RoutineState, payload) if payload else None)
            case Kind.MASTER_INFO:
                self.master = decode(MasterInfo, payload) if payload else None

    def see_kept(self, message: Message) -> None:
        """Take in one payload for Home Assistant."""
        _keep(self.kept, message.topic, message.payload or None)


@dataclass(frozen=True, slots=True)
class Device:
    """One device in Home Assistant: what is, or would be, published of it, and what is wrong with that."""

    name: str
    topic: str
    payload: JSON
    flaws: tuple[Flaw, ...] = ()
    at_broker: str = ""
    """Whether the broker has it like that, in words."""

    @property
    def entities(self) -> int:
        """How many things of it can be seen."""
        found = [self.payload.get(key) for key in ("cmps", "components")] if isinstance(self.payload, dict) else []
        return sum(len(each) for each in found if isinstance(each, dict))

    @property
    def size(self) -> int:
        """Bytes of its payload, also of one that is too large to be sent."""
        text = json.dumps(self.payload, ensure_ascii=False, separators=(",", ":"))
        return len(text.encode("utf-8", "surrogatepass"))


def built(heard: Heard, topics: Topics, naming: Naming) -> dict[str, Built]:
    """What the mesh publishes for Home Assistant, by topic: a payload for each node, and one for a master.

    Where one cannot be sent, it is as it would be.
    """
    version = heard.master.version if heard.master is not None else __version__
    result = {
        naming.config_topic(node): node_payload(card, topics, naming, version=version)
        for node, card in sorted(heard.cards.items())
    }
    if heard.master is not None:
        routines = [state for _, state in sorted(heard.routines.items())]
        result[naming.config_topic(MASTER)] = master_payload(version, routines, topics, naming)
    return {topic: _as_sent(topic, each) for topic, each in result.items()}


def devices_of(heard: Heard, topics: Topics, naming: Naming, *, is_live: bool = True) -> list[Device]:
    """All devices that are, or should be, in Home Assistant: the mesh's own first, then what else the broker keeps.

    Unless *is_live*, nothing was heard from a broker, and nothing is said of it.
    """
    made = built(heard, topics, naming)
    kept = {topic: _read(payload) for topic, payload in sorted(heard.kept.items())}
    fresh: dict[str, Payload] = {**kept, **{topic: each.payload for topic, each in made.items()}}
    flaws, old_flaws = check_all(fresh), check_all(kept)
    result = []
    for topic in [*made, *(topic for topic in kept if topic not in made)]:
        own = list(dict.fromkeys([*made[topic].flaws, *flaws[topic]])) if topic in made else flaws[topic]
        old = [
            Flaw(each.where, f"as the broker keeps it: {each.text}")
            for each in old_flaws.get(topic, ())
            if each not in own
        ]
        name = naming.node_of(topic) or topic
        at_broker = _at_broker(topic, naming, fresh=made, kept=kept) if is_live else ""
        result.append(Device(name, topic, fresh[topic], (*own, *old), at_broker))
    return result


def as_json(devices: Sequence[Device]) -> JSON:
    """For ``--json``."""
    return {
        "devices": [
            {
                "device": device.name,
                "topic": device.topic,
                "entities": device.entities,
                "bytes": device.size,
                "at_broker": device.at_broker,
                "flaws": [{"where": flaw.where, "text": flaw.text} for flaw in device.flaws],
            }
            for device in devices
        ]
    }


def _as_sent(topic: str, made: Built) -> Built:
    """*made* as a master sends it: without what does not fit into a message."""
    found = sendable(topic, made, check)
    return Built(made.payload if found.payload is None else json.loads(found.payload), found.flaws)


def _keep(store: dict[str, T], key: str, value: T | None) -> None:
    if value is None:
        store.pop(key, None)
    else:
        store[key] = value


def _read(payload: bytes) -> JSON:
    """What cannot be read is None, which is no device."""
    try:
        return loads(payload)
    except ProtocolError:
        return None


def _at_broker(topic: str, naming: Naming, *, fresh: Mapping[str, Built], kept: Mapping[str, JSON]) -> str:
    if topic not in fresh:
        return "left over" if naming.node_of(topic) else "of another mesh"
    if topic not in kept:
        return "not published"
    return "published" if kept[topic] == fresh[topic].payload else "another one"
