"""An answer put together from the chunks that services send, none of which is to be trusted. Pure: no sockets.

Every value may be missing, null or of the wrong type; what makes no sense is passed over, never an exception.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Final

from pibot_mesh.agent.failures import from_stream, looks_like_error
from pibot_mesh.agent.fragments import Calls, repaired
from pibot_mesh.agent.messages import AssistantMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind, Finish, ModelFailure, StreamPart, UsageSeen
from pibot_mesh.protocol.messages import Usage

MAX_ANSWER: Final = 8 << 20
"""Characters of one answer, reasoning and arguments included."""
_MAX_COUNT: Final = 2**53

_REASONING: Final = ("reasoning_content", "reasoning", "reasoning_text")
_LENGTH: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "max_length"})
_FILTERED: Final = frozenset(
    {"content_filter", "content_filtered", "sensitive", "safety", "recitation", "prohibited_content", "blocklist"}
)
_BROKEN: Final = frozenset(
    {"network_error", "error", "server_error", "insufficient_system_resource", "abort", "aborted", "timeout"}
)


def new_call_id() -> str:
    """An id for a call whose service gave it none."""
    return f"call_{uuid.uuid4().hex[:24]}"


class Assembler:
    """Puts one answer together: decoded chunks in, deltas and usage out, and the outcome at the end."""

    def __init__(self, make_id: Callable[[], str] = new_call_id, max_answer: int = MAX_ANSWER) -> None:
        self._make_id = make_id
        self._max_answer = max_answer
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._reasoning_field = ""
        self._halves = {"text": "", "reasoning": ""}
        """The first half of a surrogate pair, by the kind of delta, until its other half comes."""
        self._calls = Calls()
        self._usage = Usage()
        self._finish = ""
        self._failure: ModelFailure | None = None
        self._size = 0
        self.pieces = 0
        """How many chunks brought content: text, reasoning or a part of a call."""
        self._goes_on = False

    @property
    def is_finished(self) -> bool:
        """Whether a finish_reason has come, and no content behind it: some services give one with every chunk."""
        return bool(self._finish) and not self._goes_on

    @property
    def is_over(self) -> bool:
        """Whether nothing that may follow can change the outcome."""
        return self._failure is not None

    def feed(self, chunk: object) -> list[StreamPart]:
        """What *chunk* adds. Nothing is added once `is_over`."""
        if self._failure is not None or not isinstance(chunk, dict):
            return []
        if looks_like_error(chunk):
            self._failure = from_stream(chunk)
            return []
        parts: list[StreamPart] = []
        choice = _choice(chunk)
        if choice is not None:
            self._take_choice(choice, parts)
        for usage in (chunk.get("usage"), choice and choice.get("usage"), _of(chunk.get("x_groq"), "usage")):
            self._take_usage(usage, parts)
        return parts

    def break_off(self, kind: FailureKind, text: str, *, is_retryable: bool) -> None:
        """End the answer with a failure, if it has not ended with another before."""
        self._failure = self._failure or ModelFailure(kind, text, is_retryable)

    def outcome(self, *, is_whole: bool) -> Answer | ModelFailure:
        """How the call ended. *is_whole*: the service said that nothing follows, be it by ``[DONE]``.

        A ``finish_reason`` says so as well; without either the answer is cut, and its calls are nobody's.
        """
        message = AssistantMessage("".join(self._texts), (), "".join(self._reasonings), self._reasoning_field)
        failure = self._failure or self._broken() or (None if is_whole or self._finish else _CUT)
        is_cut_short = self._finish in _LENGTH
        if failure is None and self._calls.has_nameless and not is_cut_short:
            failure = _NAMELESS
        if failure is not None:
            return ModelFailure(failure.kind, failure.text, failure.is_retryable, failure.retry_after_s, message)
        calls = self._calls.requests(self._make_id)
        message = AssistantMessage(message.text, calls, message.reasoning, message.reasoning_field)
        if message.is_empty:
            return _empty(message, is_cut_short=is_cut_short)
        finish: Finish = "length" if is_cut_short else "tool_calls" if calls else "stop"
        return Answer(message, finish)

    def _broken(self) -> ModelFailure | None:
        if self._finish in _BROKEN:
            return ModelFailure(FailureKind.NETWORK, f"the service broke off: {self._finish}", is_retryable=True)
        if self._finish in _FILTERED:
            return ModelFailure(FailureKind.CONTENT_FILTER, f"the service refuses to say more: {self._finish}")
        return None

    def _take_choice(self, choice: Mapping[str, object], parts: list[StreamPart]) -> None:
        before = self._size
        delta = choice.get("delta")
        if not isinstance(delta, dict) or (not delta and not self.pieces):
            # A whole message, unless it repeats at the end what the deltas have said.
            delta = choice.get("message") if not self.pieces else None
        if isinstance(delta, dict):
            self._take_delta(delta, parts)
        has_content = self._size > before
        self.pieces += has_content
        self._goes_on = self._goes_on or (has_content and bool(self._finish))
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self._finish = finish.lower()
        if self._size > self._max_answer:
            text = f"the answer is longer than {self._max_answer} characters"
            self.break_off(FailureKind.PROTOCOL, text, is_retryable=False)

    def _take_delta(self, delta: Mapping[str, object], parts: list[StreamPart]) -> None:
        for name in _REASONING:
            reasoning = delta.get(name)
            if isinstance(reasoning, str) and reasoning:
                self._reasoning_field = self._reasoning_field or name
                self._say("reasoning", reasoning, parts)
                break
        content = delta.get("content")
        if isinstance(content, list):
            content = _content_text(content)
        if not content:
            content = delta.get("refusal")
        if isinstance(content, str) and content:
            self._say("text", content, parts)
        fragments = delta.get("tool_calls")
        if isinstance(fragments, dict):
            fragments = [fragments]
        if isinstance(fragments, list):
            self._size += self._calls.take(fragments)

    def _say(self, kind: str, text: str, parts: list[StreamPart]) -> None:
        self._size += len(text)
        if self._halves[kind] or not text.isascii():
            text = self._halves[kind] + text
            self._halves[kind] = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
            text = repaired(text.removesuffix(self._halves[kind]) if self._halves[kind] else text)
            if not text:
                return
        if kind == "text":
            self._texts.append(text)
            parts.append(Delta(text))
        else:
            self._reasonings.append(text)
            parts.append(Delta(text, "reasoning"))

    def _take_usage(self, value: object, parts: list[StreamPart]) -> None:
        if not isinstance(value, dict):
            return
        usage = read_usage(value)
        if usage not in (Usage(), self._usage):
            self._usage = usage
            parts.append(UsageSeen(usage))


_CUT: Final = ModelFailure(
    FailureKind.NETWORK, "the answer was cut: the stream ended without saying that it was finished", is_retryable=True
)
_NAMELESS: Final = ModelFailure(FailureKind.PROTOCOL, "the service sent a tool call without the tool's name")


def _empty(message: AssistantMessage, *, is_cut_short: bool) -> ModelFailure:
    if is_cut_short:
        text = "the token limit was used up before the answer began: raise model.max_tokens"
        return ModelFailure(FailureKind.EMPTY, text, partial=message)
    text = "the model gave an empty answer: neither text nor a tool call"
    return ModelFailure(FailureKind.EMPTY, text, is_retryable=True, partial=message)


def read_usage(value: Mapping[str, object]) -> Usage:
    """The tokens that a service says were used. Cached ones stand at three places, by service."""
    entered = _count(value, "prompt_tokens") or _count(value, "input_tokens")
    gave = _count(value, "completion_tokens") or _count(value, "output_tokens")
    cached = (
        _count(value.get("prompt_tokens_details"), "cached_tokens")
        or _count(value, "prompt_cache_hit_tokens")
        or _count(value, "cached_tokens")
    )
    reasoning = _count(value.get("completion_tokens_details"), "reasoning_tokens")
    return Usage(entered, min(cached, entered), gave, min(reasoning, gave))


def _count(value: object, key: str) -> int:
    count = _of(value, key)
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    is_count = isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= _MAX_COUNT
    return count if is_count and isinstance(count, int) else 0


def _of(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _choice(chunk: Mapping[str, object]) -> Mapping[str, object] | None:
    choices = chunk.get("choices")
    return next((choice for choice in choices if isinstance(choice, dict)), None) if isinstance(choices, list) else None


def _content_text(content: list[object]) -> str:
    """The text of a content that is a list of parts."""
    texts = [part if isinstance(part, str) else _of(part, "text") for part in content]
    return "".join(text for text in texts if isinstance(text, str))
