"""The tool calls of one answer: each is prepared, executed and finished, and gets exactly one result."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypeVar

from pibot_mesh.agent.events import ToolEnd, ToolStart
from pibot_mesh.agent.messages import CallRequest, ToolMessage
from pibot_mesh.agent.outputs import OutputFolder
from pibot_mesh.agent.run_state import Run
from pibot_mesh.agent.tools import Tool, ToolContext, ToolOutcome, ToolRegistry
from pibot_mesh.errors import ErrorCode
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, State, ToolCall, WireError

_log = logging.getLogger(__name__)
T = TypeVar("T")

GRACE_S: Final = 0.3
"""How long a tool has to end after it was told so; then it is left behind."""
_LEAVE_S: Final = 0.05
_ENDED: Final = "not run: the run was ended before"
_SKIPPED: Final = "skipped: interrupted"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a `before_tool` hook returns so that a call is not made; the model reads *reason*."""

    reason: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call as hooks see it: its id, the tool, and the checked arguments."""

    id: str
    tool: Tool
    args: Mapping[str, JSON]


BeforeTool: TypeAlias = Callable[
    [ToolUse], Awaitable[Refusal | Mapping[str, JSON] | None] | Refusal | Mapping[str, JSON] | None
]
AfterTool: TypeAlias = Callable[[ToolUse, ToolOutcome], Awaitable[ToolOutcome | None] | ToolOutcome | None]


@dataclass(frozen=True, slots=True)
class Hooks:
    """A program's own say about tool calls; plain or async functions.

    *before_tool* may return a Refusal, or other arguments, which are checked again. *after_tool* may return another
    outcome. A hook that raises makes an error of the call.
    """

    before_tool: BeforeTool | None = None
    after_tool: AfterTool | None = None


@dataclass(slots=True)
class _Call:
    request: CallRequest
    result: ToolMessage | None = None
    record: ToolCall | None = None


@dataclass(slots=True)
class Batch:
    """The calls of one answer, of which at most *parallel* run at the same time.

    `run` returns their results in the order of the calls, whatever happens. *refused* are calls that must not be made,
    by their place, each with what the model is told.
    """

    of: Run
    requests: Sequence[CallRequest]
    tools: ToolRegistry
    hooks: Hooks
    outputs: OutputFolder
    parallel: int
    on_behalf: ToolContext
    is_interrupted: Callable[[], bool]
    refused: Mapping[int, str] = field(default_factory=dict)
    _calls: list[_Call] = field(default_factory=list)

    @property
    def records(self) -> tuple[ToolCall, ...]:
        """The calls that reached a tool, for the outcome of the run."""
        return tuple(call.record for call in self._calls if call.record is not None)

    async def run(self) -> tuple[ToolMessage, ...]:
        """Make the calls: side by side, or one after another where one of the tools is sequential."""
        self._calls = [_Call(request) for request in self.requests]
        if len(self._calls) == 1 or self._is_sequential():
            for place, call in enumerate(self._calls):
                self._begin(call)
                await self._make(place, call)
        else:
            for call in self._calls:
                self._begin(call)
            room = asyncio.Semaphore(self.parallel)
            await asyncio.gather(*(self._make(place, call, room) for place, call in enumerate(self._calls)))
        return tuple(call.result for call in self._calls if call.result is not None)

    def _is_sequential(self) -> bool:
        return any(request.name in self.tools and self.tools[request.name].is_sequential for request in self.requests)

    def _begin(self, call: _Call) -> None:
        self.of.events.put(ToolStart, call.request.id, call.request.name, call.request.arguments)

    async def _make(self, place: int, call: _Call, room: asyncio.Semaphore | None = None) -> None:
        async with room or contextlib.nullcontext():
            outcome, is_left_behind = await self._outcome(place, call)
        await self._finish(call, outcome, is_left_behind)

    async def _outcome(self, place: int, call: _Call) -> tuple[ToolOutcome, bool]:
        """How the call ended. The flag: its tool was left behind."""
        if place in self.refused:
            return _error(ErrorCode.CANCELED, self.refused[place]), False
        if self.of.halted is not None:
            return _error(ErrorCode.CANCELED, _ENDED), False
        if self.is_interrupted():
            return _error(ErrorCode.CANCELED, _SKIPPED), False
        use = await self._prepare(call.request)
        if isinstance(use, ToolOutcome):
            return use, False
        outcome, is_left_behind = await self._execute(call, use)
        is_ok = None if is_left_behind else outcome.state is State.COMPLETED
        call.record = ToolCall(use.tool.spec.name, use.args, is_ok, use.tool.spec.effect)
        return await self._after(use, outcome), is_left_behind

    # prepare → execute → finish

    async def _prepare(self, request: CallRequest) -> ToolUse | ToolOutcome:
        """Look the tool up, read and check the arguments, and ask the hook."""
        if request.name not in self.tools:
            there = ", ".join(spec.name for spec in self.tools.specs()) or "none"
            return _error(ErrorCode.UNKNOWN_TOOL, f"there is no tool named {request.name!r}; there are: {there}")
        tool = self.tools[request.name]
        args = self.tools.read_arguments(request.name, request.arguments)
        if isinstance(args, str):
            return _error(ErrorCode.BAD_ARGUMENTS, args)
        return await self._before(ToolUse(request.id, tool, args))

    async def _before(self, use: ToolUse) -> ToolUse | ToolOutcome:
        if self.hooks.before_tool is None:
            return use
        try:
            verdict = await self._asked(self.hooks.before_tool(use))
            if not isinstance(verdict, Refusal | Mapping | None):
                raise TypeError(f"it returned {verdict!r}, and a Refusal, arguments or None is expected")
        except Exception as error:  # noqa: BLE001 - a hook is anybody's code
            return _broken_hook("before_tool", error)
        return self._judged(use, verdict)

    def _judged(self, use: ToolUse, verdict: Refusal | Mapping[str, JSON] | None) -> ToolUse | ToolOutcome:
        """What a hook's *verdict* means, after the time that it took."""
        if self.of.halted is not None:
            return _error(ErrorCode.CANCELED, _ENDED)
        if self.is_interrupted():
            return _error(ErrorCode.CANCELED, _SKIPPED)
        if isinstance(verdict, Refusal):
            return _error(ErrorCode.CANCELED, f"refused: {verdict.reason}")
        if use.tool.spec.name not in self.tools:
            return _error(ErrorCode.UNKNOWN_TOOL, f"the tool {use.tool.spec.name!r} has gone")
        if verdict is None:
            return use
        problems = self.tools.violations(use.tool.spec.name, verdict)
        if problems:
            return _error(ErrorCode.BAD_ARGUMENTS, f"the rewritten arguments do not fit: {'; '.join(problems)}")
        return replace(use, args=verdict)

    async def _execute(self, call: _Call, use: ToolUse) -> tuple[ToolOutcome, bool]:
        """Run the tool until it ends, its time is over or the run is ended. The flag: it was left behind."""
        context = replace(self.on_behalf, canceled=threading.Event(), update=self._updates_of(call))
        run = asyncio.ensure_future(self.tools.run(use.tool.spec.name, use.args, context))
        limit_s = use.tool.spec.timeout_s
        await self.of.wait_for(run, limit_s)
        is_left_behind = False
        if not run.done():
            is_left_behind = await _end(run, use.tool, context)
        if run.done() and not run.cancelled():
            return run.result(), False
        if self.of.halted is not None:
            code, why = ErrorCode.CANCELED, "canceled: the run was ended"
        else:
            code, why = ErrorCode.TIMEOUT, f"it did not end within {limit_s:g} s, and was canceled"
        tail = "; the tool did not heed that, and may still be doing something" if is_left_behind else ""
        return _error(code, f"{why}{tail}"), is_left_behind

    async def _after(self, use: ToolUse, outcome: ToolOutcome) -> ToolOutcome:
        if self.hooks.after_tool is None or self.of.halted is not None:
            return outcome
        try:
            changed = await self._asked(self.hooks.after_tool(use, outcome))
            if not isinstance(changed, ToolOutcome | None):
                raise TypeError(f"it returned {changed!r}, and a ToolOutcome or None is expected")
            return changed or outcome
        except Exception as error:  # noqa: BLE001 - a hook is anybody's code
            return _broken_hook("after_tool", error)

    async def _finish(self, call: _Call, outcome: ToolOutcome, is_left_behind: bool) -> None:
        """Write down the one result, and tell it. Words on progress that come later are ignored."""
        text = await self._kept(call.request.id, output_text(outcome))
        is_error = outcome.state is not State.COMPLETED
        call.result = ToolMessage(call.request.id, call.request.name, text, is_error)
        self.of.events.put(ToolEnd, call.request.id, call.request.name, text, is_error, is_left_behind)

    async def _kept(self, call: str, text: str) -> str:
        """*text* as the model sees it. A slow disk does not hold up an abort."""
        if self.of.halted is not None or not self.outputs.is_long(text):
            return self.outputs.cut(text)
        keeping = asyncio.ensure_future(self.outputs.kept(call, text))
        await self.of.wait_for(keeping)
        if keeping.done():
            return keeping.result()
        keeping.cancel()
        return self.outputs.cut(text)

    # Small things

    def _updates_of(self, call: _Call) -> Callable[[str], None]:
        """What the tool may call from any thread, at any time."""
        loop = asyncio.get_running_loop()

        def updated(text: str) -> None:
            if call.result is None:
                self.of.events.update(call.request.id, text)

        def update(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(updated, str(text))

        return update

    async def _asked(self, verdict: Awaitable[T] | T) -> T | None:
        """What a hook says; None where the run is ended while it thinks."""
        if not isinstance(verdict, Awaitable):
            return verdict
        thinking: asyncio.Future[T] = asyncio.ensure_future(verdict)
        await self.of.wait_for(thinking)
        if thinking.cancelled():
            raise RuntimeError("it was cancelled by something inside itself")
        if thinking.done():
            return thinking.result()
        thinking.cancel()
        return None


def output_text(outcome: ToolOutcome) -> str:
    """What a model reads of *outcome*: the error's words, else the output's text, or its data where it has no text."""
    if outcome.error is not None:
        return outcome.error.message
    if outcome.output.text or outcome.output.data is None:
        return outcome.output.text
    return json.dumps(outcome.output.data, ensure_ascii=False)


def _error(code: ErrorCode, message: str) -> ToolOutcome:
    return ToolOutcome(State.FAILED, Output(), WireError(code, message))


def _broken_hook(name: str, error: Exception) -> ToolOutcome:
    _log.error("the hook %s broke", name, exc_info=error)
    return _error(ErrorCode.TOOL_FAILED, f"the hook {name} broke: {type(error).__name__}: {error}")


async def _end(run: asyncio.Future[ToolOutcome], tool: Tool, context: ToolContext) -> bool:
    """Tell a tool to end, and give it `GRACE_S` for that. Whether it was left behind."""
    context.canceled.set()
    is_in_loop = inspect.iscoroutinefunction(tool.run)
    if is_in_loop:
        run.cancel()
    await asyncio.wait({run}, timeout=GRACE_S)
    if run.done():
        return False
    _log.warning("the tool %s did not heed its end, and was left behind", tool.spec.name)
    _left_behind.add(run)  # asyncio itself would forget it
    run.add_done_callback(_left_behind.discard)
    if not is_in_loop:
        run.cancel()  # nobody waits for its thread any more
        await asyncio.wait({run}, timeout=_LEAVE_S)
    return True


_left_behind: set[asyncio.Future[ToolOutcome]] = set()
