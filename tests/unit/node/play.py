"""A node core on a clock that the test moves; whatever it says or does is checked against what it had stored before."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pibot_mesh.agent.settled import Settled
from pibot_mesh.agent.tools import Tool, ToolRegistry
from pibot_mesh.node.core import NodeCore
from pibot_mesh.node.events import (
    Connected,
    Entry,
    Forgotten,
    LetCall,
    MasterSeen,
    NodeEffect,
    NodeInput,
    Remembered,
    Save,
    SaveStop,
    SendEvent,
    SendResult,
    StartTool,
    TaskArrived,
    ToolEnded,
)
from pibot_mesh.protocol.messages import Capacity, Output, Result, State, Task, ToolSpec

E = TypeVar("E")

_TEXT = {"type": "object", "properties": {"value": {"type": "string"}}, "additionalProperties": False}
SPECS = (
    ToolSpec("read", parameters=_TEXT),
    ToolSpec("note", parameters=_TEXT, effect="write"),
    ToolSpec("press", parameters=_TEXT, effect="actuate", safe_to_retry=False),
)


def task(name: str = "t1", tool: str | None = "read", **fields: object) -> Task:
    """A task that calls *tool*; `press` may run once only."""
    retry = "never" if tool == "press" else "safe"
    return Task(**{"id": name, "request": "r1", "kind": "call", "tool": tool, "retry": retry, **fields})  # type: ignore[arg-type]


def agent(name: str = "t1", *tools: str, **fields: object) -> Task:
    """An instruction for which *tools* may be called; all, where none are named."""
    told = {"id": name, "request": "r1", "kind": "agent", "instruction": "be nice", "tools": tools}
    return Task(**{**told, **fields})  # type: ignore[arg-type]


def registry() -> ToolRegistry:
    return ToolRegistry([Tool(spec, lambda args, context: Output()) for spec in SPECS])


class Play:
    """One node, from one start to the next."""

    def __init__(
        self,
        remembered: Remembered = Remembered(),
        *,
        capacity: Capacity = Capacity(1, 1),
        boot: str = "b1",
        has_agent: bool = True,
    ) -> None:
        self.now = 100.0
        self.journal = {entry.task.id: entry for entry in remembered.entries}
        self.forgotten = dict(remembered.forgotten)
        self.epochs = dict(remembered.epochs)
        self.is_stopped = remembered.is_stopped
        self.tools = registry()
        self.refusals: list[tuple[str, str]] = []
        self.core = NodeCore(
            boot=boot,
            tools=self.tools,
            capacity=capacity,
            jitter=_Even(),
            has_agent=has_agent,
            remembered=remembered,
            wall=lambda: 1000.0,
        )

    def start(self, settled: Mapping[str, Settled] | None = None) -> list[NodeEffect]:
        return self._checked(self.core.start(settled or {}))

    def online(self) -> Play:
        """Connected, with the master there."""
        self.hear(Connected())
        self.hear(MasterSeen(True))
        return self

    def hear(self, event: NodeInput, after: float = 0.0) -> list[NodeEffect]:
        """What *event* causes, *after* seconds later than the last thing."""
        self.now += after
        return self._checked(self.core.handle(event, self.now))

    def give(self, *tasks: Task) -> None:
        for one in tasks:
            self.hear(TaskArrived(one))

    def end(self, name: str = "t1", after: float = 0.0) -> list[NodeEffect]:
        """The tool of the task is done."""
        return self.hear(ToolEnded(name, State.COMPLETED, Output("done")), after)

    def wait(self, seconds: float) -> list[NodeEffect]:
        """Let time go by, and gather what falls due."""
        end, effects = self.now + seconds, list[NodeEffect]()
        while (at := self.core.wake_at()) is not None and at <= end:
            self.now = at
            effects += self._checked(self.core.tick(self.now))
        self.now = end
        return effects

    def again(self, settled: Mapping[str, Settled] | None = None) -> Play:
        """The node after a crash: all that is left is what was stored. *settled* is what was found of what it did."""
        remembered = Remembered(tuple(self.journal.values()), dict(self.forgotten), self.is_stopped, dict(self.epochs))
        later = Play(remembered, boot="b2")
        later.start_effects = later.start(settled)
        return later

    start_effects: list[NodeEffect]

    def _checked(self, effects: list[NodeEffect]) -> list[NodeEffect]:
        """Whatever is said or done of a task stands behind its Save, or was stored before."""
        for effect in effects:
            match effect:
                case Save(entry):
                    self.journal[entry.task.id] = entry
                    if entry.task.epoch:
                        self.epochs[entry.task.request] = max(entry.task.epoch, self.epochs.get(entry.task.request, 0))
                case Forgotten(attempts):
                    for name in attempts:
                        del self.journal[name]
                    self.forgotten |= attempts
                case SaveStop(is_stopped):
                    self.is_stopped = is_stopped
                case StartTool(started):
                    assert self.journal[started.id] == Entry(started, "running")
                case LetCall(name):
                    assert any(call.ok is None for call in self.journal[name].calls)
                case SendResult(result):
                    assert self.journal[result.id].result == result
                case SendEvent(name, event) if event.type == "task_accepted":
                    assert name in self.journal
                case SendEvent(name, event) if event.type == "task_rejected":
                    self.refusals.append((name, event.data["error"]["code"]))
        return effects


def only(effects: Sequence[object], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def results(effects: Sequence[object]) -> list[Result]:
    return [effect.result for effect in only(effects, SendResult)]


def said(effects: Sequence[object]) -> list[str]:
    """The types of the events that were sent."""
    return [effect.event.type for effect in only(effects, SendEvent)]


class _Even(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2
