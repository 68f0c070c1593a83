"""The discovery payload of a node: an entity for everything that its card shows. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pibot_mesh.master.home_assistant import templates
from pibot_mesh.master.home_assistant.health import health, presence, update
from pibot_mesh.master.home_assistant.inputs import happening, read, sensed
from pibot_mesh.master.home_assistant.model import Built
from pibot_mesh.master.home_assistant.naming import MASTER, Naming, capitalized, readable, shortened
from pibot_mesh.master.home_assistant.outputs import output
from pibot_mesh.master.home_assistant.parts import CONFIG, MANUFACTURER, MAX_SAID, Entity, built
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard, ReflexSpec
from pibot_mesh.protocol.topics import Kind, Topics

_TIMER_TOOL: Final = "timer_set"
_TIMER: Final = "timer"
_TIMER_EVENT: Final = "timer_finished"


def node_payload(card: NodeCard, topics: Topics, naming: Naming, *, version: str) -> Built:
    """What Home Assistant is told of the node with this *card*; *version* is the master's.

    Everything that works without the master is there as long as the node is. The same card always gives the same JSON.
    A device class that Home Assistant does not have is left out, with a flaw; the entity appears.
    """
    device: dict[str, JSON] = {
        "name": readable(card.node),
        "mf": MANUFACTURER,
        "mdl": "Simulated node" if card.simulated else "Node",
        "sw": card.version,
        "via_device": naming.device_id(MASTER),
    }
    rooms = _rooms(card)
    if len(rooms) == 1:
        device["sa"] = rooms[0]
    return built(
        card.node,
        [*_devices(card, topics), *_reflexes(card, topics), *_own(card, topics)],
        naming=naming,
        device=device,
        shared={"avty": [{"t": topics.topic(Kind.NODE_STATUS, node=card.node)}], "qos": 1},
        version=version,
    )


def _rooms(card: NodeCard) -> list[str]:
    """The rooms that the node's devices are in, each once however it is written."""
    rooms = (capitalized(spec.room) for spec in card.devices)
    return list({room.lower(): room for room in rooms if room}.values())


def _devices(card: NodeCard, topics: Topics) -> Iterator[Entity]:
    has_rooms = len(_rooms(card)) > 1
    is_only_sensor = sum(spec.direction == "sensor" for spec in card.devices) == 1
    for spec in card.devices:
        name = _name(spec, has_rooms=has_rooms)
        match spec.direction:
            case "out":
                state = topics.topic(Kind.OUTPUT, node=card.node, device=spec.id)
                yield output(spec, name, state, topics.topic(Kind.OUTPUT_SET, node=card.node, device=spec.id))
            case "in":
                yield read(spec, name, topics.topic(Kind.INPUT, node=card.node, device=spec.id))
            case _:
                topic = topics.topic(Kind.SENSOR, node=card.node, device=spec.id)
                yield from sensed(spec, name, topic, is_only_sensor=is_only_sensor)
        event = happening(spec, name, topics.topic(Kind.NODE_EVENT, node=card.node))
        if event is not None:
            yield event


def _name(spec: DeviceSpec, *, has_rooms: bool) -> str:
    """What a person called it, with its room before it where its node has devices in several."""
    name = capitalized(spec.label) or readable(spec.name) or readable(spec.id)
    room = capitalized(spec.room)
    if not has_rooms or not room or room.lower() in name.lower():
        return name
    return f"{room} {name[:1].lower()}{name[1:]}" if name[1:2].islower() else f"{room} {name}"


def _reflexes(card: NodeCard, topics: Topics) -> Iterator[Entity]:
    for reflex in card.reflexes:
        yield _reflex(card.node, reflex, topics)


def _reflex(node: str, reflex: ReflexSpec, topics: Topics) -> Entity:
    fields: dict[str, JSON] = {
        "stat_t": topics.topic(Kind.REFLEX, node=node, id=reflex.id),
        "cmd_t": topics.topic(Kind.REFLEX_SET, node=node, id=reflex.id),
        **CONFIG,
    }
    return Entity(f"reflex_{reflex.id}", "switch", shortened(capitalized(reflex.says), MAX_SAID), fields, reflex.id)


def _own(card: NodeCard, topics: Topics) -> Iterator[Entity]:
    """What a node has whatever is wired to it."""
    if any(tool.name == _TIMER_TOOL for tool in card.tools):
        fields: dict[str, JSON] = {
            "evt_typ": [_TIMER_EVENT],
            "stat_t": topics.topic(Kind.NODE_EVENT, node=card.node),
            "val_tpl": templates.event(_TIMER, (_TIMER_EVENT,)),
        }
        yield Entity("timer_finished", "event", "Timer", fields, object_id="timer")
    yield from health(card, topics)
    yield presence(topics.topic(Kind.NODE_STATUS, node=card.node))
    yield update(card, topics)
