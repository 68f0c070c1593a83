"""Tools that remember short texts from run to run, in one JSON file."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

from pibot_mesh.agent.builtin.files import locked, replace_file
from pibot_mesh.agent.tools import Length, Tool, make_tool
from pibot_mesh.errors import ToolError
from pibot_mesh.protocol.messages import Output

MAX_ENTRIES: Final = 200
"""Texts that one memory holds."""
MAX_KEY: Final = 64
"""Characters of a key."""
MAX_TEXT: Final = 4000
"""Characters of a text."""
MAX_FILE: Final = 256 * 1024
"""Bytes of the file."""


def memory_tools(file: Path) -> list[Tool]:
    """``memory_read`` and ``memory_write``, over *file*, which need not be there yet.

    Any number of threads and programs may use the same file; a killed program or a pulled plug leaves it whole.
    """
    memory = Memory(file)

    def memory_read(key: Annotated[str, Length(1, MAX_KEY)] | None = None) -> Output:
        """Recall what was remembered in earlier runs.

        Args:
            key: Only what was remembered under this key; left out, everything.
        """
        entries = memory.entries()
        if key is None:
            lines = [f"{name}: {text}" for name, text in entries.items()]
            return Output("\n".join(lines) or "nothing is remembered", {"entries": entries})
        if key not in entries:
            raise ToolError(f"nothing is remembered under {key!r}{_there(entries)}")
        return Output(entries[key], {"key": key, "text": entries[key]})

    def memory_write(key: Annotated[str, Length(1, MAX_KEY)], text: Annotated[str, Length(0, MAX_TEXT)]) -> Output:
        """Remember a short text for later runs, in place of what was remembered under its key.

        Args:
            key: A short name to find it by.
            text: What to remember; an empty text forgets the key.
        """
        was_there = memory.write(key, text)
        if text:
            return Output(f"remembered under {key!r}")
        return Output(f"forgot {key!r}" if was_there else f"nothing was remembered under {key!r}")

    return [make_tool(memory_read), make_tool(memory_write, effect="write", safe_to_retry=True)]


class Memory:
    """Short texts by key, in one file."""

    def __init__(self, file: Path) -> None:
        self._file = file.expanduser()

    def entries(self) -> dict[str, str]:
        """Everything, in the order in which it came. Raises ToolError where the file cannot be read."""
        with self._in_words():
            return self._read()

    def write(self, key: str, text: str) -> bool:
        """Keep *text* under *key*, or forget it where it is empty. Whether the key was there before.

        Raises ToolError where the memory is full or the file cannot be read or written; nothing is changed then.
        """
        with self._in_words():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with locked(folder):
                    return self._change(folder, key, text)
            finally:
                os.close(folder)

    def _change(self, folder: int, key: str, text: str) -> bool:
        entries = self._read()
        was_there = entries.pop(key, None) is not None
        if not text and not was_there:
            return False
        if text:
            entries[key] = text
        if len(entries) > MAX_ENTRIES:
            raise ToolError(f"the memory is full: it holds {MAX_ENTRIES} texts; forget one first{_there(entries)}")
        content = json.dumps(entries, ensure_ascii=False, indent=1).encode()
        if len(content) > MAX_FILE:
            raise ToolError(f"the memory is full: its file would be over {MAX_FILE} bytes; forget something first")
        replace_file(folder, self._file.name, content, mode=0o600)
        return was_there

    def _read(self) -> dict[str, str]:
        try:
            with self._file.open("rb") as file:
                content = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return {}
        try:
            entries = json.loads(content) if len(content) <= MAX_FILE else None
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, dict) or not all(isinstance(text, str) for text in entries.values()):
            raise ToolError(f"{self._file} is damaged: it must hold one JSON object of texts; mend it or move it away")
        return entries

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ToolError(f"{self._file}: {error.strerror or error}") from None


def _there(entries: dict[str, str]) -> str:
    keys = list(entries)[:20]
    return f"; there is: {', '.join(keys)}{', ...' if len(entries) > len(keys) else ''}" if keys else ""
