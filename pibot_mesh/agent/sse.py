"""Server-sent events: bytes in, the data of whole events out. Pure: no sockets."""

from __future__ import annotations

from typing import Final

MAX_EVENT: Final = 4 << 20
"""Bytes of one event, the part of it that has come included. No service that means well sends more at once."""


class EventTooLong(ValueError):
    """A line or an event grew over its limit; nothing more can be read."""


class SseReader:
    """Reads the HTML standard's event streams, and what services make of them.

    Lines end in LF, CRLF or CR, also where a read ends between CR and LF. Only whole lines are decoded, so a character
    cut between two reads is whole again. A line that is bare JSON counts as data: some services send an error so.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max_event = max_event
        self._begun: list[bytes] = []
        """The pieces of the line that has not ended yet."""
        self._begun_size = 0
        self._data: list[str] = []
        self._data_size = 0
        self._ended_in_cr = False
        self._is_first = True

    def feed(self, piece: bytes) -> list[str]:
        """The data of the events that *piece* completes. Raises EventTooLong. The cost grows with the bytes alone."""
        lines = self._plain(piece).split(b"\n")
        rest = lines.pop()
        if lines and self._begun:
            lines[0] = b"".join((*self._begun, lines[0]))
            self._begun.clear()
            self._begun_size = 0
        events: list[str] = []
        for line in lines:
            self._take(line, events)
        if rest:
            self._begun.append(rest)
            self._begun_size += len(rest)
            self._check()
        return events

    def flush(self) -> list[str]:
        """The data of an event that the end of the body completes: services leave out the last blank line.

        Raises EventTooLong.
        """
        events: list[str] = []
        line = b"".join(self._begun)
        self._begun.clear()
        self._begun_size = 0
        self._take(line, events)
        self._take(b"", events)
        return events

    def _plain(self, piece: bytes) -> bytes:
        """*piece* with LF alone at the end of each line."""
        if self._ended_in_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._ended_in_cr = False
        if piece:
            self._ended_in_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece

    def _take(self, line: bytes, events: list[str]) -> None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append("\n".join(self._data))
                self._data.clear()
                self._data_size = 0
        elif line.startswith(b"data:"):
            self._keep(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"{"):
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        self._data.append(line.decode("utf-8", "replace"))
        self._data_size += len(line) + 1
        self._check()

    def _check(self) -> None:
        if self._begun_size + self._data_size > self._max_event:
            raise EventTooLong(f"an event of more than {self._max_event} bytes")
