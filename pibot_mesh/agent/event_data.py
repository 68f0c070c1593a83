"""What a run tells, as fields of an event that fits into a message. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pibot_mesh.agent.events import AgentEvent
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.fit import cut_middle

TEXT_BYTES: Final = 8 * 1024
"""The longest text in an event. What a run ends with, its result, has more room."""
_ROOM: Final = 48 * 1024
_LIMITS: Final = (TEXT_BYTES, 1024, 128)
_MAX_ITEMS: Final = 100
_NOT_TOLD: Final = ("run", "seq")


def event_data(event: AgentEvent) -> dict[str, JSON]:
    """The fields of *event*, with long texts cut in the middle.

    Without its run and its number, since the mesh's own event has these, and without the calls of an outcome: each was
    told when it ended, and the task's result has them all.
    """
    fields = {key: value for key, value in to_dict(event).items() if key not in _NOT_TOLD}
    if "outcome" in fields:
        fields["outcome"] = {key: value for key, value in fields["outcome"].items() if key != "calls"}
    return bounded(fields)


def bounded(fields: Mapping[str, JSON]) -> dict[str, JSON]:
    """*fields* with their texts cut, so that most messages can carry them."""
    for limit in _LIMITS:
        shorter = {key: _short(value, limit) for key, value in fields.items()}
        if len(json.dumps(shorter).encode()) <= _ROOM:
            break
    return shorter


def _short(value: JSON, limit: int) -> JSON:
    match value:
        case str():
            return cut_middle(value, limit)
        case dict():
            return {key: _short(item, limit) for key, item in list(value.items())[:_MAX_ITEMS]}
        case list():
            return [_short(item, limit) for item in value[:_MAX_ITEMS]]
    return value
