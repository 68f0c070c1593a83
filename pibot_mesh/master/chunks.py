"""An answer of the model on its way to a node: in few messages, none of them too large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pibot_mesh.agent.chat_json import REASONING_FIELDS, write_calls
from pibot_mesh.agent.fragments import repaired
from pibot_mesh.agent.messages import AssistantMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind
from pibot_mesh.errors import ErrorCode, PayloadTooLarge, ProtocolError
from pibot_mesh.master.admission import Refused
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.fit import cut_middle
from pibot_mesh.protocol.messages import LLMChunk, Usage, WireError

EVERY_S: Final = 0.1
"""Pieces of an answer go out ten times a second at most."""
LIFE_S: Final = 5.0
"""After so long without anything to say an empty chunk says that the call goes on: it may wait for its turn, or the
model may be writing a long call of a tool, which is told as a whole."""
_PIECE: Final = 8000
"""Characters in one chunk: in JSON each is six bytes at most."""
_WORDS: Final = 2000
"""Bytes of a failure's text."""


class ChunkWriter:
    """Numbers the chunks of the call *id*, and hands them to *send*: the first piece at once, later ones merged.

    Nothing goes out behind `end` or `fail`, nor behind `close`. Used in one event loop.
    """

    def __init__(self, id: str, send: Callable[[LLMChunk], None]) -> None:  # noqa: A002 - the wire's own name
        self._id = id
        self._send = send
        self._seq = 0
        self._said: dict[str, list[str]] = {"reasoning": [], "text": []}
        self._waiting: dict[str, list[str]] = {"reasoning": [], "text": []}
        """Those pieces of what was said that have not gone out."""
        self._usage: Usage | None = None
        self._is_usage_new = False
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._life = asyncio.get_running_loop().call_later(LIFE_S, self._live)

    @property
    def said(self) -> AssistantMessage | None:
        """What was said so far; None for nothing."""
        text, reasoning = "".join(self._said["text"]), "".join(self._said["reasoning"])
        return AssistantMessage(text, (), reasoning) if text or reasoning else None

    def say(self, delta: Delta) -> None:
        """The next piece of the answer."""
        self._add(delta.kind, delta.text)
        if self._pause is None:
            self._flush()

    def count(self, usage: Usage) -> None:
        """Tell what the call has used, with the next chunk."""
        self._usage, self._is_usage_new = usage, True

    def end(self, answer: Answer) -> None:
        """The last chunk of an answer, and before it whatever of its text has not been said yet."""
        message = answer.message
        for kind, whole in (("text", message.text), ("reasoning", message.reasoning)):
            said = "".join(self._said[kind])
            if whole.startswith(said):
                self._add(kind, whole[len(said) :])
        self._flush()
        delta: dict[str, JSON] = {"finish_reason": answer.finish}
        if message.calls:
            delta["tool_calls"] = write_calls(message.calls)
        if message.reasoning_field in REASONING_FIELDS[1:]:
            delta["reasoning_field"] = message.reasoning_field
        try:
            self._put(delta, is_last=True)
        except PayloadTooLarge:
            self.fail(_protocol("the answer is larger than a message may be: its tool calls do not fit into 64 KiB"))
        except ProtocolError as error:
            self.fail(_protocol(f"the answer cannot be sent: {error}"))

    def fail(self, why: Refused) -> None:
        """The last chunk of a call that gave no answer, behind what had been said."""
        self._flush()
        delta: dict[str, JSON] = {"kind": why.kind.value}
        if why.retry_after_s is not None:
            delta["retry_after_s"] = why.retry_after_s
        words = cut_middle(why.text, _WORDS)
        self._put(delta, is_last=True, error=WireError(why.code, words, why.is_retryable))

    def close(self) -> None:
        """Say nothing any more: nobody waits for it."""
        self._is_closed = True
        self._life.cancel()
        if self._pause is not None:
            self._pause.cancel()

    def _add(self, kind: str, text: str) -> None:
        text = repaired(text)
        self._said[kind].append(text)
        self._waiting[kind].append(text)

    def _flush(self) -> None:
        reasoning, text = self._take("reasoning"), self._take("text")
        if (reasoning or text) and self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(EVERY_S, self._resume)
        while reasoning or text:
            thought = reasoning[:_PIECE]
            word = text[: _PIECE - len(thought)]
            pieces = (("reasoning_content", thought), ("content", word))
            self._put({key: piece for key, piece in pieces if piece})
            reasoning, text = reasoning[len(thought) :], text[len(word) :]

    def _take(self, kind: str) -> str:
        waiting = "".join(self._waiting[kind])
        self._waiting[kind].clear()
        return waiting

    def _resume(self) -> None:
        self._pause = None
        self._flush()

    def _live(self) -> None:
        self._put({})

    def _put(self, delta: dict[str, JSON], *, is_last: bool = False, error: WireError | None = None) -> None:
        if self._is_closed:
            return
        usage = self._usage if is_last or self._is_usage_new else None
        chunk = LLMChunk(self._id, self._seq, is_last, delta, usage, error)
        if is_last:
            encode(chunk)  # raises where it cannot be sent
            self.close()
        else:
            self._life.cancel()
            self._life = asyncio.get_running_loop().call_later(LIFE_S, self._live)
        self._seq += 1
        self._is_usage_new = False
        self._send(chunk)


def _protocol(text: str) -> Refused:
    return Refused(ErrorCode.MODEL_FAILED, FailureKind.PROTOCOL, text)
