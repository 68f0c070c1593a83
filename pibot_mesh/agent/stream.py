"""The events of a run on their way to who reads them: never blocked by a slow reader, and bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Concatenate, Final, Literal, ParamSpec

from pibot_mesh.agent.events import AgentEvent, MessageDelta, ToolUpdate

P = ParamSpec("P")

MAX_UNREAD: Final = 64 * 1024
"""Characters of deltas that may wait; more are dropped. The message that ends an answer holds the whole of it."""
MAX_UPDATES: Final = 256
"""Words on the progress of tools that may wait."""


class EventStream:
    """Numbers the events of one run, and holds them until they are read.

    What begins and ends something is never dropped. Deltas that wait are merged, and dropped where too much waits; the
    number of a dropped event is not given again.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.turn = 0
        self._seq = 0
        self._waiting: deque[AgentEvent] = deque()
        self._unread = 0
        self._updates = 0
        self._is_closed = False
        self._wake = asyncio.Event()

    def put(
        self, make: Callable[Concatenate[str, int, int, P], AgentEvent], *fields: P.args, **named: P.kwargs
    ) -> None:
        """Add the event that *make* makes of *fields*."""
        self._append(make(self.run, self.turn, self._next_seq(), *fields, **named))

    def delta(self, text: str, kind: Literal["text", "reasoning"]) -> None:
        """Add a MessageDelta, or lengthen the one that waits as the last."""
        if self._unread + len(text) > MAX_UNREAD:
            self._next_seq()
            return
        self._unread += len(text)
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, MessageDelta) and last.kind == kind:
            self._waiting[-1] = replace(last, text=last.text + text)
        else:
            self.put(MessageDelta, text, kind)

    def update(self, call: str, text: str) -> None:
        """Add a ToolUpdate."""
        if self._updates >= MAX_UPDATES:
            self._next_seq()
            return
        self._updates += 1
        self.put(ToolUpdate, call, text)

    def close(self) -> None:
        """Nothing more comes."""
        self._is_closed = True
        self._wake.set()

    async def next(self) -> AgentEvent | None:
        """The next event, or None after the last one."""
        while not self._waiting:
            if self._is_closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        event = self._waiting.popleft()
        if isinstance(event, MessageDelta):
            self._unread -= len(event.text)
        elif isinstance(event, ToolUpdate):
            self._updates -= 1
        return event

    def _append(self, event: AgentEvent) -> None:
        self._waiting.append(event)
        self._wake.set()

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq - 1
