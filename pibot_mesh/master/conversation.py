"""What was said in a conversation, cut to what is worth remembering. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from pibot_mesh.master.events import Exchange, Record
from pibot_mesh.protocol.codec import JSON, from_dict, to_dict
from pibot_mesh.protocol.fit import cut_middle
from pibot_mesh.protocol.messages import Reply

MAX_TEXT: Final = 2048
"""Bytes of one text, about: a longer one is cut in the middle."""
MAX_SIZE: Final = 64 * 1024
"""Bytes of all that is remembered, as JSON."""


def exchanges(newest_first: Iterable[Record]) -> list[Exchange]:
    """What the records that have a reply come to, the oldest first: as many of the newest as fit, and always the last.

    Devices, nodes and states stay as they were; only texts are cut.
    """
    kept: list[Exchange] = []
    size = 0
    for record in newest_first:
        if record.reply is None:
            continue
        reply = _cut(to_dict(record.reply))
        exchange = Exchange(cut_middle(record.request.text, MAX_TEXT), from_dict(Reply, reply))
        size += len(json.dumps([exchange.text, reply], ensure_ascii=False).encode())
        if kept and size > MAX_SIZE:
            break
        kept.append(exchange)
    return kept[::-1]


def _cut(value: JSON) -> JSON:
    """*value* with every text in it cut."""
    if isinstance(value, str):
        return cut_middle(value, MAX_TEXT)
    if isinstance(value, dict):
        return {name: _cut(item) for name, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value
