"""Yes or no, on this very terminal, to the calls of a request that wait for a person."""

from __future__ import annotations

import asyncio
import sys
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from pibot_mesh.cli.screen import clean, say
from pibot_mesh.cli.story import approval_question
from pibot_mesh.protocol.messages import Control, Event

_YES: Final = ("y", "yes")
_NO: Final = ("n", "no", "")
_SHOWN: Final = 300
"""Characters of a call that stand in the prompt; a longer one is said, whole, right above it."""


def can_ask_here() -> bool:
    """Whether a person can be asked: input and output are a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def read_word(typed: str) -> bool | None:
    """Yes, no (also where nothing was typed), or None for something else."""
    word = typed.strip().lower()
    return True if word in _YES else False if word in _NO else None


class ApprovalPrompt:
    """Asks what the events of one request ask, one question at a time, and gives the answers to *order*.

    A question ends without an answer where somebody else was faster. *around* is a context for each, in which nothing
    else moves on the terminal; *interrupted* is called for Ctrl-C. Needs `can_ask_here`.
    """

    def __init__(
        self,
        order: Callable[[Control], None],
        interrupted: Callable[[], None],
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._order = order
        self._interrupted = interrupted
        self._around = around
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    def see(self, event: Event) -> None:
        """Ask, or stop asking, as *event* has it; other events are nothing here."""
        call = event.data.get("call")
        if not isinstance(call, str):
            return
        if event.type == "approval_required" and call not in self._asking:
            self._asking[call] = asyncio.get_running_loop().create_task(self._ask(call, event))
        elif event.type == "approval_answered" and call in self._asking:
            self._asking.pop(call).cancel()

    async def close(self) -> None:
        """Ask nothing any more."""
        asking, self._asking = list(self._asking.values()), {}
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, call: str, event: Event) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.patch_stdout import patch_stdout

        question = approval_question(event)
        async with self._turn:
            with self._around(), patch_stdout(raw=True):
                if len(question) > _SHOWN:
                    say(f"  {question}", tone="odd")
                # What was typed before the question was seen is no answer to it.
                termios.tcflush(sys.stdin, termios.TCIFLUSH)
                session: PromptSession[str] = PromptSession()
                # Other lines may stand between the question and this: what is approved stands in the prompt itself.
                shown = question if len(question) <= _SHOWN else f"{question[:_SHOWN]}…"
                prompt = f"  {clean(shown)}: approve? [y/N] "
                try:
                    while (word := read_word(await session.prompt_async(prompt, handle_sigint=False))) is None:
                        say("  y or n?", dim=True)
                except EOFError:
                    return  # nothing can be typed any more: the question ends by itself
                except KeyboardInterrupt:
                    self._interrupted()
                    return
        self._order(Control("approve" if word else "deny", call=call))
