"""Log lines in bounded numbers: a flood on the wire must not become a flood on an SD card."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Throttle:
    """Lets *burst* lines through in each period of *period_s* seconds, and counts the others."""

    def __init__(self, burst: int = 10, period_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._period_s = period_s
        self._clock = clock
        self._begun = clock()
        self._count = 0
        self.total = 0
        """All lines ever asked for."""

    def admit(self) -> int | None:
        """None where the line must be dropped, else how many were dropped since the last one that was not."""
        now = self._clock()
        self.total += 1
        dropped = 0
        if now - self._begun >= self._period_s:
            dropped = max(0, self._count - self._burst)
            self._begun, self._count = now, 0
        self._count += 1
        return dropped if self._count <= self._burst else None


class Rejections:
    """Counts the messages that were refused, and logs the first of them in each minute."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._throttle = Throttle()

    @property
    def total(self) -> int:
        """How many messages were refused since the start."""
        return self._throttle.total

    def add(self, topic: str, reason: object) -> None:
        """One message on *topic* was refused for *reason*."""
        dropped = self._throttle.admit()
        if dropped is None:
            return
        also = f" (and {dropped} more were refused in the last minute)" if dropped else ""
        self._log.warning("refused a message on %s: %s%s", _one_line(topic, 200), _one_line(str(reason), 500), also)


def _one_line(text: str, limit: int) -> str:
    """What comes from the wire, cut, and unable to begin a line of its own."""
    return "".join(letter if letter.isprintable() else "�" for letter in text[:limit])


def log_to_terminal(level: str) -> None:
    """Send the log to standard error, as a service under systemd does. *level*: debug, info, warning or error."""
    logging.basicConfig(level=level.upper(), format=_FORMAT)
