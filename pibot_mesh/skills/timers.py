"""Timers that a restart does not lose: ``timer_set``, ``timer_list``, ``timer_cancel``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pibot_mesh.agent.tools import Tool, ToolContext, ToolFunction
from pibot_mesh.errors import ErrorCode, StoreError, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Effect, Output, ToolSpec
from pibot_mesh.skills.devices import seconds_words
from pibot_mesh.skills.timer_book import MAX_NAME, MAX_S, MAX_TEXT, MIN_S, Finished, Timer, TimerBook

_log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 60.0
"""How soon it is noticed that the wall clock was set, as long as a timer runs."""


class Timers:
    """The timers of one node, kept in *file*. *finished* is called in the loop for each that ends.

    Between `start` and `stop` timers go by the monotonic clock, whatever happens to the time of day. Each end is told
    at least once: a node that dies in the moment between telling and writing it down tells it again.
    """

    def __init__(
        self,
        file: Path,
        finished: Callable[[Finished], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._finished = finished
        self._clock = clock
        self._wall = wall
        self._book = TimerBook()
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._is_unwritten = False
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read *file*, and begin. What ended while nobody looked is told at once.

        A file that cannot be understood is set aside under another name, which is logged.
        """
        self._read()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="timers")

    async def stop(self) -> None:
        """Write down what runs, and end."""
        if self._task is None:
            return
        self._is_stopping = True
        self._changed.set()
        await self._task
        self._task = None
        if len(self._book):
            await self._write_or_log()

    def tools(self) -> list[Tool]:
        """The three tools."""
        name: dict[str, JSON] = {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAME,
            "description": "The timer's name.",
        }
        length: dict[str, JSON] = {
            "type": "number",
            "minimum": MIN_S,
            "maximum": MAX_S,
            "description": "How long, in seconds.",
        }
        text: dict[str, JSON] = {"type": "string", "maxLength": MAX_TEXT, "description": "What to say at its end."}
        set_words = "Start a timer; one of the same name is started anew. At its end the node publishes timer_finished."
        return [
            _tool("timer_set", set_words, {"name": name, "for_s": length, "text": text}, self._set, ("name", "for_s")),
            _tool("timer_list", "The timers that run, and how long each has left.", {}, self._list),
            _tool("timer_cancel", "Stop a timer before its end.", {"name": name}, self._cancel, ("name",)),
        ]

    async def _set(self, args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG002 - a tool's signature
        name, length_s, text = str(args["name"]), float(args["for_s"]), str(args.get("text", ""))
        old = self._book.get(name)
        self._book.set(name, length_s, text, now=self._clock())
        await self._keep(name, old)
        again = " again" if old is not None else ""
        return Output(f"the timer {name} runs{again} for {seconds_words(length_s)}", {"name": name, "for_s": length_s})

    async def _list(self, args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG002 - a tool's signature
        now = self._clock()
        timers = [
            {"name": timer.name, "text": timer.text, "for_s": timer.length_s, "left_s": _left(timer, now)}
            for timer in self._book.running()
        ]
        words = [f"{timer.name} has {seconds_words(_left(timer, now))} left" for timer in self._book.running()]
        return Output("; ".join(words) or "no timer runs", {"timers": timers})

    async def _cancel(self, args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG002 - a tool's signature
        old = self._book.cancel(str(args["name"]))
        await self._keep(old.name, old)
        left_s = _left(old, self._clock())
        text = f"the timer {old.name} is stopped; it had {seconds_words(left_s)} left"
        return Output(text, {"name": old.name, "left_s": left_s})

    async def _keep(self, name: str, old: Timer | None) -> None:
        """Write down what was just done to the timer *name*; undo it where that fails, or where nobody waits for it."""
        new = self._book.get(name)
        try:
            await self._write()
        except BaseException as error:
            self._book.put_back(name, old=old, new=new)
            self._is_unwritten = True
            if isinstance(error, OSError):
                text = f"the timer cannot be written to {self._file}: {error.strerror}"
                raise ToolError(text, code=ErrorCode.STORAGE, retryable=True) from error
            raise
        finally:
            self._changed.set()

    async def _run(self) -> None:
        while not self._is_stopping:
            self._changed.clear()
            finished = self._book.pop_due(self._clock())
            for timer in finished:
                self._tell(timer)
            is_wrong = self._book.is_written_wrong(now=self._clock(), wall=self._wall())
            if finished or is_wrong or self._is_unwritten:
                await self._write_or_log()
            next_at = self._book.next_at()
            delay_s = None if next_at is None else min(max(0.0, next_at - self._clock()), _LOOK_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._changed.wait()

    def _tell(self, timer: Finished) -> None:
        try:
            self._finished(timer)
        except Exception:  # noqa: BLE001 - the top of a service loop: the other timers go on
            _log.exception("a bug: the end of the timer %s could not be told", timer.name)

    def _read(self) -> None:
        try:
            self._book.load(self._file.read_text("utf-8"), now=self._clock(), wall=self._wall())
        except FileNotFoundError:
            return
        except (StoreError, UnicodeDecodeError) as error:
            aside = self._file.with_name(f"{self._file.name}.broken-{int(self._wall())}")
            _log.error("%s is damaged (%s): set aside as %s", self._file, error, aside.name)
            with contextlib.suppress(OSError):
                self._file.rename(aside)
        except OSError as error:
            _log.error("%s cannot be read: %s", self._file, error.strerror)

    async def _write_or_log(self) -> None:
        self._is_unwritten = False
        try:
            await self._write()
        except OSError as error:
            _log.error("the timers cannot be written to %s: a restart may lose them: %s", self._file, error)

    async def _write(self) -> None:
        """Raises OSError. Who is cancelled here leaves the writing to its end: two at once would spoil the file."""
        await asyncio.shield(self._write_in_turn())

    async def _write_in_turn(self) -> None:
        async with self._writing:
            text = self._book.dump(now=self._clock(), wall=self._wall())
            await asyncio.to_thread(_replace, self._file, text)


def _replace(file: Path, text: str) -> None:
    """*file* holds *text*, whole, or what it held before: also when the plug is pulled in the middle."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.new")
    with draft.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)


def _left(timer: Timer, now: float) -> int:
    return max(0, round(timer.due - now))


def _tool(
    name: str,
    description: str,
    properties: Mapping[str, JSON],
    run: ToolFunction,
    required: tuple[str, ...] = (),
) -> Tool:
    parameters = {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
    is_read = not required
    effect: Effect = "read" if is_read else "write"
    return Tool(ToolSpec(name, description, parameters, effect, safe_to_retry=is_read, timeout_s=10.0), run)
