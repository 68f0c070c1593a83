"""The body of an HTTP answer, as it comes in pieces, to the parts of a model's answer. Pure: no sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

from pibot_mesh.agent.assembly import Assembler
from pibot_mesh.agent.failures import MAX_WORDS
from pibot_mesh.agent.model import Answer, FailureKind, ModelFailure, StreamPart
from pibot_mesh.agent.sse import EventTooLong, SseReader

MAX_WHOLE: Final = 16 << 20
"""Bytes of an answer that is no stream."""
_DONE: Final = "[DONE]"
_NO_EVENT: Final = re.compile(r'[^{}\[\]"]{0,40}')
"""What services send instead of a comment to keep a connection open; a damaged event never looks so."""


class AnswerReader:
    """Reads one answer, a stream of events or a single JSON object, whatever its content type says."""

    def __init__(self, assembler: Assembler | None = None) -> None:
        self._assembler = assembler or Assembler()
        self._sse = SseReader()
        self._begin = b""
        """The first bytes that are not blank, for a failure's text."""
        self._whole: list[bytes] | None = None
        self._whole_size = 0
        self._has_events = False
        self.is_done = False
        """Whether the service said that nothing follows."""

    @property
    def is_over(self) -> bool:
        """Whether nothing that may follow can change the outcome."""
        return self.is_done or self._assembler.is_over

    @property
    def is_finished(self) -> bool:
        """Whether the answer is there, and only its usage and its end may follow."""
        return self._assembler.is_finished

    @property
    def pieces(self) -> int:
        """How many pieces of content have come. Comments and empty chunks are none."""
        return self._assembler.pieces

    def feed(self, piece: bytes) -> list[StreamPart]:
        """What *piece* of the body adds."""
        if not self._begin:
            piece = self._sniff(piece)
        if self._whole is not None:
            self._keep(piece, self._whole)
            return []
        return self._events(lambda: self._sse.feed(piece))

    def end(self) -> list[StreamPart]:
        """What the end of the body adds. A body that was cut has none: then only `outcome` is called."""
        if self._whole is not None:
            return self._end_whole(b"".join(self._whole))
        parts = self._events(self._sse.flush, is_last=True)
        if not self._has_events and self._begin:
            self.break_off(FailureKind.PROTOCOL, _not_an_answer(self._begin))
        return parts

    def break_off(self, kind: FailureKind, text: str, is_retryable: bool = False) -> None:
        """End the answer with a failure, if it has not ended with another before."""
        self._assembler.break_off(kind, text, is_retryable=is_retryable)

    def outcome(self) -> Answer | ModelFailure:
        """How the call ended. An answer whose end has not come is a failure that is worth a retry."""
        return self._assembler.outcome(is_whole=self.is_done)

    def _sniff(self, piece: bytes) -> bytes:
        piece = piece.removeprefix(b"\xef\xbb\xbf").lstrip()
        self._begin = piece[:MAX_WORDS]
        if piece[:1] in (b"{", b"[", b"<"):
            self._whole = []
        return piece

    def _keep(self, piece: bytes, whole: list[bytes]) -> None:
        whole.append(piece)
        self._whole_size += len(piece)
        if self._whole_size > MAX_WHOLE:
            self.break_off(FailureKind.PROTOCOL, f"the service sent an answer of more than {MAX_WHOLE} bytes")

    def _end_whole(self, body: bytes) -> list[StreamPart]:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            self.break_off(FailureKind.PROTOCOL, _not_an_answer(self._begin))
            return []
        if isinstance(value, list):  # Gemini wraps its errors so
            value = next(iter(value), None)
        parts = self._assembler.feed(value)
        if not self._assembler.is_over and not (isinstance(value, dict) and "choices" in value):
            self.break_off(FailureKind.PROTOCOL, _not_an_answer(self._begin))
        self.is_done = True
        return parts

    def _events(self, read: Callable[[], list[str]], *, is_last: bool = False) -> list[StreamPart]:
        parts: list[StreamPart] = []
        try:
            events = read()
        except EventTooLong as error:
            self.break_off(FailureKind.PROTOCOL, f"the service sent {error}")
            return []
        for event in events:
            if self.is_over:
                break
            self._has_events = True
            if event.strip() == _DONE:
                self.is_done = True
            else:
                self._take(event, parts, is_last=is_last)
        return parts

    def _take(self, event: str, parts: list[StreamPart], *, is_last: bool) -> None:
        try:
            chunks = [json.loads(event)]
        except (ValueError, RecursionError):
            try:  # some services leave out the blank lines between their events
                chunks = [json.loads(line) for line in event.split("\n") if line.strip() != _DONE]
                self.is_done = self.is_done or event.strip().endswith(_DONE)
            except (ValueError, RecursionError):
                self._damaged(event, is_last=is_last)
                return
        for chunk in chunks:
            parts += self._assembler.feed(chunk)

    def _damaged(self, event: str, *, is_last: bool) -> None:
        """Passing over what cannot be read could run a tool with other arguments than the model gave."""
        if not is_last and not _NO_EVENT.fullmatch(event):
            words = event[:MAX_WORDS]
            text = f"the service sent an event that is not JSON: {words}"
            self.break_off(FailureKind.PROTOCOL, text, is_retryable=True)


def _not_an_answer(begin: bytes) -> str:
    if begin.startswith(b"<"):
        return "a web page came instead of an answer: check model.base_url (does it lack /v1?)"
    words = " ".join(begin.decode("utf-8", "replace").split())
    return f"this is no answer of a chat completions service: check model.base_url: {words}"
