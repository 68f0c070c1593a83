"""A model request as the JSON body that a service wants. Pure: no I/O.

The same request gives the same bytes, and a longer conversation begins with those of the shorter one, so that the
providers' prompt caches find it again.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pibot_mesh.agent.fragments import repaired
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage, object_text
from pibot_mesh.agent.model import ModelRequest
from pibot_mesh.agent.providers import Dialect, LimitField
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import ToolSpec

Body = dict[str, JSON]

NO_OUTPUT: Final = "(no output)"
"""What stands for an empty result: some services refuse an empty text."""
_PLAIN_ID: Final = re.compile("[A-Za-z0-9_-]{1,40}")
_REASONING: Final = ("reasoning_content", "reasoning_text", "reasoning")


def request_body(
    request: ModelRequest,
    model: str,
    dialect: Dialect,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
) -> Body:
    """The body of a streamed chat completion. *max_tokens* is used where the request has none of its own."""
    body: Body = {"model": model, "messages": _messages(request, dialect), "stream": True}
    if dialect.has_stream_options:
        body["stream_options"] = {"include_usage": True}
    limit = request.max_tokens or max_tokens
    if limit and dialect.max_tokens_field:
        body[dialect.max_tokens_field] = limit
    if temperature is not None and dialect.has_temperature:
        body["temperature"] = temperature
    if request.tools:
        body["tools"] = [_tool(spec) for spec in request.tools]
        if dialect.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = dialect.parallel_tool_calls
    return body


def call_id(id_: str) -> str:
    """*id_* as every service takes it: at most 40 of A-Z, a-z, 0-9, '_' and '-'. The same one each time."""
    if _PLAIN_ID.fullmatch(id_):
        return id_
    plain = re.sub("[^A-Za-z0-9_-]", "_", id_)[:31]
    return f"{plain}_{zlib.crc32(id_.encode('utf-8', 'replace')):08x}"


def tool_name(name: str) -> str:
    """*name* as every service takes it in a transcript, also where the model made it up."""
    return re.sub("[^A-Za-z0-9_-]", "_", name)[:64] or "_"


def learned(dialect: Dialect, sent: Mapping[str, JSON], words: str) -> Dialect | None:
    """The dialect without what *words*, a service's refusal, name of the body that was *sent*; None where nothing is.

    A field that has another name or another way is changed to that first; each is given up once.
    """
    words = words.lower()
    field = dialect.max_tokens_field
    if field and field in sent and re.search(rf"\b{field}\b", words):
        refused = dialect.refused_fields | {field}
        other: LimitField = "max_tokens" if field == "max_completion_tokens" else "max_completion_tokens"
        return replace(dialect, max_tokens_field="" if other in refused else other, refused_fields=refused)
    if "stream_options" in sent and re.search("stream_options|include_usage", words):
        return replace(dialect, has_stream_options=False)
    if "parallel_tool_calls" in sent and "parallel_tool_calls" in words:
        return replace(dialect, parallel_tool_calls=None)
    if "temperature" in sent and "temperature" in words:
        return replace(dialect, has_temperature=False)
    return _learned_of_messages(dialect, sent, words)


def _learned_of_messages(dialect: Dialect, sent: Mapping[str, JSON], words: str) -> Dialect | None:
    messages: list[Mapping[str, JSON]] = sent["messages"]
    if messages and messages[0]["role"] == "developer" and "developer" in words:
        return replace(dialect, system_role="system")
    names = [name for name in _REASONING if re.search(rf"\b{name}\b", words)]
    if names:
        was_sent = any(name in message for message in messages for name in _REASONING)
        if was_sent:
            return replace(dialect, reasoning_back="never", refused_fields=dialect.refused_fields | {"reasoning"})
        if "reasoning" not in dialect.refused_fields and any(message["role"] == "assistant" for message in messages):
            return replace(dialect, reasoning_back="always", reasoning_field=names[0])
    has_null = any(message["content"] is None for message in messages)
    if has_null and "content" in words and re.search("null|none|string|empty|missing|required", words):
        return replace(dialect, empty_content="text")
    return None


def _messages(request: ModelRequest, dialect: Dialect) -> list[JSON]:
    messages: list[JSON] = []
    if request.system:
        messages.append({"role": dialect.system_role, "content": repaired(request.system)})
    has_reasoning = dialect.reasoning_back == "always" or (
        dialect.reasoning_back == "with_tools" and bool(request.tools)
    )
    for message in request.messages:
        if not (isinstance(message, AssistantMessage) and message.is_empty):
            messages.append(_message(message, dialect, has_reasoning=has_reasoning))
    return messages


def _message(message: Message, dialect: Dialect, *, has_reasoning: bool) -> JSON:
    if isinstance(message, UserMessage):
        return {"role": "user", "content": repaired(message.text)}
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": call_id(message.call), "content": _result(message)}
    content = repaired(message.text) or (None if message.calls and dialect.empty_content == "null" else "")
    body: Body = {"role": "assistant", "content": content}
    if has_reasoning:
        body[message.reasoning_field or dialect.reasoning_field] = repaired(message.reasoning)
    if message.calls:
        body["tool_calls"] = [_call(call) for call in message.calls]
    return body


def _call(call: CallRequest) -> JSON:
    # Some services read the arguments, and refuse what they cannot.
    function = {"name": tool_name(call.name), "arguments": object_text(call.arguments)}
    return {"id": call_id(call.id), "type": "function", "function": function}


def _result(message: ToolMessage) -> str:
    text = repaired(message.text)
    if not text.strip():
        text = NO_OUTPUT
    return f"Error: {text}" if message.is_error and not text.lower().startswith("error") else text


def _tool(spec: ToolSpec) -> JSON:
    parameters = {"type": "object", "properties": {}, **spec.parameters}
    function = {"name": spec.name, "description": spec.description, "parameters": parameters}
    return {"type": "function", "function": function}
