"""Messages cut to what a message can carry. Pure: no I/O.

What a tool gives has no limit of its own; a message has (64 KiB of JSON). Nothing may be lost in silence: what is left
out is named in what remains.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.messages import Event, Output, Reply, Result, StepResult, WireError

_ROOM: Final = 8 * 1024
"""Bytes for the text of a message that was too large: JSON may need six times as many for odd characters."""
_ERROR_ROOM: Final = 1024
"""Bytes for the words of an error in such a message."""


def fit_result(result: Result) -> Result:
    """*result*, with its output cut where JSON cannot say it or the message would be larger than 64 KiB."""
    problem = _problem(result)
    if problem is None:
        return result
    return replace(
        result, output=_cut_output(result.output, _ROOM, problem), error=_cut_error(result.error), tool_calls=()
    )


def fit_reply(reply: Reply) -> Reply:
    """*reply*, with outputs, then plan and results cut where the message would be larger than 64 KiB."""
    problem = _problem(reply)
    if problem is None:
        return reply
    share = _ROOM // max(1, len(reply.results))
    results = tuple(_cut_step(step, share, problem) for step in reply.results)
    shorter = replace(reply, text=cut_middle(reply.text, _ROOM), error=_cut_error(reply.error), results=results)
    return shorter if _problem(shorter) is None else replace(shorter, plan=None, results=())


def fit_event(event: Event) -> Event:
    """*event*, with its own fields left out where the message would be larger than 64 KiB, save short ones."""
    problem = _problem(event)
    if problem is None:
        return event
    kept = [(key, value) for key, value in event.data.items() if len(key) <= 64 and _is_short(value)]
    return replace(event, data={**dict(kept[:20]), "left_out": str(problem)})


def cut_middle(text: str, limit: int) -> str:
    """At most about *limit* bytes of UTF-8: the beginning and the end, and between them how much was left out."""
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= limit:
        return raw.decode()
    half = max(0, (limit - 60) // 2)
    head, tail = raw[:half].decode(errors="ignore"), raw[len(raw) - half :].decode(errors="ignore")
    return f"{head} … [{len(raw) - 2 * half} of {len(raw)} bytes left out] … {tail}"


def _cut_step(step: StepResult, limit: int, problem: ProtocolError) -> StepResult:
    return replace(step, output=_cut_output(step.output, limit, problem), error=_cut_error(step.error), tool_calls=())


def _cut_output(output: Output, limit: int, problem: ProtocolError) -> Output:
    text = cut_middle(str(output.text), limit)
    return Output(text) if output.data is None else Output(text, {"left_out": str(problem)})


def _cut_error(error: WireError | None) -> WireError | None:
    return error and replace(error, message=cut_middle(error.message, _ERROR_ROOM))


def _is_short(value: JSON) -> bool:
    return isinstance(value, (str, int)) and len(str(value)) <= 64


def _problem(message: Result | Reply | Event) -> ProtocolError | None:
    """Why *message* cannot be sent as it is."""
    try:
        encode(message)
    except ProtocolError as problem:
        return problem
    return None
