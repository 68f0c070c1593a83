"""What a device's payload is put together from: its entities, and what they have in common. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pibot_mesh.master.home_assistant.model import Built, Flaw
from pibot_mesh.master.home_assistant.naming import Naming, capitalized, readable, shortened
from pibot_mesh.protocol.codec import JSON

MANUFACTURER: Final = "PiBot Mesh"
ALWAYS: Final[Mapping[str, JSON]] = {"avty": []}
"""For an entity that is there whatever the device's own availability says."""
DIAGNOSTIC: Final[Mapping[str, JSON]] = {"ent_cat": "diagnostic"}
CONFIG: Final[Mapping[str, JSON]] = {"ent_cat": "config"}
MAX_NAME: Final = 100
"""Characters of an entity's name: more does not fit on a card."""
MAX_SAID: Final = 60
"""Characters of what is said in words, where it is a name."""


@dataclass(frozen=True, slots=True)
class Entity:
    """One component of a payload, with all that is its own.

    *key* is its name among the device's components, which never changes. *name* is what people read, and *tag* what is
    added to it where another entity has the same one. *object_id* is its part of the entity's id; *key* where empty.
    """

    key: str
    platform: str
    name: str
    fields: Mapping[str, JSON]
    tag: str = ""
    object_id: str = ""
    flaws: tuple[Flaw, ...] = ()


def joined(device: str, measure: str) -> str:
    """A device's id and a measure in one, such that no two pairs give the same: measures never begin with ``_``."""
    return f"{device.replace('_', '__')}_{measure}"


def built(
    node: str,
    entities: Sequence[Entity],
    *,
    naming: Naming,
    device: Mapping[str, JSON],
    shared: Mapping[str, JSON],
    version: str,
) -> Built:
    """The payload of the device of *node*. *shared* holds for all of its entities that do not say otherwise."""
    names = _names(entities, str(device["name"]))
    taken: set[str] = set()
    components: dict[str, JSON] = {}
    for entity, name in zip(entities, names, strict=True):
        entity_id = naming.entity_id(entity.platform, node, entity.object_id or entity.key)
        if entity_id in taken:
            entity_id = naming.entity_id(entity.platform, node, entity.key)
        taken.add(entity_id)
        components[entity.key] = {
            "p": entity.platform,
            "name": name,
            "uniq_id": naming.unique_id(node, entity.key),
            "def_ent_id": entity_id,
            **entity.fields,
        }
    payload: dict[str, JSON] = {
        "dev": {"ids": [naming.device_id(node)], **device},
        "o": {"name": MANUFACTURER, "sw": version},
        **shared,
        "cmps": components,
    }
    return Built(payload, tuple(flaw for entity in entities for flaw in entity.flaws))


def _names(entities: Sequence[Entity], device: str) -> list[str | None]:
    """Names that differ from all others of their platform and do not repeat the device's, which stands before them.

    None, for an entity that is called as its device is, has Home Assistant call it so.
    """
    names = [
        _without(device, shortened(capitalized(entity.name), MAX_NAME) or readable(entity.key)) for entity in entities
    ]
    platforms = [entity.platform for entity in entities]
    for added in ([entity.tag or entity.key for entity in entities], [entity.key for entity in entities]):
        seen = [(platform, name.lower()) for platform, name in zip(platforms, names, strict=True)]
        count = Counter(seen)
        names = [
            _without(device, f"{name} ({more})") if count[one] > 1 else name
            for one, name, more in zip(seen, names, added, strict=True)
        ]
    return [None if name.lower() == device.lower() else name for name in names]


def _without(device: str, name: str) -> str:
    start = f"{device.lower()} "
    while name[: len(start)].lower() == start:
        name = capitalized(name[len(start) :])
    return name
