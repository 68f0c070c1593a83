"""What one run of the agent loop knows of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pibot_mesh.agent.events import MessageStart, RunState, add_usage
from pibot_mesh.agent.messages import CallRequest
from pibot_mesh.agent.model import ModelFailure
from pibot_mesh.agent.stream import EventStream
from pibot_mesh.protocol.messages import ToolCall, Usage


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class Run:
    """One run: how far it is, what it has used, and whether it must end."""

    events: EventStream
    halt: asyncio.Future[None] = field(default_factory=_future)
    """Done when the run must end at once: whoever waits for anything waits for this too."""
    halted: tuple[RunState, str] | None = None
    """How and why the run was ended from outside."""
    stop_reason: str = ""
    """The limit that the run has met; it ends after the turn."""
    turns: int = 0
    usage: Usage = Usage()
    turn_usage: Usage = Usage()
    tokens: int = 0
    """Used so far, as the service told, or estimated."""
    tool_calls: int = 0
    records: list[ToolCall] = field(default_factory=list)
    text: str = ""
    """What the model said last."""
    failure: ModelFailure | None = None
    is_answering: bool = False
    """The model has begun an answer, and not ended it."""
    pieces: list[str] = field(default_factory=list)
    """The text of the answer that is being given."""
    _last_call: tuple[str, str] = ("", "")
    _same: int = 0

    def end(self, state: Literal["canceled", "stopped"], reason: str) -> None:
        """End the run at once. The first reason counts."""
        if self.halted is None:
            self.halted = RunState(state), reason
        if not self.halt.done():
            self.halt.set_result(None)

    async def wait_for(self, future: asyncio.Future[Any], timeout_s: float | None = None) -> None:
        """Wait until *future* is done, *timeout_s* are over or the run must end, whichever comes first."""
        await asyncio.wait({future, self.halt}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)

    def hear(self, text: str, kind: Literal["text", "reasoning"]) -> None:
        """A piece of the answer came."""
        if not self.is_answering:
            self.is_answering = True
            self.events.put(MessageStart)
        if kind == "text":
            self.pieces.append(text)
        self.events.delta(text, kind)

    def count(self, usage: Usage | None, estimate: Callable[[], int]) -> None:
        """Add what a model call used; *estimate* gives its tokens where the service did not tell."""
        if usage is None:
            self.tokens += estimate()
            return
        self.usage, self.turn_usage = add_usage(self.usage, usage), add_usage(self.turn_usage, usage)
        self.tokens += usage.input + usage.output

    def note_call(self, call: CallRequest) -> int:
        """Count a call that the model asks for. How often the same one has now come in a row."""
        self.tool_calls += 1
        this = (call.name, _canonical(call.arguments))
        self._same = self._same + 1 if this == self._last_call else 1
        self._last_call = this
        return self._same


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments.strip()
