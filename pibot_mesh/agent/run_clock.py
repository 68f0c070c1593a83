"""The time that a run has, which stands still while a person is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class RunClock:
    """Calls *over*, once, when *limit_s* seconds have gone by since `start`; those on hold do not count."""

    def __init__(self, limit_s: float, over: Callable[[], None]) -> None:
        self._left_s = limit_s
        self._over = over
        self._holds = 0
        self._is_started = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to count, unless somebody holds the clock."""
        self._is_started = True
        if self._holds == 0:
            self._count()

    def hold(self) -> None:
        """Count no more, until `go_on` was called as often as this."""
        self._holds += 1
        if self._timer is not None:
            self._left_s = max(0.0, self._timer.when() - asyncio.get_running_loop().time())
            self._cancel()

    def go_on(self) -> None:
        """One of those who held the clock does so no more."""
        self._holds -= 1
        if self._holds == 0 and self._is_started:
            self._count()

    def stop(self) -> None:
        """*over* is not called any more."""
        self._is_started = False
        self._cancel()

    def _count(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._left_s, self._over)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
