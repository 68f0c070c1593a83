"""Runs the tools of tasks, each in an asyncio task of its own, and says how they ended."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Final

from pibot_mesh.agent.tools import ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode
from pibot_mesh.node.events import ToolEnded
from pibot_mesh.protocol.messages import State, Task, WireError

_STOP_WITHIN_S: Final = 1.0
_HEED_WITHIN_S: Final = 0.2
_ENDED: Final = WireError(ErrorCode.CANCELED, "the tool was ended")


class TaskExecutor:
    """Runs ``call`` tasks with *tools*, and calls *ended* once for each, in the loop."""

    def __init__(self, tools: ToolRegistry, ended: Callable[[ToolEnded], None]) -> None:
        self._tools = tools
        self._ended = ended
        self._runs: dict[str, tuple[Task, asyncio.Task[None]]] = {}
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
        run = asyncio.get_running_loop().create_task(self._run(task), name=f"task {task.id}")
        self._runs[task.id] = (task, run)
        run.add_done_callback(lambda run: self._never_begun(task, run))

    def end(self, task: Task) -> None:
        """Tell the tool to end. A tool in a thread cannot be told: it ends when it is done."""
        if task.id in self._runs and self._can_be_told(task):
            self._runs[task.id][1].cancel()

    async def stop(self) -> None:
        """End all tools. Those in threads get a second, then they are left behind: what they did is ``unknown``.

        So is a tool that does not heed its end; of that nothing more is said here.
        """
        self._is_stopping = True
        for task, _ in self._runs.values():
            self.end(task)
        late = {run for _, run in self._runs.values()}
        if late:
            _, late = await asyncio.wait(late, timeout=_STOP_WITHIN_S)
        for run in late:
            run.cancel()
        if late:
            await asyncio.wait(late, timeout=_HEED_WITHIN_S)

    async def _run(self, task: Task) -> None:
        try:
            outcome = await self._tools.outcome(task.tool or "", task.args, ToolContext(task.id, task.request))
            ended = ToolEnded(task.id, outcome.state, outcome.output, outcome.error)
        except asyncio.CancelledError:
            ended = self._cut_off(task)
        finally:
            self._runs.pop(task.id, None)
        self._ended(ended)

    def _never_begun(self, task: Task, run: asyncio.Task[None]) -> None:
        """A run that was ended before its first step does not see it, and would say nothing."""
        if self._runs.get(task.id) == (task, run):
            del self._runs[task.id]
            self._ended(ToolEnded(task.id, State.CANCELED, error=_ENDED))

    def _cut_off(self, task: Task) -> ToolEnded:
        if self._can_be_told(task):
            return ToolEnded(task.id, State.CANCELED, error=_ENDED)
        error = WireError(ErrorCode.INTERRUPTED, "the node stopped in the middle of the task", task.retry == "safe")
        return ToolEnded(task.id, State.UNKNOWN, error=error)

    def _can_be_told(self, task: Task) -> bool:
        return task.tool is not None and inspect.iscoroutinefunction(self._tools[task.tool].run)
