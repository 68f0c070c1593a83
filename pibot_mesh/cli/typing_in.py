"""What is typed: with history and editing on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from pibot_mesh.cli.screen import say

_END: Final = ("exit", "quit")


async def typed_lines(history: Path, *, waits: bool = True) -> AsyncIterator[str]:
    """Every line that is typed, without surrounding spaces, none empty, until ``exit``, ``quit`` or the end of input.

    Raises KeyboardInterrupt for Ctrl-C at the prompt of a terminal. *history* keeps the lines typed there. Where input
    is no terminal and ends before a line came (a service, say), it never ends, unless *waits* is False.
    """
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    lines = _prompted(history) if is_terminal and sys.stdout.isatty() else plain_lines(waits=waits)
    async for line in lines:
        text = line.strip()
        if text.lower() in _END:
            return
        if text:
            yield text


async def _prompted(history: Path) -> AsyncIterator[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.patch_stdout import patch_stdout

    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)), auto_suggest=AutoSuggestFromHistory(), enable_history_search=True
    )
    while True:
        try:
            with patch_stdout(raw=True):
                line = await session.prompt_async("pibot> ", handle_sigint=False)
        except EOFError:
            return
        yield line


async def plain_lines(*, waits: bool = False) -> AsyncIterator[str]:
    """Every line of input as it comes, until its end; not *waits*: also where it ends before a line came."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def put(line: str | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lines.put_nowait, line)

    # A daemon, since nothing can interrupt a read; without Python's own stdin, which a daemon would hold at the end.
    threading.Thread(target=_read, args=(put,), name="standard input", daemon=True).start()
    is_used = False
    while (line := await lines.get()) is not None:
        is_used = True
        yield line
    if waits and not is_used:
        say("Nothing can be typed here; end it with Ctrl-C or SIGTERM.", dim=True)
        await asyncio.Event().wait()


def _read(put: Callable[[str | None], None]) -> None:
    rest = b""
    while True:
        try:
            block = os.read(0, 4096)
        except OSError:
            block = b""
        if not block:
            break
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            put(line.decode("utf-8", "replace"))
    if rest:
        put(rest.decode("utf-8", "replace"))
    put(None)
