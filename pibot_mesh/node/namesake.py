"""Whether another process has this node's id, and which of the two stays: the one that was there first. Pure: no I/O.

Both connect with the same client id, so the broker lets in one and throws out the other, by turns. Each shows its card
when it connects, and reads the card that stands there. A process that ended cannot show a later card: whose card stood
there before ours and is followed by a later one of the same boot is alive, and was here first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

READ_BACK_WITHIN_S: Final = 2.0
"""How long a node waits to read its own card back before it takes orders. That takes a moment, but for a broker whose
rules do not let it read that."""
CONTESTED_S: Final = 10.0
"""How long a node leaves all orders to a stranger whose card stands there. Who is thrown out is back before that."""
WAITS_AT_MOST: Final = 6
"""Connections on which it waits so, where it is thrown out of each without a sign: the others wait as well."""
SEEN_AT_MOST: Final = 10
"""Where neither was clearly first: so many cards of a stranger are waited for, then the greater boot goes. Many more
than one shows that knows that it came second: both must never go."""


@dataclass(frozen=True, slots=True)
class GiveWay:
    """This process must go: *boot* has the id. *is_first*: it was there before."""

    boot: str
    is_first: bool


class Namesakes:
    """What the process *boot* knows of others with its node's id. *earlier* are the boots that its journal knows.

    *now* is seconds on any monotonic clock.
    """

    def __init__(self, boot: str, earlier: Collection[str]) -> None:
        self._boot = boot
        self._earlier = frozenset(earlier)
        self._standing: Literal["unknown", "contested", "ours"] = "unknown"
        self._until: float | None = None
        self._seen: dict[str, int] = {}
        self._first: set[str] = set()
        self._came: Counter[str] = Counter()
        self._is_gone = False
        self._waits = 0

    @property
    def is_ours(self) -> bool:
        """Whether the node may take orders. Without a connection no order can be another's."""
        return self._standing == "ours" or self._until is None

    @property
    def is_contested(self) -> bool:
        """Whether another process seems to have the id: orders are left to it."""
        return self._standing == "contested"

    def wake_at(self) -> float | None:
        """When `tick` must be called next, or None."""
        return self._until

    def connected(self, now: float) -> None:
        """The connection stands."""
        if self._standing == "contested":
            self._waits += 1
            self._until = now + (CONTESTED_S if self._waits <= WAITS_AT_MOST else 0.0)
            self.tick(now)
        elif self._standing == "unknown":
            self._until = now + READ_BACK_WITHIN_S

    def disconnected(self) -> None:
        """It is gone: what waits for a sign of the other waits on when it stands again."""
        self._until = None

    def stood_offline(self) -> None:
        """The presence that stood there before this connection was that of somebody who had gone."""
        self._is_gone = True

    def card_seen(self, boot: str, seq: int, now: float) -> GiveWay | Literal["show", "known"]:
        """A card of the node was read. ``show``: the other came later, and should read ours; show it again.

        The session is the other's too: a card may come that was shown long before.
        """
        if boot == self._boot:
            if self._standing == "unknown":
                self._read_back(now)
            return "known"
        if seq <= self._seen.get(boot, -1):
            return "known"
        self._seen[boot] = seq
        if boot in self._first and self._standing != "unknown":
            return GiveWay(boot, is_first=True)
        if self._standing == "unknown" or boot in self._earlier:
            self._first.add(boot)
            return "known"
        self._came[boot] += 1
        if self._came[boot] >= SEEN_AT_MOST and boot < self._boot:
            return GiveWay(boot, is_first=False)
        return "show"

    def tick(self, now: float) -> None:
        """Do what is due by *now*: nobody has contested the id for long enough."""
        if self._until is None or now < self._until:
            return
        if self._standing == "unknown":
            self._read_back(now)
        else:
            self._take()

    def _read_back(self, now: float) -> None:
        """What stood there before us has been read."""
        if not self._is_gone and not self._first <= self._earlier:
            self._standing, self._until = "contested", now + CONTESTED_S
        else:
            self._take()

    def _take(self) -> None:
        self._standing, self._until = "ours", None
