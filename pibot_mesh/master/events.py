"""What goes into the master's core and what comes out: events, effects, and what the ledger remembers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.messages import (
    Control,
    Event,
    Limits,
    NodeCard,
    Plan,
    Reply,
    Request,
    Result,
    State,
    Step,
    StepResult,
    Task,
    Usage,
    WireError,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """How a request came, and where its reply goes besides its own topic.

    *is_plain*: as plain text, so a reply topic gets plain text too. *topic* and *correlation* (base64) are those of
    MQTT 5. *delivery* is the MQTT packet id of a plain text sent with QoS 1, by which a second copy is recognised.
    """

    is_plain: bool = False
    topic: str | None = None
    correlation: str | None = None
    delivery: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What one task may use of its request's budget: tokens and calls, and *timeout_s* from its start.

    *is_safe*: by the tools that it had when it was given out, another attempt may do it again.
    """

    limits: Limits
    timeout_s: float
    is_safe: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One request in the ledger, whole: written again at each change.

    *usage* is what planning, the answer and lost attempts have used; *shares* are those of its agent steps, by step;
    *used* is what its open tasks have asked of the model gateway, by task. *epoch* grows each time that the request
    passes to another master; 0 where there is but one.
    """

    request: Request
    origin: Origin
    state: State
    accepted_ts: float = 0.0
    plan: Plan | None = None
    steps: tuple[StepResult, ...] = ()
    is_canceled: bool = False
    reply: Reply | None = None
    is_sent: bool = False
    """Whether the broker has acknowledged the reply."""
    usage: Usage = Usage()
    shares: Mapping[str, Share] = field(default_factory=dict)
    used: Mapping[str, Usage] = field(default_factory=dict)
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no plan could be made, in words for the person who asked."""

    error: WireError


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of a conversation that has its reply."""

    text: str
    reply: Reply


# --- Events ---


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A Request was read. *known* is its record as the core held it when it came, or as the ledger has it."""

    request: Request
    origin: Origin = Origin()
    is_retained: bool = False
    is_copy: bool = False
    """The broker marked the message as sent before (MQTT's DUP)."""
    known: Record | None = None


@dataclass(frozen=True, slots=True)
class RequestMalformed:
    """Something that is no Request stood on the request topic."""

    error: ProtocolError


@dataclass(frozen=True, slots=True)
class RequestControlled:
    """A Control for one request."""

    request: str
    control: Control
    is_retained: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner is done with a request."""

    request: str
    outcome: Plan | Refusal
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class AnswerWritten:
    """The planner has put the results of a request in words."""

    request: str
    text: str
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class ModelUsed:
    """The model gateway has asked the model for a task of *node*."""

    node: str
    task: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Delegated:
    """The master's own agent, working on *task*, gives *step* to a node; *key* is what `TellDelegate` names.

    The id of the step is made by the core.
    """

    task: str
    key: str
    step: Step


@dataclass(frozen=True, slots=True)
class ReplyDelivered:
    """The broker has acknowledged the reply to a request."""

    request: str


@dataclass(frozen=True, slots=True)
class TakenOver:
    """These requests of masters that fell silent belong to this one now."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """These requests belong to another master, or did: *is_back* where this one has taken them again, and goes on."""

    requests: frozenset[str]
    is_back: bool = False


@dataclass(frozen=True, slots=True)
class NobodyWaits:
    """The ledger was asked (`AskLedger`): no master waits for the result of *task* that *node* holds."""

    node: str
    task: str


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node's presence was read."""

    node: str
    is_online: bool


@dataclass(frozen=True, slots=True)
class CardSeen:
    """A node's card was read; None where it was taken away."""

    node: str
    card: NodeCard | None


@dataclass(frozen=True, slots=True)
class HealthSeen:
    """A node's health was read."""

    node: str
    numbers: dict[str, float]
    is_retained: bool = False


@dataclass(frozen=True, slots=True)
class TaskEventSeen:
    """An event of a task was read under its node's topic."""

    node: str
    task: str
    event: Event


@dataclass(frozen=True, slots=True)
class TaskResultSeen:
    """A result was read under its node's topic, or the master's own tool gave it (node ``master``)."""

    node: str
    result: Result


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection to the broker stands, and the subscriptions with it."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to the broker is gone."""


@dataclass(frozen=True, slots=True)
class OwnStatusSeen:
    """The master's own presence was read."""

    is_online: bool


MasterInput: TypeAlias = (
    RequestArrived
    | RequestMalformed
    | RequestControlled
    | Planned
    | AnswerWritten
    | ModelUsed
    | Delegated
    | ReplyDelivered
    | TakenOver
    | Lost
    | NobodyWaits
    | NodeSeen
    | CardSeen
    | HealthSeen
    | TaskEventSeen
    | TaskResultSeen
    | Connected
    | Disconnected
    | OwnStatusSeen
)


# --- Effects ---


@dataclass(frozen=True, slots=True)
class Save:
    """Write *record* to the ledger."""

    record: Record


@dataclass(frozen=True, slots=True)
class MakePlan:
    """Have the planner work on *request*, whose limits are its whole budget; answer with Planned."""

    request: Request


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """Have the planner put the results of *request* in words; answer with AnswerWritten."""

    request: Request
    plan: Plan
    results: tuple[StepResult, ...]


@dataclass(frozen=True, slots=True)
class TellDelegate:
    """Tell the master's own agent how what it delegated (`Delegated`) has ended."""

    key: str
    result: StepResult


@dataclass(frozen=True, slots=True)
class SendTask:
    """Publish *task* to *node*."""

    node: str
    task: Task


@dataclass(frozen=True, slots=True)
class SendTaskControl:
    """Publish a Control for a task of *node*; one of the node ``master`` runs here.

    *request* is the one that the task belongs to, where that is open.
    """

    node: str
    task: str
    control: Control
    request: str | None = None


@dataclass(frozen=True, slots=True)
class SendForget:
    """Tell *node* that the results of *tasks* are stored here."""

    node: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunHere:
    """Run *task* with the master's own tools; answer with TaskResultSeen from node ``master``.

    What an agent tells meanwhile comes as TaskEventSeen from the same.
    """

    task: Task


@dataclass(frozen=True, slots=True)
class SendEvent:
    """Publish *event* of a request. *is_kept*: the ledger keeps it, unless it is a piece of an answer."""

    event: Event
    is_kept: bool = True


@dataclass(frozen=True, slots=True)
class SendReply:
    """Publish *reply*, wherever *origin* wants it. *is_final*: answer with ReplyDelivered when the broker has it."""

    reply: Reply
    origin: Origin
    reply_to: str | None = None
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class AskLedger:
    """*node* holds a result of *task*, which this master does not know: see whether another waits for it.

    Answer with NobodyWaits where nobody does.
    """

    node: str
    task: str
    request: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Publish info, health and presence again."""


@dataclass(frozen=True, slots=True)
class CountUsage:
    """Write to the ledger's book of usage what *node* has used of *model* for *request*, at Unix time *ts*."""

    node: str
    request: str
    model: str
    usage: Usage
    ts: float


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log."""

    text: str
    level: Literal["debug", "info", "warning"] = "warning"


MasterEffect: TypeAlias = (
    Save
    | MakePlan
    | WriteAnswer
    | TellDelegate
    | SendTask
    | SendTaskControl
    | SendForget
    | RunHere
    | SendEvent
    | SendReply
    | AskLedger
    | Announce
    | CountUsage
    | Note
)


def request_of(effect: MasterEffect) -> str | None:
    """The id of the request that *effect* is about, where it is about one."""
    match effect:
        case Save(record):
            return record.request.id
        case MakePlan(request) | WriteAnswer(request):
            return request.id
        case SendTask(_, task) | RunHere(task):
            return task.request
        case SendTaskControl():
            return effect.request
        case SendEvent(event):
            return event.run
        case SendReply(reply):
            return reply.id
    return None
