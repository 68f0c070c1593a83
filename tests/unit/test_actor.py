"""The shell around a core: in order, stored before it is said, and still there after a bug."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from pibot_mesh import actor as module
from pibot_mesh.actor import Actor
from pibot_mesh.errors import StoreError


class Echo:
    """A core that says each event, and `tick` when it is due."""

    def __init__(self) -> None:
        self.due: float | None = None

    def handle(self, event: str, now: float) -> list[str]:
        if event == "bug":
            raise ZeroDivisionError("a bug")
        if event == "remind me":
            self.due = now + 0.05
            return []
        return [event]

    def tick(self, now: float) -> list[str]:
        if self.due is None or now < self.due:
            return []
        self.due = None
        return ["tick"]

    def wake_at(self) -> float | None:
        return self.due


class Bench:
    """An actor, what it stored and what it performed."""

    def __init__(self, *, capacity: int = 10_000) -> None:
        self.stored: list[str] = []
        self.performed: list[str] = []
        self.fails: Exception | None = None
        self.is_slow = asyncio.Event()
        self.is_slow.set()
        self.core = Echo()
        self.actor: Actor[str, str] = Actor(self.core, store=self._store, perform=self._perform, capacity=capacity)

    async def _store(self, effects: Sequence[str]) -> Sequence[str]:
        await self.is_slow.wait()
        if self.fails is not None:
            raise self.fails
        self.stored += effects
        return [effect for effect in effects if effect != "not ours"]

    def _perform(self, effect: str) -> None:
        assert effect in self.stored, "said before it was stored"
        if effect == "unspeakable":
            raise ValueError("a bug")
        self.performed.append(effect)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_the_store_holds_back_is_not_performed() -> None:
    """It belongs to another."""
    bench = Bench()
    bench.actor.start()
    for event in ("a", "not ours", "b"):
        bench.actor.post(event)
    await until(lambda: bench.performed == ["a", "b"])
    await bench.actor.stop()


async def test_an_event_that_goes_first_is_worked_off_before_all_that_waits() -> None:
    """Whatever came before it."""
    bench = Bench()
    for event in "abc":
        bench.actor.post(event)
    bench.actor.post("first", is_own=True, is_first=True)
    bench.actor.start()
    await until(lambda: bench.performed == ["first", "a", "b", "c"])
    await bench.actor.stop()


async def test_events_are_worked_off_in_order_and_stored_before_they_are_said() -> None:
    """And whoever posted one hears when what it caused is stored."""
    bench, done = Bench(), list[str]()
    bench.actor.start()
    for event in "abc":
        assert bench.actor.post(event, lambda event=event: done.append(event))  # type: ignore[misc]
    await until(lambda: len(done) == 3)

    assert bench.performed == done == ["a", "b", "c"]
    assert bench.actor.backlog == 0
    await bench.actor.stop()


async def test_what_falls_due_is_done_when_it_is_due() -> None:
    """Without any event."""
    bench = Bench()
    bench.actor.start()
    bench.actor.post("remind me")
    begin = time.monotonic()
    await until(lambda: bench.performed == ["tick"])

    assert time.monotonic() - begin >= 0.04
    await bench.actor.stop()


async def test_nothing_is_performed_while_nothing_can_be_stored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again until it works; the log says so once each way."""
    monkeypatch.setattr(module, "_STORE_AGAIN_S", 0.01)
    bench, done = Bench(), list[str]()
    bench.fails = StoreError("ledger: cannot be written: disk full")
    bench.actor.start()
    bench.actor.post("a", lambda: done.append("a"))
    await until(lambda: bench.actor.stuck is not None)
    bench.actor.post("b")
    for _ in range(20):
        await asyncio.sleep(0.005)

    assert (bench.performed, done) == ([], [])
    assert str(bench.actor.stuck) == "ledger: cannot be written: disk full"
    assert bench.actor.backlog == 2
    bench.fails = None
    await until(lambda: bench.performed == ["a", "b"])
    assert (done, bench.actor.stuck) == (["a"], None)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    await bench.actor.stop()


async def test_a_bug_in_the_store_is_no_reason_to_say_what_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises, the actor lives, says that it is stuck, and goes on when it can."""
    monkeypatch.setattr(module, "_STORE_AGAIN_S", 0.01)
    bench = Bench()
    bench.fails = TypeError("Object of type set is not JSON serializable")
    bench.actor.start()
    bench.actor.post("a")
    await until(lambda: bench.actor.stuck is not None)

    assert "TypeError" in str(bench.actor.stuck)
    bench.fails = None
    await until(lambda: bench.performed == ["a"])
    await bench.actor.stop()


async def test_a_bug_in_one_event_or_effect_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its trace."""
    bench, done = Bench(), list[str]()
    bench.actor.start()
    for event in ("a", "bug", "unspeakable", "b"):
        bench.actor.post(event, lambda event=event: done.append(event))  # type: ignore[misc]
    await until(lambda: len(done) == 4)

    assert bench.performed == ["a", "b"]
    assert len([record for record in caplog.records if record.exc_info]) == 2
    await bench.actor.stop()


async def test_the_queue_is_bounded() -> None:
    """What does not fit is not taken (promise 7)."""
    bench = Bench(capacity=2)

    assert [bench.actor.post("a") for _ in range(3)] == [True, True, False]
    bench.actor.start()
    await bench.actor.stop()
    assert bench.performed == ["a", "a"], "what was taken is worked off before the end"


async def test_what_comes_from_this_process_is_always_taken() -> None:
    """That a tool ended cannot be said again."""
    bench = Bench(capacity=1)
    bench.actor.post("a")

    assert bench.actor.post("b", is_own=True)
    bench.actor.start()
    await bench.actor.stop()
    assert bench.performed == ["a", "b"]


async def test_a_bug_in_who_posted_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its trace."""
    bench = Bench()

    def stumble() -> None:
        raise ZeroDivisionError

    bench.actor.post("a", stumble)
    bench.actor.post("b")
    bench.actor.start()
    await bench.actor.stop()

    assert bench.performed == ["a", "b"]
    assert "stumble" in caplog.text


async def test_an_event_happens_when_it_came_not_when_there_was_time_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that waited behind a slow disk is as old as it is (promise 3)."""
    times: list[float] = []
    bench = Bench()

    def handle(_: str, now: float) -> list[str]:
        times.append(now)
        return []

    monkeypatch.setattr(bench.core, "handle", handle)
    bench.is_slow.clear()
    bench.actor.start()
    bench.actor.post("a")
    await until(lambda: bool(times))
    bench.actor.post("b")
    posted_at = time.monotonic()
    while time.monotonic() < posted_at + 0.05:
        await asyncio.sleep(0.01)
    bench.is_slow.set()
    await until(lambda: len(times) == 2)

    assert times[1] <= posted_at
    await bench.actor.stop()


async def test_an_actor_that_cannot_store_ends_all_the_same() -> None:
    """What is not stored was never said: it is not performed."""
    bench = Bench()
    bench.fails = StoreError("disk full")
    bench.actor.start()
    bench.actor.post("a")
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await bench.actor.stop()

    assert bench.performed == []


async def test_stopping_what_never_ran_is_no_error() -> None:
    """Nor is stopping twice."""
    bench = Bench()
    await bench.actor.stop()
    bench.actor.start()
    await bench.actor.stop()
    await bench.actor.stop()


async def test_an_actor_that_is_stopped_while_it_cannot_store_says_nothing_more() -> None:
    """The core is ahead of what is stored: what comes after the batch that was given up stands on it."""

    class Picky(Bench):
        async def _store(self, effects: Sequence[str]) -> Sequence[str]:
            if "a" in effects:
                raise StoreError("there is no room for a")
            return await super()._store(effects)

    bench = Picky()
    bench.actor.start()
    bench.actor.post("a")
    await until(lambda: bench.actor.stuck is not None)
    for event in "bc":
        bench.actor.post(event)
    await bench.actor.stop()

    assert bench.performed == bench.stored == []
