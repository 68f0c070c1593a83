"""The thin shell around a pure core: one event after another in, effects out, stored before they are said."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from pibot_mesh.errors import StoreError

_log = logging.getLogger(__name__)

E = TypeVar("E")
F = TypeVar("F")
F_co = TypeVar("F_co", covariant=True)
E_contra = TypeVar("E_contra", contravariant=True)

_STORE_AGAIN_S = 1.0
_BATCH = 64
"""Events that share one transaction at most: one sync to disk then serves them all."""


class Core(Protocol[E_contra, F_co]):
    """Decisions without I/O: `handle` takes an event and the time, and returns what is to be done."""

    def handle(self, event: E_contra, now: float) -> Sequence[F_co]: ...

    def tick(self, now: float) -> Sequence[F_co]: ...

    def wake_at(self) -> float | None: ...


class Actor(Generic[E, F]):
    """Feeds a core, in order, and performs its effects: first *store* for the whole batch, then *perform* for each.

    *store* returns the effects that may be performed.

    While *store* raises StoreError (a full disk, say) nothing is performed, and it is tried again every second: nothing
    is ever said that is not stored. `stuck` tells the error, so that new work can be refused in words meanwhile.
    """

    def __init__(
        self,
        core: Core[E, F],
        *,
        store: Callable[[Sequence[F]], Awaitable[Sequence[F]]],
        perform: Callable[[F], None],
        capacity: int = 10_000,
    ) -> None:
        self.stuck: StoreError | None = None
        """Why nothing can be stored at the moment."""
        self._core = core
        self._store = store
        self._perform = perform
        self._capacity = capacity
        self._waiting: deque[tuple[E, Callable[[], None] | None, float]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._in_work = 0

    def post(
        self, event: E, then: Callable[[], None] | None = None, *, is_own: bool = False, is_first: bool = False
    ) -> bool:
        """Queue *event*; *then* is called when all that it made the core store is stored.

        False where the queue is full: then the event is not taken. *is_own*: it comes from this process (a tool ended,
        the connection stands), which makes few of them and cannot say them again: it is always taken. *is_first*: it
        goes before all that waits.
        """
        if len(self._waiting) >= self._capacity and not is_own:
            return False
        add = self._waiting.appendleft if is_first else self._waiting.append
        add((event, then, time.monotonic()))
        self._wake.set()
        return True

    @property
    def backlog(self) -> int:
        """How many events wait, those being worked off included."""
        return len(self._waiting) + self._in_work

    def start(self) -> None:
        """Begin to work, in a task of its own."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Work off what is queued, then end."""
        if self._task is None:
            return
        self._is_stopping = True
        self._wake.set()
        await self._task
        self._task = None

    async def _run(self) -> None:
        while self._waiting or not self._is_stopping:
            if not self._waiting:
                await self._sleep()
            await self._work()

    async def _sleep(self) -> None:
        self._wake.clear()
        wake_at = self._core.wake_at()
        delay = None if wake_at is None else max(0.0, wake_at - time.monotonic())
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _work(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        self._in_work = len(batch)
        effects: list[F] = []
        for event, _, posted_at in batch:
            effects += _guarded(self._core.handle, event, posted_at)
        effects += _guarded(self._core.tick, time.monotonic())
        stored = await self._stored(effects)
        if stored is None:
            self._waiting.clear()  # the core is ahead of what is stored: nothing that comes after may be said
            return
        for effect in stored:
            _guarded(self._perform, effect)
        for _, then, _ in batch:
            if then is not None:
                _guarded(then)
        self._in_work = 0

    async def _stored(self, effects: Sequence[F]) -> Sequence[F] | None:
        """Store, however long it takes; None where the actor is stopped before it worked."""
        while True:
            try:
                stored = await self._store(effects)
            except StoreError as error:
                self._get_stuck(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, what is not stored must not be said
                self._get_stuck(StoreError(f"a bug: {type(error).__name__}: {error}"))
            else:
                if self.stuck is not None:
                    _log.warning("storing works again")
                self.stuck = None
                return stored
            if self._is_stopping:
                return None
            await asyncio.sleep(_STORE_AGAIN_S)

    def _get_stuck(self, error: StoreError) -> None:
        if self.stuck is None:
            _log.error("nothing can be stored, and so nothing is done: %s", error)
        self.stuck = error


def _guarded(step: Callable[..., Sequence[F] | None], *arguments: object) -> Sequence[F]:
    """The top of a service loop: one event that meets a bug is logged, and the others go on."""
    try:
        return step(*arguments) or ()
    except Exception:  # noqa: BLE001 - see above
        what = type(arguments[0]).__name__ if arguments else getattr(step, "__qualname__", "a callback")
        _log.exception("a bug: %s could not be worked off", what)
        return ()
