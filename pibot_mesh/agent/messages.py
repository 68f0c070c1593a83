"""What stands in a transcript. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What a person (or a program that acts for one) said."""

    text: str


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One call of a tool, as the model asked for it.

    *arguments* is JSON text as the model wrote it, or ``""`` for none. In a transcript it is always JSON that can be
    read: what was malformed stands there as ``{}``, since models copy what they see.
    """

    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """What the model said. *reasoning* came under the name *reasoning_field*, and is sent back under it if at all."""

    text: str = ""
    calls: tuple[CallRequest, ...] = ()
    reasoning: str = ""
    reasoning_field: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is neither text nor a call: reasoning alone is no answer."""
        return not self.calls and not self.text.strip()


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The one result of the call with the id *call*, as the model sees it."""

    call: str
    name: str
    text: str
    is_error: bool = False


Message: TypeAlias = UserMessage | AssistantMessage | ToolMessage
