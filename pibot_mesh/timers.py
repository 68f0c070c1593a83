"""Deadlines by key. Pure: no clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_STALE = 64
"""Deadlines that were set anew or cancelled and may still lie in the heap, before it is cleared of them."""


class Timers(Generic[K]):
    """When each key is due. Times are seconds on the caller's monotonic clock."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def set(self, key: K, at: float) -> None:
        """*key* is due at *at*; an earlier deadline of the same key is forgotten."""
        self._due[key] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 2 * len(self._due) + _STALE:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def cancel(self, key: K) -> None:
        """*key* is not due any more. Nothing happens where it was not."""
        self._due.pop(key, None)

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def at(self, key: K) -> float | None:
        """When *key* is due, or None."""
        return self._due.get(key)

    def next_at(self) -> float | None:
        """When the next key is due, or None."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Iterator[K]:
        """Take out the keys due by *now*, one by one, the earliest first.

        What is cancelled or set to later between two of them does not come any more.
        """
        while (at := self.next_at()) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            yield key


def resend_delay(tries: int, jitter: random.Random) -> float:
    """Seconds to wait after sending number *tries* (from 0): 1, 2, 4 ... 60, a fifth more or less (promise 4)."""
    return min(2.0 ** min(tries, 6), 60.0) * jitter.uniform(0.8, 1.2)
