"""Bytes from a thread to the event loop, with a bound on what may wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import Final

from pibot_mesh.agent.transport import TransportError

MAX_WAITING: Final = 128 * 1024
"""Bytes that wait for the loop at most, and one piece; the thread reads no more until some are taken."""
_TAKEN: Final = 64 * 1024
"""Bytes that the loop takes at once, or one piece more."""


class Pipe:
    """Bytes and one end from a thread to the loop, which is woken once for all that has come."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = threading.Condition(threading.Lock())
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._error: TransportError | None = None
        self.is_over = False
        self._is_closed = False
        self._is_signalled = False
        self._waiter: asyncio.Future[None] | None = None

    # --- In the thread ---

    def put(self, piece: bytes) -> bool:
        """Add *piece*, as soon as there is room; False where nobody wants it any more."""
        with self._room:
            while self._size >= MAX_WAITING and not self._is_closed:
                self._room.wait()
            if self._is_closed:
                return False
            self._pieces.append(piece)
            self._size += len(piece)
        self.signal()
        return True

    def end(self, error: TransportError | None) -> None:
        """Nothing follows, for the reason of *error* or because all is there."""
        self._error = error
        self.is_over = True
        self.signal()

    def signal(self) -> None:
        """Wake the loop, unless it is about to look anyway."""
        with self._room:
            is_known, self._is_signalled = self._is_signalled, True
        if not is_known:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._wake)

    # --- In the loop ---

    async def wait(self) -> None:
        """Until the thread has signalled."""
        with self._room:
            if self._is_signalled:
                return
        self._waiter = self._loop.create_future()
        await self._waiter

    async def read(self) -> bytes:
        """What has come, as soon as there is something; ``b""`` at the end. Raises TransportError."""
        while True:
            with self._room:
                self._is_signalled = False
                if self._pieces:
                    return self._take()
                if self.is_over:
                    break
            await self.wait()
        if self._error is not None:
            raise self._error
        return b""

    def _take(self) -> bytes:
        size, taken = 0, list[bytes]()
        while self._pieces and size < _TAKEN:
            taken.append(self._pieces.popleft())
            size += len(taken[-1])
        self._size -= size
        self._room.notify()
        return b"".join(taken)

    def close(self) -> None:
        """Nobody wants more; the thread need not wait for room."""
        with self._room:
            self._is_closed = True
            self._room.notify()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
