"""Events on their way to who watches: at once what begins and ends something, and now and then what only moves on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

from pibot_mesh.agent.event_data import TEXT_BYTES
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.fit import cut_middle

Tell: TypeAlias = Callable[[str, Mapping[str, JSON]], None]
"""Is told the type of an event and its fields, in the loop."""

EVERY_S: Final = 0.1
"""Pieces of answers and words on progress are told ten times a second at most, all together."""


class PacedEvents:
    """Passes events on to *tell*, in order.

    Pieces of an answer that come faster than *every_s* are told as one; of words on the progress of a tool, the last
    ones. The first comes at once, and none is told after what follows it.
    """

    def __init__(self, tell: Tell, every_s: float = EVERY_S) -> None:
        self._tell = tell
        self._every_s = every_s
        self._waiting: dict[tuple[str, str], dict[str, JSON]] = {}
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def put(self, type: str, data: Mapping[str, JSON]) -> None:  # noqa: A002 - the wire's own name
        """Tell it now, and before it what waits."""
        self.flush()
        if not self._is_closed:
            self._tell(type, data)

    def delta(self, turn: int, text: str, kind: Literal["text", "reasoning"]) -> None:
        """A piece of an answer."""
        waits = self._waiting.get(("message_delta", kind))
        before = waits["text"] if waits else ""
        self._soon(("message_delta", kind), {"turn": turn, "text": before + text, "kind": kind})

    def update(self, name: str, fields: Mapping[str, JSON]) -> None:
        """How far the call *name* is; *fields* have a ``text``."""
        self._soon(("tool_update", name), dict(fields))

    def flush(self) -> None:
        """Tell all that waits now."""
        while self._waiting:
            self._tell_next()

    def close(self) -> None:
        """Tell what waits, and then nothing any more."""
        self.flush()
        self._is_closed = True
        self._stop_timer()

    def _soon(self, key: tuple[str, str], fields: dict[str, JSON]) -> None:
        if self._is_closed:
            return
        self._waiting[key] = fields
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._next_at, self._due) if self._next_at > loop.time() else None
            if self._timer is None:
                self._tell_next()

    def _due(self) -> None:
        self._stop_timer()
        if self._waiting:
            self._tell_next()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_at(self._next_at, self._due)

    def _tell_next(self) -> None:
        key = next(iter(self._waiting))
        fields = self._waiting.pop(key)
        self._next_at = asyncio.get_running_loop().time() + self._every_s
        self._tell(key[0], {**fields, "text": cut_middle(fields["text"], TEXT_BYTES)})

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
