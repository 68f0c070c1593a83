"""What a simulated master does itself: calls of its own tools, and an agent that delegates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Delegated, TaskEventSeen, TaskResultSeen
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import (
    Control,
    Event,
    Output,
    Result,
    State,
    StepResult,
    Task,
    TaskOutcome,
    Usage,
    WireError,
)
from pibot_mesh.testing.simulation.tools import delegated_step

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.master import MasterProcess

_ENDED: Final = WireError(ErrorCode.CANCELED, "cancelled")


class OwnRun:
    """A task that the master runs itself."""

    def __init__(self, master: MasterProcess, task: Task) -> None:
        self._master = master
        self._nature = master.nature
        self.task = task
        self._to_delegate = self._nature.chance.randint(0, 2) if task.kind == "agent" else 0
        self._seq = 0
        self._key = ""

    def begin(self) -> None:
        """Its first turn."""
        self._master.promises.started(self._master, self.task)
        if self.task.kind == "call":
            self._master.later(self._nature.between(0.01, 1.0), self._call)
        else:
            self._tell("task_accepted", {"attempt": self.task.attempt, "running": True})
            self._master.later(self._nature.between(0.01, 1.0), self._next)

    def control(self, control: Control) -> None:
        """An order about it."""
        if control.action == "cancel":
            self._master.later(self._nature.between(0.0, 0.5), self._over, State.CANCELED, Output(), _ENDED)

    def told(self, key: str, _: StepResult) -> None:
        """What it delegated under *key* has ended."""
        if key == self._key:
            self._key = ""
            self._master.later(self._nature.between(0.01, 0.5), self._next)

    def _call(self) -> None:
        if self._master.own_runs.get(self.task.id) is self:
            self._master.promises.took_effect(self._master, self.task, self.task.tool or "")
            self._over(State.COMPLETED, Output("done", {"n": self.task.args["n"]}))

    def _next(self) -> None:
        if self._master.own_runs.get(self.task.id) is not self:
            return
        if self._to_delegate == 0:
            self._over(State.COMPLETED, Output("all is done", {"text": "all is done"}))
            return
        self._to_delegate -= 1
        self._key = f"{self.task.id}.{self._to_delegate}"
        step = delegated_step(self._nature.chance, sorted(self._master.pool.members) or ["n1"])
        self._master.post(Delegated(self.task.id, self._key, step), is_own=True)

    def _over(self, state: TaskOutcome, output: Output = Output(), error: WireError | None = None) -> None:
        if self._master.own_runs.get(self.task.id) is not self:
            return
        del self._master.own_runs[self.task.id]
        task, usage = self.task, Usage(50, 0, 10)
        result = Result(task.id, task.request, task.attempt, state, output, error, usage=usage)
        self._master.post(TaskResultSeen(MASTER, result), is_own=True)

    def _tell(self, kind: str, data: dict[str, JSON]) -> None:
        event = Event(self.task.id, kind, self._master.boot, self._seq, 0.0, data)
        self._seq += 1
        self._master.post(TaskEventSeen(MASTER, self.task.id, event), is_own=True)
