"""What happened in a simulated world, for people to read, and a number that says whether two worlds were the same."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from typing import Final

from pibot_mesh.master.events import Record, Save as SaveRecord
from pibot_mesh.node.events import Entry, Save as SaveEntry
from pibot_mesh.protocol.messages import Event, Reply, Result, Task

KEPT: Final = 60_000
_WIDTH: Final = 240


class Trace:
    """The last lines of what happened. *is_told*: each is printed at once."""

    def __init__(self, *, is_told: bool = False, kept: int = KEPT) -> None:
        self._lines: deque[tuple[float, str, str, str, object]] = deque(maxlen=kept)
        self._is_told = is_told
        self._digest = 0

    @property
    def digest(self) -> str:
        """The same for two worlds in which the same happened at the same times."""
        return f"{self._digest:08x}"

    def add(self, now: float, who: str, what: str, subject: str, detail: object = "") -> None:
        """*who* does *what*, about the request or task *subject*."""
        self._digest = zlib.crc32(f"{now:.6f}{who}{what}{subject}".encode(), self._digest)
        line = (now, who, what, subject, detail)
        self._lines.append(line)
        if self._is_told:
            print(_text(line))  # noqa: T201 - asked for on the command line

    def about(self, subject: str, limit: int = 120) -> list[str]:
        """The last *limit* lines about the request *subject*, and about the faults of those who had a part in it."""
        lines = list(self._lines)
        names = {who for _, who, _, about, _ in lines if _is_about(subject, about)}
        chosen = [line for line in lines if _is_about(subject, line[3]) or (not line[3] and line[1] in names)]
        return [_text(line) for line in chosen[-limit:]]

    def last(self, limit: int = 40) -> list[str]:
        """The last *limit* lines of all."""
        return [_text(line) for line in list(self._lines)[-limit:]]

    def __iter__(self) -> Iterator[str]:
        return map(_text, self._lines)


def _is_about(subject: str, about: str) -> bool:
    return about == subject or about.startswith(f"{subject}-")


def _text(line: tuple[float, str, str, str, object]) -> str:
    now, who, what, subject, detail = line
    return f"{now:10.3f}  {who:<12} {what:<24} {subject:<12} {_short(detail)}"[:_WIDTH].rstrip()


def _short(detail: object) -> str:
    """What matters of a message or record, in one line."""
    match detail:
        case SaveRecord(record):
            return _short(record)
        case SaveEntry(entry):
            return _short(entry)
        case Record():
            steps = ", ".join(
                f"{step.step} {step.state} {step.node or '?'}{'' if step.task else '-'} #{step.attempt}"
                for step in detail.steps
            )
            ended = f"reply {detail.reply.state}" if detail.reply is not None else f"{detail.state}"
            return f"{ended}{' canceled' if detail.is_canceled else ''} e{detail.epoch} [{steps}]"
        case Entry():
            state = f" {detail.result.state}" if detail.result is not None else ""
            return f"{detail.phase}{state} #{detail.task.attempt} e{detail.task.epoch}"
        case Task():
            return f"{detail.tool or detail.kind} #{detail.attempt} e{detail.epoch} {detail.retry}"
        case Result():
            error = f" {detail.error.code}" if detail.error is not None else ""
            return f"{detail.state} #{detail.attempt}{error}"
        case Reply():
            return f"{detail.state} {detail.text[:80]!r} from {detail.boot}"
        case Event():
            facts = {key: value for key, value in detail.data.items() if key in ("attempt", "step", "state", "error")}
            return f"{detail.type} {facts}"
    return str(detail)
