"""Results and replies made to fit into one message. Pure: no I/O.

What a tool gives has no limit of its own; a message has (64 KiB). Nothing may be lost in silence: what is left out is
named in what remains.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pibot_mesh.errors import PayloadTooLarge
from pibot_mesh.protocol.codec import MAX_PAYLOAD, encode
from pibot_mesh.protocol.messages import Output, Reply, Result, StepResult

_ROOM: Final = 48 * 1024
"""Bytes for the texts of a message that was too large; the rest is for what surrounds them."""


def fit_result(result: Result) -> Result:
    """*result*, with its output cut where the message would be larger than 64 KiB."""
    if _fits(result):
        return result
    return replace(result, output=_cut_output(result.output, _ROOM // 2), tool_calls=())


def fit_reply(reply: Reply) -> Reply:
    """*reply*, with outputs, then plan and results, then text cut where the message would be larger than 64 KiB."""
    if _fits(reply):
        return reply
    share = _ROOM // 2 // max(1, len(reply.results))
    text = cut_middle(reply.text, _ROOM // 4)
    shorter = replace(reply, text=text, results=tuple(_cut_step(step, share) for step in reply.results))
    return shorter if _fits(shorter) else replace(shorter, plan=None, results=())


def cut_middle(text: str, limit: int) -> str:
    """At most about *limit* bytes of UTF-8: the beginning and the end, and between them how much was left out."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    half = max(0, (limit - 60) // 2)
    head, tail = raw[:half].decode(errors="ignore"), raw[len(raw) - half :].decode(errors="ignore")
    return f"{head} … [{len(raw) - 2 * half} of {len(raw)} bytes left out] … {tail}"


def _cut_step(step: StepResult, limit: int) -> StepResult:
    return replace(step, output=_cut_output(step.output, limit), tool_calls=())


def _cut_output(output: Output, limit: int) -> Output:
    text = cut_middle(output.text, limit // 2)
    if output.data is None:
        return Output(text)
    return Output(text, {"left_out": f"the data did not fit into a message of {MAX_PAYLOAD} bytes"})


def _fits(message: Result | Reply) -> bool:
    try:
        encode(message)
    except PayloadTooLarge:
        return False
    return True
