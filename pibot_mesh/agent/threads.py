"""Tools that block, each in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from pibot_mesh.errors import ErrorCode, ToolError

T = TypeVar("T")

MAX_THREADS: Final = 64
"""Tools of one process that may block at the same time, those that were left behind included."""
_room: Final = threading.BoundedSemaphore(MAX_THREADS)


async def in_thread(run: Callable[[], T]) -> T:
    """What *run* returns or raises. Raises ToolError, code ``busy``, where `MAX_THREADS` run already.

    Not in the loop's own pool: tools that hang would take its threads from the journal, and hold up the program's end.
    """
    if not _room.acquire(blocking=False):
        raise ToolError(f"{MAX_THREADS} tools run already and do not end", code=ErrorCode.BUSY, retryable=True)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def deliver(outcome: Callable[[asyncio.Future[T]], None]) -> None:
        if not done.done():
            outcome(done)

    def work() -> None:
        try:
            outcome = _outcome(run)
        finally:
            _room.release()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, outcome)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="pibot-tool", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        _room.release()
        raise ToolError(f"no tool can begin now: {error}", code=ErrorCode.BUSY, retryable=True) from None
    return await done


def _outcome(run: Callable[[], T]) -> Callable[[asyncio.Future[T]], None]:
    try:
        result = run()
    except BaseException as end:  # noqa: BLE001 - it is raised again in the loop
        is_plain = isinstance(end, Exception) and not isinstance(end, StopIteration)
        error = end if is_plain else RuntimeError(f"it ended with {end!r}").with_traceback(end.__traceback__)
    else:
        return lambda done: done.set_result(result)
    return lambda done: done.set_exception(error)
