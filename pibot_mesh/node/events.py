"""What goes into a node's core and what comes out: events, effects, and what the journal remembers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import (
    Cause,
    Control,
    Event,
    Output,
    OutputSet,
    OutputValue,
    Result,
    Task,
    TaskOutcome,
    ToolCall,
    Usage,
    WireError,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A task in the journal: ``queued`` (nothing done yet), ``running``, or ``ended`` with its result.

    *calls* are those that a running agent has begun so far; one that is under way has ``ok`` None.
    """

    task: Task
    phase: Literal["queued", "running", "ended"]
    result: Result | None = None
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the journal held when the node started."""

    entries: tuple[Entry, ...] = ()
    forgotten: Mapping[str, int] = field(default_factory=dict)
    is_stopped: bool = False
    epochs: Mapping[str, int] = field(default_factory=dict)
    """The highest epoch of each request, that of the latest last."""


# --- Events ---


@dataclass(frozen=True, slots=True)
class TaskArrived:
    """A Task was read from the node's ``task`` topic."""

    task: Task
    is_retained: bool = False


@dataclass(frozen=True, slots=True)
class TaskMalformed:
    """Something that is no Task stood on the node's ``task`` topic."""

    error: ProtocolError


@dataclass(frozen=True, slots=True)
class TaskControlled:
    """A Control for one task."""

    task: str
    control: Control
    is_retained: bool = False


@dataclass(frozen=True, slots=True)
class NodeControlled:
    """A Control for the node."""

    control: Control
    is_retained: bool = False


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """The run of a task's tool, or of its agent, is over, in whatever way.

    *tool_calls* are an agent's own account of its calls; None: it gave none, and what it told on the way must do.
    """

    task: str
    state: TaskOutcome
    output: Output = Output()
    error: WireError | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class RunTold:
    """What runs for a task tells of itself: an event of this *type*, with these fields."""

    task: str
    type: str
    data: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallBegun:
    """An agent is about to make the call with this id. Where that changes something, it waits for LetCall."""

    task: str
    call: str
    record: ToolCall


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call of an agent is over. *ok* is None where its tool was left behind."""

    task: str
    call: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class ApprovalAwaited:
    """A call of an agent waits for a person."""

    task: str
    call: str


@dataclass(frozen=True, slots=True)
class ApprovalAnswered:
    """A call of an agent does not wait for a person any more."""

    task: str
    call: str


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection to the broker stands, and the subscriptions with it."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection to the broker is gone."""


@dataclass(frozen=True, slots=True)
class MasterSeen:
    """The master's presence was read."""

    is_online: bool


@dataclass(frozen=True, slots=True)
class OwnStatusSeen:
    """The node's own presence was read."""

    is_online: bool


@dataclass(frozen=True, slots=True)
class StopSeen:
    """The emergency stop's state was read."""

    is_stopped: bool


@dataclass(frozen=True, slots=True)
class OutputOrdered:
    """Somebody asks for an output's value on its ``set`` topic."""

    device: str
    order: OutputSet
    is_retained: bool = False


@dataclass(frozen=True, slots=True)
class OutputNoted:
    """An output was set, by whomever: its pin reads *value* now."""

    device: str
    value: OutputValue
    cause: Cause


RunInput: TypeAlias = ToolEnded | RunTold | CallBegun | CallEnded | ApprovalAwaited | ApprovalAnswered
"""What comes from the run of a task."""
NodeInput: TypeAlias = (
    TaskArrived
    | TaskMalformed
    | TaskControlled
    | NodeControlled
    | RunInput
    | Connected
    | Disconnected
    | MasterSeen
    | OwnStatusSeen
    | StopSeen
    | OutputOrdered
    | OutputNoted
)


# --- Effects ---


@dataclass(frozen=True, slots=True)
class Save:
    """Write *entry* to the journal; *is_durable*: synced to disk, so that a pulled plug does not lose it."""

    entry: Entry
    is_durable: bool


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The master has these results: keep only the ids and attempts."""

    attempts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SaveStop:
    """Write the emergency stop's state to the journal, synced to disk."""

    is_stopped: bool


@dataclass(frozen=True, slots=True)
class SaveOutput:
    """Write to the journal what an output is at, and what set it. Not synced: after a pulled plug the pin says more."""

    device: str
    value: OutputValue
    cause: Cause


@dataclass(frozen=True, slots=True)
class StartTool:
    """Run the task's tool, or its agent, if it is not later than *by* on the core's clock; answer with ToolEnded.

    The effect may have waited for the journal. A tool that is not run any more answers ``rejected`` (promise 3).
    """

    task: Task
    by: float


@dataclass(frozen=True, slots=True)
class EndTool:
    """Tell the task's tool, or its agent, to end, and why; answer with ToolEnded when it did."""

    task: Task
    reason: str


@dataclass(frozen=True, slots=True)
class LetCall:
    """The call of the task's agent stands in the journal: it may begin."""

    task: str
    call: str


@dataclass(frozen=True, slots=True)
class SteerRun:
    """Tell the task's agent *text* before its next model call."""

    task: str
    text: str


@dataclass(frozen=True, slots=True)
class AnswerApproval:
    """Tell the task's agent what a person said about this one call."""

    task: str
    call: str
    is_granted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class SendEvent:
    """Publish *event* of the task."""

    task: str
    event: Event


@dataclass(frozen=True, slots=True)
class SendResult:
    """Publish *result*."""

    result: Result


@dataclass(frozen=True, slots=True)
class Announce:
    """Publish card, states and presence again."""


@dataclass(frozen=True, slots=True)
class ReloadSkills:
    """Load every skill again, whether its files have changed or not."""


@dataclass(frozen=True, slots=True)
class HoldOutputs:
    """The emergency stop: outputs to their safe values and held there, or set free."""

    is_held: bool


@dataclass(frozen=True, slots=True)
class SetOutput:
    """Set an output as somebody ordered on its ``set`` topic."""

    device: str
    order: OutputSet


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log."""

    text: str
    level: Literal["debug", "info", "warning"] = "warning"


AgentOrder: TypeAlias = LetCall | SteerRun | AnswerApproval
"""What is for the run of an instruction."""
NodeEffect: TypeAlias = (
    Save
    | Forgotten
    | SaveStop
    | SaveOutput
    | StartTool
    | EndTool
    | AgentOrder
    | SendEvent
    | SendResult
    | Announce
    | ReloadSkills
    | HoldOutputs
    | SetOutput
    | Note
)
