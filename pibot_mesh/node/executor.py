"""Runs tasks, each in an asyncio task of its own, and says how they ended."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from pibot_mesh.agent.paced import PacedEvents
from pibot_mesh.agent.tools import ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode
from pibot_mesh.node.agent import AgentRun, NodeAgent
from pibot_mesh.node.events import AgentOrder, RunInput, RunTold, ToolEnded
from pibot_mesh.protocol.messages import State, Task, WireError

_log = logging.getLogger(__name__)
_STOP_WITHIN_S: Final = 1.0
_HEED_WITHIN_S: Final = 0.2
_ENDED: Final = WireError(ErrorCode.CANCELED, "the tool was ended")
_NODE_STOPS: Final = "the node stops"


class _Run(Protocol):
    """A task that runs."""

    task: Task

    async def do(self) -> ToolEnded:
        """Do it."""

    def end(self, reason: str, /) -> bool:
        """Tell it to end. Whether the asyncio task that it runs in must be cancelled for that."""

    def cut_off(self) -> ToolEnded:
        """How it ended where *work* was cancelled."""


class TaskExecutor:
    """Runs tasks: calls with *tools*, instructions with *agent*, where there is one.

    *ended* is called once for each, in the loop, and *told* with whatever they tell before.
    """

    def __init__(
        self,
        tools: ToolRegistry,
        ended: Callable[[ToolEnded], None],
        *,
        told: Callable[[RunInput], None] = lambda _: None,
        agent: NodeAgent | None = None,
    ) -> None:
        self._tools = tools
        self._ended = ended
        self._told = told
        self._agent = agent
        self._runs: dict[str, _Run] = {}
        self._works: dict[_Run, asyncio.Task[None]] = {}
        self._is_stopping = False

    def start(self, task: Task, by: float) -> None:
        """Begin *task*, unless it is later than *by* (seconds on the monotonic clock): then it is ``rejected``.

        So it is after `stop`: what comes in the last moment is not begun.
        """
        run = self._refusal(task, by) or self._new_run(task)
        if isinstance(run, WireError):
            self._ended(ToolEnded(task.id, State.REJECTED, error=run))
            return
        self._runs[task.id] = run  # one of an earlier attempt that was left behind is not heard any more
        work = asyncio.get_running_loop().create_task(self._run(run), name=f"task {task.id}")
        self._works[run] = work
        work.add_done_callback(lambda _: self._never_begun(run))

    def end(self, task: Task, reason: str = "cancelled") -> None:
        """Tell it to end. A tool in a thread ends when it looks at ``context.canceled``, or when it is done."""
        if task.id in self._runs:
            self._end(self._runs[task.id], reason)

    def pass_on(self, order: AgentOrder) -> None:
        """Give *order* to the run that it is for. It may have ended a moment before."""
        run = self._runs.get(order.task)
        if isinstance(run, AgentRun):
            run.take(order)

    async def stop(self) -> None:
        """End all. Tools in threads get a second, then they are left behind: what they did is ``unknown``.

        So is what does not heed its end; of that nothing more is said here.
        """
        self._is_stopping = True
        for run in self._works:
            self._end(run, _NODE_STOPS)
        late = set(self._works.values())
        if late:
            _, late = await asyncio.wait(late, timeout=_STOP_WITHIN_S)
        for work in late:
            work.cancel()
        if late:
            await asyncio.wait(late, timeout=_HEED_WITHIN_S)

    def _end(self, run: _Run, reason: str) -> None:
        if run.end(reason):
            self._works[run].cancel()

    def _refusal(self, task: Task, by: float) -> WireError | None:
        if self._is_stopping:
            return WireError(ErrorCode.INTERRUPTED, "the node stopped before the task began", retryable=True)
        if time.monotonic() >= by:
            return WireError(ErrorCode.EXPIRED, f"not started within {task.ttl_s:g} s", retryable=True)
        return None

    def _new_run(self, task: Task) -> _Run | WireError:
        run: _Run
        tool = task.tool or ""
        if task.kind == "agent":
            if self._agent is None:
                return WireError(ErrorCode.NO_MODEL, "this node has no model for an instruction")
            run = AgentRun(task, self._agent, lambda word: self._heard(run, word))
        elif tool in self._tools:
            run = CallRun(task, self._tools, lambda word: self._heard(run, word))
        else:
            return WireError(ErrorCode.UNKNOWN_TOOL, f"this node has no tool named {tool!r} any more")
        return run

    def _heard(self, run: _Run, word: RunInput) -> None:
        if self._runs.get(run.task.id) is run:
            self._told(word)

    async def _run(self, run: _Run) -> None:
        try:
            ended = await run.do()
        except asyncio.CancelledError:
            ended = run.cut_off()
        except Exception as error:  # noqa: BLE001 - the top of a task: whatever it is, the task ends with it
            _log.exception("a bug: the run of task %s broke", run.task.id)
            what = f"the run broke: {type(error).__name__}: {error}"
            ended = ToolEnded(run.task.id, State.FAILED, error=WireError(ErrorCode.INTERNAL, what))
        self._over(run, ended)

    def _over(self, run: _Run, ended: ToolEnded) -> None:
        self._works.pop(run, None)
        if self._runs.get(run.task.id) is run:
            del self._runs[run.task.id]
            self._ended(ended)

    def _never_begun(self, run: _Run) -> None:
        """A run that was ended before its first step does not see it, and would say nothing."""
        if run in self._works:
            self._over(run, ToolEnded(run.task.id, State.CANCELED, error=_ENDED))


class CallRun:
    """A call of one tool. What must be known of it is kept here: the tool itself may be gone before it ends."""

    def __init__(self, task: Task, tools: ToolRegistry, told: Callable[[RunInput], None]) -> None:
        self.task = task
        self._tools = tools
        self._is_async = inspect.iscoroutinefunction(tools[task.tool or ""].run)
        self._canceled = threading.Event()
        self._events = PacedEvents(lambda type_, data: told(RunTold(task.id, type_, data)))

    async def do(self) -> ToolEnded:
        """Call it, unless it was ended before: a tool in a thread need not look whether it was."""
        task = self.task
        if self._canceled.is_set():
            return ToolEnded(task.id, State.CANCELED, error=_ENDED)
        context = ToolContext(task.id, task.request, self._canceled, self._updates())
        try:
            outcome = await self._tools.outcome(task.tool or "", task.args, context)
        finally:
            self._events.close()
        if outcome.error is not None and outcome.error.code == ErrorCode.CANCELED and self._canceled.is_set():
            return ToolEnded(task.id, State.CANCELED, error=outcome.error)
        return ToolEnded(task.id, outcome.state, outcome.output, outcome.error)

    def end(self, _: str, /) -> bool:
        """Tell the tool to end; an async one by cancelling it."""
        self._canceled.set()
        return self._is_async

    def cut_off(self) -> ToolEnded:
        """An async tool has ended then; one in a thread may go on, and nobody knows what it does."""
        if self._is_async:
            return ToolEnded(self.task.id, State.CANCELED, error=_ENDED)
        is_safe = self.task.retry == "safe"
        error = WireError(ErrorCode.INTERRUPTED, "the node stopped in the middle of the task", is_safe)
        return ToolEnded(self.task.id, State.UNKNOWN, error=error)

    def _updates(self) -> Callable[[str], None]:
        """What the tool may call from any thread, at any time."""
        loop, tool = asyncio.get_running_loop(), self.task.tool or ""

        def update(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._events.update, tool, {"tool": tool, "text": str(text)})

        return update
