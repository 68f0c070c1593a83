"""Tries a model with one short request and one tool call, and says in plain words what works, what is slow or wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Literal

from pibot_mesh.agent.messages import AssistantMessage, UserMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind, Model, ModelFailure, ModelRequest, UsageSeen
from pibot_mesh.protocol.messages import ToolSpec, Usage

SLOW_FIRST_S: Final = 3.0
"""An answer that begins later than that is called slow: a person waits for it."""
SLOW_WHOLE_S: Final = 15.0

_ADD: Final = ToolSpec(
    "add",
    "Add two numbers.",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
)
_ADVICE: Final = {
    FailureKind.AUTH: "the service wants a right key",
    FailureKind.QUOTA: "the account has nothing left",
    FailureKind.RATE_LIMIT: "the service lets no more requests through at the moment",
    FailureKind.NETWORK: "the service cannot be reached, or is in trouble",
    FailureKind.TIMEOUT: "the service does not answer in time",
    FailureKind.PROTOCOL: "the service does not understand the request: check address and model name",
    FailureKind.EMPTY: "the model says nothing",
    FailureKind.CONTENT_FILTER: "the service refuses to answer",
    FailureKind.OVERFLOW: "the model can read hardly anything at once",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: ``works``, ``slow`` or ``wrong``, in words, and how long it took (seconds)."""

    what: Literal["answer", "tool call", "usage"]
    verdict: Literal["works", "slow", "wrong"]
    text: str
    first_s: float | None = None
    whole_s: float | None = None
    failure: FailureKind | None = None


@dataclass(slots=True)
class _Heard:
    """What came of one request."""

    end: Answer | ModelFailure | None = None
    usage: Usage | None = None
    first_s: float | None = None
    whole_s: float = 0.0


async def check_model(model: Model, *, clock: Callable[[], float] = time.monotonic) -> list[Finding]:
    """Try *model*. Where it does not even answer, its tool calls are not tried. Never raises for what a service did."""
    answered = await _ask(model, ModelRequest((UserMessage("Answer with the one word: pong"),), max_tokens=400), clock)
    findings = [_answer_finding(answered)]
    if findings[0].verdict == "wrong":
        return findings
    request = ModelRequest((UserMessage("Use the tool to add 2 and 3."),), tools=(_ADD,), max_tokens=400)
    called = await _ask(model, request, clock)
    return [*findings, _call_finding(called), _usage_finding(answered.usage or called.usage)]


async def _ask(model: Model, request: ModelRequest, clock: Callable[[], float]) -> _Heard:
    heard, begun = _Heard(), clock()
    async with aclosing(model.stream(request)) as parts:
        async for part in parts:
            if isinstance(part, UsageSeen):
                heard.usage = part.usage
                continue
            if heard.first_s is None:
                heard.first_s = clock() - begun
            if not isinstance(part, Delta):
                heard.end = part
    heard.whole_s = clock() - begun
    return heard


def _answer_finding(heard: _Heard) -> Finding:
    if not isinstance(heard.end, Answer):
        return _wrong("answer", heard)
    said = heard.end.message.text.strip()
    return _right("answer", f"it answers {_quoted(said)}", heard)


def _call_finding(heard: _Heard) -> Finding:
    if not isinstance(heard.end, Answer):
        return _wrong("tool call", heard)
    called = _sum_call(heard.end.message)
    if called is None:
        said = _quoted(heard.end.message.text.strip())
        text = f"it does not call tools as it should: it said {said}; choose a model that can"
        return Finding("tool call", "wrong", text, heard.first_s, heard.whole_s)
    return _right("tool call", f"it calls tools: {called}", heard)


def _sum_call(message: AssistantMessage) -> str | None:
    """The call of ``add`` with 2 and 3, as it may be shown; None where there is none."""
    for call in message.calls:
        try:
            args = json.loads(call.arguments or "{}")
        except ValueError:
            continue
        if call.name == "add" and isinstance(args, dict) and {str(args.get("a")), str(args.get("b"))} == {"2", "3"}:
            return f"add({', '.join(f'{name}={value}' for name, value in args.items())})"
    return None


def _usage_finding(usage: Usage | None) -> Finding:
    if usage is None:
        return Finding("usage", "works", "it does not tell how many tokens it used: they are estimated")
    return Finding("usage", "works", f"it tells what it used: {usage.input} tokens in, {usage.output} out")


def _right(what: Literal["answer", "tool call"], text: str, heard: _Heard) -> Finding:
    first_s = heard.first_s or 0.0
    is_slow = first_s > SLOW_FIRST_S or heard.whole_s > SLOW_WHOLE_S
    timing = f"after {first_s:.1f} s, {heard.whole_s:.1f} s in all"
    tail = f"{timing}: that is slow" if is_slow else timing
    return Finding(what, "slow" if is_slow else "works", f"{text} ({tail})", heard.first_s, heard.whole_s)


def _wrong(what: Literal["answer", "tool call"], heard: _Heard) -> Finding:
    end = heard.end
    if not isinstance(end, ModelFailure):
        return Finding(what, "wrong", "its answer has no end", heard.first_s, heard.whole_s, FailureKind.PROTOCOL)
    return Finding(what, "wrong", f"{_ADVICE[end.kind]}: {end.text}", heard.first_s, heard.whole_s, end.kind)


def _quoted(text: str) -> str:
    return f'"{text if len(text) <= 60 else text[:59] + "…"}"'
