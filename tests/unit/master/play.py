"""A master core on a clock that the test moves; whatever it says is checked against what it had stored before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from pibot_mesh.master.core import MasterCore
from pibot_mesh.master.events import (
    CardSeen,
    Connected,
    MakePlan,
    MasterEffect,
    MasterInput,
    NodeSeen,
    Planned,
    Record,
    Refusal,
    RequestArrived,
    RequestControlled,
    RunHere,
    Save,
    SendEvent,
    SendForget,
    SendReply,
    SendTask,
    TaskEventSeen,
    TaskResultSeen,
)
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.messages import (
    Capacity,
    Control,
    Event,
    Limits,
    NodeCard,
    Output,
    Plan,
    Reply,
    Request,
    Result,
    State,
    Step,
    Task,
    ToolCall,
    ToolSpec,
    Usage,
    WireError,
)

E = TypeVar("E")

SPECS = (
    ToolSpec("read"),
    ToolSpec("set", parameters={"properties": {"value": {"type": "number"}}}, effect="actuate", safe_to_retry=True),
    ToolSpec("press", effect="actuate", safe_to_retry=False),
)
OWN = (
    ToolSpec("mesh_status"),
    ToolSpec("wipe", effect="write", safe_to_retry=False),
    ToolSpec("delegate", safe_to_retry=False),
)
BUDGET = Limits(50, 100, 10_000)


def card(node: str, boot: str = "b1", *, labels: tuple[str, ...] = (), running: int = 2, queued: int = 16) -> NodeCard:
    return NodeCard(node, boot, "1", labels=labels, tools=SPECS, capacity=Capacity(running, queued), agent=True)


def plan(*steps: Step) -> Plan:
    return Plan("offline", steps)


def step(name: str = "s1", tool: str = "read", node: str | None = "n1", **fields: object) -> Step:
    return Step(**{"id": name, "tool": tool, "node": node, **fields})  # type: ignore[arg-type]


class Play:
    """One master, from one start to the next, and the ledger that outlives it."""

    def __init__(
        self,
        ledger: dict[str, Record] | None = None,
        *,
        open_requests: int = 10,
        boot: str = "m1",
        at: float = 1000.0,
        ask: tuple[str, ...] = (),
        budget: Limits = BUDGET,
        is_shared: bool = False,
    ) -> None:
        self._ask = ask
        self.now = at
        self.ledger = ledger if ledger is not None else {}
        self.core = MasterCore(
            boot=boot,
            own_card=NodeCard("master", boot, "1", tools=OWN, agent=True),
            answer=lambda plan, steps: ", ".join(f"{one.step} {one.state}" for one in steps),
            may_reply_to=lambda topic: topic.startswith("pibot/reply/"),
            request_timeout_s=100,
            open_requests=open_requests,
            jitter=_Even(),
            budget=budget,
            ask=ask,
            ask_within_s=60,
            model="m",
            is_shared=is_shared,
            remembered=[record for record in self.ledger.values() if not record.is_sent],
            wall=lambda: 5000.0,
        )

    def start(self) -> list[MasterEffect]:
        return self._checked(self.core.start(self.now))

    def again(self, after: float = 1.0) -> Play:
        """The master after a crash: all that is left is the ledger."""
        later = Play(self.ledger, boot="m2", at=self.now + after, ask=self._ask)
        later.first = later.start()
        return later

    first: list[MasterEffect]

    def hear(self, event: MasterInput, after: float = 0.0) -> list[MasterEffect]:
        """What *event* causes, *after* seconds later than the last thing."""
        self.now += after
        return self._checked(self.core.handle(event, self.now))

    def wait(self, seconds: float) -> list[MasterEffect]:
        """Let time go by, and gather what falls due."""
        end, effects = self.now + seconds, list[MasterEffect]()
        while (at := self.core.wake_at()) is not None and at <= end:
            self.now = max(self.now, at)
            effects += self._checked(self.core.tick(self.now))
        self.now = end
        return effects

    def late(self, seconds: float) -> list[MasterEffect]:
        """One tick, *seconds* later: everything that fell due comes at once."""
        self.now += seconds
        return self._checked(self.core.tick(self.now))

    # The usual ways

    def connect(self, *nodes: str) -> list[MasterEffect]:
        effects = self.hear(Connected())
        for node in nodes:
            effects += self.come(node)
        return effects

    def come(self, node: str, boot: str = "b1", **fields: int) -> list[MasterEffect]:
        """A node shows its card, and is online."""
        return self.hear(CardSeen(node, card(node, boot, **fields))) + self.hear(NodeSeen(node, True))  # type: ignore[arg-type]

    def ask(self, outcome: Plan | Refusal | None = None, name: str = "r1", **fields: object) -> list[MasterEffect]:
        """A person asks, and the planner answers with *outcome* (None: not yet)."""
        request = Request(**{"id": name, "text": "do it", **fields})  # type: ignore[arg-type]
        effects = self.hear(RequestArrived(request))
        return effects if outcome is None else effects + self.hear(Planned(name, outcome))

    def result(
        self,
        task: str = "r1-s1",
        state: State = State.COMPLETED,
        *,
        node: str = "n1",
        attempt: int = 1,
        data: JSON = None,
        error: WireError | None = None,
        request: str | None = None,
        calls: tuple[ToolCall, ...] = (),
        usage: Usage = Usage(),
    ) -> list[MasterEffect]:
        """A node's result arrives."""
        name = request or task.rsplit("-", 1)[0]
        result = Result(task, name, attempt, state, Output("ok", data), error, calls, usage)  # type: ignore[arg-type]
        return self.hear(TaskResultSeen(node, result))

    def control(self, action: str, name: str = "r1", **fields: object) -> list[MasterEffect]:
        """Somebody says something about a request."""
        return self.hear(RequestControlled(name, Control(action, **fields)))  # type: ignore[arg-type]

    def event(self, kind: str, task: str = "r1-s1", *, node: str = "n1", **data: JSON) -> list[MasterEffect]:
        """An event of a node's task arrives."""
        return self.hear(TaskEventSeen(node, task, Event(task, kind, "b1", 0, data=data)))

    def accept(self, task: str = "r1-s1", *, node: str = "n1", attempt: int = 1) -> list[MasterEffect]:
        return self.event("task_accepted", task, node=node, attempt=attempt, running=True)

    def reject(
        self, code: str, task: str = "r1-s1", *, retryable: bool = False, node: str = "n1"
    ) -> list[MasterEffect]:
        error = {"code": code, "message": "no", "retryable": retryable}
        return self.event("task_rejected", task, node=node, attempt=1, error=error)

    def _checked(self, effects: list[MasterEffect]) -> list[MasterEffect]:
        """Whatever is said of a request stands behind its Save, or was stored before; and it can be written."""
        for effect in effects:
            match effect:
                case Save(record):
                    self.ledger[record.request.id] = record
                case MakePlan(request):
                    assert request.id in self.ledger
                case SendTask(_, sent) | RunHere(sent):
                    stored = self.ledger[sent.request].steps
                    assert (sent.id, sent.attempt) in [(one.task, one.attempt) for one in stored]
                    encode(sent)
                case SendReply(reply, is_final=True):
                    assert self.ledger[reply.id].reply == reply
                case SendForget(node, tasks):
                    steps = [one for record in self.ledger.values() for one in record.steps if one.task in tasks]
                    assert all(one.state.is_terminal for one in steps if one.node == node)
                case SendEvent(event):
                    encode(event)
        return effects


def only(effects: Sequence[object], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Sequence[object]) -> list[tuple[str, Task]]:
    """The tasks that were sent, with their nodes."""
    return [(effect.node, effect.task) for effect in only(effects, SendTask)]


def replies(effects: Sequence[object]) -> list[Reply]:
    return [effect.reply for effect in only(effects, SendReply)]


def facts(effects: Sequence[object], kind: str) -> dict[str, JSON]:
    """The fields of the one event of this type."""
    [found] = [effect.event for effect in only(effects, SendEvent) if effect.event.type == kind]
    return dict(found.data)


def said(effects: Sequence[object]) -> list[str]:
    """The types of the events that were sent."""
    return [effect.event.type for effect in only(effects, SendEvent)]


class _Even(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2
