"""What a tool can tell of a call that a crash cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output


@dataclass(frozen=True, slots=True)
class Settled:
    """What was found after a restart. *is_done*: all that the call was to do stood then, and stands now.

    *output* says in words, and as data, what was found and how it is now.
    """

    output: Output
    is_done: bool = False


SettleFunction: TypeAlias = Callable[[Mapping[str, JSON]], Settled | None]
"""Looks, after a restart, what a call with these arguments has done; None where that cannot be known. Changes nothing
itself."""
