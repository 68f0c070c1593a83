"""What a model is to the agent core: messages and tools in, a stream of parts out. Pure: no I/O."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from pibot_mesh.agent.messages import AssistantMessage, Message
from pibot_mesh.protocol.messages import ToolSpec, Usage


class FailureKind(StrEnum):
    """Why a model call gave no answer."""

    AUTH = "auth"  #: the key is missing, wrong or may not do this
    QUOTA = "quota"  #: the account has no credit or allowance left
    RATE_LIMIT = "rate_limit"  #: too many requests or tokens in too short a time
    OVERFLOW = "overflow"  #: the messages are more than the model can read at once
    NETWORK = "network"  #: no connection, a cut one, or a service that is in trouble (5xx)
    PROTOCOL = "protocol"  #: the service refuses the request, or its answer makes no sense
    EMPTY = "empty"  #: an answer with neither text nor a call
    TIMEOUT = "timeout"  #: nothing came for too long
    CONTENT_FILTER = "content_filter"  #: the service refuses to say more


Finish: TypeAlias = Literal["stop", "tool_calls", "length"]
"""Why an answer ended. Only ``length`` (the token limit cut it) matters to the loop."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model is asked: *system* goes first, then *messages*. *max_tokens* limits the answer (None: its own)."""

    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer's text or reasoning; never empty."""

    text: str
    kind: Literal["text", "reasoning"] = "text"


@dataclass(frozen=True, slots=True)
class UsageSeen:
    """What this call has used so far, as the service told it; a later one replaces an earlier one."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """The last part of a call that went well: the whole message, which is not empty."""

    message: AssistantMessage
    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """The last part of a call that did not go well.

    *text* is for people and holds no key. *partial* is what had come; its calls are not complete and must not be run.
    *retry_after_s* is how long the service asks to wait.
    """

    kind: FailureKind
    text: str
    is_retryable: bool = False
    retry_after_s: float | None = None
    partial: AssistantMessage = AssistantMessage()


StreamPart: TypeAlias = Delta | UsageSeen | Answer | ModelFailure


class Model(Protocol):
    """A language model.

    `stream` gives deltas and usage as they come, then exactly one Answer or ModelFailure, and ends. It never raises for
    what the service did. Closing the generator early (``aclose``, or cancelling who waits for it) ends the call at
    once, within 0.1 s, and frees what it held.
    """

    def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
        """Ask the model."""
        ...
