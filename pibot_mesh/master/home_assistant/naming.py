"""What the mesh is called in Home Assistant: topics, identifiers and names. Pure.

Two meshes with other roots never have one of these in common, also where both have a node of the same name.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from pibot_mesh.protocol.topics import DEFAULT_ROOT, NODE_PATTERN

MASTER: Final = "master"
"""Stands for the master where else a node's id stands; no node is called so."""
_MAX_OBJECT_ID: Final = 200
"""Home Assistant takes 255 characters for an entity's id, with its domain."""


class Naming:
    """The topics and identifiers of the mesh with *root*, in a Home Assistant that looks below the topic *prefix*."""

    def __init__(self, root: str = DEFAULT_ROOT, prefix: str = "homeassistant") -> None:
        slug = re.sub(r"[^a-zA-Z0-9-]", "-", root)
        self.slug = slug if slug == root else f"{slug}-{sha256(root.encode()).hexdigest()[:6]}"
        self._base = f"{prefix}/device/pibot/"
        self._of_mesh = "" if root == DEFAULT_ROOT else f"{self.slug}_"
        self.config_filter = f"{self._base}+/config"
        """Where the discovery payloads of every mesh are."""
        self.birth_topic = f"{prefix}/status"
        """Where Home Assistant says that it is there."""

    def config_topic(self, node: str) -> str:
        """Where the discovery payload of *node* goes."""
        return f"{self._base}{self._of_mesh}{node}/config"

    def node_of(self, topic: str) -> str | None:
        """The node whose discovery payload *topic* has, or None where it has none of this mesh."""
        pattern = f"{re.escape(self._base + self._of_mesh)}({NODE_PATTERN})/config"
        match = re.fullmatch(pattern, topic)
        return match[1] if match else None

    def device_id(self, node: str) -> str:
        """What Home Assistant knows the device of *node* by."""
        return f"{self.slug}_{node}"

    def unique_id(self, node: str, component: str) -> str:
        """What Home Assistant knows the entity by that the *component* of *node* makes. Nodes' ids have no ``_``."""
        return f"{self.slug}_{node}_{component}"

    def entity_id(self, platform: str, node: str, component: str) -> str:
        """What the entity is called in automations, unless a person gives it another id: ``switch.kitchen_fan``."""
        words = re.sub(r"[^a-z0-9]+", "_", f"{node}_{component}".lower()).strip("_")
        return f"{platform}.{words[:_MAX_OBJECT_ID].strip('_')}"


def readable(text: str) -> str:
    """An id or a word as a person would write it as a name: ``living-room`` is ``Living room``."""
    words = " ".join(re.split(r"[\s_-]+", text)).strip()
    return words[:1].upper() + words[1:]


def capitalized(text: str) -> str:
    """*text* with a capital letter first and single blanks; all else as it was written."""
    words = " ".join(text.split())
    return words[:1].upper() + words[1:]


def shortened(text: str, characters: int) -> str:
    """*text* in at most so many *characters*: cut at the end of a word, with an ellipsis."""
    if len(text) <= characters:
        return text
    kept = text[: characters - 1]
    at_a_word = kept.rsplit(" ", 1)[0] if " " in kept[characters // 2 :] else kept
    return at_a_word.rstrip(" ,;:.") + "…"
