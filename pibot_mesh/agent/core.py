"""The agent loop: model → tools → model, until there is an answer. Knows no MQTT, and can be used alone."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pibot_mesh.agent.asking import Asker
from pibot_mesh.agent.batch import Batch, Hooks
from pibot_mesh.agent.events import (
    AgentEvent,
    MessageTaken,
    Outcome,
    RunEnd,
    RunStart,
    RunState,
    TurnEnd,
    TurnStart,
)
from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.messages import CallRequest, Message, UserMessage
from pibot_mesh.agent.model import Answer, Model
from pibot_mesh.agent.outputs import OutputFolder
from pibot_mesh.agent.run_state import Run
from pibot_mesh.agent.stream import EventStream
from pibot_mesh.agent.tools import DEFAULT, Tool, ToolContext, ToolRegistry
from pibot_mesh.protocol.messages import Usage

_CUT_OFF: Final = (
    "not run: the answer was cut at its token limit, so this call may not be whole. Make it again, with less text."
)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Something that was said and does not stand in the transcript yet."""

    text: str
    is_interrupt: bool = False


class AgentCore:
    """One conversation between a model and its tools.

    `run` does one instruction and gives its events; `outcome` is there when it has ended. One run at a time; the
    transcript goes on from run to run. `steer`, `interrupt`, `follow_up` and `abort` may be called at any time, in the
    thread of the loop.

    *tools* are those that the model may call (those of the global registry, where none are given); *messages* begin the
    transcript; *on_behalf* is what tools are told about for whom they run. Long outputs of tools are kept in
    *output_dir*, by default a temporary folder that goes with this object.
    """

    def __init__(
        self,
        model: Model,
        tools: ToolRegistry | Iterable[Tool] | None = None,
        *,
        system_prompt: str = "",
        limits: RunLimits = RunLimits(),
        hooks: Hooks = Hooks(),
        messages: Iterable[Message] = (),
        output_dir: Path | None = None,
        on_behalf: ToolContext | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        if tools is None:
            tools = DEFAULT
        self.tools = tools if isinstance(tools, ToolRegistry) else ToolRegistry(tools)
        self.system_prompt = system_prompt
        self.limits = limits
        self._hooks = hooks
        self._messages: list[Message] = list(messages)
        self._asker = Asker(model, self._messages, jitter or random.Random())
        self._steering: deque[_Waiting] = deque()
        self._following: deque[_Waiting] = deque()
        self._outputs = OutputFolder(limits.tool_output_bytes, output_dir)
        self._on_behalf = on_behalf or ToolContext()
        self._run: Run | None = None
        self._outcome: Outcome | None = None

    # What a caller sees

    @property
    def messages(self) -> tuple[Message, ...]:
        """The transcript, valid at every moment: a call stands in it only together with its result."""
        return tuple(self._messages)

    @property
    def waiting(self) -> tuple[str, ...]:
        """What `steer`, `interrupt` and `follow_up` were given and the model has not been told yet."""
        return tuple(one.text for one in (*self._steering, *self._following))

    @property
    def is_running(self) -> bool:
        """Whether a run is under way."""
        return self._run is not None

    @property
    def outcome(self) -> Outcome:
        """How the last run ended. Raises RuntimeError where none has."""
        if self._outcome is None:
            raise RuntimeError("no run has ended yet")
        return self._outcome

    async def run(self, instruction: str) -> AsyncGenerator[AgentEvent, None]:
        """Do *instruction*, and give the events of it, the last of which is a RunEnd.

        The run goes on at its own pace, however slowly its events are read; who stops reading aborts it, at once where
        they close the generator (``contextlib.aclosing``). Raises RuntimeError where a run is under way.
        """
        if self._run is not None:
            raise RuntimeError("a run is under way: wait for its end, or use steer or follow_up")
        run = self._run = Run(EventStream(uuid.uuid4().hex))
        driver = asyncio.ensure_future(self._drive(run, instruction))
        try:
            while (event := await run.events.next()) is not None:
                yield event
            await driver
        finally:
            run.end("canceled", "nobody reads the events of the run")
            await asyncio.wait({driver})

    async def answer(self, instruction: str) -> Outcome:
        """Do *instruction*, and return how it ended, without a look at the events. Raises as `run` does."""
        async with aclosing(self.run(instruction)) as events:
            async for _ in events:
                pass
        return self.outcome

    def steer(self, text: str) -> None:
        """Say *text* before the next model call, after the tools of this turn have ended; one message a turn."""
        self._steering.append(_Waiting(text))

    def interrupt(self, text: str) -> None:
        """Say *text* as `steer` does, but sooner: tool calls that have not begun are skipped."""
        self._steering.append(_Waiting(text, is_interrupt=True))

    def follow_up(self, text: str) -> None:
        """Say *text* when the run would otherwise end."""
        self._following.append(_Waiting(text))

    def take_back(self) -> tuple[str, ...]:
        """Return what is `waiting`, which is then never said."""
        texts = self.waiting
        self._steering.clear()
        self._following.clear()
        return texts

    def abort(self, reason: str = "aborted") -> None:
        """End the run within half a second, wherever it is. What is `waiting` stays for the next run."""
        if self._run is not None:
            self._run.end("canceled", reason)

    # The loop

    async def _drive(self, run: Run, instruction: str) -> None:
        """The run from its first event to its last."""
        wall_s = self.limits.wall_s
        alarm = asyncio.get_running_loop().call_later(wall_s, run.end, "stopped", f"{wall_s:g} s are over")
        run.events.put(RunStart, instruction)
        self._messages.append(UserMessage(instruction))
        try:
            state, reason = await self._loop(run)
            failure = run.failure.kind if run.failure is not None and state is RunState.FAILED else None
            self._outcome = Outcome(state, run.text, reason, failure, run.usage, run.turns, tuple(run.records))
            run.events.turn = 0
            run.events.put(RunEnd, self._outcome)
        finally:
            self._run = None
            alarm.cancel()
            run.events.close()

    async def _loop(self, run: Run) -> tuple[RunState, str]:
        """Turn after turn. How the run ended, and why."""
        while True:
            self._begin_turn(run)
            answer = await self._asker.ask(run, self.system_prompt, self.tools.specs(), self.limits)
            if answer is not None:
                await self._act(run, answer)
            run.events.put(TurnEnd, run.turn_usage)
            if run.halted is not None:
                return run.halted
            if answer is None:
                return RunState.FAILED, run.failure.text if run.failure is not None else ""
            if not answer.message.calls and not self._steering:
                if answer.finish == "length":
                    return RunState.STOPPED, "the answer was cut at its token limit"
                if not self._following:
                    return RunState.COMPLETED, ""
            if reason := self._met_limit(run):
                return RunState.STOPPED, reason
            if not self._take(run, self._steering, "steer") and not answer.message.calls:
                self._take(run, self._following, "follow_up")

    def _met_limit(self, run: Run) -> str:
        if run.stop_reason:
            return run.stop_reason
        if run.turns >= self.limits.turns:
            return f"the limit of {self.limits.turns} turns is reached"
        if run.tokens >= self.limits.tokens:
            return f"the limit of {self.limits.tokens} tokens is reached"
        return ""

    def _begin_turn(self, run: Run) -> None:
        run.turns += 1
        run.events.turn = run.turns
        run.turn_usage = Usage()
        run.events.put(TurnStart)
        if run.turns == 1:
            self._take(run, self._steering, "steer")

    def _take(self, run: Run, queue: deque[_Waiting], kind: Literal["steer", "follow_up"]) -> bool:
        """Move one message that waits into the transcript, if there is one."""
        if not queue:
            return False
        text = queue[0].text
        self._messages.append(UserMessage(text))
        queue.popleft()
        run.events.put(MessageTaken, text, kind)
        return True

    def _is_interrupted(self) -> bool:
        return any(one.is_interrupt for one in self._steering)

    async def _act(self, run: Run, answer: Answer) -> None:
        """Make the calls that the answer asks for. Answer and results go into the transcript together."""
        calls = answer.message.calls
        batch = Batch(
            run,
            calls,
            self.tools,
            self._hooks,
            self._outputs,
            self.limits.parallel,
            self._on_behalf,
            self._is_interrupted,
        )
        if answer.finish == "length":
            batch.refused = dict.fromkeys(range(len(calls)), _CUT_OFF)
        else:
            batch.refused = self._over_limit(run, calls)
        results = await batch.run()
        self._messages += [answer.message.readable(), *results]
        run.records += batch.records

    def _over_limit(self, run: Run, calls: Sequence[CallRequest]) -> dict[int, str]:
        """Why calls must not be made, by their place; the run ends after this turn then."""
        refused: dict[int, str] = {}
        for place, call in enumerate(calls):
            same = run.note_call(call)
            if run.tool_calls > self.limits.tool_calls:
                run.stop_reason = f"the limit of {self.limits.tool_calls} tool calls is reached"
            elif same >= self.limits.same_calls:
                run.stop_reason = f"the same call of {call.name} came {same} times in a row"
            if run.stop_reason:
                refused[place] = f"not run: {run.stop_reason}"
        return refused
