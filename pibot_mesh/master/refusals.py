"""Requests that were refused a moment ago: a copy of one gets the same word, whatever has changed meanwhile. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from pibot_mesh.protocol.messages import Reply

KEPT_S: Final = 120.0
"""How long a refusal holds. A sender that hears nothing sends a copy every eight seconds."""
KEPT: Final = 2_000


class Refusals:
    """The replies to requests that were refused within the last `KEPT_S` seconds, `KEPT` at most."""

    def __init__(self) -> None:
        self._replies: OrderedDict[str, tuple[Reply, float]] = OrderedDict()

    def note(self, reply: Reply, now: float) -> None:
        """*reply* is said now."""
        self._replies[reply.id] = (reply, now)
        while len(self._replies) > KEPT or now - next(iter(self._replies.values()))[1] > KEPT_S:
            self._replies.popitem(last=False)

    def of(self, request_id: str, now: float) -> Reply | None:
        """What was said of this request, if it was refused a moment ago."""
        reply, at = self._replies.get(request_id, (None, 0.0))
        return reply if now - at <= KEPT_S else None
