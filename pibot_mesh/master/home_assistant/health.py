"""The entities that say how a node is. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pibot_mesh.master.home_assistant import templates
from pibot_mesh.master.home_assistant.device_classes import measured
from pibot_mesh.master.home_assistant.inputs import digits
from pibot_mesh.master.home_assistant.parts import ALWAYS, DIAGNOSTIC, Entity
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import NodeCard
from pibot_mesh.protocol.topics import Kind, Topics

_START_REASONS: Final = ("first", "restart", "crash", "reboot", "power_loss")


@dataclass(frozen=True, slots=True)
class _Number:
    """A number of the health; *key* is its key there."""

    id: str
    name: str
    key: str
    unit: str = ""
    device_class: str | None = None


_NUMBERS: Final = (
    _Number("rssi", "Wi-Fi signal", "rssi_dbm", "dBm", "signal_strength"),
    _Number("cpu_temperature", "CPU temperature", "cpu_temp_c", "°C", "temperature"),
    _Number("uptime", "Uptime", "uptime_s", "s", "duration"),
    _Number("memory_free", "Memory free", "mem_free_mb", "MiB", "data_size"),
    _Number("disk_free", "Disk free", "disk_free_mb", "MiB", "data_size"),
    _Number("load", "Load", "load1"),
)
_SILENT: Final = _Number("silent_sensors", "Silent sensors", "silent_sensors")


def health(card: NodeCard, topics: Topics) -> Iterator[Entity]:
    """The node's diagnostics. A number that a machine does not have, such as the Wi-Fi's, stays unknown."""
    topic = topics.topic(Kind.NODE_HEALTH, node=card.node)
    has_sensors = any(spec.direction == "sensor" for spec in card.devices)
    for number in (*_NUMBERS, *([_SILENT] if has_sensors else [])):
        yield _number(number, topic)
    yield Entity(
        "health_stopped",
        "binary_sensor",
        "Emergency stop",
        {"dev_cla": "problem", "stat_t": topic, "val_tpl": templates.flag("stopped"), **DIAGNOSTIC},
        object_id="emergency_stop",
    )
    if card.start_reason:
        yield _start_reason(topics.topic(Kind.NODE_CARD, node=card.node))


def presence(topic: str) -> Entity:
    """Whether something is online; *topic* has its status."""
    fields: dict[str, JSON] = {
        "dev_cla": "connectivity",
        "stat_t": topic,
        "pl_on": "online",
        "pl_off": "offline",
        **DIAGNOSTIC,
        **ALWAYS,
    }
    return Entity("online", "binary_sensor", "Online", fields)


def update(card: NodeCard, topics: Topics) -> Entity:
    """Whether the node runs the master's version. It says nothing while the master is away."""
    fields: dict[str, JSON] = {
        "dev_cla": "firmware",
        "tit": "PiBot Mesh",
        "stat_t": topics.topic(Kind.NODE_CARD, node=card.node),
        "val_tpl": templates.said("version", otherwise="''"),
        "l_ver_t": topics.topic(Kind.MASTER_INFO),
        "l_ver_tpl": templates.said("version", otherwise="''"),
        "avty": [
            {"t": topics.topic(Kind.NODE_STATUS, node=card.node)},
            {"t": topics.topic(Kind.MASTER_STATUS)},
        ],
        "avty_mode": "all",
        **DIAGNOSTIC,
    }
    return Entity("update", "update", "Update", fields)


def _number(number: _Number, topic: str) -> Entity:
    key = f"health_{number.id}"
    fields: dict[str, JSON] = {
        **measured(key, number.device_class, unit=number.unit).fields,
        "stat_t": topic,
        "val_tpl": templates.picked(number.key),
        "sug_dsp_prc": 0 if number is _SILENT else digits(number.unit),
        **DIAGNOSTIC,
    }
    return Entity(key, "sensor", number.name, fields, "health", number.id)


def _start_reason(topic: str) -> Entity:
    fields: dict[str, JSON] = {
        "dev_cla": "enum",
        "ops": list(_START_REASONS),
        "stat_t": topic,
        "val_tpl": templates.picked("start_reason", among=_START_REASONS),
        **DIAGNOSTIC,
    }
    return Entity("health_start_reason", "sensor", "Last start", fields, object_id="start_reason")
