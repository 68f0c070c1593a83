"""A model request as the messages of the model gateway, and back. Pure: no I/O.

They are written as OpenAI writes them, by the same code that writes them for a service. Nothing that a model sees is
lost on the way: what is read back makes the same request to a service as the original would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from pibot_mesh.agent.messages import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage
from pibot_mesh.agent.model import ModelRequest
from pibot_mesh.agent.providers import Dialect
from pibot_mesh.agent.wire import request_body
from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON, from_dict
from pibot_mesh.protocol.messages import LLMRequest, ToolSpec

M = TypeVar("M")

_DIALECT: Final = Dialect(reasoning_back="always")
REASONING_FIELDS: Final = ("reasoning_content", "reasoning", "reasoning_text")
"""The names under which services send reasoning, and want it back."""


def write_request(request: ModelRequest, *, id: str, task: str) -> LLMRequest:  # noqa: A002 - the wire's own name
    """*request* as the gateway's message *id* for a *task*. It may be larger than a message may be.

    Beyond what OpenAI writes, the result of a failed call has ``is_error``.
    """
    body = request_body(request, "", _DIALECT)
    results = (message for message in request.messages if isinstance(message, ToolMessage))
    messages: list[Mapping[str, JSON]] = []
    for message in body["messages"]:
        if message["role"] == "tool" and next(results).is_error:
            message["is_error"] = True
        messages.append({key: value for key, value in message.items() if value or key not in REASONING_FIELDS})
    return LLMRequest(id, task, tuple(messages), tuple(body.get("tools", ())), request.max_tokens)


def read_request(request: LLMRequest) -> ModelRequest:
    """What a node asks of the model. Raises ProtocolError with every violation.

    A system prompt may only stand first. Of a tool, its name, description and parameters are known.
    """
    chat = _read(_Chat, {"messages": list(request.messages), "tools": list(request.tools)}, request.id)
    names: dict[str, str] = {}
    system, messages = "", list[Message]()
    for number, message in enumerate(chat.messages):
        if message.role != "system":
            messages.append(_message(message, names))
        elif number == 0:
            system = message.content or ""
        else:
            raise ProtocolError("LLMRequest", [f"messages[{number}].role: 'system' stands only first"], id=request.id)
        names.update((call.id, call.function.name) for call in message.tool_calls)
    tools = tuple(tool.function.as_spec() for tool in chat.tools)
    return ModelRequest(tuple(messages), system, tools, request.max_tokens)


def write_calls(calls: Iterable[CallRequest]) -> list[JSON]:
    """The calls of an answer as OpenAI writes them; their arguments are the model's own text, be it JSON or not."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]


def read_calls(value: JSON) -> tuple[CallRequest, ...]:
    """What `write_calls` wrote. Raises ProtocolError."""
    return tuple(call.as_request() for call in _read(_Calls, {"tool_calls": value}).tool_calls)


# --- What stands in the JSON: each class is the schema of its object ---


@dataclass(frozen=True, slots=True)
class _Function:
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class _Call:
    id: str
    function: _Function

    def as_request(self) -> CallRequest:
        return CallRequest(self.id, self.function.name, self.function.arguments)


@dataclass(frozen=True, slots=True)
class _Calls:
    tool_calls: tuple[_Call, ...]


@dataclass(frozen=True, slots=True)
class _ChatMessage:
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    tool_calls: tuple[_Call, ...] = ()
    tool_call_id: str | None = None
    is_error: bool = False
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None

    def __post_init__(self) -> None:
        if self.content is None and self.role != "assistant":
            raise ValueError("content: is missing")
        if self.tool_call_id is None and self.role == "tool":
            raise ValueError("tool_call_id: is missing")


@dataclass(frozen=True, slots=True)
class _Described:
    name: str
    description: str = ""
    parameters: Mapping[str, JSON] | None = None

    def as_spec(self) -> ToolSpec:
        return ToolSpec(self.name, self.description, self.parameters or {})


@dataclass(frozen=True, slots=True)
class _ChatTool:
    function: _Described


@dataclass(frozen=True, slots=True)
class _Chat:
    messages: tuple[_ChatMessage, ...]
    tools: tuple[_ChatTool, ...]


def _read(cls: type[M], value: JSON, id_: str | None = None) -> M:
    try:
        return from_dict(cls, value)
    except ProtocolError as error:
        raise ProtocolError("LLMRequest" if id_ else "LLMChunk", error.problems, id=id_) from None


def _message(message: _ChatMessage, names: Mapping[str, str]) -> Message:
    text = message.content or ""
    if message.role == "user":
        return UserMessage(text)
    if message.role == "tool":
        call = message.tool_call_id or ""
        return ToolMessage(call, names.get(call, ""), text, message.is_error)
    said = AssistantMessage(text, tuple(call.as_request() for call in message.tool_calls))
    for field in REASONING_FIELDS:
        if reasoning := getattr(message, field):
            return replace(said, reasoning=reasoning, reasoning_field=field)
    return said
