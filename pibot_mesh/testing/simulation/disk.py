"""The disk below a journal or a ledger: sometimes slow, sometimes broken, and not to be trusted without a sync."""

from __future__ import annotations

from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final

from pibot_mesh.testing.simulation.nature import Nature

_UNSYNCED: Final = 50
"""Transactions that the system has not written to disk yet, at most."""
_ABSENT: Final = object()


class Disk:
    """How long a write takes, and whether it works at all."""

    def __init__(self, nature: Nature) -> None:
        self._nature = nature
        self._slow_until = self._broken_until = 0.0

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be written now."""
        return self._nature.now < self._broken_until

    def write_s(self) -> float:
        """How long the next write takes, in seconds."""
        nature = self._nature
        if nature.now < self._slow_until:
            return nature.between(0.3, 3.0)
        return nature.between(0.001, 0.02) if nature.faults.crash and nature.happens(0.3) else 0.0

    def be_slow(self, for_s: float) -> None:
        """Writes take seconds, for so long."""
        self._slow_until = self._nature.now + for_s

    def be_broken(self, for_s: float) -> None:
        """Writes fail, for so long."""
        self._broken_until = self._nature.now + for_s

    def mend(self) -> None:
        """All is well again."""
        self._slow_until = self._broken_until = 0.0


class Unsynced:
    """What a pulled plug takes away: the last transactions that were not synced."""

    def __init__(self) -> None:
        self._transactions: deque[list[tuple[MutableMapping[Any, Any], Any, Any]]] = deque(maxlen=_UNSYNCED)

    def begin(self) -> None:
        """A transaction begins."""
        self._transactions.append([])

    def put(self, table: MutableMapping[Any, Any], key: Any, value: Any) -> None:
        """Write *value*, as a part of the transaction."""
        self._note(table, key)
        table[key] = value

    def remove(self, table: MutableMapping[Any, Any], key: Any) -> None:
        """Remove what stands at *key*, where something does."""
        self._note(table, key)
        table.pop(key, None)

    def sync(self) -> None:
        """All that was written is on the disk now."""
        self._transactions.clear()

    def pull_plug(self, nature: Nature) -> None:
        """Undo some of the transactions that were not synced, the last ones."""
        for _ in range(nature.chance.randint(0, len(self._transactions))):
            for table, key, before in reversed(self._transactions.pop()):
                if before is _ABSENT:
                    table.pop(key, None)
                else:
                    table[key] = before
        self._transactions.clear()

    def _note(self, table: MutableMapping[Any, Any], key: Any) -> None:
        self._transactions[-1].append((table, key, table.get(key, _ABSENT)))
