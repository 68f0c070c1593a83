"""What a run tells, in the order that docs/agent.md promises, and the outcome it ends with. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal, TypeAlias

from pibot_mesh.agent.messages import AssistantMessage
from pibot_mesh.agent.model import FailureKind
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.messages import ToolCall, Usage


class RunState(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"  #: it met a limit; the reason says which
    CANCELED = "canceled"  #: somebody aborted it
    FAILED = "failed"  #: the model gave no answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and what it has.

    *text* is the answer, or what there was of it; *reason* says why the run is not completed; *usage* adds up every
    model call, those that failed or were cut short included, as far as the service told it.
    """

    state: RunState
    text: str = ""
    reason: str = ""
    failure: FailureKind | None = None
    usage: Usage = Usage()
    turns: int = 0
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in the run *run*, in its turn *turn* (from 1; 0 outside of turns).

    *seq* counts from 0 and grows by one; a gap means that deltas were dropped because nobody took them in time.
    """

    run: str
    turn: int
    seq: int


@dataclass(frozen=True, slots=True)
class RunStart(Event):
    """The run begins."""

    type: ClassVar = "run_start"
    instruction: str


@dataclass(frozen=True, slots=True)
class TurnStart(Event):
    """A model call follows, and the tool calls that it asks for."""

    type: ClassVar = "turn_start"


@dataclass(frozen=True, slots=True)
class MessageTaken(Event):
    """A message that waited (see `AgentCore.steer` and `AgentCore.follow_up`) stands in the transcript now."""

    type: ClassVar = "message_taken"
    text: str
    kind: Literal["steer", "follow_up"]


@dataclass(frozen=True, slots=True)
class MessageStart(Event):
    """The model begins to answer."""

    type: ClassVar = "message_start"


@dataclass(frozen=True, slots=True)
class MessageDelta(Event):
    """The next piece of the answer. Pieces may be merged, and dropped where nobody takes them."""

    type: ClassVar = "message_delta"
    text: str
    kind: Literal["text", "reasoning"] = "text"


@dataclass(frozen=True, slots=True)
class MessageEnd(Event):
    """The answer is there; where it is not *is_whole*, it broke off, and its pieces count for nothing."""

    type: ClassVar = "message_end"
    message: AssistantMessage
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class ToolStart(Event):
    """The model asks for a call. It is not looked up or checked yet; *arguments* is what the model wrote."""

    type: ClassVar = "tool_start"
    call: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolUpdate(Event):
    """How far the tool is, in its own words."""

    type: ClassVar = "tool_update"
    call: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolEnd(Event):
    """The result of a call, as the model will see it.

    *is_left_behind*: the tool did not heed its end, and may still be doing something.
    """

    type: ClassVar = "tool_end"
    call: str
    name: str
    text: str
    is_error: bool = False
    is_left_behind: bool = False


@dataclass(frozen=True, slots=True)
class Retry(Event):
    """The model call went wrong, and is tried again after *delay_s* seconds; *attempt* is the one that follows."""

    type: ClassVar = "retry"
    attempt: int
    delay_s: float
    kind: FailureKind
    text: str


@dataclass(frozen=True, slots=True)
class Compacted(Event):
    """Older turns were summarised: the next request has about *after* tokens instead of *before*."""

    type: ClassVar = "compacted"
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class TurnEnd(Event):
    """The turn is over; *usage* is what it used."""

    type: ClassVar = "turn_end"
    usage: Usage


@dataclass(frozen=True, slots=True)
class RunEnd(Event):
    """The run is over. Nothing follows."""

    type: ClassVar = "run_end"
    outcome: Outcome


AgentEvent: TypeAlias = (
    RunStart
    | TurnStart
    | MessageTaken
    | MessageStart
    | MessageDelta
    | MessageEnd
    | ToolStart
    | ToolUpdate
    | ToolEnd
    | Retry
    | Compacted
    | TurnEnd
    | RunEnd
)


def event_json(event: AgentEvent) -> dict[str, JSON]:
    """*event* as plain JSON: ``{"type": "message_delta", "run": …, "turn": 1, "seq": 3, "text": "Hel", …}``."""
    return {"type": event.type, **to_dict(event)}


def add_usage(one: Usage, other: Usage) -> Usage:
    """The sum."""
    return Usage(
        one.input + other.input,
        one.cached + other.cached,
        one.output + other.output,
        one.reasoning + other.reasoning,
    )
