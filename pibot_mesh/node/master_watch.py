"""Whether a master is there, as a node hears of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

_INTERVAL_S: Final = 10.0
"""How often a master says how it is, where it does not say so itself."""
_MISSING: Final = 3
"""So many words of its health may be missing before a master counts as gone."""


class MasterWatch:
    """What was heard of the master. *now* is seconds on any monotonic clock.

    What the broker kept is no proof: one that was killed together with its master comes back with the ``online`` that
    it had, and nobody is there to take it back. A master that lives says how it is when a node comes.
    """

    def __init__(self) -> None:
        self._is_online = False
        self._heard_at = -math.inf
        self._silent_after_s = _MISSING * _INTERVAL_S

    def status(self, is_online: bool, is_retained: bool, now: float) -> None:
        """Its status was read."""
        self._is_online = is_online
        if not is_retained:
            self._heard_at = now

    def health(self, numbers: Mapping[str, float], is_retained: bool, now: float) -> None:
        """It said how it is, and with ``interval_s`` how often it does."""
        self._silent_after_s = _MISSING * max(numbers.get("interval_s", _INTERVAL_S), 1.0)
        if not is_retained:
            self._heard_at = now

    def gone(self) -> None:
        """The connection to the broker is gone, and with it all that is known."""
        self._is_online = False
        self._heard_at = -math.inf

    def is_there(self, now: float) -> bool:
        """Whether it is online, and was heard of lately."""
        return self._is_online and now - self._heard_at <= self._silent_after_s
