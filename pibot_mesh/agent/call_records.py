"""What is kept of a run's calls: short enough for a journal and for a message. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Final

from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.fit import cut_middle
from pibot_mesh.protocol.messages import ToolCall

ARGS_BYTES: Final = 500
"""What is kept of the arguments of one call, about."""
CALLS_BYTES: Final = 24 * 1024
"""What the calls of one run take in its result."""
_MAX_ARGS: Final = 20
_LEAST_BYTES: Final = 40
_FRAME_BYTES: Final = 64
"""What a call takes besides its name and arguments."""


def short_call(call: ToolCall) -> ToolCall:
    """*call*, with long arguments cut in the middle."""
    return replace(call, args=_short_args(call.args))


def fit_calls(calls: Iterable[ToolCall], room: int = CALLS_BYTES) -> tuple[ToolCall, ...]:
    """*calls* in *room* bytes of JSON. What is least missed goes first.

    These are the arguments of calls that only read, then all arguments, then calls that only read, and at last the
    oldest.
    """
    kept = tuple(calls)
    for spare in _SPARES:
        if _size(kept) <= room:
            return kept
        kept = spare(kept)
    newest = accumulate(_bytes_of(call) for call in reversed(kept))
    return kept[len(kept) - sum(1 for size in newest if size <= room) :]


_SPARES: Final[tuple[Callable[[tuple[ToolCall, ...]], tuple[ToolCall, ...]], ...]] = (
    lambda calls: tuple(replace(call, args={}) if call.effect == "read" else call for call in calls),
    lambda calls: tuple(replace(call, args={}) for call in calls),
    lambda calls: tuple(call for call in calls if call.effect != "read"),
)


def _short_args(args: Mapping[str, JSON]) -> Mapping[str, JSON]:
    if len(_text(args).encode(errors="replace")) <= ARGS_BYTES:
        return args
    share = max(_LEAST_BYTES, ARGS_BYTES // len(args))
    return {cut_middle(key, share): _short(value, share) for key, value in list(args.items())[:_MAX_ARGS]}


def _short(value: JSON, limit: int) -> JSON:
    text = value if isinstance(value, str) else _text(value)
    return value if len(text.encode(errors="replace")) <= limit else cut_middle(text, limit)


def _size(calls: tuple[ToolCall, ...]) -> int:
    return sum(map(_bytes_of, calls))


def _bytes_of(call: ToolCall) -> int:
    return len(_text(call.args).encode(errors="replace")) + len(call.name) + _FRAME_BYTES


def _text(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
