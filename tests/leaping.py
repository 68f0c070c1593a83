"""An event loop that waits for nothing: where only time must pass, it passes at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at 0 and leaps to the next timer whenever nothing else is to be done. No threads."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Seconds since it was made, of its own."""
        return self._now

    def leap(self, seconds: float) -> None:
        """So much time has passed."""
        self._now += seconds


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: LeapingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; where nothing is, the time passes that it was to be waited for."""
        ready = super().select(0)
        assert ready or timeout is not None, "everything waits, and no timer runs"
        if not ready and timeout:
            self._loop.leap(timeout)
        return ready


def run_leaping(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* in a loop of that kind."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(main)
