"""The model of a node that has no key: it asks the master's gateway, over whatever carries the messages."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Final, cast

from pibot_mesh.agent.chat_json import REASONING_FIELDS, read_calls, write_request
from pibot_mesh.agent.messages import AssistantMessage
from pibot_mesh.agent.model import (
    Answer,
    Delta,
    FailureKind,
    Finish,
    Model,
    ModelFailure,
    ModelRequest,
    StreamPart,
    UsageSeen,
)
from pibot_mesh.errors import PayloadTooLarge, ProtocolError
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.messages import LLMChunk, LLMRequest, WireError

MAX_UNREAD: Final = 1000
"""Chunks of one call that may wait to be read; the call is given up beyond that."""
_AWAY: Final = ModelFailure(FailureKind.NETWORK, "the master, whose model this node uses, is away", is_retryable=True)
_LOST: Final = ModelFailure(
    FailureKind.NETWORK, "a piece of the answer was lost on its way from the master", is_retryable=True
)
_CLOSED: Final = ModelFailure(FailureKind.NETWORK, "this node is being stopped")
_EMPTY: Final = ModelFailure(
    FailureKind.EMPTY, "the model gave an empty answer: neither text nor a tool call", is_retryable=True
)


class GatewayLine:
    """A node's end of the master's model gateway: hands requests to *send*, and chunks to the calls they are for.

    *first_content_s* is how long the gateway may say nothing at the beginning of a call, *between_s* from then on; it
    shows a sign of life every few seconds. *max_tokens* limits an answer for which nobody asked otherwise. Used in one
    event loop, by any number of calls at a time. *send* must not raise.
    """

    def __init__(
        self,
        send: Callable[[LLMRequest], None],
        *,
        first_content_s: float,
        between_s: float,
        max_tokens: int | None = None,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.first_content_s = first_content_s
        self.between_s = between_s
        self._send = send
        self._max_tokens = max_tokens
        self._new_id = new_id
        self._calls: dict[str, _Call] = {}
        self._unready: ModelFailure | None = None

    @property
    def open_calls(self) -> int:
        """How many calls have neither ended nor been closed."""
        return len(self._calls)

    def model(self, task_id: str) -> Model:
        """The model for one task, against whose budget the gateway counts its calls."""
        return MeshModel(self, task_id)

    def received(self, call_id: str, chunk: LLMChunk) -> None:
        """A chunk came. One for a call that is not open is nobody's."""
        if call_id in self._calls:
            self._calls[call_id].take(chunk)

    def master_gone(self) -> None:
        """The master went away: calls that are open, and those that begin until `master_here`, end with a failure."""
        if self._unready is None:
            self._end_all(_AWAY)

    def master_here(self) -> None:
        """The master is there, or is there again."""
        if self._unready is _AWAY:
            self._unready = None

    def close(self) -> None:
        """End all calls with a failure, for good."""
        self._end_all(_CLOSED)

    def begin(self, task_id: str, request: ModelRequest) -> _Call | ModelFailure:
        """Send *request*. A failure says why that was not done."""
        if self._unready is not None:
            return self._unready
        bounded = replace(request, max_tokens=request.max_tokens or self._max_tokens)
        message = write_request(bounded, id=self._new_id(), task=task_id)
        try:
            encode(message)
        except PayloadTooLarge as error:
            return ModelFailure(FailureKind.OVERFLOW, f"the request is larger than a message may be: {error}")
        except ProtocolError as error:
            return ModelFailure(FailureKind.PROTOCOL, f"the request cannot be sent: {error}")
        call = self._calls[message.id] = _Call(message)
        self._send(message)
        return call

    def leave(self, call: _Call) -> None:
        """Forget *call*. The gateway is told so where its last chunk has not come."""
        del self._calls[call.request.id]
        if not call.is_complete:
            self._send(LLMRequest(call.request.id, call.request.task, cancel=True))

    def _end_all(self, why: ModelFailure) -> None:
        self._unready = why
        for call in self._calls.values():
            call.end(why)


class MeshModel:
    """The master's model, as one task may use it; fulfils `pibot_mesh.agent.model.Model`."""

    def __init__(self, line: GatewayLine, task_id: str) -> None:
        self._line = line
        self._task_id = task_id

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
        """See `Model.stream`."""
        call = self._line.begin(self._task_id, request)
        if isinstance(call, ModelFailure):
            yield call
            return
        said = _Said()
        silence_s = self._line.first_content_s
        try:
            while True:
                piece = await call.next(silence_s)
                silence_s = self._line.between_s
                for part in said.add(piece):
                    yield part
                    if isinstance(part, (Answer, ModelFailure)):
                        return
        finally:
            self._line.leave(call)


class _Call:
    """One open call, and what came for it and is not read yet."""

    def __init__(self, request: LLMRequest) -> None:
        self.request = request
        self.is_complete = False
        """Whether the gateway's last chunk came, and all before it."""
        self._unread: asyncio.Queue[LLMChunk | ModelFailure] = asyncio.Queue()
        self._next_seq = 0
        self._is_ended = False

    def take(self, chunk: LLMChunk) -> None:
        """Put *chunk* behind those that wait. A copy of one that came before is dropped; a gap ends the call."""
        if self._is_ended or chunk.seq < self._next_seq:
            return
        if chunk.seq > self._next_seq or self._unread.qsize() >= MAX_UNREAD:
            self.end(_LOST)
            return
        self._next_seq += 1
        self._unread.put_nowait(chunk)
        self.is_complete = self._is_ended = chunk.last

    def end(self, why: ModelFailure) -> None:
        """End it with a failure, behind what came before."""
        if not self._is_ended:
            self._is_ended = True
            self._unread.put_nowait(why)

    async def next(self, silence_s: float) -> LLMChunk | ModelFailure:
        """What comes next; a failure where nothing does for *silence_s* seconds."""
        try:
            async with asyncio.timeout(silence_s):
                return await self._unread.get()
        except TimeoutError:
            text = f"the master's model gateway said nothing for {silence_s:g} s"
            return ModelFailure(FailureKind.TIMEOUT, text, is_retryable=True)


class _Said:
    """An answer put together from the gateway's chunks. Pure."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasonings: list[str] = []

    def add(self, piece: LLMChunk | ModelFailure) -> list[StreamPart]:
        """The parts that *piece* brings; the outcome is the last one, where it has come."""
        if isinstance(piece, ModelFailure):
            return [replace(piece, partial=self._message({}))]
        parts: list[StreamPart] = []
        if reasoning := _text(piece.delta, "reasoning_content"):
            self._reasonings.append(reasoning)
            parts.append(Delta(reasoning, "reasoning"))
        if text := _text(piece.delta, "content"):
            self._texts.append(text)
            parts.append(Delta(text))
        if piece.usage is not None:
            parts.append(UsageSeen(piece.usage))
        if piece.last:
            parts.append(self._outcome(piece))
        return parts

    def _outcome(self, last: LLMChunk) -> Answer | ModelFailure:
        message = self._message(last.delta)
        if last.error is not None:
            return replace(_failure(last.error, last.delta), partial=message)
        try:
            calls = read_calls(last.delta.get("tool_calls", []))
        except ProtocolError as error:
            text = f"the master's model gateway sent calls that cannot be read: {error}"
            return ModelFailure(FailureKind.PROTOCOL, text, partial=message)
        message = replace(message, calls=calls)
        if message.is_empty:
            return replace(_EMPTY, partial=message)
        finish = last.delta.get("finish_reason")
        is_known = finish in ("stop", "tool_calls", "length")
        return Answer(message, cast(Finish, finish) if is_known else "tool_calls" if calls else "stop")

    def _message(self, delta: Mapping[str, JSON]) -> AssistantMessage:
        reasoning, field = "".join(self._reasonings), _text(delta, "reasoning_field")
        if field not in REASONING_FIELDS:
            field = REASONING_FIELDS[0]
        return AssistantMessage("".join(self._texts), (), reasoning, field if reasoning else "")


def _failure(error: WireError, delta: Mapping[str, JSON]) -> ModelFailure:
    wait_s = delta.get("retry_after_s")
    is_time = isinstance(wait_s, (int, float)) and not isinstance(wait_s, bool) and wait_s >= 0
    try:
        kind = FailureKind(_text(delta, "kind"))
    except ValueError:
        kind = FailureKind.PROTOCOL
    return ModelFailure(kind, error.message, error.retryable, wait_s if is_time else None)


def _text(delta: Mapping[str, JSON], key: str) -> str:
    value = delta.get(key)
    return value if isinstance(value, str) else ""
