"""Services in the foreground: they run until a signal ends them."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractAsyncContextManager
from typing import Final

from pibot_mesh.cli.screen import say

ENDING: Final = (signal.SIGINT, signal.SIGTERM)


async def serve(service: AbstractAsyncContextManager[object], greeting: str) -> None:
    """Run *service* until SIGINT or SIGTERM, then end it in good order. *greeting* goes to standard error."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, ended.set)
    async with service:
        say(greeting, err=True)
        await ended.wait()
