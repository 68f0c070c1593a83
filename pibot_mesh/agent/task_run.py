"""One agent task, from its instruction to its end. Knows no MQTT; nodes and the master run theirs with it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from pibot_mesh.agent.approvals import Approvals
from pibot_mesh.agent.batch import Hooks, Refusal, ToolUse, output_text
from pibot_mesh.agent.call_records import fit_calls, short_call
from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.data_marks import as_data
from pibot_mesh.agent.event_data import event_data
from pibot_mesh.agent.events import AgentEvent, MessageDelta, Outcome, RunState, ToolUpdate
from pibot_mesh.agent.fresh_ids import FreshIds
from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.model import FailureKind, Model
from pibot_mesh.agent.paced import PacedEvents, Tell
from pibot_mesh.agent.run_clock import RunClock
from pibot_mesh.agent.tools import ToolContext, ToolOutcome, ToolRegistry
from pibot_mesh.errors import ErrorCode
from pibot_mesh.protocol.fit import cut_middle
from pibot_mesh.protocol.messages import Output, State, Task, TaskOutcome, ToolCall, Usage, WireError

BeginCall: TypeAlias = Callable[[str, ToolCall], Awaitable[None]]
"""Is awaited with a call's id and record before its tool begins: what must be stored before is stored there."""

_TEXT_BYTES: Final = 12 * 1024
"""An answer stands twice in a result, as words and as data, beside the calls."""
_CONTEXT_TOKENS: Final = 12_000


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How an agent task ended. A result that is made of it fits into a message."""

    state: TaskOutcome
    output: Output = Output()
    error: WireError | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()


class TaskRun:
    """A run of the agent loop for one *task*, which has an instruction.

    The model gets those of *tools* that the task allows, as they are now. *tell* hears the run's events (`AgentEvent`
    by type, with ``approval_required`` and ``approval_answered``), all within `run`: pieces of answers merged to ten a
    second, texts cut to what messages can carry. A call's id there is our own, 12 hex digits. *begin_call* is awaited
    before each call begins, after its approval; the ``tool_end`` of that id says how it ended.

    A tool in the task's ``ask`` or in *ask*, by name or effect, or whose own approval is ``ask``, waits for `answer`.
    Long outputs of tools are kept whole in *output_dir*; None: in a temporary folder that goes with the run.
    """

    def __init__(
        self,
        task: Task,
        model: Model,
        tools: ToolRegistry,
        *,
        system_prompt: str,
        tell: Tell,
        begin_call: BeginCall | None = None,
        ask: Collection[str] = (),
        context_tokens: int = _CONTEXT_TOKENS,
        output_dir: Path | None = None,
    ) -> None:
        self._task = task
        self._model = FreshIds(model)
        self._events = PacedEvents(tell)
        self._begin_call = begin_call
        self._clock = RunClock(task.timeout_s, self._time_is_over)
        self._approvals = Approvals({*task.ask, *ask}, task.ask_within_s, self._events.put, self._clock)
        self._ending: WireError | None = None
        self._agent: AgentCore | None = AgentCore(
            self._model,
            tools.subset(task.tools or [spec.name for spec in tools.specs()]),
            system_prompt=system_prompt,
            limits=_limits_of(task, context_tokens),
            hooks=Hooks(self._before_tool, self._after_tool),
            output_dir=output_dir,
            on_behalf=ToolContext(task.id, task.request),
        )

    async def run(self) -> TaskEnd:
        """Do it, once. Raises nothing but what cancels the caller, and bugs."""
        agent = self._agent
        if agent is None or self._ending is not None:
            return TaskEnd(State.CANCELED, error=self._ending)
        self._clock.start()
        try:
            async with aclosing(agent.run(_instruction_of(self._task))) as events:
                async for event in events:
                    self._hear(event)
            return self._end_of(agent.outcome)
        finally:
            self._clock.stop()
            self._events.close()
            self._agent = None  # the transcript goes at once, not with the next collection of garbage

    def steer(self, text: str) -> None:
        """Say *text* before the next model call. After the end nobody hears it."""
        if self._agent is not None:
            self._agent.steer(text)

    def answer(self, call: str, is_granted: bool, reason: str) -> None:
        """What a person says about the call that ``approval_required`` named; of another it means nothing."""
        self._approvals.answer(call, is_granted, reason)

    def hold(self) -> None:
        """Let its time stand still, until `go_on` was called as often as this: somebody else has work of it."""
        self._clock.hold()

    def go_on(self) -> None:
        """One of those who held its time does so no more."""
        self._clock.go_on()

    def end(self, reason: str) -> None:
        """End it, wherever it is, within half a second; it is ``canceled`` then. The first reason counts."""
        self._end_for(WireError(ErrorCode.CANCELED, reason))

    def _time_is_over(self) -> None:
        self._end_for(WireError(ErrorCode.TIMEOUT, f"not finished within {self._task.timeout_s:g} s"))

    def _end_for(self, why: WireError) -> None:
        self._ending = self._ending or why
        if self._agent is not None:
            self._agent.abort(why.message)

    # What is told

    def _hear(self, event: AgentEvent) -> None:
        match event:
            case MessageDelta(_, turn, _, text, kind):
                self._events.delta(turn, text, kind)
            case ToolUpdate(_, turn, _, call, text):
                self._events.update(call, {"turn": turn, "call": call, "text": text})
            case _:
                self._events.put(event.type, event_data(event))

    # What stands before and behind a tool

    async def _before_tool(self, use: ToolUse) -> Refusal | None:
        spec = use.tool.spec
        if self._approvals.must_ask(spec):
            verdict = await self._approvals.ask(use.id, spec, use.args)
            if not verdict.is_granted:
                return Refusal(f"not approved: {verdict.reason}")
        if self._begin_call is not None:
            await self._begin_call(use.id, short_call(ToolCall(spec.name, use.args, None, spec.effect)))
        return None

    def _after_tool(self, use: ToolUse, outcome: ToolOutcome) -> ToolOutcome | None:
        text = output_text(outcome)
        if not text:
            return None
        marked = as_data(use.tool.spec.name, text)
        if outcome.error is not None:
            return replace(outcome, error=replace(outcome.error, message=marked))
        return replace(outcome, output=Output(marked))

    # How it ends

    def _end_of(self, outcome: Outcome) -> TaskEnd:
        state, error = self._judge(outcome)
        text = cut_middle(outcome.text, _TEXT_BYTES)
        lost = [call.name for call in outcome.calls if call.ok is None and call.effect != "read"]
        if lost:
            what = f"{' and '.join(lost)} did not heed its end, and may still be doing something"
            error = WireError(error.code, f"{error.message}; {what}") if error else WireError(ErrorCode.TIMEOUT, what)
        return TaskEnd(
            State.UNKNOWN if lost else state,
            Output(text, {"text": text} if state is State.COMPLETED else None),
            error,
            fit_calls(map(short_call, outcome.calls)),
            outcome.usage,
        )

    def _judge(self, outcome: Outcome) -> tuple[TaskOutcome, WireError | None]:
        match outcome.state:
            case RunState.COMPLETED:
                return State.COMPLETED, None
            case RunState.CANCELED:
                why = self._ending or WireError(ErrorCode.CANCELED, outcome.reason)
                return (State.CANCELED if why.code == ErrorCode.CANCELED else State.FAILED), why
            case RunState.STOPPED:
                is_budget = outcome.reason.startswith("the limit of ")
                return State.FAILED, WireError(
                    ErrorCode.BUDGET if is_budget else ErrorCode.MODEL_FAILED, outcome.reason
                )
            case RunState.FAILED:
                code = ErrorCode.NO_MODEL if outcome.failure is FailureKind.AUTH else ErrorCode.MODEL_FAILED
                return State.FAILED, WireError(code, outcome.reason, self._is_worth_trying_again(outcome))

    def _is_worth_trying_again(self, outcome: Outcome) -> bool:
        failure = self._model.failure
        return failure is not None and failure.text == outcome.reason and failure.is_retryable


def _limits_of(task: Task, context_tokens: int) -> RunLimits:
    """The clock is not the loop's own: it would count the waiting for people too."""
    told = {name: getattr(task.limits, name) for name in ("turns", "tool_calls", "tokens")}
    asked = {name: limit for name, limit in told.items() if limit is not None}
    return RunLimits(**asked, wall_s=math.inf, context_tokens=context_tokens)


def _instruction_of(task: Task) -> str:
    instruction = task.instruction or ""
    return f"{instruction}\n\n{as_data('context', task.context)}" if task.context else instruction
