"""What can be known of a task that a crash cut off in the middle. Pure, but for what the tools look at."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from pibot_mesh.agent.settled import Settled
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.node.events import Entry
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output

_log = logging.getLogger(__name__)


def settle_all(entries: Iterable[Entry], tools: ToolRegistry) -> dict[str, Settled]:
    """What *tools* find of those of *entries* that were running, by task; of the others nobody knows.

    An agent is never done: what it would have done next is not known.
    """
    settled: dict[str, Settled] = {}
    for entry in entries:
        found = [one for name, args in _under_way(entry) if (one := _settle(tools, name, args)) is not None]
        if found and entry.task.kind == "call":
            settled[entry.task.id] = found[0]
        elif found:
            text = "; ".join(one.output.text for one in found)
            settled[entry.task.id] = Settled(Output(text, {"found": [dict(one.output.data) for one in found]}))
    return settled


def _under_way(entry: Entry) -> list[tuple[str, Mapping[str, JSON]]]:
    if entry.phase != "running":
        return []
    if entry.task.kind == "call":
        return [(entry.task.tool or "", entry.task.args)]
    return [(call.name, call.args) for call in entry.calls if call.ok is None]


def _settle(tools: ToolRegistry, name: str, args: Mapping[str, JSON]) -> Settled | None:
    settle = tools[name].settle if name in tools else None
    if settle is None or tools.violations(name, args):
        return None
    try:
        return settle(args)
    except Exception:  # noqa: BLE001 - a tool may be anybody's code, and without its word the call is unknown
        _log.exception("a bug in the tool %s", name)
        return None
