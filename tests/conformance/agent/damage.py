"""Streams that are damaged on purpose, and what must hold of whatever is made of them. Seeded."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

from pibot_mesh.agent.messages import CallRequest
from pibot_mesh.protocol.codec import JSON

_ODD: tuple[JSON, ...] = (
    None, True, -1, 0, 1e308, 10**400, 2**63, "", "x", "\ud83c", [], {}, [[]], {"arguments": "{}"}, "null", "stop",
)  # fmt: skip
_JUNK = (
    b"\x00\xff\xfe", b"data", b"data: \n\n", b"data: {\n\n", b"data: [DONE]\n\n", b"\r", b"\n\n", b": hm\n",
    b"event: x\n", b"id\n", b"retry: 99999999999999\n", b"data: NaN\n\n", b'{"a": 1}\n', b"9" * 5000,
    b'data: {"error": null}\n\n', b'data: {"choices": [[]]}\n\n', b"data: " + b"[" * 2000 + b"\n\n",
    b'data: {"error": {"message": "busy", "code": 503}}\n\n',
)  # fmt: skip


def damaged(body: bytes, chance: random.Random) -> bytes:
    """*body* with one to four things wrong with it."""
    for _ in range(chance.randint(1, 4)):
        body = chance.choice(_DAMAGES)(body, chance)
    return body


def _flipped(body: bytes, chance: random.Random) -> bytes:
    data = bytearray(body)
    for _ in range(chance.randint(1, 8)):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _lines_changed(body: bytes, chance: random.Random) -> bytes:
    lines = body.split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(3):
        case 0:
            del lines[one]
        case 1:
            lines.insert(other, lines[one])
        case _:
            lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _cut(body: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(body))
    return body[:at] if chance.random() < 0.5 else body[:at] + body[at + chance.randint(1, 80) :]


def _with_junk(body: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(body))
    return body[:at] + chance.choice(_JUNK) + body[at:]


def _with_odd_value(body: bytes, chance: random.Random) -> bytes:
    """One value of one event is of another type, huge, null, or gone."""
    lines = body.split(b"\n")
    places = [place for place, line in enumerate(lines) if line.startswith(b"data: {")]
    if not places:
        return body
    place = chance.choice(places)
    try:
        event = json.loads(lines[place][6:])
    except ValueError:
        return body
    spots = list(_spots(event))
    if not spots:
        return body
    parent, key = chance.choice(spots)
    if chance.random() < 0.2:
        del parent[key]
    else:
        parent[key] = chance.choice(_ODD)
    lines[place] = b"data: " + json.dumps(event).encode()
    return b"\n".join(lines)


def _spots(value: JSON) -> Iterator[tuple[JSON, JSON]]:
    """Every place in *value* where another value could stand."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _spots(item)


_DAMAGES = (_flipped, _lines_changed, _cut, _with_junk, _with_odd_value, _with_odd_value)


def was_sent(call: CallRequest, body: bytes) -> bool:
    """Whether *call*'s arguments are pieces of arguments that *body* holds, in their order.

    It knows nothing of indices, ids and event boundaries: whatever a client takes a call for, it cannot have invented
    what stands in it.
    """
    wanted = _plain(call.arguments)
    reached = {0}
    for piece in map(_plain, _argument_pieces(body)):
        reached |= {place + len(piece) for place in reached if wanted.startswith(piece, place)}
    return len(wanted) in reached


def _argument_pieces(body: bytes) -> Iterator[str]:
    lines = re.split(r"\r\n|\n|\r", body.decode("utf-8", "replace"))
    datas = [line.removeprefix("data:").strip() for line in lines]
    for data, after in pairwise([*datas, ""]):
        with suppress(ValueError, RecursionError):
            yield from _arguments_in(json.loads(data))
        if after:
            with suppress(ValueError, RecursionError):
                yield from _arguments_in(json.loads(data + after))


def _arguments_in(value: JSON) -> Iterator[str]:
    if isinstance(value, dict):
        if "arguments" in value:
            given = value["arguments"]
            yield given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        for item in value.values():
            yield from _arguments_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _arguments_in(item)


def _plain(text: str) -> str:
    """Without the halves of surrogate pairs, which nobody can send on."""
    return re.sub("[\ud800-\udfff\ufffd]", "", text)
