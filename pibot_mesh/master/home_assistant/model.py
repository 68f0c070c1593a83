"""What is said to Home Assistant of one device, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pibot_mesh.protocol.codec import JSON

Payload: TypeAlias = Mapping[str, JSON]
"""A device's discovery payload: ``dev``, ``o``, ``cmps`` and what all of its components have in common."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that Home Assistant would drop, or that was left out so that it does not.

    *where* names the component (``out_fan``) or the part of the payload (``dev``); *text* says what and why.
    """

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class Built:
    """The payload of one device, and what of its card could not be shown as it is."""

    payload: Payload
    flaws: tuple[Flaw, ...] = ()
