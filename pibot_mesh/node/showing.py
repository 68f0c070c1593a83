"""What a node shows of itself: its card, every state with its cause, events, and how it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pibot_mesh import __version__
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.config.settings import NodeSettings
from pibot_mesh.errors import ConfigError, ProtocolError
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent, OutputChanged, SensorRead
from pibot_mesh.hardware.outputs import value_words
from pibot_mesh.mqtt.link import Link
from pibot_mesh.node.reflex_runner import ReflexRunner
from pibot_mesh.node.start_reason import StartReason
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.messages import (
    MAX_WORDS,
    Capacity,
    Cause,
    NodeCard,
    NodeEvent,
    OutputValue,
    ReflexSpec,
    ToolSpec,
    encode_health,
    encode_sensor,
    encode_value,
)
from pibot_mesh.protocol.topics import Kind

_LATEST_SEQ: Final = 2**53
"""The longest that a number in a card can be."""
_LONGEST_REASON: Final[StartReason] = "power_loss"
_log = logging.getLogger(__name__)
_ORDERED: Final = ("task", "request", "person", "rule")


class Showing:
    """The node's side of its retained topics. *shown* says how a tool stands in the card.

    Raises ConfigError where labels, devices and tools are too much for a card.
    """

    def __init__(
        self,
        settings: NodeSettings,
        boot: str,
        board: Board,
        tools: ToolRegistry,
        *,
        shown: Callable[[ToolSpec], ToolSpec],
        reflexes: ReflexRunner,
        link: Link,
    ) -> None:
        self._settings = settings
        self._boot = boot
        self._board = board
        self._tools = tools
        self._shown = shown
        self._reflexes = reflexes
        self._link = link
        self.start_reason: StartReason | None = None
        """Why this process started. Set before the first card is sent."""
        self._seq = 0
        self._past: Mapping[str, tuple[OutputValue, Cause]] = {}
        self._causes: dict[str, Cause] = {}
        self._in_card: tuple[ToolSpec, ...] = ()
        problem = self.too_much(tools.specs())
        if problem:
            what = f"node {settings.id}: its labels, devices and tools cannot be shown to the mesh"
            raise ConfigError([f"{what}: {problem}"])

    def next_seq(self) -> int:
        """The number of the next record that is published."""
        self._seq += 1
        return self._seq

    def remember(self, past: Mapping[str, tuple[OutputValue, Cause]]) -> None:
        """What the outputs were at when the node ran last, and what had set them: said beside their first state."""
        self._past = past

    def too_much(self, tools: Sequence[ToolSpec], *added: ReflexSpec) -> str:
        """Why a card with these tools, and with the reflexes *added*, cannot be sent, or nothing."""
        card = replace(self._card(tools, _LATEST_SEQ), start_reason=_LONGEST_REASON)
        try:
            encode(replace(card, reflexes=(*card.reflexes, *added)))
        except ProtocolError as error:
            return str(error)
        return ""

    def card(self) -> NodeCard:
        """What the node is and can do."""
        return self._card(self._tools.specs(), self.next_seq())

    def send_card(self) -> None:
        """Show the card."""
        self._in_card = self._tools.specs()
        self._link.send(Kind.NODE_CARD, encode(self.card()), node=self._settings.id)

    def tools_changed(self) -> None:
        """Show the new card, where it is a new one. Without a connection, the next one brings it."""
        if self._link.is_connected and not _are_same(self._in_card, self._tools.specs()):
            self.send_card()

    def send_states(self) -> None:
        """Every state, with what set it."""
        for device, (value, _) in self._board.outputs().items():
            self._send_output(device, value, self._causes[device])
        for device, value in self._board.inputs().items():
            self._link.send(Kind.INPUT, encode_value(value), node=self._settings.id, device=device)
        for device, values in self._board.readings().items():
            self._link.send(Kind.SENSOR, encode_sensor(values), node=self._settings.id, device=device)
        for reflex, is_on in self._reflexes.states().items():
            self.send_reflex(reflex, is_on)

    def send_reflex(self, reflex: str, is_on: bool | None) -> None:
        """Whether a reflex is on; with None it is no more, and nothing is kept of it."""
        payload = b"" if is_on is None else encode_value(is_on)
        self._link.send(Kind.REFLEX, payload, node=self._settings.id, id=reflex)

    def changed(self, change: Change) -> Change:
        """Publish *change*, and return it as it was published: an output's cause knows its boot, number and time."""
        node = self._settings.id
        match change:
            case OutputChanged(device, value, cause):
                self._causes[device] = cause = self.stamped(self._with_past(device, cause))
                self._send_output(device, value, cause)
                return replace(change, cause=cause)
            case InputChanged(device, value):
                self._link.send(Kind.INPUT, encode_value(value), node=node, device=device)
            case InputEvent(device, event_type, data):
                self.send_event(event_type, device, data)
            case SensorRead(device, values):
                self._link.send(Kind.SENSOR, encode_sensor(values), node=node, device=device)
        return change

    def send_event(self, event_type: str, device: str, data: Mapping[str, JSON]) -> None:
        """Say that something happened at *device*."""
        event = NodeEvent(event_type, device, self._boot, self.next_seq(), time.time(), data)
        self._link.send(Kind.NODE_EVENT, encode(event), node=self._settings.id)

    def send_health(self, numbers: Mapping[str, float]) -> None:
        """Say how the node is; brokers of MQTT 5 keep it for three times its interval."""
        payload = encode_health({**numbers, "seq": float(self.next_seq())})
        expiry_s = 3 * self._settings.health_interval_s
        self._link.send(Kind.NODE_HEALTH, payload, node=self._settings.id, expiry_s=expiry_s)

    def stamped(self, cause: Cause) -> Cause:
        """*cause* with the boot, a number and the time."""
        return replace(cause, boot=self._boot, seq=self.next_seq(), ts=cause.ts or time.time())

    def _card(self, tools: Sequence[ToolSpec], seq: int) -> NodeCard:
        settings = self._settings
        return NodeCard(
            settings.id,
            self._boot,
            __version__,
            labels=settings.labels,
            tools=tuple(map(self._shown, tools)),
            devices=self._board.specs(),
            capacity=Capacity(settings.running, settings.queued),
            simulated=settings.simulate,
            health_interval_s=settings.health_interval_s,
            agent=True,
            seq=seq,
            reflexes=self._reflexes.specs(),
            start_reason=self.start_reason,
        )

    def _send_output(self, device: str, value: OutputValue, cause: Cause) -> None:
        self._link.send(Kind.OUTPUT, encode_value(value), node=self._settings.id, device=device)
        self._link.send(Kind.OUTPUT_CAUSE, encode(cause), node=self._settings.id, device=device)

    def _with_past(self, device: str, cause: Cause) -> Cause:
        """At the start: what the output was at when the node ended without a word, and what had set it."""
        value, past = self._past.get(device, (False, cause))
        if cause.by != "start" or past.by not in _ORDERED:
            return cause
        who = " ".join(filter(None, (past.by, past.id)))
        extra = f" ({past.reason})" if past.reason else ""
        words = f"before the restart it was {value_words(value)}, set by {who}{extra}"
        _log.warning("%s: %s: %s", self._settings.id, device, words)
        return replace(cause, reason=words[:MAX_WORDS])


def _are_same(shown: Sequence[ToolSpec], tools: Sequence[ToolSpec]) -> bool:
    """Whether nobody could tell the two apart: in what order tools stand says nothing."""
    return sorted(shown, key=lambda spec: spec.name) == sorted(tools, key=lambda spec: spec.name)
