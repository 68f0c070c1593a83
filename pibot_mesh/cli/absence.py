"""A master or a broker that goes away while somebody waits for a reply: told in one line, and its return in another."""

from __future__ import annotations

from typing import Final

from pibot_mesh.client import Reach

NOTICED_AFTER_S: Final = 1.0
"""What is back within so many seconds was not worth a word."""
_GONE: Final[dict[Reach, str]] = {
    "broker": "the master went away; the request stands in its ledger, waiting for it to come back",
    "nobody": "the broker went away; waiting for it to come back",
}
_BACK: Final[dict[Reach, str]] = {
    "broker": "the master is back, and goes on with the request",
    "nobody": "the broker is back, and the master with it",
}
_ANEW: Final = "the master was gone for a moment; the request goes on from its ledger"


class Absence:
    """What was heard of the master of one request. Pure: no clock; times are seconds of any one clock.

    Until the request was heard of, nothing is told: no ledger may have it yet.
    """

    def __init__(self) -> None:
        self._is_heard = False
        self._boot = ""
        self._gone: Reach | None = None
        self._told: Reach | None = None
        self._since = 0.0

    @property
    def due_at(self) -> float | None:
        """When to ask `due`, or None."""
        return None if self._gone in (None, self._told) else self._since + NOTICED_AFTER_S

    def reached(self, reach: Reach, now: float) -> str | None:
        """Take in how far we get. Returns the line to be told, if there is one."""
        if reach == "master":
            line = self._come_back()
            if line is not None:
                self._boot = ""  # its return is told already, whichever process it is
            return line
        if self._is_heard and reach != self._gone:
            self._gone, self._since = reach, now
        return None

    def due(self, now: float) -> str | None:
        """The line to be told, where something has been away for long enough."""
        if self._gone is None or self.due_at is None or now < self.due_at:
            return None
        self._told = self._gone
        return _GONE[self._gone]

    def heard(self, boot: str) -> str | None:
        """Take in a word about the request from the master's process *boot*. Returns the line to be told before it."""
        is_another = "" not in (boot, self._boot) and boot != self._boot
        self._boot, self._is_heard = boot, True
        line = self._come_back()
        return _ANEW if line is None and is_another else line

    def _come_back(self) -> str | None:
        told, self._told, self._gone = self._told, None, None
        return None if told is None else _BACK[told]
