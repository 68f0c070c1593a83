"""Services in the foreground: they run until a signal ends them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from pibot_mesh.cli.screen import say

ENDING: Final = (signal.SIGINT, signal.SIGTERM)


async def serve(
    service: AbstractAsyncContextManager[object], greeting: str, *, until: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Run *service* until SIGINT or SIGTERM, then end it in good order. *greeting* goes to standard error.

    It ends as well when *until* returns, or with what *until* raises.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, ended.set)
    async with service:
        say(greeting, err=True)
        waits: list[asyncio.Future[bool]] = [asyncio.ensure_future(ended.wait())]
        if until is not None:
            waits.append(asyncio.ensure_future(_awaited(until)))
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        for wait in done:
            wait.result()


async def _awaited(until: Callable[[], Awaitable[None]]) -> bool:
    await until()
    return True
