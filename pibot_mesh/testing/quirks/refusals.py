"""What services refuse, and how they say that something went wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from pibot_mesh.agent.messages import AssistantMessage, CallRequest, ToolMessage, UserMessage
from pibot_mesh.agent.model import FailureKind, ModelRequest
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.testing.answers import HttpAnswer, chunk, fail, raw, say, stream
from pibot_mesh.testing.model_server import SeenRequest
from pibot_mesh.testing.quirks.quirk import HALL, LOOK, WAIT, Quirk, look

_KINDS: Final[Mapping[FailureKind, Mapping[str, HttpAnswer]]] = {
    FailureKind.AUTH: {
        "401, the key is wrong": fail(401, "Incorrect API key provided.", code="invalid_api_key"),
        "403, the key may not do this": fail(403, "You may not use this model."),
    },
    FailureKind.QUOTA: {
        "402 (DeepSeek)": fail(402, "Insufficient Balance"),
        "429, no quota (OpenAI)": fail(429, "You exceeded your current quota.", code="insufficient_quota"),
    },
    FailureKind.RATE_LIMIT: {
        "429, too many requests": fail(429, "Rate limit reached for requests.", code="rate_limit_exceeded"),
    },
    FailureKind.OVERFLOW: {
        "400, too long (OpenAI)": fail(
            400,
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            code="context_length_exceeded",
        ),
        "400, too long (Anthropic)": fail(400, "prompt is too long: 210000 tokens > 200000 maximum"),
        "400, too long (llama.cpp)": fail(400, "the request exceeds the available context size, try increasing it"),
        "400, too long (Gemini)": fail(
            400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
        ),
        "413": fail(413, "Request too large."),
    },
    FailureKind.CONTENT_FILTER: {
        "400, content filter (Azure)": fail(
            400,
            "The response was filtered due to the prompt triggering Azure's content management policy.",
            code="content_filter",
        ),
    },
    FailureKind.PROTOCOL: {
        "400": fail(400, "messages: this is no message"),
        "404, no such model": fail(404, "The model `m` does not exist.", code="model_not_found"),
        "422": fail(422, "Extra inputs are not permitted"),
    },
    FailureKind.TIMEOUT: {
        "408": fail(408, "Request timed out."),
        "504": fail(504, "The gateway timed out."),
    },
    FailureKind.NETWORK: {
        "409": fail(409, "Conflict, try again."),
        "500": fail(500, "The server had an error.", code="server_error"),
        "502": fail(502, "Bad gateway"),
        "503": fail(503, "The engine is currently overloaded."),
        "529 (Anthropic)": fail(529, "Overloaded"),
    },
}
_RETRYABLE: Final = {FailureKind.RATE_LIMIT, FailureKind.TIMEOUT, FailureKind.NETWORK}

FAILURES: Final[Mapping[str, Quirk]] = {
    **{
        name: Quirk(f"It answers {answer.status}.", answer, failure=kind, is_retryable=kind in _RETRYABLE)
        for kind, answers in _KINDS.items()
        for name, answer in answers.items()
    },
    "Retry-After": Quirk(
        "The service says how long to wait.",
        fail(429, "Slow down.", retry_after=7),
        failure=FailureKind.RATE_LIMIT,
        is_retryable=True,
        retry_after_s=7.0,
    ),
    "an error that is no JSON": Quirk(
        "A gateway answers with a page.",
        raw(b"<html><h1>502 Bad Gateway</h1></html>", status=502, content_type="text/html"),
        failure=FailureKind.NETWORK,
        is_retryable=True,
    ),
    "a page instead of a stream": Quirk(
        "Somebody else answers with 200: it is not the service.",
        raw(b"<html><h1>Welcome to the hotel</h1></html>", content_type="text/html"),
        failure=FailureKind.PROTOCOL,
    ),
    "an error in the middle of the stream (OpenRouter)": Quirk(
        "An event is an error: the answer is not complete.",
        stream(chunk({"content": "Ye"}), {"error": {"code": 502, "message": "The provider has gone."}}),
        text="Ye",
        failure=FailureKind.NETWORK,
        is_retryable=True,
    ),
}


def _refusing(is_bad: Callable[[JSON], bool], message: str, **more: str) -> Callable[[SeenRequest], HttpAnswer]:
    """400 with *message* to each body that *is_bad*, and otherwise an answer."""
    return lambda request: fail(400, message, **more) if is_bad(request.body) else say("Yes.")


def _without(name: str, message: str) -> Callable[[SeenRequest], HttpAnswer]:
    return _refusing(lambda body: name in body, message, param=name, code="unsupported_parameter")


def _call_ids(body: JSON) -> list[str]:
    ids = [one["id"] for message in body["messages"] for one in message.get("tool_calls") or ()]
    return ids + [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"]


def _is_odd(body: JSON) -> bool:
    asked, answered = _call_ids(body)[:2], _call_ids(body)[2:]
    is_normal = all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", one) for one in asked)
    return asked != answered or len(set(asked)) < 2 or not is_normal


def _has_no_reasoning(body: JSON) -> bool:
    said = [message for message in body["messages"] if message["role"] == "assistant"]
    return [message.get("reasoning_content") for message in said] != ["The attic first.", ""]


_LONG: Final = "call_" + 40 * "x"
_ODD: Final = ModelRequest(
    (
        UserMessage("Look."),
        AssistantMessage("", (look(f"{_LONG}a"), look(f"{_LONG}b|é:", HALL))),
        ToolMessage(f"{_LONG}a", "look", "dark"),
        ToolMessage(f"{_LONG}b|é:", "look", "light"),
    ),
    tools=(LOOK,),
)
_SILENT: Final = ModelRequest(
    (UserMessage("Wait."), AssistantMessage("", (CallRequest("call_a", "wait"),)), ToolMessage("call_a", "wait", "")),
    tools=(WAIT,),
)
_REASONED: Final = ModelRequest(
    (
        UserMessage("Look."),
        AssistantMessage("", (look("call_a"),), "The attic first.", "reasoning_content"),
        ToolMessage("call_a", "look", "dark"),
        AssistantMessage("It is dark."),
        UserMessage("And now?"),
    ),
    tools=(LOOK,),
)

REFUSALS: Final[Mapping[str, Quirk]] = {
    "max_tokens is refused (OpenAI)": Quirk(
        "The limit is called max_completion_tokens: it is sent so, and remembered.",
        _without("max_tokens", "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                 "'max_completion_tokens' instead."),
        text="Yes.",
    ),
    "max_completion_tokens is refused": Quirk(
        "The limit is called max_tokens.",
        _without("max_completion_tokens", "Unknown parameter: 'max_completion_tokens'."),
        text="Yes.",
        provider="openai",
    ),
    "stream_options is refused": Quirk(
        "The usage cannot be asked for: it is left out, and remembered.",
        _without("stream_options", "Unrecognized request argument supplied: stream_options"),
        text="Yes.",
    ),
    "parallel_tool_calls is refused": Quirk(
        "The field is not known: it is left out.",
        _without("parallel_tool_calls", "Unrecognized request argument supplied: parallel_tool_calls"),
        text="Yes.",
        provider="openai",
    ),
    "tools: [] is refused": Quirk(
        "Without tools there is no list of them.",
        _refusing(lambda body: body.get("tools") == [] or "tool_choice" in body, "[] is too short - 'tools'"),
        text="Yes.",
        request=ModelRequest((UserMessage("Yes?"),), "You agree."),
    ),
    "the developer role is refused (DeepSeek)": Quirk(
        "What the system prompt says goes out with the role system.",
        _refusing(
            lambda body: body["messages"][0]["role"] != "system", "messages[0].role: unknown variant `developer`"
        ),
        text="Yes.",
    ),
    "long and odd call ids are refused": Quirk(
        "Ids are at most 40 letters, digits, _ and -; call and result still belong together.",
        _refusing(_is_odd, "Invalid 'messages[1].tool_calls[0].id': string too long."),
        text="Yes.",
        request=_ODD,
    ),
    "empty tool output is refused": Quirk(
        "What a tool did not say is sent as (no output).",
        _refusing(lambda body: body["messages"][-1]["content"] != "(no output)", "messages[2].content is empty"),
        text="Yes.",
        request=_SILENT,
    ),
    "reasoning must be sent back (DeepSeek)": Quirk(
        "With tools every message of the assistant has reasoning_content, be it empty.",
        _refusing(_has_no_reasoning, "Missing `reasoning_content` field in the assistant message at message index 1"),
        text="Yes.",
        request=_REASONED,
        provider="deepseek",
    ),
}  # fmt: skip
