"""What a service says to one request, as a FakeModelServer plays it. Pure: no sockets.

Most tests need no more than these:

    say("Hello")                                        # text, in one delta
    say("Hel", "lo")                                    # the same in two deltas
    say("I look.", call("look", room="attic"))          # text, and a call of a tool (`call` is `scripted.call`)
    say(call("a", n=1), call("a", n=2), usage=Usage(input=90, output=12))
    say("Four.", reasoning="2 and 2", reasoning_field="reasoning")
    say("a long text ...", split=3)                     # in deltas of at most 3 characters
    fail(429, "slow down", retry_after=2)               # an error as services send it
    never()                                             # takes the request, and says nothing at all

and these, which change an answer:

    say("Hello").delayed(0.2)                           # before the first byte
    say("Hel", "lo", one_write=False).paced(0.05)       # between the deltas
    say("Hello").cut(after=100)                         # the connection ends behind 100 bytes of the body
    say("Hello").cut(after=100, reset=True)             # the same with RST
    say("Hello").held_open()                            # the body stays open behind [DONE]
    say("Hello").in_writes(1)                           # byte by byte

What services really send, field by field, is made with `stream` (and `chunk`, `fragment`), `raw` and `wire`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from pibot_mesh.agent.messages import CallRequest
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.testing.scripted import Pause

Framing: TypeAlias = Literal["chunked", "length", "close", "none"]
"""How the body's end is told: by chunks, Content-Length or the connection's end. "none": the steps hold the head."""


class End(Enum):
    """How an answer can end without having ended."""

    CUT = "cut"  #: the connection is closed (FIN)
    RESET = "reset"  #: the connection is reset (RST)
    HANG = "hang"  #: nothing more comes, and the connection stays


ServerStep: TypeAlias = bytes | Pause | asyncio.Event | End
"""A part of the body (one write, and one chunk), something to wait for, or an end. ``b""`` first: the head alone."""

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"
_SSE: Final = (("Content-Type", "text/event-stream"),)
_JSON: Final = (("Content-Type", "application/json"),)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One answer. *whole* is the body for a request that does not ask for a stream, where there is another for it.

    *length* is the Content-Length where it is not that of the steps.
    """

    steps: tuple[ServerStep, ...] = ()
    status: int = 200
    headers: tuple[tuple[str, str], ...] = _SSE
    framing: Framing = "chunked"
    whole: bytes = b""
    length: int | None = None

    @property
    def body(self) -> bytes:
        """All bytes that it sends."""
        return b"".join(step for step in self.steps if isinstance(step, bytes))

    def delayed(self, for_s: float) -> HttpAnswer:
        """The same, *for_s* seconds later; the head waits too."""
        return replace(self, steps=(Pause(for_s), *self.steps))

    def paced(self, every_s: float) -> HttpAnswer:
        """The same with *every_s* seconds behind each write."""
        return replace(self, steps=tuple(part for step in self.steps for part in (step, Pause(every_s))))

    def in_writes(self, size: int = 0) -> HttpAnswer:
        """The same bytes in writes of *size* (0: all in one). What it waits for goes, a cut at the end stays."""
        body = self.body
        size = size or len(body) or 1
        writes = (body[at : at + size] for at in range(0, len(body), size))
        return replace(self, steps=(*writes, *self._end()))

    def split(self, *at: int) -> HttpAnswer:
        """The same bytes with a new write at each of these places in the body."""
        places = [0, *at, len(self.body)]
        writes = (self.body[start:stop] for start, stop in pairwise(places) if stop > start)
        return replace(self, steps=(*writes, *self._end()))

    def cut(self, after: int | None = None, *, reset: bool = False) -> HttpAnswer:
        """The connection ends behind *after* bytes of the body (None: all of them), and the body's end is not told."""
        sent = self.body[:after]
        length = max(len(self.body), len(sent) + 1)
        return replace(self, steps=(sent, End.RESET if reset else End.CUT), length=length)

    def held_open(self) -> HttpAnswer:
        """The same, and then nothing, and no end either."""
        return replace(self, steps=(*self.steps, End.HANG), length=len(self.body) + 1)

    def with_headers(self, headers: Mapping[str, str]) -> HttpAnswer:
        """The same with these headers too."""
        return replace(self, headers=(*self.headers, *headers.items()))

    def framed(self, framing: Framing) -> HttpAnswer:
        """The same with its end told in another way."""
        return replace(self, framing=framing)

    def _end(self) -> tuple[End, ...]:
        return tuple(step for step in self.steps[-1:] if isinstance(step, End))


def say(
    *said: str | CallRequest,
    reasoning: str = "",
    reasoning_field: str = "reasoning_content",
    usage: Usage | None = None,
    finish: str | None = "",
    split: int = 0,
    one_write: bool = True,
) -> HttpAnswer:
    """A well-behaved answer: *reasoning* first, then what is *said* in this order, the finish, *usage* and [DONE].

    Each piece is one delta, or as many as it has *split* characters; a call's arguments are split alike. A call without
    an id gets ``call_1``, ``call_2`` and so on, counted within the answer. *finish* is the service's word for why it
    ends ("": the right one, None: it says nothing). Everything goes out in one write unless *one_write* is False: then
    each delta is a write.
    """
    calls = _with_ids(said)
    text = "".join(piece for piece in said if isinstance(piece, str))
    word = ("tool_calls" if calls else "stop") if finish == "" else finish
    events: list[JSON] = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({reasoning_field: piece}) for piece in _pieces(reasoning, split)]
    number = 0
    for piece in said:
        if isinstance(piece, str):
            events += [chunk({"content": part}) for part in _pieces(piece, split)]
        else:
            events += _fragments(number, calls[number], split)
            number += 1
    events.append(chunk({}, finish=word))
    if usage is not None:
        events.append({**chunk(), "choices": [], "usage": usage_json(usage)})
    message: dict[str, JSON] = {"role": "assistant", "content": text or None}
    if reasoning:
        message[reasoning_field] = reasoning
    if calls:
        message["tool_calls"] = [fragment(None, one.id, one.name, one.arguments) for one in calls]
    whole = {**_HEAD, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": word}]}
    answer = stream(*events)
    answer = answer.in_writes() if one_write else answer
    return replace(answer, whole=dumps({**whole, "usage": usage_json(usage or Usage())}))


def stream(*events: JSON | ServerStep, done: bool = True, newline: str = "\n") -> HttpAnswer:
    """A stream made by hand: each event a write. Bytes and what to wait for go out as they stand, the rest as JSON.

    *done*: with ``[DONE]`` at the end. *newline* is how every line ends, that of the bytes too.
    """
    steps: list[ServerStep] = [
        event if isinstance(event, (bytes, Pause, asyncio.Event, End)) else sse(event) for event in events
    ]
    if done:
        at = len(steps) - 1 if steps and isinstance(steps[-1], End) else len(steps)
        steps.insert(at, DONE)
    return HttpAnswer(tuple(_with_newline(step, newline.encode()) for step in steps))


def fail(
    status: int,
    message: str = "something went wrong",
    *,
    code: str | None = None,
    type: str = "error",  # noqa: A002 - the name that services give it
    param: str | None = None,
    retry_after: str | float | None = None,
) -> HttpAnswer:
    """An error as OpenAI-compatible services send it, with a Content-Length."""
    body = dumps({"error": {"message": message, "type": type, "param": param, "code": code}})
    answer = raw(body, status=status, content_type="application/json")
    return answer if retry_after is None else answer.with_headers({"Retry-After": str(retry_after)})


def raw(*steps: ServerStep, status: int = 200, content_type: str = "text/event-stream") -> HttpAnswer:
    """A body of these bytes, whatever they mean, with a Content-Length."""
    return HttpAnswer(tuple(steps), status, (("Content-Type", content_type),), "length")


def wire(*steps: ServerStep) -> HttpAnswer:
    """The whole answer byte by byte, with its status line and headers; then the connection is closed."""
    end = () if steps and isinstance(steps[-1], End) else (End.CUT,)
    return HttpAnswer((*steps, *end), framing="none")


def never() -> HttpAnswer:
    """Takes the request, and says nothing until the client goes away."""
    return HttpAnswer((End.HANG,))


def chunk(delta: JSON = None, *, finish: str | None = None, **choice: JSON) -> dict[str, JSON]:
    """One event of a stream: *delta*, *finish* as ``finish_reason``, and whatever else stands in the choice."""
    return {**_HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]}


def fragment(index: int | None, id: str | None, name: str | None, arguments: str | None) -> dict[str, JSON]:  # noqa: A002
    """A piece of a call as it stands in ``tool_calls`` of a delta; what is None is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    piece: dict[str, JSON] = {"index": index, "id": id, "type": "function" if name is not None else None}
    return {**{key: value for key, value in piece.items() if value is not None}, "function": function}


def fragments(*pieces: dict[str, JSON]) -> dict[str, JSON]:
    """One event with these pieces of calls."""
    return chunk({"tool_calls": list(pieces)})


def usage_json(usage: Usage) -> dict[str, JSON]:
    """*usage* as OpenAI sends it."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def sse(event: JSON) -> bytes:
    """*event* as a server-sent event."""
    return b"data: " + dumps(event) + b"\n\n"


def dumps(value: JSON) -> bytes:
    """Compact JSON of any size."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_HEAD: Final = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake"}


def _with_ids(said: Iterable[str | CallRequest]) -> list[CallRequest]:
    calls = [piece for piece in said if isinstance(piece, CallRequest)]
    return [one if one.id else replace(one, id=f"call_{number}") for number, one in enumerate(calls, 1)]


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + (size or len(text))] for at in range(0, len(text), size or len(text) or 1)]


def _fragments(index: int, one: CallRequest, split: int) -> list[JSON]:
    first, *rest = _pieces(one.arguments, split) if one.arguments else [""]
    begun = fragment(index, one.id, one.name, first)
    return [fragments(begun), *(fragments(fragment(index, None, None, piece)) for piece in rest)]


def _with_newline(step: ServerStep, newline: bytes) -> ServerStep:
    return step.replace(b"\n", newline) if isinstance(step, bytes) and newline != b"\n" else step
