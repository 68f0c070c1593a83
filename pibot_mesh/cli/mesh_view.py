"""What the retained messages of a mesh say of it. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pibot_mesh.protocol.codec import JSON, decode, to_dict
from pibot_mesh.protocol.messages import (
    Cause,
    DeviceSpec,
    MasterInfo,
    NodeCard,
    OutputValue,
    decode_health,
    decode_presence,
    decode_sensor,
    decode_stop,
    decode_value,
)
from pibot_mesh.protocol.topics import Address, Kind

KINDS: Final = (
    Kind.MASTER_STATUS,
    Kind.MASTER_INFO,
    Kind.MASTER_HEALTH,
    Kind.STOP,
    Kind.NODE_STATUS,
    Kind.NODE_CARD,
    Kind.NODE_HEALTH,
    Kind.INPUT,
    Kind.OUTPUT,
    Kind.SENSOR,
)
"""What a `MeshView` of all is made of; it takes in causes and reflexes as well."""
MODEL_ENGINE: Final = "llm"
"""What a master with a language model has among its engines."""


@dataclass(slots=True)
class NodeView:
    """One node, as far as its messages have come."""

    is_online: bool = False
    card: NodeCard | None = None
    health: Mapping[str, float] = field(default_factory=dict)
    inputs: dict[str, OutputValue] = field(default_factory=dict)
    outputs: dict[str, OutputValue] = field(default_factory=dict)
    sensors: dict[str, Mapping[str, float]] = field(default_factory=dict)
    causes: dict[str, Cause] = field(default_factory=dict)
    """Who or what set each output last."""
    reflexes: dict[str, bool] = field(default_factory=dict)
    """Which reflexes are on."""

    @property
    def is_stopped(self) -> bool:
        """Whether it says that it obeys an emergency stop."""
        return bool(self.health.get("stopped"))

    @property
    def is_agent(self) -> bool:
        """Whether it takes instructions in words, as well as calls."""
        return self.card is not None and self.card.agent

    def unit(self, sensor: str, quantity: str) -> str:
        """The unit of what a sensor gives, where the card tells it."""
        device = self.spec(sensor)
        return device.measures[quantity].unit if device is not None and quantity in device.measures else ""

    def spec(self, device: str) -> DeviceSpec | None:
        """*device* as the card shows it, where it does."""
        devices = self.card.devices if self.card is not None else ()
        return next((spec for spec in devices if spec.id == device), None)

    def has(self, device: str) -> bool:
        """Whether *device* still belongs to the node: a broker keeps the states of devices that are gone."""
        return self.card is None or self.spec(device) is not None


@dataclass(slots=True)
class MeshView:
    """A mesh, as far as its messages have come."""

    is_master_online: bool = False
    master: MasterInfo | None = None
    master_health: Mapping[str, float] = field(default_factory=dict)
    is_stopped: bool = False
    nodes: dict[str, NodeView] = field(default_factory=dict)

    @property
    def has_model(self) -> bool:
        """Whether the master plans with a language model what no sentence template knows."""
        return self.master is not None and MODEL_ENGINE in self.master.engines

    def see(self, address: Address, payload: bytes) -> None:
        """Take in one message. An empty one takes away what was said before. Raises ProtocolError."""
        match address.kind:
            case Kind.MASTER_STATUS:
                self.is_master_online = bool(payload) and decode_presence(payload)
            case Kind.MASTER_INFO:
                self.master = decode(MasterInfo, payload) if payload else None
            case Kind.MASTER_HEALTH:
                self.master_health = decode_health(payload) if payload else {}
            case Kind.STOP:
                self.is_stopped = bool(payload) and decode_stop(payload)
            case Kind.NODE_CARD if not payload:
                self.nodes.pop(address.node, None)
            case _ if payload:
                self._see_node(self.nodes.setdefault(address.node, NodeView()), address, payload)

    def _see_node(self, node: NodeView, address: Address, payload: bytes) -> None:
        match address.kind:
            case Kind.NODE_STATUS:
                node.is_online = decode_presence(payload)
            case Kind.NODE_CARD:
                node.card = decode(NodeCard, payload)
            case Kind.NODE_HEALTH:
                node.health = decode_health(payload)
            case Kind.INPUT:
                node.inputs[address.device] = decode_value(payload)
            case Kind.OUTPUT:
                node.outputs[address.device] = decode_value(payload)
            case Kind.SENSOR:
                node.sensors[address.device] = decode_sensor(payload)
            case Kind.OUTPUT_CAUSE:
                node.causes[address.device] = decode(Cause, payload)
            case Kind.REFLEX:
                node.reflexes[address.id] = decode_value(payload) is True

    def forget(self) -> None:
        """Begin anew: the broker is gone, and what it kept will come again."""
        self.is_master_online, self.master, self.is_stopped = False, None, False
        self.master_health = {}
        self.nodes.clear()

    def to_json(self) -> dict[str, JSON]:
        """What ``pibot status --json`` prints."""
        return {
            "master": {
                "online": self.is_master_online,
                "info": to_dict(self.master) if self.master is not None else None,
                "health": dict(self.master_health),
            },
            "stopped": self.is_stopped,
            "nodes": {name: _node_json(node) for name, node in sorted(self.nodes.items())},
        }


def _node_json(node: NodeView) -> dict[str, JSON]:
    return {
        "online": node.is_online,
        "card": to_dict(node.card) if node.card is not None else None,
        "health": dict(node.health),
        "inputs": {device: value for device, value in sorted(node.inputs.items()) if node.has(device)},
        "outputs": {device: value for device, value in sorted(node.outputs.items()) if node.has(device)},
        "sensors": {device: dict(values) for device, values in sorted(node.sensors.items()) if node.has(device)},
    }
