"""Retained messages that a broker acknowledged late, and may not have kept. Pure: no sockets and no clock.

A NATS server whose cluster elects a leader gives up after four seconds to keep a retained message, acknowledges it all
the same, and goes on to show the one before to whoever comes (2.9.10, seen in its log). So a state whose
acknowledgement took that long is said again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pibot_mesh.mqtt.outbox import Outgoing

LATE_S: Final = 3.0
TIMES: Final = 5
"""How often a state is said again at most: where every answer takes so long, the way is slow and the broker well."""


@dataclass(slots=True)
class _Word:
    message: Outgoing
    sent_at: float = 0.0
    repeats: int = 0


class States:
    """The last word on each topic, until the broker has acknowledged it in time."""

    def __init__(self) -> None:
        self._last: dict[str, _Word] = {}

    def said(self, message: Outgoing) -> None:
        """*message* was handed over: what was said before on its topic is not said again."""
        if message.retain and message.qos:
            self._last[message.topic] = _Word(message)

    def sent(self, message: Outgoing, now: float) -> None:
        """*message* went out."""
        word = self._word(message)
        if word is not None:
            word.sent_at = now

    def acknowledged(self, message: Outgoing, now: float) -> Outgoing | None:
        """The broker has answered for *message*. Returns what is to be sent again, where that took too long."""
        word = self._word(message)
        if word is None:
            return None
        if now - word.sent_at < LATE_S or word.repeats >= TIMES:
            del self._last[message.topic]
            return None
        word.message = replace(message, on_ack=None)
        word.repeats += 1
        return word.message

    def clear(self) -> None:
        """The connection has ended: on the next one all states are published anew."""
        self._last.clear()

    def _word(self, message: Outgoing) -> _Word | None:
        word = self._last.get(message.topic)
        return word if word is not None and word.message is message else None
