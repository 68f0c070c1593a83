"""Deadlines by key. Pure: no clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


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

    def cancel(self, key: K) -> None:
        """*key* is not due any more. Nothing happens where it was not."""
        self._due.pop(key, None)

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def next_at(self) -> float | None:
        """When the next key is due, or None."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[K]:
        """Take out the keys due by *now*, the earliest first."""
        keys: list[K] = []
        while (at := self.next_at()) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            keys.append(key)
        return keys


def resend_delay(tries: int, jitter: random.Random) -> float:
    """Seconds to wait after sending number *tries* (from 0): 1, 2, 4 ... 60, a fifth more or less (promise 4)."""
    return float(min(2**tries, 60) * jitter.uniform(0.8, 1.2))
