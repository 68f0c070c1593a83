"""What displays and automations are told of the master: its state, and that a request has ended or waits. Pure."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, Protocol

from pibot_mesh.master.events import Record
from pibot_mesh.protocol.codec import ID_PATTERN, JSON
from pibot_mesh.protocol.messages import (
    MAX_SHOWN,
    MAX_TOLD,
    MAX_WORDS,
    TOOL_PATTERN,
    Event,
    MasterEvent,
    MasterState,
    PendingCall,
    Reply,
    State,
)
from pibot_mesh.protocol.topics import NODE_PATTERN

_REMEMBERED: Final = 1000
"""Requests whose reply was told: one that is published again is no news."""
_CUT: Final = "…"
MAX_ARGS: Final = 4000
"""Bytes of arguments that are shown as they are; of longer ones the words tell as much as they hold."""


class Requests(Protocol):
    """What `pibot_mesh.master.core.MasterCore` knows of requests."""

    @property
    def open_requests(self) -> int: ...

    @property
    def newest(self) -> str | None: ...

    def held(self, request_id: str) -> Record | None: ...

    def is_asking(self, request_id: str, call: str) -> bool: ...


class OwnState:
    """What is said on ``master/state`` and ``master/event``, from what the master says of its requests."""

    def __init__(self, requests: Requests, *, boot: str) -> None:
        self._requests = requests
        self._boot = boot
        self._seq = 0
        self._asked = self._answer = ""
        self._outcome: State | None = None
        self._is_stopped = False
        self._waiting: dict[tuple[str, str], PendingCall] = {}
        """By request and call: a node names its calls as it likes, so two requests may have calls of one name."""
        self._told: OrderedDict[str, None] = OrderedDict()
        self._said: MasterState | None = None

    def recall(self, records: Sequence[Record]) -> None:
        """Take in what was asked and answered before the start: the last *records*, the newest first."""
        for record in reversed(records):
            self._asked = cut(record.request.text, MAX_SHOWN)
            if record.reply is not None:
                self._answer, self._outcome = cut(record.reply.text, MAX_SHOWN), record.reply.state

    def hear(self, event: Event, ts: float) -> MasterEvent | None:
        """Take in an event of a request. Returns what automations are to be told."""
        if event.type == "request_accepted":
            self._asked = cut(str(event.data.get("text", "")), MAX_SHOWN)
        pending = _pending(event) if event.type == "approval_required" else None
        if pending is None or not self._is_waiting(pending) or (pending.request, pending.call) in self._waiting:
            return None
        self._forget_answered()
        self._waiting[pending.request, pending.call] = pending
        told = MasterEvent("needs_approval", event.run, pending.says, state=State.INPUT_REQUIRED, pending=pending)
        return self._event(told, ts)

    def replied(self, reply: Reply, ts: float) -> MasterEvent | None:
        """Take in a reply. Returns what automations are to be told; once."""
        if reply.id in self._told:
            return None
        self._told[reply.id] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        self._answer, self._outcome = cut(reply.text, MAX_SHOWN), reply.state
        event_type: Literal["answered", "failed"] = "answered" if reply.state is State.COMPLETED else "failed"
        return self._event(MasterEvent(event_type, reply.id, cut_bytes(reply.text, MAX_TOLD), state=reply.state), ts)

    def stop(self, is_stopped: bool) -> None:
        """Whether the emergency stop holds, as its topic says."""
        self._is_stopped = is_stopped

    def news(self) -> MasterState | None:
        """The state, where it is not that which was said last."""
        state = self._state()
        if state == self._said:
            return None
        self._said = state
        self._seq += 1
        return replace(state, boot=self._boot, seq=self._seq)

    def forget_said(self) -> None:
        """Nobody may know what was said: say it again."""
        self._said = None

    def _state(self) -> MasterState:
        self._forget_answered()
        pending = next(iter(self._waiting.values()), None)
        count = self._requests.open_requests
        return MasterState(
            "stopped" if self._is_stopped else "needs_approval" if pending else "working" if count else "idle",
            self._is_stopped,
            count,
            self._requests.newest,
            self._asked,
            self._answer,
            self._outcome,
            pending,
        )

    def _forget_answered(self) -> None:
        self._waiting = {key: pending for key, pending in self._waiting.items() if self._is_waiting(pending)}

    def _is_waiting(self, pending: PendingCall) -> bool:
        return self._requests.is_asking(pending.request, pending.call)

    def _event(self, event: MasterEvent, ts: float) -> MasterEvent:
        """*event* with what is known of its request, a number and the time."""
        self._seq += 1
        record = self._requests.held(event.id)
        if record is not None:
            event = replace(event, asked=cut(record.request.text, MAX_SHOWN), session=record.request.session)
        return replace(event, boot=self._boot, seq=self._seq, ts=ts)


def _pending(event: Event) -> PendingCall | None:
    """The call that *event* says waits. An agent on a node may say what it likes; what is no call is none."""
    call, tool, node = (str(event.data.get(key) or "") for key in ("call", "tool", "node"))
    args = event.data.get("args")
    if not re.fullmatch(ID_PATTERN, call) or not re.fullmatch(TOOL_PATTERN, tool) or not isinstance(args, Mapping):
        return None
    where = node if re.fullmatch(NODE_PATTERN, node) else None
    return PendingCall(event.run, call, tool, _says(tool, where, args), args if _is_short(args) else {}, where)


def _says(tool: str, node: str | None, args: Mapping[str, JSON]) -> str:
    told = ", ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in args.items())
    return cut(f"{tool}{f' on {node}' if node else ''}{f' with {told}' if told else ''}", MAX_WORDS)


def _is_short(args: Mapping[str, JSON]) -> bool:
    return len(json.dumps(args, ensure_ascii=False).encode()) <= MAX_ARGS


def cut_bytes(text: str, size: int) -> str:
    """*text*, or as much of it as *size* bytes of JSON hold: an attribute is stored so, with all that is escaped."""
    if _json_bytes(text) <= size:
        return text
    room = size - len(_CUT.encode())
    return text[: bisect_right(range(len(text)), room, key=lambda length: _json_bytes(text[:length])) - 1] + _CUT


def _json_bytes(text: str) -> int:
    """Bytes of *text* in JSON, without its quotes."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


def cut(text: str, length: int) -> str:
    """*text*, or as much of it as *length* characters hold."""
    return text if len(text) <= length else text[: length - 1] + _CUT
