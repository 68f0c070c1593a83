"""Payloads that no sane peer sends, from a seed: for trying that nothing breaks on them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final

from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Control, Event, NodeCard, Output, Request, Result, State, Task

_VALID: Final = [
    encode(Request("r1", "turn on the fan")),
    encode(Task("t1", "r1", "call", tool="output_set", args={"device": "fan", "value": "ON"})),
    encode(Event("t1", "task_accepted", "boot", 1)),
    encode(Result("t1", "r1", 1, State.COMPLETED, Output("done", {"value": 1}))),
    encode(Control("cancel", reason="no more")),
    encode(NodeCard("worker-1", "boot", "0.2.0")),
    b'{"uptime_s": 12.5, "load1": 0.1}',
    b"ON",
    b"online",
]
_ODD_VALUES: Final[list[Any]] = [
    None,
    True,
    -1,
    0,
    1e300,
    "",
    "x" * 5000,
    [],
    [[]],
    {},
    {"a": {}},
    "\u0000",
    2**70,
    "STOP",
]


def garbage(chance: random.Random) -> bytes:
    """Random, truncated, oversized, ill-typed, deeply nested or non-UTF-8 bytes."""
    return chance.choice(_MAKERS)(chance)


def _random_bytes(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randint(0, 300))


def _truncated(chance: random.Random) -> bytes:
    payload = chance.choice(_VALID)
    return payload[: chance.randrange(len(payload))]


def _mutated(chance: random.Random) -> bytes:
    payload = bytearray(chance.choice(_VALID))
    for _ in range(chance.randint(1, 8)):
        payload[chance.randrange(len(payload))] = chance.randrange(256)
    return bytes(payload)


def _oversized(chance: random.Random) -> bytes:
    return b'{"id": "big", "text": "' + b"x" * chance.choice([66_000, 70_000, 100_000]) + b'"}'


def _ill_typed(chance: random.Random) -> bytes:
    value = json.loads(chance.choice(_VALID[:7]))
    for key in chance.sample(sorted(value), min(len(value), chance.randint(1, 3))):
        value[key] = chance.choice(_ODD_VALUES)
    return json.dumps(value).encode()


def _nested(chance: random.Random) -> bytes:
    depth = chance.choice([33, 100, 5_000, 30_000])
    opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return (
        b'{"id": "deep", "text": ' + opening * (depth // len(opening)) + b"1" + closing * (depth // len(opening)) + b"}"
    )


def _not_utf8(chance: random.Random) -> bytes:
    return b'{"id": "\xff\xfe", "text": "' + chance.randbytes(20) + b'"}'


def _no_json(chance: random.Random) -> bytes:
    return chance.choice(
        [
            b'{"id": "a", "id": "b", "text": "twice"}',
            b'{"id": "n", "text": "x", "timeout_s": NaN}',
            b'{"id": "n", "text": "x", "timeout_s": 1e999}',
            b'{"id": "n", "text": "\\ud800"}',
            b'{"id": "n", "text": "x", "v": 99}',
            b"",
            b"{",
            b"null",
            b"{}",
            b"[]",
            b"\x00",
        ]
    )


_MAKERS: Final[list[Callable[[random.Random], bytes]]] = [
    _random_bytes,
    _truncated,
    _mutated,
    _oversized,
    _ill_typed,
    _nested,
    _not_utf8,
    _no_json,
]
