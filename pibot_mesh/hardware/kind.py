"""What a kind of device is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pibot_mesh.protocol.messages import Measure

Schema: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class InputWords:
    """How an input of a kind speaks: its events, and its state in sentences. *on* is what its state ``ON`` means."""

    on_event: str
    off_event: str
    on: str
    off: str
    pull: Literal["up", "down"]
    is_on_when_active: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of device is. *options* are JSON Schemas of the keys that only this kind has."""

    name: str
    says: str
    direction: Literal["in", "out", "sensor"]
    options: Mapping[str, Schema]
    is_dimmable: bool = False
    needs_pin: bool = True
    has_driver: bool = True
    words: InputWords | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict)


def flag(default: bool, description: str) -> Schema:
    """The schema of an option that is true or false."""
    return {"type": "boolean", "default": default, "description": description}


def level(description: str) -> Schema:
    """The schema of a level in percent; true and false are 100 and 0."""
    return {
        "type": ["boolean", "number"],
        "minimum": 0,
        "maximum": 100,
        "x-expects": "true, false or a number from 0 to 100",
        "default": 0,
        "description": description,
    }
