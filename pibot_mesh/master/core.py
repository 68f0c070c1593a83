"""What the master decides: from a request to its one reply. Pure: no I/O.

The promises of docs/protocol.md that a master keeps are kept here. The shell (`pibot_mesh.master.service`) feeds events
and performs effects in order; a `Save` stands before whatever may be said only once it is stored.

It is one long module because its parts share what the promises are about: the open requests, their tasks, the pool and
the timers. What needs none of these has a module of its own: `plans`, `pool`, `events`.
"""

from __future__ import annotations

import random
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Final, Literal, TypeAlias, assert_never

from pibot_mesh.agent.events import add_usage
from pibot_mesh.errors import ErrorCode, PlanError, ToolError
from pibot_mesh.master.events import (
    Announce,
    AnswerWritten,
    AskLedger,
    CardSeen,
    Connected,
    CountUsage,
    Delegated,
    Disconnected,
    HealthSeen,
    Lost,
    MakePlan,
    MasterEffect,
    MasterInput,
    ModelUsed,
    NobodyWaits,
    NodeSeen,
    Note,
    Origin,
    OwnStatusSeen,
    Planned,
    Record,
    Refusal,
    ReplyDelivered,
    RequestArrived,
    RequestControlled,
    RequestMalformed,
    RunHere,
    Save,
    SendEvent,
    SendForget,
    SendReply,
    SendTask,
    SendTaskControl,
    TakenOver,
    TaskEventSeen,
    TaskResultSeen,
    TellDelegate,
    WriteAnswer,
)
from pibot_mesh.master.open_request import Delegate, Grant, OpenRequest, Question, tokens_of, within
from pibot_mesh.master.plans import check_plan, describe, holds, needs, references, task_id
from pibot_mesh.master.pool import MASTER, Pool
from pibot_mesh.master.refusals import Refusals
from pibot_mesh.master.task_making import TaskMaking
from pibot_mesh.protocol.codec import ID_PATTERN, JSON, to_dict
from pibot_mesh.protocol.fit import cut_middle, fit_event, fit_reply, fit_result
from pibot_mesh.protocol.messages import (
    RETAINED,
    Control,
    Event,
    Limits,
    NodeCard,
    Plan,
    Reply,
    ReplyTiming,
    Request,
    Result,
    State,
    Step,
    StepResult,
    Usage,
    WireError,
)
from pibot_mesh.timers import Timers, resend_delay

ACCEPT_WITHIN_S: Final = 2.0
"""A task of which nothing was heard for so long is sent again (promise 4)."""
MARGIN_S: Final = 5.0
"""What is added to a task's own limits before its node counts as silent."""
CANCEL_WITHIN_S: Final = 5.0
"""How long a cancelled request waits for its nodes' last words."""
FORGET_AFTER_S: Final = 0.05
"""How long results are gathered before one message tells the node to forget them."""
FORGET_AT_ONCE: Final = 100
MAX_ATTEMPTS: Final = 10
ANSWER_WITHIN_S: Final = 30.0
"""How long a model may take to put results in words; then the plain words are the answer."""
_BUDGET: Final = Limits(50, 100, 200_000)
MAX_STEPS: Final = 100
"""Steps of one plan, those that were delegated meanwhile included."""
_ARGS_BYTES: Final = 8 * 1024
"""What is shown of a call's arguments where a person must approve it; what is longer is refused."""
_QUESTIONS: Final = 32
"""Calls of one request that may wait for a person at the same time."""
_HELD_TIMES: Final = 10
"""A request's time stands still for people, but for no longer than so many of the longest questions."""
SETTLE_S: Final = 1.0
"""After a start of the master, how long after the connection stands the nodes' retained messages may take."""
SETTLE_LATEST_S: Final = 5.0
"""After a start without a broker, when the master goes on nevertheless."""
_REMEMBERED_TASKS: Final = 1_000
"""Tasks that have ended, of which something may still be heard."""
COPY_WITHIN_S: Final = 120.0
"""How long a broker may bring a plain text again: sessions live for 60 s, and packet ids are used anew some day."""
REPLY_AGAIN_S: Final = 10.0
"""A reply that the broker has not acknowledged for so long is published again (promise 1)."""
EARLY_S: Final = 15.0
"""How long a cancel of a request that is not held here is kept for the case that it is taken over."""
REFUSE_AFTER_S: Final = 0.5
"""Where there are other masters, how long one that cannot take a request leaves it to them."""
KEPT_REPLIES: Final = 1_000
"""Ended requests kept in memory; the ledger has them all."""

_ELSEWHERE: Final = Control("cancel", reason="another master goes on with it")
_OWN_EVENTS: Final = frozenset(
    {
        *("request_accepted", "request_planned", "request_ended", "task_submitted", "step_ended", "node_lost"),
        *("cancel_requested", "control_refused", "steered", "delegated"),
    }
)
"""What only the master says of a request."""

_Deadline: TypeAlias = Literal[
    "request", "cancel", "send", "task", "silence", "forget", "reply", "answer", "approval", "settle", "refuse", "early"
]
_OF_A_REQUEST: Final[tuple[_Deadline, ...]] = ("request", "cancel", "answer", "reply", "refuse")
"""The deadlines that bear a request's id."""


class MasterCore:
    """The decisions of the master.

    *own_card* shows the master's own tools; *answer* puts the results of a plan in words; *may_reply_to* tells whether
    a reply may be published on a topic; *wall* gives Unix seconds for people to read, and decides nothing. *budget* is
    what a request may use at most; *ask* are the tools, by name or by effect, whose every call a person must approve
    within *ask_within_s*; *model* is the name of the master's model, for the book of usage. *is_shared*: the ledger
    serves other masters too, and a request that is not held here may be held by one of them.
    """

    def __init__(
        self,
        *,
        boot: str,
        own_card: NodeCard,
        answer: Callable[[Plan, Sequence[StepResult]], str],
        may_reply_to: Callable[[str], bool],
        request_timeout_s: float,
        open_requests: int,
        jitter: random.Random,
        budget: Limits = _BUDGET,
        ask: Collection[str] = (),
        ask_within_s: float = 120.0,
        model: str = "",
        is_shared: bool = False,
        pool: Pool | None = None,
        remembered: Iterable[Record] = (),
        wall: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.pool = pool or Pool()
        self._making = TaskMaking(self.pool, own_card, ask, ask_within_s)
        self._boot = boot
        self._own_card = own_card
        self._budget = budget
        self._model = model
        self._is_shared = is_shared
        self._answer = answer
        self._may_reply_to = may_reply_to
        self._request_timeout_s = request_timeout_s
        self._open_requests = open_requests
        self._jitter = jitter
        self._wall = wall
        self._is_connected = False
        self._open: dict[str, OpenRequest] = {}
        self._closed: OrderedDict[str, Record] = OrderedDict()
        self._unsent: dict[str, Record] = {}
        self._refused: dict[str, tuple[Record, WireError]] = {}
        self._refusals = Refusals()
        self._early: dict[str, Control] = {}
        self._tasks: dict[str, str] = {}
        self._calls: dict[str, str] = {}
        self._ended_tasks: OrderedDict[str, str] = OrderedDict()
        self._told_to_end: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._resumed: list[str] = []
        self._now = 0.0
        self._forget: dict[str, list[str]] = {}
        self._deliveries: dict[tuple[Origin, str], tuple[str, float]] = {}
        self._freed: dict[str, None] = {}
        self._timers: Timers[tuple[_Deadline, str]] = Timers()
        for record in remembered:
            self._hold(record, 0.0)

    def _hold(self, record: Record, now: float) -> None:
        if record.reply is None:
            self._open[record.request.id] = self._opened(record, now)
        else:
            self._unsent[record.request.id] = record

    def _opened(self, record: Record, now: float) -> OpenRequest:
        return OpenRequest(record, now, within(record.request.limits, self._budget))

    @property
    def open_requests(self) -> int:
        """How many requests have no reply yet."""
        return len(self._open)

    def held(self, request_id: str) -> Record | None:
        """The record of a request that the core still holds; of others the ledger may know."""
        if request_id in self._open:
            return self._open[request_id].record
        return self._unsent.get(request_id) or self._closed.get(request_id)

    @property
    def newest(self) -> str | None:
        """The id of the request without a reply that came last, or None."""
        return next(reversed(self._open), None)

    def is_asking(self, request_id: str, call: str) -> bool:
        """Whether the *call* of a request waits for a person's word."""
        return request_id in self._open and call in self._open[request_id].questions

    def wake_at(self) -> float | None:
        """When `tick` must be called next, or None."""
        return self._timers.next_at()

    def start(self, now: float) -> list[MasterEffect]:
        """What the master does first after a start: goes on with every request that has no reply.

        Its time-out starts anew, since nobody knows how long the master was away.
        """
        self._now = now
        effects = [effect for request in list(self._open.values()) for effect in self._go_on(request, now)]
        self._resumed = list(self._open)
        if self._resumed:
            self._timers.set(("settle", ""), now + SETTLE_LATEST_S)
        return effects

    def _go_on(self, request: OpenRequest, now: float) -> list[MasterEffect]:
        """Go on with what another process had begun, as far as it needs no node that may not have been heard yet."""
        request.arrived_at = now
        self._note_delivery(request.record, now)
        self._limit(request, now)
        if request.record.is_canceled:
            request.is_plain = True
            self._timers.set(("cancel", request.record.request.id), now + CANCEL_WITHIN_S)
        for step in request.record.steps:
            if step.state is State.INPUT_REQUIRED and step.task is None:
                request.put(replace(step, state=State.SUBMITTED))  # nobody has approved it: it is asked again
        taken_up = self._take_up(request)
        done = self._finish_if_done(request, now) if request.record.plan is not None else []
        return self._stored(request, taken_up + done)

    def _settled(self, now: float) -> list[MasterEffect]:
        """Go on with what was not under way at the start: now it is known which nodes are there, and what they can."""
        effects: list[MasterEffect] = []
        for opened in [self._open[request_id] for request_id in self._resumed if request_id in self._open]:
            if opened.record.plan is None and not opened.record.is_canceled:
                effects.append(self._make_plan(opened))
            else:
                effects += self._stored(opened, self._advance(opened, now))
        self._resumed = []
        return effects

    # Other masters

    def _taken_over(self, records: Sequence[Record], now: float) -> list[MasterEffect]:
        """Go on with the requests of a master that fell silent, as after a start."""
        effects: list[MasterEffect] = []
        for record in records:
            effects += self._drop(record.request.id)
            self._hold(record, now)
            if record.reply is not None:
                effects += [Save(record), *self._send_reply(record, now)]
                continue
            effects += self._go_on(self._open[record.request.id], now)
            self._resumed.append(record.request.id)
            effects += self._cancel_early(record.request.id, now)
            for step in record.steps:
                if step.task in self._tasks and step.node != MASTER and self.pool[step.node or ""].is_usable:
                    effects += self._resume_task(step.task or "", now)
        if ("settle", "") not in self._timers:
            effects += self._settled(now)
        return [*effects, Note(f"{len(records)} requests of a master that fell silent go on here")]

    def _cancel_early(self, request_id: str, now: float) -> list[MasterEffect]:
        """Somebody may have cancelled it while nobody held it."""
        self._timers.cancel(("early", request_id))
        control = self._early.pop(request_id, None)
        if control is None or request_id not in self._open:
            return []
        return self._cancel(self._open[request_id], control, now)

    def _drop(self, request_id: str) -> list[MasterEffect]:
        """The request is another master's: nothing of it is done here any more, and nothing said."""
        opened = self._open.pop(request_id, None)
        record = opened.record if opened is not None else self._unsent.pop(request_id, None)
        self._refused.pop(request_id, None)
        self._closed.pop(request_id, None)
        for what in _OF_A_REQUEST:
            self._timers.cancel((what, request_id))
        if record is None:
            return []
        tasks = {step.task: step.node or "" for step in record.steps if step.task}
        for waiting in self._forget.values():
            waiting[:] = [task for task in waiting if task not in tasks]
        effects: list[MasterEffect] = []
        if opened is not None:
            for call in list(opened.questions):
                self._close_question(opened, call)
            self._timers.cancel(("request", request_id))
            for step in record.steps:
                if step.task in self._tasks:
                    self._let_go(opened, step)
                    if step.node == MASTER:
                        effects.append(SendTaskControl(MASTER, step.task, _ELSEWHERE))
        for task in tasks:
            self._ended_tasks.pop(task, None)
        return effects

    def _take_up(self, request: OpenRequest) -> list[MasterEffect]:
        """Go on with the tasks of the time before the restart: each may have been sent, and may have done its work."""
        effects: list[MasterEffect] = []
        for step in request.record.steps:
            if step.task is None or step.node is None or step.state.is_terminal:
                continue
            self._tasks[step.task] = request.record.request.id
            request.tries[step.task] = 1
            request.resumed.add(step.task)
            if step.node != MASTER:
                member = self.pool[step.node]
                member.open_tasks[step.task] = None
                member.sent.add(step.task)
            elif self._making.task(request, step).retry == "safe" and not request.record.is_canceled:
                effects.append(RunHere(self._making.task(request, step)))
            else:
                error = WireError(ErrorCode.INTERRUPTED, "the master restarted in the middle of it")
                effects += self._end_step(request, self._lost(request, step, error))
        return effects

    def handle(self, event: MasterInput, now: float) -> list[MasterEffect]:
        """Decide about *event*. *now* is seconds on any monotonic clock."""
        self._now = now
        return self._decide(event, now) + self._fill(now)

    def _decide(self, event: MasterInput, now: float) -> list[MasterEffect]:  # noqa: PLR0912 - one line an event
        match event:
            case RequestArrived():
                return self._request_arrived(event, now)
            case RequestMalformed(error):
                return self._request_malformed(error.id, WireError(error.code, str(error)))
            case RequestControlled(request_id, control, is_retained):
                return self._request_controlled(request_id, control, is_retained, now)
            case Planned():
                return self._planned(event, now)
            case AnswerWritten():
                return self._answer_written(event, now)
            case ModelUsed():
                return self._model_used(event)
            case Delegated():
                return self._delegated(event, now)
            case ReplyDelivered(request_id):
                return self._reply_delivered(request_id)
            case TakenOver(records):
                return self._taken_over(records, now)
            case Lost(requests):
                return [effect for request_id in sorted(requests) for effect in self._drop(request_id)]
            case NobodyWaits(node, task):
                if task not in self._tasks:
                    self._forget_later(node, task, now)
                return []
            case NodeSeen(node, is_online):
                return self._node_seen(node, is_online, now)
            case CardSeen(node, card):
                return self._card_seen(node, card, now)
            case HealthSeen(node, numbers, is_retained):
                return self._health_seen(node, numbers, is_retained, now)
            case TaskEventSeen(node, task, task_event):
                return self._task_event_seen(node, task, task_event, now)
            case TaskResultSeen(node, result):
                return self._result_seen(node, fit_result(result) if node == MASTER else result, now)
            case Connected():
                return self._connected(now)
            case Disconnected():
                self._is_connected = False
                return []
            case OwnStatusSeen(is_online):
                return [Announce()] if self._is_connected and not is_online else []
        assert_never(event)

    def tick(self, now: float) -> list[MasterEffect]:  # noqa: PLR0912 - one line a deadline
        """Do what is due by *now*."""
        self._now = now
        effects: list[MasterEffect] = []
        forgetting: list[str] = []
        for what, name in self._timers.pop_due(now):
            match what:
                case "request":
                    effects += self._time_out(self._open[name], now)
                case "cancel":
                    effects += self._close_canceled(self._open[name], now)
                case "send":
                    effects += self._send(self._by_task(name), name, now)
                case "task":
                    effects += self._task_silent(self._by_task(name), name, now)
                case "silence":
                    effects += self._check_silence(name, now)
                case "forget":
                    forgetting.append(name)
                case "reply":
                    effects += self._send_reply(self._unsent[name], now)
                case "answer":
                    self._open[name].is_plain = True
                    effects += self._stored(self._open[name], self._finish_if_done(self._open[name], now))
                case "approval":
                    effects += self._nobody_answered(name, now)
                case "settle":
                    effects += self._settled(now)
                case "early":
                    del self._early[name]
                case "refuse":
                    effects += self._refuse_for_all(name, now)
                case _:
                    assert_never(what)
        # Last of all: a task may have come back to a node by what was due.
        return effects + self._fill(now) + [order for node in forgetting for order in self._flush_forget(node)]

    # Requests come in

    def _request_arrived(self, event: RequestArrived, now: float) -> list[MasterEffect]:
        request = event.request
        if event.is_retained:
            return [_refused_retained("a request")]
        known = self._find(event, now)
        if known is not None:
            self._unrefuse(request.id)
            return self._known_again(known)
        if self._delivered_as(event, now) is not None:
            return []  # it was taken, and is another master's now, or long over
        refused = self._refusals.of(request.id, now)
        if refused is not None:
            return [SendReply(refused, event.origin, request.reply_to, is_final=False)]
        record = Record(
            request, event.origin, State.SUBMITTED, accepted_ts=self._wall(), epoch=1 if self._is_shared else 0
        )
        problem = self._refusal(event)
        if problem is not None and self._is_shared:
            return self._leave_to_others(record, problem, now)
        if problem is not None:
            reply = self._reply(record, State.REJECTED, problem.message, problem)
            self._refusals.note(reply, now)
            return [SendReply(reply, event.origin, request.reply_to, is_final=False)]
        self._unrefuse(request.id)
        self._open[request.id] = opened = self._opened(record, now)
        self._note_delivery(record, now)
        self._limit(opened, now)
        accepted = self._event(opened, "request_accepted", text=request.text)
        return [Save(record), accepted, self._make_plan(opened)]

    def _leave_to_others(self, record: Record, problem: WireError, now: float) -> list[MasterEffect]:
        """Another master may be able to take it. Where too many wait so, nothing is said: it will be asked again."""
        if len(self._refused) < KEPT_REPLIES and record.request.id not in self._refused:
            self._refused[record.request.id] = (record, problem)
            self._timers.set(("refuse", record.request.id), now + REFUSE_AFTER_S)
        return []

    def _unrefuse(self, request_id: str) -> None:
        """A copy of a request that could not be taken a moment ago can be, or somebody has taken it."""
        if self._refused.pop(request_id, None) is not None:
            self._timers.cancel(("refuse", request_id))

    def _refuse_for_all(self, request_id: str, now: float) -> list[MasterEffect]:
        """No master has taken it, or the ledger will say so: the refusal is stored, so that there is one reply only."""
        record, problem = self._refused.pop(request_id)
        reply = self._reply(record, State.REJECTED, problem.message, problem)
        record = replace(record, state=State.REJECTED, reply=reply)
        self._unsent[request_id] = record
        return [Save(record), *self._send_reply(record, now)]

    def _make_plan(self, opened: OpenRequest) -> MakePlan:
        return MakePlan(replace(opened.record.request, limits=opened.budget))

    def _find(self, event: RequestArrived, now: float) -> Record | None:
        """The record of a request that came before: by its id, or, for plain text, as a copy of one delivery."""
        known = self.held(event.request.id) or event.known
        if known is None and event.is_copy:
            request_id = self._delivered_as(event, now)
            return None if request_id is None else self.held(request_id)
        return known

    def _delivered_as(self, event: RequestArrived, now: float) -> str | None:
        """The id of the request that came before as the very delivery that *event* is a copy of."""
        request_id, accepted_at = self._deliveries.get((event.origin, event.request.text), (None, 0.0))
        return request_id if event.is_copy and now - accepted_at <= COPY_WITHIN_S else None

    def _note_delivery(self, record: Record, now: float) -> None:
        """Plain text has no id of its own: remember how it came, for as long as the broker may bring it again."""
        if record.origin.delivery is None:
            return
        while self._deliveries and now - next(iter(self._deliveries.values()))[1] > COPY_WITHIN_S:
            del self._deliveries[next(iter(self._deliveries))]
        delivery = (record.origin, record.request.text)
        self._deliveries.pop(delivery, None)
        self._deliveries[delivery] = (record.request.id, now)

    def _refusal(self, event: RequestArrived) -> WireError | None:
        for topic in (event.request.reply_to, event.origin.topic):
            if topic is not None and not self._may_reply_to(topic):
                return WireError(
                    ErrorCode.BAD_REQUEST, f"reply_to: {topic!r} is not below reply/, where replies may go"
                )
        if event.request.node is not None and event.request.node not in self.pool.members:
            there = ", ".join(self.pool.online()) or "none"
            return WireError(ErrorCode.OFFLINE, f"no node named {event.request.node!r} is known (online: {there})")
        if len(self._open) >= self._open_requests:
            return WireError(
                ErrorCode.OVERLOADED, f"{len(self._open)} requests are open already: ask again later", retryable=True
            )
        if len(self._unsent) >= KEPT_REPLIES:
            return WireError(
                ErrorCode.OVERLOADED,
                f"{len(self._unsent)} replies wait for the broker: ask again later",
                retryable=True,
            )
        return None

    def _known_again(self, record: Record) -> list[MasterEffect]:
        request_id = record.request.id
        if record.reply is not None:
            self._keep(record)
            is_final = request_id in self._unsent
            return [SendReply(record.reply, record.origin, record.request.reply_to, is_final=is_final)]
        if request_id not in self._open:
            return []  # it is open at another master, who answers
        again = self._event(self._open[request_id], "request_accepted", text=record.request.text)
        return [replace(again, is_kept=False)]

    def _request_malformed(self, request_id: str | None, error: WireError) -> list[MasterEffect]:
        if request_id is None or self.held(request_id) is not None:
            return []
        request = Request(request_id, "?")
        reply = self._reply(Record(request, Origin(), State.REJECTED), State.REJECTED, error.message, error)
        return [SendReply(reply, Origin(), is_final=False)]

    def _request_controlled(
        self, request_id: str, control: Control, is_retained: bool, now: float
    ) -> list[MasterEffect]:
        if is_retained:
            return [_refused_retained(f"{control.action} for request {request_id}")]
        opened = self._open.get(request_id)
        if opened is None and self._is_shared and control.action == "cancel":
            self._note_early(request_id, control, now)
        if opened is None:
            return [Note(f"{control.action} for request {request_id}, which is not open: ignored", "info")]
        match control.action:
            case "cancel":
                return self._cancel(opened, control, now)
            case "steer":
                return self._steer(opened, control)
            case "approve" | "deny":
                return self._answer_question(opened, control, now)
        return [self._control_refused(opened, control, "it is not for a request")]

    def _note_early(self, request_id: str, control: Control, now: float) -> None:
        """The request may be that of a master that has fallen silent, and pass to this one in a moment."""
        if len(self._early) < KEPT_REPLIES:
            self._early[request_id] = control
            self._timers.set(("early", request_id), now + EARLY_S)

    def _control_refused(self, opened: OpenRequest, control: Control, reason: str) -> MasterEffect:
        call: dict[str, JSON] = {} if control.call is None else {"call": control.call}
        return self._event(opened, "control_refused", action=control.action, reason=reason, **call)

    def _cancel(self, opened: OpenRequest, control: Control, now: float) -> list[MasterEffect]:
        if opened.record.is_canceled:
            return []
        opened.record = replace(opened.record, is_canceled=True)
        opened.is_plain = True
        requested = self._event(opened, "cancel_requested", reason=control.reason or "", **_by(control))
        effects: list[MasterEffect] = [requested, *self._cancel_sent(opened, control.reason)]
        for step in opened.record.steps:
            if not step.state.is_terminal and not opened.tries.get(step.task or ""):
                effects += self._end_step(opened, replace(step, state=State.CANCELED))
        self._timers.set(("cancel", opened.record.request.id), now + CANCEL_WITHIN_S)
        return self._stored(opened, effects + self._advance(opened, now))

    def _steer(self, opened: OpenRequest, control: Control) -> list[MasterEffect]:
        """Say something to the agents that work on the request, or to those of the tasks that are named."""
        agents = [
            step
            for step in opened.open_agents()
            if opened.tries.get(step.task or "") and (not control.tasks or step.task in control.tasks)
        ]
        if not control.text:
            return [self._control_refused(opened, control, "its text is missing")]
        if not agents:
            return [self._control_refused(opened, control, "no agent works on it now")]
        tasks = [step.task for step in agents]
        said = Control("steer", text=control.text)
        sent = [self._tell(opened, step, said) for step in agents]
        return [*sent, self._event(opened, "steered", text=control.text, tasks=tasks, **_by(control))]

    def _cancel_sent(self, opened: OpenRequest, reason: str | None) -> list[MasterEffect]:
        """Tell the nodes that may work on the request to end."""
        return [
            self._tell(opened, step, Control("cancel", reason=reason))
            for step in opened.record.steps
            if step.task and step.node and not step.state.is_terminal
            if opened.tries.get(step.task)
        ]

    def _close_canceled(self, opened: OpenRequest, now: float) -> list[MasterEffect]:
        error = WireError(ErrorCode.CANCELED, "cancelled, and its node did not say how far it was")
        return self._give_up(opened, error, now)

    # Plans

    def _planned(self, event: Planned, now: float) -> list[MasterEffect]:
        opened = self._open.get(event.request)
        if opened is None or opened.record.plan is not None:
            return self._count(MASTER, event.request, event.usage)
        counted = self._count_own(opened, event.usage)
        opened.plan_s = round(now - opened.arrived_at, 4)
        return counted + self._take_plan(opened, event.outcome, now)

    def _take_plan(self, opened: OpenRequest, outcome: Plan | Refusal, now: float) -> list[MasterEffect]:
        if isinstance(outcome, Refusal):
            return self._refuse(opened, outcome.error, now)
        try:
            check_plan(outcome, {**self.pool.online(), MASTER: self._own_card}, pin=opened.record.request.node)
        except PlanError as problem:
            error = WireError(ErrorCode.BAD_PLAN, f"the plan does not fit the mesh: {problem}")
            return self._refuse(opened, error, now)
        is_only_shown = opened.record.request.mode == "plan_only"
        first = State.SKIPPED if is_only_shown else State.SUBMITTED
        steps = tuple(StepResult(step.id, first, step.node) for step in outcome.steps)
        opened.record = replace(opened.record, plan=outcome, steps=steps, state=State.WORKING)
        effects: list[MasterEffect] = [self._event(opened, "request_planned", plan=to_dict(outcome))]
        if is_only_shown:
            effects += self._finish(opened, State.COMPLETED, describe(outcome), None, now)
            return self._stored(opened, effects)
        return self._stored(opened, effects + self._advance(opened, now))

    def _refuse(self, opened: OpenRequest, error: WireError, now: float) -> list[MasterEffect]:
        return self._stored(opened, self._finish(opened, State.REJECTED, error.message, error, now))

    def _advance(self, opened: OpenRequest, now: float) -> list[MasterEffect]:
        """Begin or skip every step that has what it waits for; reply when all have ended."""
        effects: list[MasterEffect] = []
        plan = opened.record.plan
        if plan is None:
            return self._finish_if_done(opened, now) if opened.record.is_canceled else []
        for step in plan.steps:  # a step needs only steps before it, so one pass is enough
            current = opened.step(step.id)
            if current.task is None and current.state is State.SUBMITTED:
                effects += self._consider(opened, step, now)
        return effects + self._finish_if_done(opened, now)

    def _consider(self, opened: OpenRequest, step: Step, now: float) -> list[MasterEffect]:
        needed = [opened.step(step_id) for step_id in needs(step)]
        if not all(other.state.is_terminal for other in needed):
            return []
        current = opened.step(step.id)
        used = {ref.split(".")[0] for ref in references(dict(step.args))} | ({step.when.step} if step.when else set())
        for other in needed:
            if other.state is State.COMPLETED or (
                other.state is State.SKIPPED and not other.error and other.step not in used
            ):
                continue
            why = WireError(ErrorCode.CANCELED, f"{other.step}, which it waits for, was {other.state}")
            return self._end_step(opened, replace(current, state=State.SKIPPED, error=why))
        try:
            if step.when is not None and not holds(step.when, opened.data()):
                return self._end_step(opened, replace(current, state=State.SKIPPED))
            return self._dispatch(opened, step, current, now)
        except LookupError as problem:
            error = WireError(ErrorCode.BAD_PLAN, str(problem.args[0]))
            return self._end_step(opened, replace(current, state=State.FAILED, error=error))

    # Tasks go out

    def _dispatch(
        self, opened: OpenRequest, step: Step, current: StepResult, now: float, *, avoid: str = ""
    ) -> list[MasterEffect]:
        """Choose the node, and give it the task. Raises LookupError where a reference leads nowhere."""
        node = self._making.choose(step, avoid)
        if node is None and ("settle", "") in self._timers:
            return []  # nodes that could do it may yet be heard
        if node is None:
            error = WireError(ErrorCode.OFFLINE, f"no node that could do {step.tool or 'it'} is online", retryable=True)
            return self._end_step(opened, replace(current, state=State.FAILED, error=error))
        if self._making.card(node) is None:
            # Whether a person must approve the call stands on the card: nothing goes out before it is seen.
            opened.put(replace(current, node=node, task=None, state=State.SUBMITTED))
            return []
        is_affordable = self._give_share(opened, step, node, now) if step.kind == "agent" else opened.calls_left > 0
        if not is_affordable:
            error = WireError(ErrorCode.BUDGET, f"nothing is left of what the request may use: {_words(opened)}")
            return self._end_step(opened, replace(current, state=State.FAILED, error=error))
        task = task_id(opened.record.request.id, step.id)
        current = replace(current, node=node, task=task, state=State.SUBMITTED)
        try:
            message = self._making.checked(opened, current)
        except ToolError as problem:
            error = WireError(problem.code, str(problem))
            return self._end_step(opened, replace(current, task=None, state=State.FAILED, error=error))
        if self._making.must_ask(node, step):
            call = Grant(node, message.tool or "", message.args)
            if opened.granted.pop(step.id, None) != call:
                return self._ask_person(opened, replace(current, task=None), call, now)
        opened.put(current)
        opened.tries[task] = 0
        self._tasks[task] = opened.record.request.id
        submitted = self._event(opened, "task_submitted", node=node, task=task, step=step.id, attempt=current.attempt)
        if node == MASTER:
            opened.tries[task] = 1
            return [submitted, RunHere(message)]
        self.pool[node].open_tasks[task] = None
        if task in self._forget.get(node, ()):
            self._forget[node].remove(task)
        return [submitted, *self._send(opened, task, now)]

    def _give_share(self, opened: OpenRequest, step: Step, node: str, now: float) -> bool:
        """Give an agent step its share of the budget, if there is one left."""
        left_s = opened.left_s
        if opened.held_since is None:
            left_s = (self._timers.at(("request", opened.record.request.id)) or now) - now
        is_safe = self._making.may_repeat(node, step)
        share = opened.share(replace(step, node=node), left_s, is_safe=is_safe)
        if share is None:
            return False
        opened.record = replace(opened.record, shares={**opened.record.shares, step.id: share})
        return True

    # A person's word

    def _ask_person(self, opened: OpenRequest, current: StepResult, wanted: Grant, now: float) -> list[MasterEffect]:
        """Hold the call back until somebody approves it, these arguments and no others."""
        tool, args = wanted.tool, dict(wanted.args)
        if len(str(args)) > _ARGS_BYTES:
            error = WireError(
                ErrorCode.DENIED, f"{tool} needs a person's approval, and its arguments are too long to be shown"
            )
            return self._end_step(opened, replace(current, state=State.REJECTED, error=error))
        call, within_s = f"{self._jitter.getrandbits(48):012x}", self._making.ask_within_s
        opened.put(replace(current, state=State.INPUT_REQUIRED))
        self._open_question(opened, call, Question(current.step, tool, within_s, call=wanted))
        self._calls[call] = opened.record.request.id
        self._timers.set(("approval", call), now + within_s)
        facts: dict[str, JSON] = {"call": call, "tool": tool, "args": args, "within_s": within_s}
        return [self._event(opened, "approval_required", **facts, node=current.node, step=current.step)]

    def _answer_question(self, opened: OpenRequest, control: Control, now: float) -> list[MasterEffect]:
        waiting = opened.questions
        call = control.call
        if call is None:
            # A copy of a word about one call must not become a word about the next.
            named = ", ".join(f"{call} ({question.tool})" for call, question in waiting.items())
            why = f"say which call is meant: {named}" if named else "no call waits for it"
            return [self._control_refused(opened, control, why)]
        question = waiting.get(call)
        if question is None or question.task is not None:
            return self._pass_answer_on(opened, control, call, question)
        is_granted = control.action == "approve"
        reason = control.reason or "approved"
        if not is_granted:
            reason = f"a person denied it: {control.reason}" if control.reason else "a person denied it"
        return self._answered(opened, call, is_granted, reason, now, **_by(control))

    def _pass_answer_on(
        self, opened: OpenRequest, control: Control, call: str, question: Question | None
    ) -> list[MasterEffect]:
        """To the agent that asks. Of one whose question was before a restart of the master, only itself knows."""
        said = replace(control, call=call)
        agents = [
            step
            for step in opened.open_agents()
            if (question is None and step.task in opened.resumed)
            or (question is not None and step.task == question.task)
        ]
        if not agents:
            return [self._control_refused(opened, said, "no such call waits for it")]
        return [self._tell(opened, step, said) for step in agents]

    def _nobody_answered(self, call: str, now: float) -> list[MasterEffect]:
        opened = self._open[self._calls[call]]
        question = opened.questions[call]
        return self._answered(opened, call, False, f"nobody approved it within {question.within_s:g} s", now)

    def _answered(
        self, opened: OpenRequest, call: str, is_granted: bool, reason: str, now: float, **who: JSON
    ) -> list[MasterEffect]:
        """A call of the plan may be sent now, or never."""
        question = self._close_question(opened, call)
        current = opened.step(question.step)
        facts: dict[str, JSON] = {"call": call, "tool": question.tool, "granted": is_granted, "reason": reason}
        facts |= {"node": current.node, "step": question.step, **who}
        effects: list[MasterEffect] = [self._event(opened, "approval_answered", **facts)]
        if is_granted and question.call is not None:
            opened.granted[question.step] = question.call
            opened.put(replace(current, state=State.SUBMITTED))
        else:
            error = WireError(ErrorCode.DENIED, reason)
            effects += self._end_step(opened, replace(current, state=State.REJECTED, error=error))
        return self._stored(opened, effects + self._advance(opened, now))

    def _open_question(self, opened: OpenRequest, call: str, question: Question) -> None:
        """A call waits for a person. So long the request's time stands still, though not for ever."""
        opened.questions[call] = question
        if opened.held_since is None:
            key: tuple[_Deadline, str] = ("request", opened.record.request.id)
            opened.held_since = self._now
            opened.left_s = (self._timers.at(key) or self._now) - self._now
            longest_s = max(0.0, _HELD_TIMES * self._making.ask_within_s - opened.held_s)
            self._timers.set(key, self._now + opened.left_s + longest_s)

    def _close_question(self, opened: OpenRequest, call: str) -> Question:
        """It waits no more; with the last one the request's time goes on."""
        question = opened.questions.pop(call)
        opened.answered.add(call)
        self._calls.pop(call, None)
        self._timers.cancel(("approval", call))
        if not opened.questions and opened.held_since is not None:
            opened.held_s += self._now - opened.held_since
            opened.held_since = None
            self._timers.set(("request", opened.record.request.id), self._now + opened.left_s)
        return question

    # Tasks are on their way

    def _send(self, opened: OpenRequest, task: str, now: float) -> list[MasterEffect]:
        """Publish the task if its node is there; and again, until the node says something of it."""
        current = self._step_of(opened, task)
        node = current.node or ""
        member = self.pool[node]
        if not self._is_connected or not member.is_usable or not member.has_room_for(task):
            return []
        if opened.record.is_canceled:
            return [self._tell(opened, current, Control("cancel"))]
        member.sent.add(task)
        message = self._making.task(opened, current)
        tries = opened.tries.get(task, 0)
        opened.tries[task] = tries + 1
        delay = ACCEPT_WITHIN_S if tries == 0 else resend_delay(tries - 1, self._jitter)
        self._timers.set(("send", task), now + delay)
        if ("task", task) not in self._timers:
            self._timers.set(("task", task), now + message.ttl_s + message.timeout_s + MARGIN_S)
        return [SendTask(node, message)]

    def _again(self, opened: OpenRequest, current: StepResult, now: float, *, avoid: str = "") -> list[MasterEffect]:
        """A new attempt of a step of which nothing was done, or which may be done again."""
        step = opened.planned(current.step)
        self._let_go(opened, current)
        usage = add_usage(opened.record.usage, opened.take_used(current.task or ""))
        opened.record = replace(opened.record, usage=usage)
        later = replace(current, attempt=current.attempt + 1, task=None, state=State.SUBMITTED)
        opened.put(later)  # what the lost attempt was given is free again
        return self._dispatch(opened, step, later, now, avoid=avoid)

    def _let_go(self, opened: OpenRequest, current: StepResult) -> None:
        """The step's task is nobody's any more: no timer, no load, no question."""
        for call in [call for call, question in opened.questions.items() if question.step == current.step]:
            self._close_question(opened, call)
        if current.task is None:
            return
        self._ended_tasks[current.task] = opened.record.request.id
        if len(self._ended_tasks) > _REMEMBERED_TASKS:
            self._ended_tasks.popitem(last=False)
        self._timers.cancel(("send", current.task))
        self._timers.cancel(("task", current.task))
        self._tasks.pop(current.task, None)
        if current.node is not None and current.node != MASTER:
            self.pool[current.node].let_go(current.task)
            self._freed[current.node] = None

    # Tasks answer

    def _task_event_seen(self, node: str, task: str, event: Event, now: float) -> list[MasterEffect]:
        self._heard(node, now)
        found = self._open_step(node, task)
        if found is None:
            return self._end_stray(node, task, event)
        if event.type in _OWN_EVENTS or str(event.data.get("call", "")) in self._calls:
            return [Note(f"{event.type} of task {task} from {node} is the master's to say: dropped")]
        opened, current = found
        is_retry = event.type == "retry"  # a model's retries have attempts of their own
        if not is_retry and event.data.get("attempt", current.attempt) != current.attempt:
            return []
        passed_on = self._event(opened, event.type, **{**event.data, "node": node, "task": task, "step": current.step})
        match event.type:
            case "task_accepted":
                return self._task_accepted(opened, current, task, passed_on, now)
            case "task_rejected":
                return [passed_on, *self._task_rejected(opened, current, task, event, now)]
            case "approval_required":
                self._agent_asks(opened, current, event, now)
            case "approval_answered":
                self._agent_was_answered(opened, current, event, now)
        return [passed_on]

    def _end_stray(self, node: str, task: str, event: Event) -> list[MasterEffect]:
        """A node works on what nobody waits for any more: it was away when that was said."""
        is_at_work = event.type in ("task_accepted", "turn_start", "tool_start")
        if not is_at_work or node == MASTER or (node, task) in self._told_to_end:
            return []
        if self._is_shared and task not in self._ended_tasks:
            return []  # another master may wait for it
        self._told_to_end[node, task] = None
        if len(self._told_to_end) > _REMEMBERED_TASKS:
            self._told_to_end.popitem(last=False)
        return [SendTaskControl(node, task, Control("cancel", reason="nobody waits for it any more"))]

    def _agent_asks(self, opened: OpenRequest, current: StepResult, event: Event, now: float) -> None:
        """An agent waits for a person: so long, neither its task's clock runs nor its request's."""
        call, tool = str(event.data.get("call", "")), str(event.data.get("tool", ""))
        is_new = call not in opened.questions and call not in opened.answered
        if not is_new or len(opened.questions) >= _QUESTIONS or not re.fullmatch(ID_PATTERN, call):
            return
        within_s = self._making.ask_within_s
        self._open_question(opened, call, Question(current.step, tool, within_s, current.task))
        opened.put(replace(current, state=State.INPUT_REQUIRED))
        self._allow(opened, current, now, within_s)

    def _agent_was_answered(self, opened: OpenRequest, current: StepResult, event: Event, now: float) -> None:
        call = str(event.data.get("call", ""))
        if call not in opened.questions or opened.questions[call].task != current.task:
            return
        self._close_question(opened, call)
        if not any(question.task == current.task for question in opened.questions.values()):
            opened.put(replace(current, state=State.WORKING))
        self._allow(opened, current, now)

    def _allow(self, opened: OpenRequest, current: StepResult, now: float, more_s: float = 0.0) -> None:
        """Give the task all its time anew, before its node counts as silent."""
        if current.task is not None and current.node != MASTER:
            task = self._making.task(opened, current)
            self._timers.set(("task", current.task), now + task.ttl_s + task.timeout_s + more_s + MARGIN_S)

    def _task_accepted(
        self, opened: OpenRequest, current: StepResult, task: str, passed_on: MasterEffect, now: float
    ) -> list[MasterEffect]:
        self._timers.cancel(("send", task))
        if current.state is not State.SUBMITTED:
            return [passed_on]
        self._allow(opened, current, now)
        opened.put(replace(current, state=State.WORKING))
        return self._stored(opened, [passed_on])

    def _task_rejected(
        self, opened: OpenRequest, current: StepResult, task: str, event: Event, now: float
    ) -> list[MasterEffect]:
        error = _error_of(event)
        if error.retryable and not opened.record.is_canceled:
            self._timers.cancel(("task", task))
            self._timers.set(("send", task), now + resend_delay(min(opened.tries[task], 5), self._jitter))
            return []
        return self._ended(opened, replace(current, state=State.REJECTED, error=error), now)

    def _result_seen(self, node: str, result: Result, now: float) -> list[MasterEffect]:
        self._heard(node, now)
        found = self._open_step(node, result.id)
        if found is not None and result.attempt < found[1].attempt:
            # Not to be forgotten: that would forget the attempt that this node works on now.
            return [Note(f"attempt {result.attempt} of task {result.id} is over: its result was dropped", "debug")]
        if found is None and self._is_shared and result.id not in self._ended_tasks:
            return [AskLedger(node, result.id, result.request)]
        self._forget_later(node, result.id, now)
        if found is None or result.request != found[0].record.request.id:
            return [Note(f"a result of task {result.id} from {node} is not awaited: dropped", "debug")]
        opened, current = found
        if self._may_try_again(opened, current, result):
            again = self._again(opened, current, now, avoid=node)
            return self._stored(opened, again + self._advance(opened, now))
        by_gateway = opened.take_used(result.id)
        counted = [] if result.id in opened.by_gateway else self._count(node, result.request, result.usage)
        ended = replace(
            current,
            state=State(result.state),
            output=result.output,
            error=result.error,
            tool_calls=result.tool_calls,
            usage=max(result.usage, by_gateway, key=tokens_of),
        )
        return counted + self._ended(opened, ended, now)

    def _may_try_again(self, opened: OpenRequest, current: StepResult, result: Result) -> bool:
        """Whether the node only lost the task: before it began, or in the middle of what may be repeated."""
        if result.error is None or opened.record.is_canceled or current.attempt >= MAX_ATTEMPTS:
            return False
        if result.state is State.REJECTED:
            return result.error.retryable
        if result.state is not State.UNKNOWN or result.error.code != ErrorCode.INTERRUPTED:
            return False
        return result.error.retryable and self._making.task(opened, current).retry == "safe"

    def _ended(self, opened: OpenRequest, ended: StepResult, now: float) -> list[MasterEffect]:
        return self._stored(opened, self._end_step(opened, ended) + self._advance(opened, now))

    def _fill(self, now: float) -> list[MasterEffect]:
        """Send what was held back while its node had as much as it may hold, the oldest first (promise 7)."""
        effects: list[MasterEffect] = []
        while self._freed:
            node, _ = self._freed.popitem()
            member = self.pool[node]
            for task in [task for task in member.open_tasks if task not in member.sent]:
                effects += self._send(self._by_task(task), task, now)
            self._remove_forgotten(node)
        return effects

    def _end_step(self, opened: OpenRequest, ended: StepResult) -> list[MasterEffect]:
        self._let_go(opened, ended)
        opened.granted.pop(ended.step, None)
        if ended.task in opened.record.used:
            ended = replace(ended, usage=opened.take_used(ended.task or ""))
        opened.put(ended)
        facts: dict[str, JSON] = {"step": ended.step, "state": ended.state.value}
        if ended.node is not None:
            facts["node"] = ended.node
        if ended.task is not None:
            facts["task"] = ended.task
        if ended.output.text:
            facts["text"] = ended.output.text
        if ended.error is not None:
            facts["error"] = to_dict(ended.error)
        told: list[MasterEffect] = [self._event(opened, "step_ended", **facts)]
        delegate = opened.delegates.pop(ended.step, None)
        told += [] if delegate is None else [TellDelegate(delegate.key, ended)]
        return told + self._end_delegates(opened, ended)

    def _end_delegates(self, opened: OpenRequest, agent: StepResult) -> list[MasterEffect]:
        """The master's own agent has ended: nobody needs any more what it still waited for."""
        left = [opened.step(step) for step, delegate in opened.delegates.items() if delegate.by == agent.task]
        effects: list[MasterEffect] = []
        for step in left:
            if step.task and opened.tries.get(step.task):
                effects.append(self._tell(opened, step, Control("cancel", reason="not needed")))
            else:
                effects += self._end_step(opened, replace(step, state=State.CANCELED))
        return effects

    def _task_silent(self, opened: OpenRequest, task: str, now: float) -> list[MasterEffect]:
        current = self._step_of(opened, task)
        message = self._making.task(opened, current)
        limit = message.ttl_s + message.timeout_s + MARGIN_S
        error = WireError(ErrorCode.TIMEOUT, f"no result from {current.node!r} for task {task} within {limit:g} s")
        cancel = self._tell(opened, current, Control("cancel", reason="it took too long"))
        return [cancel, *self._ended(opened, self._lost(opened, current, error), now)]

    def _lost(self, opened: OpenRequest, current: StepResult, error: WireError) -> StepResult:
        """How a step ends whose node says nothing more: ``unknown`` where an effect may have happened."""
        if current.task is None or not opened.tries.get(current.task):
            return replace(current, state=State.FAILED, error=error)
        is_safe = self._making.task(opened, current).retry == "safe"
        return replace(current, state=State.FAILED if is_safe else State.UNKNOWN, error=error)

    # Requests end

    def _limit(self, opened: OpenRequest, now: float) -> None:
        timeout_s = opened.record.request.timeout_s or self._request_timeout_s
        self._timers.set(("request", opened.record.request.id), now + timeout_s)

    def _time_out(self, opened: OpenRequest, now: float) -> list[MasterEffect]:
        timeout_s = opened.record.request.timeout_s or self._request_timeout_s
        error = WireError(ErrorCode.TIMEOUT, f"not finished within {timeout_s:g} s")
        opened.is_plain = True
        if opened.record.plan is None:
            return self._stored(opened, self._finish(opened, State.FAILED, error.message, error, now))
        cancels = self._cancel_sent(opened, "the request timed out")
        return cancels + self._give_up(opened, error, now)

    def _give_up(self, opened: OpenRequest, error: WireError, now: float) -> list[MasterEffect]:
        """End every step that is still open, and with them the request."""
        effects: list[MasterEffect] = []
        for step in opened.record.steps:
            if not step.state.is_terminal:
                member = self.pool.members.get(step.node or "")
                is_away = member is not None and not member.is_usable
                why = replace(error, message=f"{error.message}; {step.node} is offline") if is_away else error
                effects += self._end_step(opened, self._lost(opened, step, why))
        return self._stored(opened, effects + self._finish_if_done(opened, now))

    def _finish_if_done(self, opened: OpenRequest, now: float) -> list[MasterEffect]:
        record = opened.record
        if not all(step.state.is_terminal for step in record.steps):
            return []
        if record.plan is None:
            error = WireError(ErrorCode.CANCELED, "cancelled before anything was done")
            return self._finish(opened, State.CANCELED, error.message, error, now)
        state = _sum_up(record)
        if self._wants_words(opened, record.plan, state):
            opened.is_writing = True
            self._timers.set(("answer", record.request.id), now + ANSWER_WITHIN_S)
            return [WriteAnswer(record.request, record.plan, record.steps)]
        first = next((step.error for step in record.steps if step.error and step.state is not State.SKIPPED), None)
        text = _agents_words(record.plan, record.steps) if state is State.COMPLETED else ""
        return self._finish(opened, state, text or self._answer(record.plan, record.steps), first, now)

    def _wants_words(self, opened: OpenRequest, plan: Plan, state: State) -> bool:
        """Whether a model puts the results in words: only where all went well, and no agent has answered already."""
        if plan.engine != "llm" or state is not State.COMPLETED or opened.is_plain:
            return False
        has_answered = _agents_words(plan, opened.record.steps) != ""
        return not has_answered and tokens_of(opened.usage) < (opened.budget.tokens or 0)

    def _answer_written(self, event: AnswerWritten, now: float) -> list[MasterEffect]:
        opened = self._open.get(event.request)
        if opened is None or not opened.is_writing:
            return self._count(MASTER, event.request, event.usage)
        counted = self._count_own(opened, event.usage)
        return counted + self._stored(opened, self._finish(opened, State.COMPLETED, event.text, None, now))

    def _finish(
        self, opened: OpenRequest, state: State, text: str, error: WireError | None, now: float
    ) -> list[MasterEffect]:
        """The one, terminal answer (promise 1). The caller has the record stored before it is said."""
        ended = self._event(opened, "request_ended", state=state.value)
        timing = ReplyTiming(opened.plan_s, round(now - opened.arrived_at, 4))
        said = self._reply(opened.record, state, text, error)
        reply = fit_reply(replace(said, usage=opened.usage, timing=timing, seq=opened.seq))
        record = replace(opened.record, state=state, reply=reply)
        opened.record = record
        request_id = record.request.id
        del self._open[request_id]
        self._timers.cancel(("request", request_id))
        self._timers.cancel(("cancel", request_id))
        self._timers.cancel(("answer", request_id))
        self._unsent[request_id] = record
        return [ended, *self._send_reply(record, now)]

    def _reply(self, record: Record, state: State, text: str, error: WireError | None) -> Reply:
        return Reply(
            record.request.id,
            state,
            text,
            engine=record.plan.engine if record.plan else None,
            plan=record.plan,
            results=record.steps,
            error=error,
            boot=self._boot,
            ts=self._wall(),
        )

    def _send_reply(self, record: Record, now: float) -> list[MasterEffect]:
        """Say the reply, and again until the broker has it: it may be gone, refuse, or have too much to take."""
        assert record.reply is not None
        self._timers.set(("reply", record.request.id), now + REPLY_AGAIN_S)
        return [SendReply(record.reply, record.origin, record.request.reply_to)]

    def _reply_delivered(self, request_id: str) -> list[MasterEffect]:
        record = self._unsent.pop(request_id, None)
        if record is None:
            return []
        self._timers.cancel(("reply", request_id))
        record = replace(record, is_sent=True)
        self._keep(record)
        return [Save(record)]

    def _keep(self, record: Record) -> None:
        self._closed[record.request.id] = record
        self._closed.move_to_end(record.request.id)
        while len(self._closed) > KEPT_REPLIES:
            self._closed.popitem(last=False)

    # Nodes come and go

    def _connected(self, now: float) -> list[MasterEffect]:
        self._is_connected = True
        if ("settle", "") in self._timers:
            self._timers.set(("settle", ""), now + SETTLE_S)
        effects: list[MasterEffect] = [Announce()]
        for record in self._unsent.values():
            effects += self._send_reply(record, now)
        for node, member in self.pool.members.items():
            member.last_word = now
            effects += self._resume(node, now)
        return effects

    def _heard(self, node: str, now: float) -> None:
        if node in self.pool.members:
            self.pool[node].last_word = now

    def _node_seen(self, node: str, is_online: bool, now: float) -> list[MasterEffect]:
        member = self.pool[node]
        member.last_word = now
        if is_online == member.is_online:
            return []
        member.is_online = is_online
        if not is_online:
            return self._node_lost(node, now)
        self._timers.set(("silence", node), now + member.silence_s)
        return self._resume(node, now)

    def _card_seen(self, node: str, card: NodeCard | None, now: float) -> list[MasterEffect]:
        member = self.pool[node]
        member.is_forgotten = card is None
        if card is None:
            self._remove_forgotten(node)
            return []
        member.last_word = now
        is_new = member.card is None
        is_restarted = member.card is None or member.card.boot != card.boot
        member.card = card
        effects = self._resume(node, now) if is_restarted else []
        return effects + (self._advance_held(node, now) if is_new else [])

    def _remove_forgotten(self, node: str) -> None:
        """A node whose card was taken away is none, once nothing waits for it."""
        if self.pool[node].is_forgotten and not self.pool[node].open_tasks:
            self.pool.remove(node)
            self._timers.cancel(("silence", node))

    def _advance_held(self, node: str, now: float) -> list[MasterEffect]:
        """Go on with the steps that waited for the card of *node*."""
        effects: list[MasterEffect] = []
        for opened in list(self._open.values()):
            held = [step for step in opened.record.steps if step.node == node and step.task is None]
            if any(step.state is State.SUBMITTED for step in held):
                effects += self._stored(opened, self._advance(opened, now))
        return effects

    def _health_seen(self, node: str, numbers: dict[str, float], is_retained: bool, now: float) -> list[MasterEffect]:
        member = self.pool[node]
        member.health = numbers
        if is_retained:
            return []
        member.last_word = now
        # A node that fell silent and speaks again is there, whatever the broker said last.
        return [] if member.is_online else self._node_seen(node, True, now)

    def _check_silence(self, node: str, now: float) -> list[MasterEffect]:
        """Some brokers do not notice a client that falls silent: then the missing health tells (promise 6)."""
        member = self.pool[node]
        if not member.is_online:
            return []
        silent_at = member.last_word + member.silence_s
        if now < silent_at or not self._is_connected:
            self._timers.set(("silence", node), max(silent_at, now + 1.0))
            return []
        member.is_online = False
        note = Note(f"{node} has said nothing for {member.silence_s:g} s: it counts as offline")
        return [note, *self._node_lost(node, now)]

    def _node_lost(self, node: str, now: float) -> list[MasterEffect]:
        """What may be repeated goes to another node, if one can do it; the rest waits for this one to come back."""
        effects: list[MasterEffect] = []
        for task in list(self.pool[node].open_tasks):
            opened = self._by_task(task)
            current = self._step_of(opened, task)
            self._timers.cancel(("send", task))
            effects.append(self._event(opened, "node_lost", node=node, task=task, step=current.step))
            if self._can_move(opened, current):
                effects += self._stored(opened, self._again(opened, current, now) + self._advance(opened, now))
        return effects

    def _can_move(self, opened: OpenRequest, current: StepResult) -> bool:
        step = opened.planned(current.step)
        if step.node is not None or self._making.choose(step) is None:
            return False
        if opened.record.is_canceled or current.attempt >= MAX_ATTEMPTS:
            return False
        return not opened.tries.get(current.task or "") or self._making.task(opened, current).retry == "safe"

    def _resume(self, node: str, now: float) -> list[MasterEffect]:
        """The node is there (again): send what it may not know of. Its journal makes a second copy harmless.

        What it had accepted and may not be repeated is not sent again: its journal answers, or it ends as ``unknown``.
        """
        return [effect for task in list(self.pool[node].open_tasks) for effect in self._resume_task(task, now)]

    def _resume_task(self, task: str, now: float) -> list[MasterEffect]:
        opened = self._by_task(task)
        current = self._step_of(opened, task)
        if opened.record.is_canceled and opened.tries.get(task):
            return [self._tell(opened, current, Control("cancel"))]
        if current.state is State.SUBMITTED or self._making.task(opened, current).retry == "safe":
            return self._send(opened, task, now)
        if ("task", task) not in self._timers:
            is_agent = opened.planned(current.step).kind == "agent"  # it may have asked somebody meanwhile
            more_s = self._making.ask_within_s if is_agent else 0.0
            self._timers.set(("task", task), now + self._making.task(opened, current).timeout_s + more_s + MARGIN_S)
        return []

    # The model is used, and the master's own agent delegates

    def tokens_left(self, node: str, task: str) -> int | None:
        """The tokens that *task* may still use; None where it is no open agent task of *node*.

        Whoever asks is the gateway, for a call that it is about to make.
        """
        found = self._open_step(node, task)
        if found is None or found[1].step not in found[0].record.shares:
            return None
        found[0].by_gateway.add(task)
        return found[0].tokens_left(found[1])

    def _model_used(self, event: ModelUsed) -> list[MasterEffect]:
        found = self._open_step(event.node, event.task)
        if found is not None:
            found[0].add_used(event.task, event.usage)
            return self._stored(found[0], self._count(event.node, found[0].record.request.id, event.usage))
        request_id = self._ended_tasks.get(event.task, "")
        counted = self._count(event.node, request_id, event.usage)
        opened = self._open.get(request_id)
        if opened is None:
            return counted
        opened.record = replace(opened.record, usage=add_usage(opened.record.usage, event.usage))
        return self._stored(opened, counted)

    def _count_own(self, opened: OpenRequest, usage: Usage) -> list[MasterEffect]:
        """What the master has used itself for a request."""
        opened.record = replace(opened.record, usage=add_usage(opened.record.usage, usage))
        return self._count(MASTER, opened.record.request.id, usage)

    def _count(self, node: str, request: str, usage: Usage) -> list[MasterEffect]:
        return [] if usage == Usage() else [CountUsage(node, request, self._model, usage, self._wall())]

    def _delegated(self, event: Delegated, now: float) -> list[MasterEffect]:
        """A step more, of the same request: with a task, promises and a place in the reply like any other."""
        found = self._open_step(MASTER, event.task)
        if found is None or found[0].record.is_canceled or found[0].record.plan is None:
            error = WireError(ErrorCode.CANCELED, "the request has ended")
            return [TellDelegate(event.key, StepResult("s0", State.CANCELED, error=error))]
        opened, record, plan = found[0], found[0].record, found[0].record.plan
        taken = {step.id for step in plan.steps}
        step = replace(event.step, id=next(f"s{n}" for n in count(len(taken) + 1) if f"s{n}" not in taken))
        try:
            if len(plan.steps) >= MAX_STEPS:
                raise PlanError([f"the request has {MAX_STEPS} steps already"])
            cards = {**self.pool.online(), MASTER: self._own_card}
            check_plan(Plan(plan.engine, (step,)), cards, pin=record.request.node)
        except PlanError as problem:
            error = WireError(ErrorCode.BAD_PLAN, str(problem))
            return [TellDelegate(event.key, StepResult(step.id, State.FAILED, step.node, error=error))]
        begun = StepResult(step.id, State.SUBMITTED, step.node)
        opened.record = replace(record, plan=replace(plan, steps=(*plan.steps, step)), steps=(*record.steps, begun))
        opened.delegates[step.id] = Delegate(event.key, event.task)
        what: dict[str, JSON] = (
            {"tool": step.tool} if step.tool else {"instruction": cut_middle(step.instruction or "", 500)}
        )
        where: dict[str, JSON] = {"node": step.node} if step.node else {}
        told = self._event(opened, "delegated", step=step.id, by=event.task, **where, **what)
        return self._stored(opened, [told, *self._advance(opened, now)])

    # Results are forgotten by their node once they are stored here

    def _forget_later(self, node: str, task: str, now: float) -> None:
        if node == MASTER:
            return
        waiting = self._forget.setdefault(node, [])
        if task not in waiting:
            waiting.append(task)
        if len(waiting) >= FORGET_AT_ONCE:
            self._timers.set(("forget", node), now)
        elif ("forget", node) not in self._timers:
            self._timers.set(("forget", node), now + FORGET_AFTER_S)

    def _flush_forget(self, node: str) -> list[MasterEffect]:
        # A task that has come back to this node meanwhile: its new attempt would be forgotten.
        tasks = [task for task in self._forget.pop(node, []) if self._open_step(node, task) is None]
        return [SendForget(node, tuple(tasks))] if tasks else []

    # Small things

    def _by_task(self, task: str) -> OpenRequest:
        return self._open[self._tasks[task]]

    def _step_of(self, opened: OpenRequest, task: str) -> StepResult:
        return next(step for step in opened.record.steps if step.task == task)

    def _open_step(self, node: str, task: str) -> tuple[OpenRequest, StepResult] | None:
        """The open request and step of *task*, if *node* is the one that it was given to."""
        if task not in self._tasks:
            return None
        opened = self._by_task(task)
        current = self._step_of(opened, task)
        return (opened, current) if current.node == node else None

    def _tell(self, opened: OpenRequest, step: StepResult, control: Control) -> SendTaskControl:
        """An order for the node that works on *step*."""
        order = replace(control, epoch=opened.record.epoch)
        return SendTaskControl(step.node or "", step.task or "", order, opened.record.request.id)

    def _stored(self, opened: OpenRequest, effects: list[MasterEffect]) -> list[MasterEffect]:
        """*effects*, and before them what they stand on."""
        return [Save(opened.record), *effects]

    def _event(self, opened: OpenRequest, kind: str, /, **facts: JSON) -> SendEvent:
        event = Event(opened.record.request.id, kind, self._boot, opened.seq, self._wall(), facts)
        opened.seq += 1
        return SendEvent(fit_event(event))


def _sum_up(record: Record) -> State:
    """The state of a request from those of its steps: the gravest. The agent of a simple one made good the others."""
    states = {step.state for step in record.steps}
    if record.plan is not None and State.UNKNOWN not in states and _agents_words(record.plan, record.steps):
        states = {record.steps[0].state}
    if State.UNKNOWN in states:
        return State.UNKNOWN
    if record.is_canceled:
        return State.CANCELED
    if states & {State.FAILED, State.REJECTED, State.CANCELED}:
        return State.FAILED
    return State.COMPLETED


def _agents_words(plan: Plan, results: Sequence[StepResult]) -> str:
    """The answer of the agent that did a simple request; what it delegated came back to it, and is in its answer."""
    first = plan.steps[0]
    is_own = plan.complexity == "simple" and first.kind == "agent" and first.node == MASTER
    return results[0].output.text if is_own and results[0].state is State.COMPLETED else ""


def _words(opened: OpenRequest) -> str:
    """What a request may use."""
    return f"{opened.budget.tokens} tokens and {opened.budget.tool_calls} tool calls"


def _by(control: Control) -> dict[str, JSON]:
    """Who gave the order, where that was said."""
    return {"by": control.by} if control.by else {}


def _refused_retained(what: str) -> Note:
    return Note(f"{what} was refused: {RETAINED}")


def _error_of(event: Event) -> WireError:
    """The error inside a ``task_rejected`` event, whatever the node wrote there."""
    error = event.data.get("error")
    if not isinstance(error, dict):
        return WireError(ErrorCode.INTERNAL, "the node rejected the task and did not say why")
    return WireError(
        str(error.get("code", ErrorCode.INTERNAL)), str(error.get("message", "")), error.get("retryable") is True
    )
