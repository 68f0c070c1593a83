"""The model gateway: nodes without a key ask the master's model, each within its limits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

from pibot_mesh.agent.chat_json import read_request
from pibot_mesh.agent.context import message_tokens, overhead_tokens, text_tokens, tokens_of
from pibot_mesh.agent.failures import Redactor
from pibot_mesh.agent.model import Answer, Delta, FailureKind, Model, ModelFailure, ModelRequest, UsageSeen
from pibot_mesh.config.settings import GatewaySettings
from pibot_mesh.errors import ErrorCode, ProtocolError
from pibot_mesh.master.admission import FairQueue, NodeMeter, Refused, TaskMeter
from pibot_mesh.master.chunks import ChunkWriter
from pibot_mesh.protocol.messages import LLMChunk, LLMRequest, Usage

_log = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Calls of the model that run at the same time, those of all nodes together."""
WAITING: Final = 64
"""Calls that may wait for their turn."""
REMEMBERED: Final = 1000
"""Ids by which the second copy of a request is recognised; and tasks whose tokens are counted."""
_ANY_MODEL: Final = 4096
"""A limit for an answer that every model takes. A larger one, which nobody asked for, some would refuse."""
_REDACTOR: Final = Redactor(())
_NO_MODEL: Final = Refused(
    ErrorCode.NO_MODEL,
    FailureKind.AUTH,
    "the master has no model: give it one (docs/models.md), or give the node one of its own",
)
_CROWDED: Final = Refused(
    ErrorCode.OVERLOADED,
    FailureKind.RATE_LIMIT,
    f"{WAITING} calls wait for the master's model already: ask again later",
    is_retryable=True,
    retry_after_s=5.0,
)
_NODE_AWAY: Final = Refused(
    ErrorCode.OFFLINE, FailureKind.NETWORK, "the connection was lost in the middle of the answer", is_retryable=True
)
_STOPPED: Final = Refused(
    ErrorCode.OFFLINE, FailureKind.NETWORK, "the master, whose model this is, is being stopped", is_retryable=True
)


class Gateway:
    """Asks *model* for the nodes. None: there is none, and each call is refused so.

    *budget* says how many tokens a task of a node may still use (None: that node has no such open task). *send* gets
    the chunks for a node, and *used* what a call took, once, when it has ended: as the service told it, also for calls
    that broke off or were cancelled; estimated where it did not tell and something had come. *used_today* are the
    tokens of each node on the day that *today* names when the gateway is made; *clock* gives seconds. Used in one event
    loop; the callbacks must not raise.

    Limits are by node (`GatewaySettings`); `AT_ONCE` calls run at the same time, of each task one, since the next one
    gets what that leaves; `WAITING` wait, and the nodes take turns. Nothing of the model's settings is in a chunk, and
    failures are told without keys.
    """

    def __init__(
        self,
        model: Model | None,
        settings: GatewaySettings,
        *,
        budget: Callable[[str, str], int | None],
        send: Callable[[str, LLMChunk], None],
        used: Callable[[str, str, Usage], None],
        today: Callable[[], str],
        used_today: Mapping[str, int] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._settings = settings
        self._budget = budget
        self._send = send
        self._used = used
        self._clock = clock
        self._today = today
        day = today()
        self._meters = {node: NodeMeter(node, settings, day=day, tokens=tokens) for node, tokens in used_today.items()}
        self._tasks: dict[tuple[str, str], TaskMeter] = {}
        self._seen: dict[tuple[str, str], None] = {}
        self._open: dict[tuple[str, str], _Call] = {}
        self._queue: FairQueue[_Call] = FairQueue(WAITING)
        self._running: dict[_Call, asyncio.Task[None]] = {}
        self._is_stopped = False

    @property
    def running(self) -> int:
        """How many calls of the model run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return len(self._queue)

    def ask(self, node: str, request: LLMRequest) -> None:
        """A request of *node* came. Every one that is not a copy gets a last chunk, unless it is cancelled before."""
        if request.cancel:
            self.cancel(node, request.id)
        elif self._is_new(node, request.id):
            call = _Call(node, request, ChunkWriter(request.id, lambda chunk: self._send(node, chunk)))
            refused = self._refusal(call)
            if refused is not None:
                call.chunks.fail(refused)
                return
            self._open[call.key] = call
            crowded_out = self._queue.put(node, call)
            if crowded_out is not None:
                crowded_out.chunks.fail(_CROWDED)
                self._drop(crowded_out)
            self._fill()

    def cancel(self, node: str, call_id: str) -> None:
        """Nobody waits for this call any more: it is ended at once, and nothing more is sent for it."""
        call = self._open.get((node, call_id))
        if call is not None:
            self._drop(call)

    def node_gone(self, node: str) -> None:
        """*node* went away: its calls are ended. They are told so, since it may have been away for a moment only."""
        for call in [call for call in self._open.values() if call.node == node]:
            call.chunks.fail(_NODE_AWAY)
            self._drop(call)

    async def stop(self) -> None:
        """End all calls, each with a failure that is worth another try, and refuse what comes."""
        self._is_stopped = True
        tasks = list(self._running.values())
        for call in list(self._open.values()):
            call.chunks.fail(_STOPPED)
            self._drop(call)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_new(self, node: str, call_id: str) -> bool:
        if (node, call_id) in self._seen:
            return False
        self._seen[node, call_id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True

    def _refusal(self, call: _Call) -> Refused | None:
        """Why *call* may not be made, if so. One that may be is counted."""
        if self._is_stopped:
            return _STOPPED
        if self._model is None:
            return _NO_MODEL
        if (refused := self._no_budget(call)) is not None:
            return refused
        try:
            call.asked = read_request(call.request)
        except ProtocolError as error:
            return Refused(ErrorCode.BAD_REQUEST, FailureKind.PROTOCOL, str(error))
        return self._meter(call.node).ask(now=self._clock(), day=self._today())

    def _no_budget(self, call: _Call) -> Refused | None:
        told = self._budget(call.node, call.request.task)
        if told is None:
            text = f"{call.node} has no open task {call.request.task}, and the model is asked for open tasks alone"
            return Refused(ErrorCode.BAD_REQUEST, FailureKind.PROTOCOL, text)
        left = self._task_meter(call).left(told)
        if left <= 0:
            text = "the task has used up the tokens of the model that its request gave it"
            return Refused(ErrorCode.BUDGET, FailureKind.QUOTA, text)
        call.tokens_left = left
        return None

    def _meter(self, node: str) -> NodeMeter:
        if node not in self._meters:
            self._meters[node] = NodeMeter(node, self._settings, day=self._today())
        return self._meters[node]

    def _task_meter(self, call: _Call) -> TaskMeter:
        meter = self._tasks[call.of_task] = self._tasks.pop(call.of_task, TaskMeter())
        if len(self._tasks) > REMEMBERED:
            del self._tasks[next(iter(self._tasks))]
        return meter

    def _may_begin(self, call: _Call) -> bool:
        return all(running.of_task != call.of_task for running in self._running)

    def _fill(self) -> None:
        """Begin the calls whose turn it is. Since they came, their tasks may have ended or used up their budget."""
        while len(self._running) < AT_ONCE and (call := self._queue.next(self._may_begin)) is not None:
            refused = self._no_budget(call)
            if refused is not None:
                call.chunks.fail(refused)
                self._drop(call)
                continue
            task = asyncio.get_running_loop().create_task(self._serve(call), name=f"model for {call.node}")
            self._running[call] = task
            task.add_done_callback(partial(self._ended, call))

    def _drop(self, call: _Call) -> None:
        call.chunks.close()
        self._open.pop(call.key, None)
        self._queue.remove(call.node, call)
        if call in self._running:
            self._running[call].cancel()

    def _ended(self, call: _Call, _: asyncio.Task[None]) -> None:
        """However it ended, even before it began."""
        del self._running[call]
        self._drop(call)
        usage = call.usage()
        if usage != Usage():
            tokens = usage.input + usage.output
            self._meter(call.node).use(tokens, day=self._today())
            self._task_meter(call).use(tokens)
            self._used(call.node, call.request.task, usage)
        self._fill()

    async def _serve(self, call: _Call) -> None:
        try:
            outcome = await self._listen(call)
        except Exception as error:  # noqa: BLE001 - the model may be anybody's code
            _log.exception("a bug in the model")
            outcome = ModelFailure(FailureKind.PROTOCOL, f"the model broke: {type(error).__name__}: {error}")
        call.outcome = outcome
        call.chunks.count(call.usage())
        if isinstance(outcome, Answer):
            call.chunks.end(outcome)
        else:
            text, is_retryable = _REDACTOR.clean(outcome.text), outcome.is_retryable
            refused = Refused(ErrorCode.MODEL_FAILED, outcome.kind, text, is_retryable, outcome.retry_after_s)
            call.chunks.fail(refused)

    async def _listen(self, call: _Call) -> Answer | ModelFailure:
        assert self._model is not None
        outcome: Answer | ModelFailure | None = None
        async with aclosing(self._model.stream(call.bounded())) as parts:
            async for part in parts:
                match part:
                    case Delta():
                        call.chunks.say(part)
                    case UsageSeen(usage):
                        call.told = usage
                        call.chunks.count(usage)
                    case _:
                        outcome = part
        text = "the model's stream ended without an answer"
        return outcome or ModelFailure(FailureKind.PROTOCOL, text, is_retryable=True)


class _Call:
    """One call of a node, from its request to its last chunk."""

    def __init__(self, node: str, request: LLMRequest, chunks: ChunkWriter) -> None:
        self.node = node
        self.request = request
        self.chunks = chunks
        self.key = (node, request.id)
        self.of_task = (node, request.task)
        self.asked = ModelRequest(())
        self.tokens_left = 1
        """What the task may still use."""
        self.told: Usage | None = None
        """What the service said that was used."""
        self.outcome: Answer | ModelFailure | None = None

    def bounded(self) -> ModelRequest:
        """What is asked, with an answer no longer than what the task may still use."""
        asked, left = self.asked, self.tokens_left
        if asked.max_tokens is None and left >= _ANY_MODEL:
            return asked
        return replace(asked, max_tokens=min(asked.max_tokens or left, left))

    def usage(self) -> Usage:
        """What it used: as the service told it, else estimated. Where nothing came, it used nothing."""
        if self.told is not None:
            return self.told
        said = self.outcome.message if isinstance(self.outcome, Answer) else self.chunks.said
        if said is None:
            return Usage()
        asked = self.asked
        entered = overhead_tokens(asked.system, asked.tools) + tokens_of(asked.messages)
        thought = text_tokens(said.reasoning) if said.reasoning else 0
        return Usage(entered, 0, message_tokens(said) + thought, thought)
