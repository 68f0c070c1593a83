"""Asking a master in the same process, its start and its end. No broker listens: a master needs none for this."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from pibot_mesh.actor import Actor
from pibot_mesh.config.settings import BrokerSettings, MasterSettings
from pibot_mesh.errors import ErrorCode, NoMaster, StoreError
from pibot_mesh.master.books import Books
from pibot_mesh.master.events import Lost, MasterEffect
from pibot_mesh.master.ledger import Ledger
from pibot_mesh.master.planner import Planning, Situation, Words
from pibot_mesh.master.service import Master
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.messages import Plan, Reply, Request, State, StepResult
from pibot_mesh.protocol.topics import Address, Kind
from tests.brokers import free_port, until


class Waiting:
    """A planner that never comes to an end."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def plan(self, request: Request, _: Situation) -> Planning:
        self.asked.append(request.text)
        await asyncio.Event().wait()
        raise AssertionError("nobody lets it go")

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        return ""

    async def write(self, _: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        return Words(self.answer(plan, results))

    def examples(self, language: str) -> list[str]:
        return []

    def close(self) -> None:
        pass


def settings(state_dir: Path) -> MasterSettings:
    return MasterSettings(broker=BrokerSettings(port=free_port()), state_dir=state_dir)


async def within_seconds(asked: asyncio.Task[Reply]) -> Reply:
    async with asyncio.timeout(5):
        return await asked


async def test_a_master_answers_without_a_broker(tmp_path: Path) -> None:
    """What needs no node needs no broker."""
    async with Master(settings(tmp_path)) as master:
        reply = await within_seconds(asyncio.ensure_future(master.ask("help")))

    assert reply.state is State.COMPLETED


async def test_who_still_asks_when_the_master_stops_gets_an_error(tmp_path: Path) -> None:
    """And is not taken for cancelled."""
    planner = Waiting()
    async with Master(settings(tmp_path), planner=planner) as master:
        asked = asyncio.create_task(master.ask("wait"))
        await until(lambda: planner.asked, "it is being planned")

    with pytest.raises(NoMaster, match="the master was stopped before it replied"):
        await within_seconds(asked)


async def test_who_asks_hears_where_a_request_went_unless_it_came_back(tmp_path: Path) -> None:
    """A master may lose its hold on a request, and take it again before another does: then it goes on."""
    planner = Waiting()
    async with Master(settings(tmp_path), planner=planner) as master:
        asked = asyncio.create_task(master.ask("wait"))
        await until(lambda: planner.asked, "it is being planned")
        requests = frozenset(master._askers)

        master._post_from_books(Lost(requests, is_back=True), True)
        await asyncio.sleep(0)
        assert not asked.done()

        master._post_from_books(Lost(requests), True)
        with pytest.raises(NoMaster, match="went to another master"):
            await within_seconds(asked)


async def test_a_master_that_does_not_run_cannot_be_asked(tmp_path: Path) -> None:
    """Neither before its start nor after its end."""
    master = Master(settings(tmp_path))
    with pytest.raises(NoMaster, match="does not run"):
        await master.ask("help")
    async with master:
        pass
    with pytest.raises(NoMaster, match="does not run"):
        await master.ask("help")


async def test_who_gives_up_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    """The request itself goes on."""
    planner = Waiting()
    async with Master(settings(tmp_path), planner=planner) as master:
        asked = asyncio.create_task(master.ask("wait"))
        await until(lambda: planner.asked, "it is being planned")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

        assert master._askers == {}
        assert master._core.open_requests == 1


async def test_a_full_disk_is_said_to_who_asks_in_the_same_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, as over the broker."""
    async with Master(settings(tmp_path)) as master:
        monkeypatch.setattr(master._actor, "stuck", StoreError("disk full"))
        reply = await within_seconds(asyncio.ensure_future(master.ask("help")))
        monkeypatch.undo()

    assert reply.error is not None
    assert (reply.state, reply.error.code) == (State.REJECTED, ErrorCode.STORAGE)


async def test_who_asks_while_too_much_waits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not wait for ever."""
    async with Master(settings(tmp_path)) as master:
        monkeypatch.setattr(Actor, "post", lambda *_, **__: False)
        reply = await within_seconds(asyncio.ensure_future(master.ask("help")))
        monkeypatch.undo()

    assert reply.error is not None
    assert (reply.state, reply.error.code) == (State.REJECTED, ErrorCode.OVERLOADED)


async def test_a_ledger_that_cannot_be_read_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request may be known or not: nobody can tell, so it is refused, and not lost."""
    sent: list[tuple[Kind, bytes]] = []

    def send(_: Link, kind: Kind, payload: bytes, **__: object) -> None:
        sent.append((kind, payload))

    async with Master(settings(tmp_path)) as master:
        assert isinstance(master._ledger, Ledger)
        master._ledger._database._reader.close()
        monkeypatch.setattr(Link, "send", send)
        master._receive(Address(Kind.REQUEST), Message("pibot/request", b'{"id": "r1", "text": "help"}', qos=1))
        replies = [payload for kind, payload in sent if kind is Kind.REQUEST_REPLY]

    assert len(replies) == 1
    assert b'"rejected"' in replies[0]
    assert b'"storage"' in replies[0]


async def test_a_request_of_the_last_moment_is_kept_for_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is accepted, and planned after the restart; no plan is begun on the way out."""
    for_master = settings(tmp_path)
    master = Master(for_master)
    await master.__aenter__()
    asked = asyncio.create_task(master.ask("help"))
    await asyncio.sleep(0)
    await master.__aexit__(None, None, None)
    with pytest.raises(NoMaster):
        await asked
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    assert "a bug" not in caplog.text

    async with Master(for_master) as again:
        await until(lambda: again._core.open_requests == 0, "it is answered")


async def test_a_start_that_fails_half_way_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no task, no handler of the log."""
    before = list(logging.getLogger("pibot_mesh").handlers)
    master = Master(settings(tmp_path))

    async def fail(_: Books, effects: Sequence[MasterEffect]) -> Sequence[MasterEffect]:
        raise StoreError("disk full")

    monkeypatch.setattr(Books, "write", fail)
    with pytest.raises(StoreError, match="disk full"):
        await master.__aenter__()

    assert logging.getLogger("pibot_mesh").handlers == before
    assert asyncio.all_tasks() == {asyncio.current_task()}
    with pytest.raises(StoreError):
        master._ledger.find("r1")


async def test_a_warning_from_another_thread_or_in_odd_letters_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's topic belongs to the loop, and a log line must not raise where it is written."""
    threads: list[int] = []
    monkeypatch.setattr(Link, "is_connected", property(lambda _: True))
    monkeypatch.setattr(logging, "raiseExceptions", False)
    send = Link.send

    def note(self: Link, kind: Kind, payload: bytes, **options: object) -> None:
        if kind is Kind.MASTER_LOG:
            threads.append(threading.get_ident())
        send(self, kind, payload, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Link, "send", note)
    log = logging.getLogger("pibot_mesh.test")
    async with Master(settings(tmp_path)):
        await asyncio.to_thread(log.warning, "from a thread")
        log.warning("a file named %s", "\udcff")
        await until(lambda: threads, "it is published")
        monkeypatch.undo()

    assert set(threads) == {threading.get_ident()}


async def test_a_second_master_on_the_same_ledger_is_refused_in_words(tmp_path: Path) -> None:
    """Two would answer the same requests. When the first has ended, the place is free."""
    async with Master(settings(tmp_path)):
        with pytest.raises(StoreError, match="the master runs already, as process"):
            await Master(settings(tmp_path)).__aenter__()
    async with Master(settings(tmp_path)):
        pass
