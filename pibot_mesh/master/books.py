"""The ledger as the master's event loop uses it: whatever may wait is done in a thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, ParamSpec, TypeVar

from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.errors import StoreError
from pibot_mesh.master.events import (
    AskLedger,
    CountUsage,
    Exchange,
    Lost,
    MasterEffect,
    MasterInput,
    NobodyWaits,
    Save,
    SendEvent,
    SendForget,
    TakenOver,
    request_of,
)
from pibot_mesh.master.store import Known, Store, is_kept

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

KEEP_UP_S: Final = 1.0
"""How often a master that shares its ledger says that it lives."""
PRUNE_S: Final = 3600.0
CLOCK_STEP_S: Final = 60.0
"""By so much a clock is not put right in an hour without having been set."""


class Books:
    """*store*, for the event loop: what works on it in a thread is waited for before it is closed.

    *post* takes what comes of it; with True, before all that waits.
    """

    def __init__(self, store: Store, history: HistorySettings, post: Callable[[MasterInput, bool], None]) -> None:
        self._store = store
        self._history = history
        self._post = post
        self._writing = asyncio.Lock()
        self._reading = asyncio.Lock()
        self._is_closing = False
        self._works: set[asyncio.Task[Any]] = set()

    @property
    def is_shared(self) -> bool:
        """Whether other masters use the ledger too."""
        return self._store.is_shared

    @property
    def is_leader(self) -> bool:
        """Whether this master does what must be done once for all."""
        return self._store.is_leader

    def find(self, request_id: str) -> Known | None:
        """One request, at once: for a ledger of our own. Raises StoreError."""
        return self._store.find(request_id)

    async def look_up(self, request_ids: Collection[str]) -> dict[str, Known]:
        """Those of the requests that are known. Does not wait for what is being written. Raises StoreError."""
        return await self._seen_through(self._in_turn(self._reading, self._find_each, request_ids))

    async def conversation(self, session: str) -> list[Exchange]:
        """What was said before in *session*. Raises StoreError."""
        return await self._seen_through(self._in_turn(self._reading, self._store.conversation, session))

    async def read_settings(self, prefix: str) -> dict[str, str]:
        """The small things that are remembered besides requests, by their names' *prefix*. Raises StoreError."""
        return await self._seen_through(self._in_turn(self._reading, self._store.read_settings, prefix))

    async def write_setting(self, name: str, value: str | None) -> None:
        """Remember *value* under *name*; None: forget it. Raises StoreError."""
        await self._in_thread(self._store.write_setting, name, value)

    async def write(self, effects: Sequence[MasterEffect]) -> Sequence[MasterEffect]:
        """Store what is to be stored, and return what may be performed. Raises StoreError.

        Of a request that belongs to another master nothing is performed. Nor are results forgotten then: one of them
        may be of that request.
        """
        if not any(map(_is_stored, effects)):
            return effects
        lost = await self._in_thread(self._store.write, effects)
        if not lost:
            return effects
        self._post(Lost(lost), True)
        return [effect for effect in effects if not isinstance(effect, SendForget) and request_of(effect) not in lost]

    async def ask(self, question: AskLedger) -> None:
        """See whether a master waits for a result that this one does not know. Unanswered, the node asks again."""
        if not self._store.is_leader:
            return
        try:
            known = (await self.look_up([question.request])).get(question.request)
        except StoreError as error:
            _log.info("whether task %s is awaited cannot be told: %s", question.task, error)
            return
        if known is None or known.record.reply is not None:
            self._post(NobodyWaits(question.node, question.task), False)

    async def keep_up(self) -> None:
        """For ever: say that this master lives, and take over what is abandoned."""
        is_well = True
        while True:
            await asyncio.sleep(KEEP_UP_S)
            try:
                records = await self._in_thread(self._store.keep_up)
            except StoreError as error:
                if is_well:
                    _log.error("the requests of this master may pass to another: %s", error)
                is_well = False
                continue
            if not is_well:
                _log.warning("the ledger answers again")
            is_well = True
            if records:
                # What this master held of them under an earlier epoch is over, before anything else is decided.
                self._post(Lost(frozenset(record.request.id for record in records), is_back=True), True)
                self._post(TakenOver(tuple(records)), False)

    async def prune(self) -> None:
        """For ever: remove old stories, every hour; not in the first one, nor after the clock was set.

        What is stamped with a time of before that may have ended a moment ago: a Pi has no clock until NTP answers.
        """
        clock = _set_at()
        while True:
            await asyncio.sleep(PRUNE_S)
            was_set_at, clock = clock, _set_at()
            if self._store.is_leader and abs(clock - was_set_at) < CLOCK_STEP_S:
                try:
                    count = await self._seen_through(asyncio.to_thread(self._store.prune, self._history, time.time()))
                except StoreError as error:
                    _log.warning("old requests stay in the ledger for now: %s", error)
                else:
                    _log.log(logging.INFO if count else logging.DEBUG, "%d old requests were removed", count)

    async def close(self) -> None:
        """Close the ledger, once nothing works on it any more."""
        self._is_closing = True
        await asyncio.gather(*self._works, return_exceptions=True)
        self._store.close()

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._seen_through(self._in_turn(self._writing, call, *args, **kwargs))

    async def _seen_through(self, going: Coroutine[Any, Any, T]) -> T:
        """A thread goes on when nobody waits for it any more: so do its turn, and our knowledge of it."""
        work = asyncio.get_running_loop().create_task(going)
        self._works.add(work)
        work.add_done_callback(self._works.discard)
        return await asyncio.shield(work)

    async def _in_turn(self, turn: asyncio.Lock, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with turn:
            if self._is_closing:
                raise StoreError("the ledger is being closed")
            return await asyncio.to_thread(call, *args, **kwargs)

    def _find_each(self, request_ids: Collection[str]) -> dict[str, Known]:
        found = ((request_id, self._store.find(request_id)) for request_id in request_ids)
        return {request_id: known for request_id, known in found if known is not None}


def _set_at() -> float:
    """The wall clock's time when the monotonic one began: the same until it is set."""
    return time.time() - time.monotonic()


def _is_stored(effect: MasterEffect) -> bool:
    match effect:
        case Save() | CountUsage():
            return True
        case SendEvent():
            return is_kept(effect)
    return False
