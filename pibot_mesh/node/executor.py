"""Runs the tools of tasks, each in an asyncio task of its own, and says how they ended."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pibot_mesh.agent.tools import ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode
from pibot_mesh.node.events import ToolEnded
from pibot_mesh.protocol.messages import State, Task, WireError

_STOP_WITHIN_S: Final = 1.0
_HEED_WITHIN_S: Final = 0.2
_ENDED: Final = WireError(ErrorCode.CANCELED, "the tool was ended")


@dataclass(slots=True)
class _Run:
    """A tool that runs. What must be known of it is kept here: the tool itself may be gone before it ends."""

    task: Task
    is_async: bool
    canceled: threading.Event = field(default_factory=threading.Event)
    work: asyncio.Task[None] | None = None


class TaskExecutor:
    """Runs ``call`` tasks with *tools*, and calls *ended* once for each, in the loop."""

    def __init__(self, tools: ToolRegistry, ended: Callable[[ToolEnded], None]) -> None:
        self._tools = tools
        self._ended = ended
        self._runs: dict[str, _Run] = {}
        self._is_stopping = False

    def start(self, task: Task, by: float) -> None:
        """Begin *task*, unless it is later than *by* (seconds on the monotonic clock): then it is ``rejected``.

        So it is after `stop`: what comes in the last moment is not begun.
        """
        if self._is_stopping:
            error = WireError(ErrorCode.INTERRUPTED, "the node stopped before the task began", retryable=True)
            self._ended(ToolEnded(task.id, State.REJECTED, error=error))
            return
        if time.monotonic() >= by:
            error = WireError(ErrorCode.EXPIRED, f"not started within {task.ttl_s:g} s", retryable=True)
            self._ended(ToolEnded(task.id, State.REJECTED, error=error))
            return
        tool = task.tool or ""
        if tool not in self._tools:
            error = WireError(ErrorCode.UNKNOWN_TOOL, f"this node has no tool named {tool!r} any more")
            self._ended(ToolEnded(task.id, State.REJECTED, error=error))
            return
        run = _Run(task, inspect.iscoroutinefunction(self._tools[tool].run))
        run.work = asyncio.get_running_loop().create_task(self._run(run), name=f"task {task.id}")
        self._runs[task.id] = run
        run.work.add_done_callback(lambda _: self._never_begun(run))

    def end(self, task: Task) -> None:
        """Tell the tool to end. A tool in a thread ends when it looks at ``context.canceled``, or when it is done."""
        if task.id in self._runs:
            run = self._runs[task.id]
            run.canceled.set()
            if run.is_async and run.work is not None:
                run.work.cancel()

    async def stop(self) -> None:
        """End all tools. Those in threads get a second, then they are left behind: what they did is ``unknown``.

        So is a tool that does not heed its end; of that nothing more is said here.
        """
        self._is_stopping = True
        for run in self._runs.values():
            self.end(run.task)
        late = {run.work for run in self._runs.values() if run.work is not None}
        if late:
            _, late = await asyncio.wait(late, timeout=_STOP_WITHIN_S)
        for work in late:
            work.cancel()
        if late:
            await asyncio.wait(late, timeout=_HEED_WITHIN_S)

    async def _run(self, run: _Run) -> None:
        task = run.task
        context = ToolContext(task.id, task.request, run.canceled)
        try:
            outcome = await self._tools.outcome(task.tool or "", task.args, context)
            ended = ToolEnded(task.id, outcome.state, outcome.output, outcome.error)
            if outcome.error is not None and outcome.error.code == ErrorCode.CANCELED and run.canceled.is_set():
                ended = ToolEnded(task.id, State.CANCELED, error=outcome.error)
        except asyncio.CancelledError:
            ended = _cut_off(run)
        finally:
            self._runs.pop(task.id, None)
        self._ended(ended)

    def _never_begun(self, run: _Run) -> None:
        """A run that was ended before its first step does not see it, and would say nothing."""
        if self._runs.get(run.task.id) is run:
            del self._runs[run.task.id]
            self._ended(ToolEnded(run.task.id, State.CANCELED, error=_ENDED))


def _cut_off(run: _Run) -> ToolEnded:
    if run.is_async:
        return ToolEnded(run.task.id, State.CANCELED, error=_ENDED)
    error = WireError(ErrorCode.INTERRUPTED, "the node stopped in the middle of the task", run.task.retry == "safe")
    return ToolEnded(run.task.id, State.UNKNOWN, error=error)
