"""What a node decides: which task to run, what to say of it, and what must be remembered. Pure: no I/O.

The promises of docs/protocol.md that a node keeps are kept here. The shell (`pibot_mesh.node.service`) feeds events and
performs effects in order; a `Save` or `Forgotten` stands before whatever may be said or done only once it is stored.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, assert_never

from pibot_mesh.agent.call_records import fit_calls
from pibot_mesh.agent.settled import Settled
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.errors import ErrorCode, ProtocolError
from pibot_mesh.node.epochs import Epochs
from pibot_mesh.node.events import (
    Announce,
    AnswerApproval,
    ApprovalAnswered,
    ApprovalAwaited,
    CallBegun,
    CallEnded,
    Connected,
    Disconnected,
    EndTool,
    Entry,
    Forgotten,
    HoldOutputs,
    LetCall,
    MasterSeen,
    NodeControlled,
    NodeEffect,
    NodeInput,
    Note,
    OutputNoted,
    OutputOrdered,
    OwnStatusSeen,
    ReloadSkills,
    Remembered,
    RunInput,
    RunTold,
    Save,
    SaveOutput,
    SaveStop,
    SendEvent,
    SendResult,
    SetOutput,
    StartTool,
    SteerRun,
    StopSeen,
    TaskArrived,
    TaskControlled,
    TaskMalformed,
    ToolEnded,
)
from pibot_mesh.node.runs import OpenRun, gravest, is_unsure
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.fit import cut_middle, fit_event, fit_result
from pibot_mesh.protocol.messages import (
    RETAINED,
    Capacity,
    Control,
    Effect as ToolEffect,
    Event,
    Output,
    OutputSet,
    Result,
    State,
    Task,
    TaskOutcome,
    Timing,
    ToolCall,
    Usage,
    WireError,
)
from pibot_mesh.timers import Timers, resend_delay

ANNOUNCE_AFTER_S = 0.2
"""A task that is done before gives only its Result, which stands for ``task_accepted`` too (promise 4)."""
GRACE_S = 0.5
"""How long a tool may take to end after it was told to, before it is left behind."""
AGENT_GRACE_S = 1.0
"""The same for an agent, which gives its own tools a part of that."""
MAX_UNFORGOTTEN = 500
"""Results that the master has not yet taken; a node that holds more takes no more tasks."""
MAX_FORGOTTEN = 5_000
"""Ids of finished tasks that are kept to recognise a late copy."""
_REFUSAL_BYTES = 4_000
"""What is said of a refused task: its violations can be as long as the task."""
MAX_ORDER_IDS = 256
"""Ids of output orders that are kept to obey each once."""
MAX_SAID = 16
"""What an agent is told that waits to begin; more, and the oldest is not said."""
STOPPED: Final = WireError(ErrorCode.STOPPED, "the emergency stop was pulled")

_Deadline: TypeAlias = Literal["announce", "ttl", "timeout", "grace", "resend"]
_WHILE_OPEN: Final[tuple[_Deadline, ...]] = ("announce", "ttl", "timeout", "grace")


class NodeCore:
    """The decisions of one node.

    *tools* says what the node can do, *has_agent* whether it takes instructions too; *jitter* spreads what is sent
    again; *wall* gives Unix seconds for people to read and decides nothing.
    """

    def __init__(
        self,
        *,
        boot: str,
        tools: ToolRegistry,
        capacity: Capacity,
        jitter: random.Random,
        has_agent: bool = False,
        remembered: Remembered = Remembered(),
        wall: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._boot = boot
        self._tools = tools
        self._capacity = capacity
        self._jitter = jitter
        self._has_agent = has_agent
        self._wall = wall
        self._is_connected = False
        self._is_master_online = False
        self._is_stopped = remembered.is_stopped
        self._entries = {entry.task.id: entry for entry in remembered.entries}
        self._forgotten = OrderedDict(remembered.forgotten)
        self._epochs = Epochs(remembered.epochs)
        self._orders: OrderedDict[str, None] = OrderedDict()
        self._runs: dict[str, OpenRun] = {}
        self._queue: deque[str] = deque()
        self._resends: dict[str, int] = {}
        self._timers: Timers[tuple[_Deadline, str]] = Timers()

    @property
    def is_stopped(self) -> bool:
        """Whether the emergency stop holds."""
        return self._is_stopped

    @property
    def running(self) -> int:
        """How many tasks run now."""
        return sum(1 for run in self._runs.values() if run.started_at is not None)

    @property
    def queued(self) -> int:
        """How many tasks wait for a place to run."""
        return len(self._queue)

    def acts(self, task_id: str) -> bool:
        """Whether the task is open here, and may change what an output is at."""
        return task_id in self._runs and self._effect(self._entries[task_id].task) == "actuate"

    def acting(self) -> list[Task]:
        """The tasks that run now and may change what an output is at."""
        running = [task_id for task_id, run in self._runs.items() if run.started_at is not None]
        return [self._entries[task_id].task for task_id in running if self.acts(task_id)]

    def wake_at(self) -> float | None:
        """When `tick` must be called next, or None."""
        return self._timers.next_at()

    def start(self, settled: Mapping[str, Settled] = MappingProxyType({})) -> list[NodeEffect]:
        """What a node does first after a start: closes what was cut off in the middle, and holds a standing stop.

        A task that was queued has done nothing: ``rejected``, retryable. One that was running ends as ``unknown`` and
        says which calls it had made, and which was under way; the master begins a new attempt where ``retry`` allows
        it (promise 2). *settled* is what was found of such tasks: it is said too, and what is done is ``completed``.
        """
        effects: list[NodeEffect] = [HoldOutputs(True)] if self._is_stopped else []
        for entry in list(self._entries.values()):
            if entry.phase == "queued":
                error = WireError(ErrorCode.INTERRUPTED, "the node restarted before the task began", retryable=True)
                effects += self._end(entry, State.REJECTED, error=error, now=0.0)
            elif entry.phase == "running":
                effects += self._cut_off(entry, settled.get(entry.task.id, Settled(Output())))
        return effects

    def _cut_off(self, entry: Entry, settled: Settled) -> list[NodeEffect]:
        if settled.is_done:
            return self._end(entry, State.COMPLETED, output=settled.output, now=0.0)
        text = "the node restarted in the middle of the task"
        if settled.output.text:
            text += f": {settled.output.text}"
        error = WireError(ErrorCode.INTERRUPTED, text, retryable=entry.task.retry == "safe")
        return self._end(entry, State.UNKNOWN, output=settled.output, error=error, now=0.0)

    def handle(self, event: NodeInput, now: float) -> list[NodeEffect]:
        """Decide about *event*. *now* is seconds on any monotonic clock."""
        match event:
            case TaskArrived(task, is_retained):
                return self._task_arrived(task, is_retained, now)
            case TaskMalformed(error):
                return self._task_malformed(error)
            case TaskControlled(task_id, control, is_retained):
                return self._task_controlled(task_id, control, is_retained, now)
            case NodeControlled(control, is_retained):
                return self._node_controlled(control, is_retained)
            case Connected():
                self._is_connected = True
                return [Announce(), *(self._resend_results(now) if self._is_master_online else ())]
            case Disconnected():
                self._is_connected = False
                self._is_master_online = False
                return []
            case MasterSeen(is_online):
                return self._master_seen(is_online, now)
            case OwnStatusSeen(is_online):
                return [Announce()] if self._is_connected and not is_online else []
            case StopSeen(is_stopped):
                return self._stop_seen(is_stopped, now)
            case OutputOrdered(device, order, is_retained):
                return self._output_ordered(device, order, is_retained)
            case OutputNoted(device, value, cause):
                return [SaveOutput(device, value, cause)]
        return self._run_heard(event, now)

    def _run_heard(self, event: RunInput, now: float) -> list[NodeEffect]:
        run = self._runs.get(event.task)
        if run is not None and run.started_at is None:
            # It comes from an attempt that was left behind, and the one that is known now still waits.
            return [Note(f"an earlier attempt of task {event.task} is heard of: ignored", "info")]
        match event:
            case ToolEnded():
                return self._tool_ended(event, now)
            case RunTold():
                return self._run_told(event)
            case CallBegun():
                return self._call_begun(event, now)
            case CallEnded():
                return self._call_ended(event)
            case ApprovalAwaited(task_id, call):
                return self._approval_awaited(task_id, call, now)
            case ApprovalAnswered(task_id, call):
                return self._approval_answered(task_id, call, now)
        assert_never(event)

    def tick(self, now: float) -> list[NodeEffect]:
        """Do what is due by *now*."""
        effects: list[NodeEffect] = []
        for what, task_id in self._timers.pop_due(now):
            match what:
                case "announce":
                    effects += self._announce(task_id)
                case "ttl":
                    effects += self._expire(task_id, now)
                case "timeout":
                    limit = self._entries[task_id].task.timeout_s
                    effects += self._tell_to_end(
                        task_id, WireError(ErrorCode.TIMEOUT, f"not finished within {limit:g} s"), now
                    )
                case "grace":
                    effects += self._leave_behind(task_id, now)
                case "resend":
                    effects += self._send_result(task_id, now)
                case _:
                    assert_never(what)
        return effects

    # Tasks come in

    def _task_arrived(self, task: Task, is_retained: bool, now: float) -> list[NodeEffect]:
        if is_retained:
            return [_refused_retained(f"task {task.id}")]
        if self._epochs.is_past(task.request, task.epoch):
            return [_refused_past(f"task {task.id}")]
        self._epochs.note(task.request, task.epoch)
        if task.attempt <= self._forgotten.get(task.id, 0):
            return [Note(f"task {task.id} came again after its result was taken: ignored", "info")]
        entry = self._entries.get(task.id)
        if entry is not None and not self._is_new_attempt(entry, task):
            return self._known_again(entry, task, now)
        refusal = self._refusal(task)
        if refusal is not None and refusal.code == ErrorCode.STOPPED:
            # Remembered, so that a late copy does not run when the stop has been cleared.
            return self._end(Entry(task, "queued"), State.REJECTED, error=refusal, now=now)
        if refusal is not None:
            return [self._rejection(task.id, task.attempt, refusal)]
        self._runs[task.id] = OpenRun(arrived_at=now)
        self._timers.cancel(("resend", task.id))
        effects = self._begin_or_queue(task, now)
        if task.kind == "agent":  # it takes longer in any case, and people watch
            return effects + self._announce(task.id)
        self._timers.set(("announce", task.id), now + ANNOUNCE_AFTER_S)
        return effects

    def _begin_or_queue(self, task: Task, now: float) -> list[NodeEffect]:
        if self.running < self._capacity.running:
            return self._begin(task, now)
        self._queue.append(task.id)
        self._timers.set(("ttl", task.id), now + task.ttl_s)
        return [self._save(Entry(task, "queued"))]

    def _is_new_attempt(self, entry: Entry, task: Task) -> bool:
        """Whether *task* must run although an earlier attempt is known.

        What completed here is never done again, and what still runs goes on under the new attempt's number.
        """
        return (
            task.attempt > entry.task.attempt
            and entry.result is not None
            and entry.result.state is not State.COMPLETED
            and (task.retry == "safe" or entry.result.state is State.REJECTED)
        )

    def _known_again(self, entry: Entry, task: Task, now: float) -> list[NodeEffect]:
        if task.attempt < entry.task.attempt:
            return [Note(f"task {task.id}: attempt {task.attempt} is older than {entry.task.attempt}: ignored", "info")]
        effects: list[NodeEffect] = []
        if (task.attempt, task.epoch) != (entry.task.attempt, entry.task.epoch):
            result = entry.result and replace(entry.result, attempt=task.attempt)
            known = replace(entry.task, attempt=task.attempt, epoch=task.epoch)
            entry = replace(entry, task=known, result=result)
            effects.append(self._save(entry))
        if entry.result is not None:
            return effects + self._send_result(task.id, now)
        return effects + self._announce(task.id)

    def _refusal(self, task: Task) -> WireError | None:
        """Why *task* cannot be taken, or None."""
        refusal = self._tool_refusal(task)
        if refusal is not None:
            return refusal
        if self.running >= self._capacity.running and len(self._queue) >= self._capacity.queued:
            return WireError(ErrorCode.BUSY, f"{self.running} tasks run and {self.queued} wait", retryable=True)
        if len(self._entries) - len(self._runs) >= MAX_UNFORGOTTEN:
            return WireError(ErrorCode.BUSY, f"{MAX_UNFORGOTTEN} results wait for the master", retryable=True)
        return None

    def _tool_refusal(self, task: Task) -> WireError | None:
        """Why *task* cannot be run now by the tools that there are, or None."""
        if task.kind == "agent" and not self._has_agent:
            return WireError(ErrorCode.NO_MODEL, "this node has no model for an instruction")
        wanted = _tools_of(task)
        if missing := [name for name in wanted if name not in self._tools]:
            return WireError(ErrorCode.UNKNOWN_TOOL, f"this node has no tool named {' or '.join(map(repr, missing))}")
        problems = [] if task.kind == "agent" else self._tools.violations(wanted[0], task.args)
        if problems:
            return WireError(ErrorCode.BAD_ARGUMENTS, f"{task.tool}: {'; '.join(problems)}")
        if self._is_stopped and self._effect(task) == "actuate":
            return WireError(ErrorCode.STOPPED, "the emergency stop holds; a person must clear it")
        return None

    def _task_malformed(self, error: ProtocolError) -> list[NodeEffect]:
        if error.id is None:
            return []
        return [self._rejection(error.id, None, WireError(error.code, str(error)))]

    def _rejection(self, task_id: str, attempt: int | None, error: WireError) -> NodeEffect:
        shorter = replace(error, message=cut_middle(error.message, _REFUSAL_BYTES))
        data: dict[str, JSON] = {"error": to_dict(shorter)}
        if attempt is not None:
            data["attempt"] = attempt
        return SendEvent(task_id, Event(task_id, "task_rejected", self._boot, 0, self._wall(), data))

    # Tasks run

    def _begin(self, task: Task, now: float) -> list[NodeEffect]:
        run = self._runs[task.id]
        run.effect = self._effect(task)
        run.started_at = now
        self._timers.cancel(("ttl", task.id))
        self._timers.set(("timeout", task.id), now + task.timeout_s)
        steered = [SteerRun(task.id, text) for text in run.said]
        return [self._save(Entry(task, "running")), StartTool(task, run.arrived_at + task.ttl_s), *steered]

    def _announce(self, task_id: str) -> list[NodeEffect]:
        self._timers.cancel(("announce", task_id))
        is_running = self._runs[task_id].started_at is not None
        return [
            self._event(
                task_id, "task_accepted", {"attempt": self._entries[task_id].task.attempt, "running": is_running}
            )
        ]

    def _event(self, task_id: str, type: str, data: Mapping[str, JSON]) -> SendEvent:  # noqa: A002 - the wire's own name
        run = self._runs[task_id]
        run.seq += 1
        return SendEvent(task_id, fit_event(Event(task_id, type, self._boot, run.seq - 1, self._wall(), data)))

    def _tool_ended(self, ended: ToolEnded, now: float) -> list[NodeEffect]:
        run = self._runs.get(ended.task)
        if run is None:
            return [Note(f"the tool of task {ended.task} ended after it was left behind", "info")]
        state, error = ended.state, ended.error
        if run.ending is not None and state not in (State.COMPLETED, State.UNKNOWN):
            state, error = _state_for(run.ending), run.ending
        elif run.ending is not None and error is not None and error.code == ErrorCode.CANCELED:
            error = replace(error, code=run.ending.code)  # who was ended does not know whether it was for the time
        if ended.tool_calls is None and is_unsure(run.records):
            state = State.UNKNOWN
        effects = self._end(
            self._entries[ended.task],
            state,
            now=now,
            output=ended.output,
            error=error,
            calls=ended.tool_calls,
            usage=ended.usage,
        )
        return effects + self._next(now)

    def _tell_to_end(self, task_id: str, why: WireError, now: float) -> list[NodeEffect]:
        run = self._runs[task_id]
        if run.ending is not None:
            return []
        run.ending = why
        task = self._entries[task_id].task
        self._timers.cancel(("timeout", task_id))
        self._timers.set(("grace", task_id), now + (AGENT_GRACE_S if task.kind == "agent" else GRACE_S))
        return [EndTool(task, why.message)]

    def _leave_behind(self, task_id: str, now: float) -> list[NodeEffect]:
        """The tool did not end: nobody knows what it still does.

        An agent makes no further call that changes something: nobody lets it.
        """
        entry, run = self._entries[task_id], self._runs[task_id]
        is_agent = entry.task.kind == "agent"
        is_doubtful = is_unsure(run.records) if is_agent else self._effect(entry.task) != "read"
        state = State.UNKNOWN if is_doubtful else _state_for(run.ending)
        effects = self._end(entry, state, error=run.ending, now=now)
        return [*effects, Note(f"the tool of task {task_id} did not end and was left behind"), *self._next(now)]

    def _expire(self, task_id: str, now: float) -> list[NodeEffect]:
        """The task waited too long: acting on it now could surprise somebody (promise 3)."""
        entry = self._entries[task_id]
        self._queue.remove(task_id)
        error = WireError(ErrorCode.EXPIRED, f"not started within {entry.task.ttl_s:g} s", retryable=True)
        return self._end(entry, State.REJECTED, error=error, now=now)

    def _next(self, now: float) -> list[NodeEffect]:
        """Begin what waits, as far as there is room."""
        effects: list[NodeEffect] = []
        while self._queue and self.running < self._capacity.running:
            task = self._entries[self._queue[0]].task
            if now >= self._runs[task.id].arrived_at + task.ttl_s:
                effects += self._expire(task.id, now)
                continue
            self._queue.popleft()
            refusal = self._tool_refusal(task)  # while it waited, its skill may have been changed or removed
            if refusal is not None:
                effects += self._end(self._entries[task.id], State.REJECTED, error=refusal, now=now)
            else:
                effects += self._begin(task, now)
        return effects

    def _end(
        self,
        entry: Entry,
        state: TaskOutcome,
        *,
        now: float,
        output: Output = Output(),
        error: WireError | None = None,
        calls: tuple[ToolCall, ...] | None = None,
        usage: Usage = Usage(),
    ) -> list[NodeEffect]:
        """Store how the task ended, then say it. Without *calls*, those of the journal's entry are its calls."""
        task = entry.task
        effect = self._effect(task)
        run = self._runs.pop(task.id, None)
        for what in _WHILE_OPEN:
            self._timers.cancel((what, task.id))
        result = fit_result(
            Result(
                task.id,
                task.request,
                task.attempt,
                state,
                output,
                error,
                tool_calls=_calls(entry, state, effect) if calls is None else fit_calls(calls),
                usage=usage,
                timing=run.timing(now) if run else Timing(),
                boot=self._boot,
                seq=run.seq if run else 0,
                ts=self._wall(),
            )
        )
        self._resends[task.id] = 0
        return [self._save(Entry(task, "ended", result), effect), *self._send_result(task.id, now)]

    # What an agent tells while it runs

    def _run_told(self, told: RunTold) -> list[NodeEffect]:
        """Pass it on. What comes from a run that has ended, or was left behind, is nobody's."""
        if told.task not in self._runs:
            return []
        effects = self._announce(told.task) if ("announce", told.task) in self._timers else []
        return [*effects, self._event(told.task, told.type, told.data)]

    def _call_begun(self, begun: CallBegun, now: float) -> list[NodeEffect]:
        """First the journal, then the call (promise 2)."""
        run = self._runs.get(begun.task)
        if run is None or run.ending is not None:
            return []
        effect = begun.record.effect
        run.effect = gravest([effect, self._effect(self._entries[begun.task].task)])
        if self._is_stopped and effect == "actuate":
            return self._tell_to_end(begun.task, STOPPED, now)
        run.note(begun.call, begun.record)
        save = self._save_calls(begun.task, run, is_durable=effect != "read")
        return [save] if effect == "read" else [save, LetCall(begun.task, begun.call)]

    def _call_ended(self, ended: CallEnded) -> list[NodeEffect]:
        """Stored, but not synced: a pulled plug makes of it a call of which nobody knows, which is no lie."""
        run = self._runs.get(ended.task)
        if run is None or ended.call not in run.calls:
            return []
        run.calls[ended.call] = replace(run.calls[ended.call], ok=ended.ok)
        return [self._save_calls(ended.task, run, is_durable=False)]

    def _save_calls(self, task_id: str, run: OpenRun, *, is_durable: bool) -> Save:
        entry = self._entries[task_id] = replace(self._entries[task_id], calls=run.records)
        return Save(entry, is_durable)

    def _approval_awaited(self, task_id: str, call: str, now: float) -> list[NodeEffect]:
        """Its time stands still; whoever runs it has an answer within the time that a question may wait."""
        run, ends_at = self._runs.get(task_id), self._timers.at(("timeout", task_id))
        if run is None or ends_at is None:
            return []
        if not run.asked:
            run.left_s = ends_at - now
        run.asked.add(call)
        self._timers.set(("timeout", task_id), now + run.left_s + self._entries[task_id].task.ask_within_s)
        return []

    def _approval_answered(self, task_id: str, call: str, now: float) -> list[NodeEffect]:
        run = self._runs.get(task_id)
        if run is None or call not in run.asked:
            return []
        run.asked.remove(call)
        if not run.asked and run.ending is None:
            self._timers.set(("timeout", task_id), now + run.left_s)
        return []

    # Results go out, until the master has them

    def _send_result(self, task_id: str, now: float) -> list[NodeEffect]:
        entry = self._entries[task_id]
        if entry.result is None or not (self._is_connected and self._is_master_online):
            return []
        tries = self._resends.get(task_id, 0)
        self._resends[task_id] = tries + 1
        self._timers.set(("resend", task_id), now + resend_delay(tries, self._jitter))
        return [SendResult(entry.result)]

    def _resend_results(self, now: float) -> list[NodeEffect]:
        effects: list[NodeEffect] = []
        for task_id in self._entries:
            self._resends[task_id] = 0
            effects += self._send_result(task_id, now)
        return effects

    def _master_seen(self, is_online: bool, now: float) -> list[NodeEffect]:
        has_come = is_online and not self._is_master_online
        self._is_master_online = is_online
        return self._resend_results(now) if has_come else []

    # Orders about tasks, the node and its outputs

    def _task_controlled(self, task_id: str, control: Control, is_retained: bool, now: float) -> list[NodeEffect]:
        if is_retained:
            return [_refused_retained(f"{control.action} for task {task_id}")]
        run = self._runs.get(task_id)
        if run is None:
            return [Note(f"{control.action} for task {task_id}, which does not run here: ignored", "info")]
        request = self._entries[task_id].task.request
        if control.epoch and self._epochs.is_past(request, control.epoch):
            return [_refused_past(f"{control.action} for task {task_id}")]
        self._epochs.note(request, control.epoch)
        if control.action == "cancel":
            return self._cancel(task_id, WireError(ErrorCode.CANCELED, control.reason or "cancelled"), now)
        if self._entries[task_id].task.kind == "call":
            return [Note(f"{control.action} for task {task_id}: a call of a tool takes only cancel")]
        match control.action:
            case "steer":
                return self._steer(task_id, run, control.text)
            case "approve" | "deny":
                return self._answer_approval(task_id, run, control)
        return [Note(f"{control.action} is for a node and not for its task {task_id}: ignored")]

    def _steer(self, task_id: str, run: OpenRun, text: str | None) -> list[NodeEffect]:
        if not text:
            return [Note(f"steer for task {task_id} says nothing: its text is missing")]
        if run.ending is not None:
            return [Note(f"steer for task {task_id} came when it was being ended: ignored", "info")]
        if run.started_at is not None:
            return [SteerRun(task_id, text)]
        run.said = [*run.said, text][-MAX_SAID:]
        return []

    def _answer_approval(self, task_id: str, run: OpenRun, control: Control) -> list[NodeEffect]:
        """An answer is for the one call that it names, while that waits."""
        if control.call not in run.asked:
            what = f"call {control.call}, which does not wait for it" if control.call else "no call: name it in 'call'"
            return [Note(f"{control.action} for task {task_id} is for {what}: ignored")]
        is_granted = control.action == "approve"
        reason = control.reason or ("a person approved it" if is_granted else "a person denied it")
        return [AnswerApproval(task_id, control.call, is_granted, reason)]

    def _cancel(self, task_id: str, why: WireError, now: float) -> list[NodeEffect]:
        if task_id not in self._queue:
            return self._tell_to_end(task_id, why, now)
        self._queue.remove(task_id)
        state: TaskOutcome = State.CANCELED if why.code == ErrorCode.CANCELED else State.REJECTED
        return self._end(self._entries[task_id], state, error=why, now=now)

    def _node_controlled(self, control: Control, is_retained: bool) -> list[NodeEffect]:
        if is_retained:
            return [_refused_retained(control.action)]
        match control.action:
            case "forget":
                return self._forget(control)
            case "reload":
                return [ReloadSkills(), Announce()]
        return [Note(f"{control.action} is not for a node but for one of its tasks: ignored")]

    def _forget(self, control: Control) -> list[NodeEffect]:
        attempts: dict[str, int] = {}
        for task_id in control.tasks:
            entry = self._entries.get(task_id)
            if entry is None or entry.phase != "ended":
                continue
            if control.epoch and self._epochs.is_past(entry.task.request, control.epoch):
                continue
            attempts[task_id] = entry.task.attempt
            del self._entries[task_id]
            self._resends.pop(task_id, None)
            self._timers.cancel(("resend", task_id))
            self._forgotten[task_id] = entry.task.attempt
            self._forgotten.move_to_end(task_id)
        while len(self._forgotten) > MAX_FORGOTTEN:
            self._forgotten.popitem(last=False)
        return [Forgotten(attempts)] if attempts else []

    def _stop_seen(self, is_stopped: bool, now: float) -> list[NodeEffect]:
        if is_stopped == self._is_stopped:
            return []
        self._is_stopped = is_stopped
        effects: list[NodeEffect] = [SaveStop(is_stopped), HoldOutputs(is_stopped)]
        if is_stopped:
            for task_id in filter(self.acts, list(self._runs)):
                effects += self._cancel(task_id, STOPPED, now)
        return effects

    def _output_ordered(self, device: str, order: OutputSet, is_retained: bool) -> list[NodeEffect]:
        if is_retained:
            return [_refused_retained(f"an order for {device}")]
        if order.id is not None:
            if order.id in self._orders:
                return []
            self._orders[order.id] = None
            if len(self._orders) > MAX_ORDER_IDS:
                self._orders.popitem(last=False)
        return [SetOutput(device, order)]

    # Small things

    def _save(self, entry: Entry, effect: ToolEffect | None = None) -> Save:
        """Remember *entry*, and have it stored: synced to disk where the tool changes something (promise 2)."""
        self._entries[entry.task.id] = entry
        return Save(entry, is_durable=(effect or self._effect(entry.task)) != "read")

    def _effect(self, task: Task) -> ToolEffect:
        """The gravest effect of the task's tools, of a running one as they were when it began; a tool that has gone may
        have done anything."""
        run = self._runs.get(task.id)
        if run is not None and run.effect is not None:
            return run.effect
        names = _tools_of(task) or [spec.name for spec in self._tools.specs()]
        return gravest(self._tools[name].spec.effect if name in self._tools else "actuate" for name in names)


def _refused_retained(what: str) -> Note:
    return Note(f"{what} was refused: {RETAINED}")


def _refused_past(what: str) -> Note:
    return Note(f"{what} was refused: it comes from a master whose request has passed to another", "info")


def _calls(entry: Entry, state: TaskOutcome, effect: ToolEffect) -> tuple[ToolCall, ...]:
    if entry.task.kind == "agent":
        return entry.calls
    if entry.phase == "queued" or state is State.REJECTED or entry.task.tool is None:
        return ()
    ok = None if state is State.UNKNOWN else state is State.COMPLETED
    return (ToolCall(entry.task.tool, entry.task.args, ok, effect),)


def _tools_of(task: Task) -> tuple[str, ...]:
    """The tools that *task* names; an agent that names none may use all."""
    return task.tools if task.kind == "agent" else (task.tool or "",)


def _state_for(why: WireError | None) -> TaskOutcome:
    return State.CANCELED if why is not None and why.code == ErrorCode.CANCELED else State.FAILED
