"""What stands in a transcript. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from pibot_mesh.agent.arguments import is_object


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

    def readable(self) -> AssistantMessage:
        """The same, with arguments that are no JSON object replaced by an empty one (see CallRequest)."""
        calls = tuple(replace(call, arguments=object_text(call.arguments)) for call in self.calls)
        return self if calls == self.calls else replace(self, calls=calls)


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The one result of the call with the id *call*, as the model sees it."""

    call: str
    name: str
    text: str
    is_error: bool = False


Message: TypeAlias = UserMessage | AssistantMessage | ToolMessage


def object_text(arguments: str) -> str:
    """*arguments* where it is the text of a JSON object, as strictly read as for a call, else ``{}``."""
    return arguments if is_object(arguments) else "{}"
