"""What is printed: plain lines, coloured on a terminal, and never with a control character that somebody sent."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import textwrap
from typing import Final, TextIO

import click

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_ONCE_S: Final = 5.0
WIDE: Final = 200
"""Columns of a table where there is no terminal, so that nothing is folded in a pipe or a file."""
_TONES: Final = {"good": "green", "bad": "red", "odd": "yellow", "key": "cyan"}


def clean(text: str) -> str:
    """*text* with every control character but tab and line feed written out: nobody may move our cursor by MQTT."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def say(text: str = "", *, tone: str = "", dim: bool = False, bold: bool = False, err: bool = False) -> None:
    """Print one or more lines. *tone* (good, bad, odd, key), *dim* and *bold* show on a terminal only.

    There, long lines are broken between words, under their own indentation.
    """
    stream = sys.stderr if err else sys.stdout
    shown = clean(text)
    if stream.isatty():
        columns = shutil.get_terminal_size().columns
        shown = "\n".join(_broken(line, columns) for line in shown.split("\n"))
    styled = click.style(shown, fg=_TONES.get(tone), dim=dim or None, bold=bold or None)
    click.echo(styled, file=stream, color=False if os.environ.get("NO_COLOR") else None)


def _broken(line: str, columns: int) -> str:
    if len(line) < columns:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line.strip(),
        max(columns - 1, 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def say_json(value: object, stream: TextIO | None = None) -> None:
    """Print *value* as one line of JSON that nothing on its way can spoil, to standard output or *stream*."""
    stream = stream or sys.stdout
    is_utf8 = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not is_utf8, separators=(",", ":"))
    click.echo(_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text), file=stream)


def log_in_words(level: int) -> None:
    """Show the log of the mesh from *level* on, on standard error, without the trimmings that a service's log has."""
    handler = _WordsHandler(level)
    log = logging.getLogger("pibot_mesh")
    log.handlers = [other for other in log.handlers if not isinstance(other, _WordsHandler)]
    log.addHandler(handler)
    log.propagate = False


class _WordsHandler(logging.Handler):
    """One line a record. What all parts of a mesh in one process say at the same time is shown once."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._shown: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        tone = "bad" if record.levelno >= logging.ERROR else "odd"
        text = f"{record.levelname.lower()}: {record.getMessage()}"
        self._shown = {line: at for line, at in self._shown.items() if record.created - at < _ONCE_S}
        if text in self._shown:
            return
        self._shown[text] = record.created
        say(text, tone=tone, err=True)
        if record.exc_info and record.exc_info[0] is not None:
            say(logging.Formatter().formatException(record.exc_info), dim=True, err=True)
