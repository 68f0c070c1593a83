"""A terminal on which an answer grows above the line that is being typed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from pibot_mesh.cli.screen import clean

_END: Final = ("exit", "quit")


class ChatTerminal:
    """A prompt that stays while other things are printed. *partial* is what stands above it, unfinished.

    *interrupt* is what Ctrl-C does. Where that returns False, Ctrl-C empties the line; where that is
    empty, it ends `lines`.
    """

    def __init__(self, history: Path, partial: Callable[[], str], interrupt: Callable[[], bool]) -> None:
        history.parent.mkdir(parents=True, exist_ok=True)
        self._partial = partial
        keys = KeyBindings()

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            if interrupt():
                return
            if event.app.current_buffer.text:
                event.app.current_buffer.reset()
            else:
                event.app.exit(exception=EOFError)

        self._session: PromptSession[str] = PromptSession(
            history=FileHistory(str(history)),
            auto_suggest=AutoSuggestFromHistory(),
            enable_history_search=True,
            key_bindings=keys,
        )

    def printing(self) -> AbstractContextManager[None]:
        """A context in which whatever is printed comes above the prompt."""
        return patch_stdout(raw=True)

    def refresh(self) -> None:
        """Show the partial line as it is now."""
        self._session.app.invalidate()

    async def lines(self) -> AsyncIterator[str]:
        """Every line that is typed, without surrounding spaces, none empty, until ``exit``, Ctrl-D or Ctrl-C."""
        while True:
            try:
                line = await self._session.prompt_async(self._message, handle_sigint=False)
            except EOFError:
                return
            if line.strip().lower() in _END:
                return
            if line.strip():
                yield line.strip()

    def _message(self) -> StyleAndTextTuples:
        partial = clean(self._partial())
        return [("", f"{partial}\n" if partial else ""), ("bold", "you> ")]
