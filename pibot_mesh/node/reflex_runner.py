"""The reflexes at work: a shell around `reflexes`, with a clock, the board and a file. Decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, cast

from pibot_mesh.config.settings import DeviceSettings, ReflexSettings
from pibot_mesh.config.source import Problem, Source, format_path, suggestion
from pibot_mesh.errors import ConfigError, ErrorCode, ProtocolError, ToolError
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.changes import Change, InputChanged, SensorRead
from pibot_mesh.hardware.filters import filter_of
from pibot_mesh.hardware.kinds import KINDS, option
from pibot_mesh.node.reflex_check import check_reflexes, check_times
from pibot_mesh.node.reflex_rule import Act
from pibot_mesh.node.reflex_store import Learned, ReflexStore
from pibot_mesh.node.reflex_words import reflex_words
from pibot_mesh.node.reflexes import SILENT_AFTER_S, Reflexes
from pibot_mesh.protocol.messages import MAX_WORDS, Cause, ReflexSpec

_log = logging.getLogger(__name__)
MAX_LEARNED: Final = 32
_INTERVALS: Final = 3
"""Readings of a slow sensor that may be missing before it counts as silent."""


def silences_of(devices: Iterable[DeviceSettings]) -> dict[str, float]:
    """After how many seconds each sensor counts as silent: `SILENT_AFTER_S`, or longer where it tells less often."""
    return {device.id: _silence_of(device) for device in devices if KINDS[device.kind].direction == "sensor"}


def _silence_of(device: DeviceSettings) -> float:
    rule = filter_of(cast(Mapping[str, object], option(device, "filter")))
    may_repeat_s = rule.at_least_every_s if rule.change is not None else 0.0
    return max(SILENT_AFTER_S, may_repeat_s + _INTERVALS * float(str(option(device, "interval_s"))))


class ReflexRunner:
    """Runs the *reflexes* of a node's file and those of *store* on *board*, with nobody else needed.

    *changed* is called when the card has other reflexes, *state* for each one that is switched, and with None for one
    that is gone. All is called in the event loop's thread. Raises ConfigError for *reflexes* that cannot be.
    """

    def __init__(
        self,
        board: Board,
        reflexes: Sequence[ReflexSettings],
        store: ReflexStore,
        *,
        changed: Callable[[], None],
        state: Callable[[str, bool | None], None],
        silent_after_s: Mapping[str, float] = MappingProxyType({}),
        too_much: Callable[[ReflexSpec], str] = lambda _: "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        problems = check_reflexes(reflexes, board.specs())
        if problems:
            raise ConfigError([Source().show(problem) for problem in problems])
        self._board = board
        self._settings = {reflex.id: reflex for reflex in reflexes}
        self._store = store
        self._changed = changed
        self._state = state
        self._too_much = too_much
        self._now = now
        self._reflexes = Reflexes(board.specs(), silent_after_s)
        for reflex in reflexes:
            self._reflexes.add(replace(reflex, is_on=False), now())
        self._learned: dict[str, ReflexSettings] = {}
        self._switched: dict[str, bool] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_at = 0.0
        self._writing: set[asyncio.Task[None]] = set()
        self._is_to_write = False

    # Life

    def start(self) -> None:
        """Take in what was learned, and begin with what the inputs are and the sensors gave last.

        The board must run. A learned reflex that does not fit the devices any more is left out, which is logged.
        """
        self._loop = asyncio.get_running_loop()
        kept = self._store.read()
        self._switched = dict(kept.switched)
        self._learned = {reflex.id: reflex for reflex in kept.reflexes}
        now = self._now()
        for device, value in self._board.inputs().items():
            self._reflexes.hear(InputChanged(device, value), now)
        for device, values in self._board.readings().items():
            self._reflexes.hear(SensorRead(device, values), now)
        for reflex in self._learned.values():
            self._take_in(reflex)
        for id_ in self._reflexes.states():
            known = self._settings.get(id_) or self._learned[id_]
            self._do(self._reflexes.switch(id_, self._switched.get(id_, known.is_on), now))
        for id_, is_on in self._reflexes.states().items():
            self._state(id_, is_on)

    async def stop(self) -> None:
        """Act no more, and leave the outputs as they are; waits for nothing. May be called twice or without a start."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def written(self) -> None:
        """Wait until what was learned and switched is on the disk. For the end, once the outputs are safe."""
        if self._writing:
            await asyncio.wait(self._writing)

    def _take_in(self, reflex: ReflexSettings) -> None:
        problems = check_reflexes([reflex], self._board.specs())
        if reflex.id in self._settings:
            problems = [Problem(("reflexes", reflex.id), "the node's file has one of this name as well")]
        if not problems and (text := self._too_much(self._shown(reflex))):
            problems = [Problem(("reflexes", reflex.id), f"the node's card has no room for it: {text}")]
        if problems:
            _log.warning("the learned reflex %s is left out (reflex_remove forgets it)", _in_words(problems))
            return
        self._reflexes.add(replace(reflex, is_on=False), self._now(), is_learned=True)

    # What happens

    def hear(self, change: Change) -> None:
        """Something changed at the board; it is answered at once."""
        if self._loop is not None:
            self._do(self._reflexes.hear(change, self._now()))

    def switch(self, id_: str, is_on: bool) -> None:
        """Switch a reflex on or off, also for the time after a restart. Raises ToolError for one that is not there."""
        if self._loop is None:
            raise ToolError("the node's reflexes do not run", retryable=True)
        states = self._reflexes.states()
        if id_ not in states:
            raise _unknown(id_, tuple(states))
        if states[id_] != is_on:
            self._switched[id_] = is_on
            self._write_soon()
        self._do(self._reflexes.switch(id_, is_on, self._now()))
        if not is_on:
            self._board.let_go(id_)
        self._state(id_, is_on)

    def specs(self) -> tuple[ReflexSpec, ...]:
        """The reflexes as the node's card shows them; before the start, those of its file."""
        return self._reflexes.specs()

    def states(self) -> Mapping[str, bool]:
        """Which of them are on."""
        return self._reflexes.states()

    # What is learned

    def learned(self) -> Mapping[str, ReflexSettings]:
        """What came by requests, by id; also what does not fit the devices any more."""
        return dict(self._learned)

    async def learn(self, reflex: ReflexSettings) -> ReflexSpec:
        """Take in *reflex* for good, and begin with it. Raises ToolError, and keeps nothing, where it cannot be."""
        self._check_new(reflex)
        self._learned[reflex.id] = reflex
        try:
            await self._write()
        except BaseException:
            del self._learned[reflex.id]
            self._write_soon()  # the file may have it by now
            raise
        self._do(self._reflexes.add(reflex, self._now(), is_learned=True))
        self._state(reflex.id, reflex.is_on)
        self._changed()
        return next(spec for spec in self.specs() if spec.id == reflex.id)

    async def forget(self, id_: str) -> None:
        """Take a learned reflex away; its outputs stay as they are. Raises ToolError where there is none of that id."""
        is_in_file = id_ in self._settings
        if is_in_file and id_ not in self._learned:
            text = f"the reflex {id_} stands in the node's file: take it out there, or switch it off"
            raise ToolError(text, code=ErrorCode.BAD_ARGUMENTS)
        if id_ not in self._learned:
            raise _unknown(id_, tuple(self._learned))
        gone = self._learned.pop(id_)
        try:
            await self._write()
        except BaseException:
            self._learned[id_] = gone
            self._write_soon()
            raise
        if is_in_file:
            return
        self._switched.pop(id_, None)
        if id_ in self._reflexes.states():
            self._reflexes.remove(id_)
            self._board.let_go(id_)
            self._state(id_, None)
            self._changed()

    def _check_new(self, reflex: ReflexSettings) -> None:
        if reflex.id in self._settings or reflex.id in self._learned:
            text = f"there is a reflex {reflex.id} already: take another id, or remove that one first"
            raise ToolError(text, code=ErrorCode.BAD_ARGUMENTS)
        if len(self._learned) >= MAX_LEARNED:
            text = f"this node has learned {MAX_LEARNED} reflexes, which is as many as it may: remove one first"
            raise ToolError(text, code=ErrorCode.BUSY)
        problems = [*check_reflexes([reflex], self._board.specs()), *check_times([reflex], self._board.rules())]
        if problems:
            raise ToolError(_in_words(problems), code=ErrorCode.BAD_ARGUMENTS)
        if text := self._too_much(self._shown(reflex)):
            raise ToolError(f"the node's card has no room for this reflex: {text}", code=ErrorCode.BUSY)

    def _shown(self, reflex: ReflexSettings) -> ReflexSpec:
        words = reflex_words(reflex, {spec.id: spec for spec in self._board.specs()})
        return ReflexSpec(reflex.id, words, is_learned=True)

    async def _write(self) -> None:
        """Raises ToolError where it cannot be written."""
        try:
            await self._store.write(self._kept)
        except OSError as error:
            text = f"the node's reflexes cannot be written to {self._store.file}: {error.strerror}"
            raise ToolError(text, code=ErrorCode.STORAGE, retryable=True) from error
        except ProtocolError as error:
            raise ToolError(f"the reflexes cannot be kept: {error}", code=ErrorCode.BAD_ARGUMENTS) from error

    def _write_soon(self) -> None:
        """One writing that has not begun serves all that is switched before it does."""
        if self._is_to_write:
            return
        self._is_to_write = True
        task = asyncio.get_running_loop().create_task(self._write_or_log(), name="reflexes")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_or_log(self) -> None:
        try:
            await self._write()
        except ToolError as error:
            _log.error("%s: a restart may forget what was switched or learned", error)

    def _kept(self) -> Learned:
        self._is_to_write = False
        known = {*self._settings, *self._learned}
        switched = {id_: is_on for id_, is_on in self._switched.items() if id_ in known}
        return Learned(tuple(self._learned.values()), switched)

    # Acts

    def _do(self, acts: Iterable[Act]) -> None:
        for act in acts:
            self._set(act)
        self._arm()

    def _set(self, act: Act) -> None:
        cause = Cause(by="rule", id=act.reflex, reason=act.reason[:MAX_WORDS])
        try:
            self._board.set(act.device, act.value, cause=cause, for_s=act.for_s)
        except ToolError as error:
            self._refused(act, error)
        except Exception:  # noqa: BLE001 - the top of a service loop: the other reflexes go on
            _log.exception("a bug: the reflex %s could not set %s", act.reflex, act.device)
        else:
            self._reflexes.obeyed(act)

    def _refused(self, act: Act, error: ToolError) -> None:
        is_impossible = error.code == ErrorCode.BAD_ARGUMENTS
        if is_impossible or self._reflexes.refused(act, self._now()):
            _log.warning("the reflex %s could not do what it says: %s", act.reflex, error)

    # Time

    def _arm(self) -> None:
        """Wake in time. A timer that is early stays: most readings only move what is due to later."""
        wake_at = self._reflexes.wake_at()
        if self._timer is not None and (wake_at is None or wake_at < self._armed_at):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and wake_at is not None and self._loop is not None:
            self._armed_at = wake_at
            self._timer = self._loop.call_later(max(0.0, wake_at - self._now()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._do(self._reflexes.tick(self._now()))


def _in_words(problems: Sequence[Problem]) -> str:
    return "; ".join(f"{format_path(problem.path[1:])}: {problem.text}" for problem in problems)


def _unknown(id_: str, known: tuple[str, ...]) -> ToolError:
    there = f"there are: {', '.join(known)}" if known else "there are none"
    return ToolError(f"there is no reflex {id_!r}{suggestion(id_, known)}; {there}", code=ErrorCode.BAD_ARGUMENTS)
