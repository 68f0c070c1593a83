"""What of a batch of effects a ledger stores. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pibot_mesh.master.events import CountUsage, MasterEffect, Record, Save, SendEvent
from pibot_mesh.master.store import is_kept
from pibot_mesh.protocol.codec import to_dict
from pibot_mesh.protocol.messages import Event


@dataclass(frozen=True, slots=True)
class Storable:
    """*records* are those to be saved, by request: of several of one request, the last is enough.

    *events* are all but the pieces of an answer.
    """

    records: Mapping[str, Record]
    events: tuple[Event, ...]
    counts: tuple[CountUsage, ...]

    @classmethod
    def of(cls, effects: Iterable[MasterEffect]) -> Storable:
        """What is storable among *effects*."""
        effects = tuple(effects)
        return cls(
            {effect.record.request.id: effect.record for effect in effects if isinstance(effect, Save)},
            tuple(e.event for e in effects if isinstance(e, SendEvent) and is_kept(e)),
            tuple(effect for effect in effects if isinstance(effect, CountUsage)),
        )

    def __bool__(self) -> bool:
        return bool(self.records or self.events or self.counts)


def as_text(message: Record | Event) -> str:
    """*message* as JSON in ASCII: a text that every database takes, whatever its encoding, NUL included."""
    return json.dumps(to_dict(message), separators=(",", ":"))
