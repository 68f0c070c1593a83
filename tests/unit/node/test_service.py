"""A node's start and end, and what must not end it in between. No broker listens: a node needs none for this."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pibot_mesh.actor import Actor
from pibot_mesh.agent.tools import Tool, ToolContext
from pibot_mesh.config.settings import BrokerSettings, DeviceSettings, NodeSettings, SkillSettings
from pibot_mesh.errors import ConfigError, ErrorCode, StoreError, ToolError
from pibot_mesh.hardware.changes import Change
from pibot_mesh.mqtt.client import Message
from pibot_mesh.node import service
from pibot_mesh.node.events import Entry, NodeEffect, Save, SaveStop, TaskArrived, ToolEnded
from pibot_mesh.node.journal import Journal
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.messages import Cause, Output, State, Task, ToolSpec
from pibot_mesh.protocol.topics import Address, Kind
from tests.brokers import free_port, until

PERSON = Cause("person")


def settings(state_dir: Path, *devices: DeviceSettings, health_interval_s: float = 10) -> NodeSettings:
    fan = DeviceSettings("fan", "switch", 17, options={"initial": True})
    return NodeSettings(
        "n1",
        broker=BrokerSettings(port=free_port()),
        state_dir=state_dir,
        devices=devices or (fan,),
        simulate=True,
        health_interval_s=health_interval_s,
    )


def remember_stop(state_dir: Path) -> None:
    journal = Journal(state_dir / "node-n1.sqlite")
    journal.write([SaveStop(True)])
    journal.close()


def receive_stop(node: Node, word: bytes) -> None:
    node._receive(Address(Kind.STOP), Message("pibot/stop", word, qos=1))


async def test_a_node_that_was_stopped_never_switches_on_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal says STOP, so no output has its initial value, not even for a moment."""
    remember_stop(tmp_path)
    states: list[object] = []
    changed = Node._changed

    def watch(node: Node, change: Change) -> None:
        states.append(getattr(change, "value", None))
        changed(node, change)

    monkeypatch.setattr(Node, "_changed", watch)
    async with Node(settings(tmp_path)) as node:
        assert states
        assert not any(states)
        with pytest.raises(ToolError, match="the emergency stop holds"):
            node.board.set("fan", True, cause=PERSON)


@pytest.mark.parametrize("step", ["board", "store", "link"])
async def test_a_start_that_fails_half_way_leaves_nothing_open(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No output is on, no file is open, no task runs."""
    node = Node(settings(tmp_path))

    async def fail(*_: object) -> None:
        raise StoreError("disk full")

    owners: dict[str, tuple[object, str]] = {
        "board": (node.board, "start"),
        "store": (node, "_store"),
        "link": (node._link, "start"),
    }
    monkeypatch.setattr(*owners[step], fail)
    with pytest.raises(StoreError, match="disk full"):
        await node.__aenter__()

    with pytest.raises(ToolError, match="not running"):
        node.board.set("fan", True, cause=PERSON)
    with pytest.raises(StoreError):
        node._journal.read()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_node_that_is_cancelled_while_it_ends_makes_its_outputs_safe_first(tmp_path: Path) -> None:
    """Somebody is impatient while a tool blocks: the outputs are safe all the same, and the journal is closed."""
    gate, begun = threading.Event(), threading.Event()

    def block(_: Mapping[str, JSON], __: ToolContext) -> Output:
        begun.set()
        gate.wait(5)
        return Output()

    node = Node(settings(tmp_path), tools=[Tool(ToolSpec("block"), block)])
    await node.__aenter__()
    node._post(TaskArrived(Task("t1", "r1", "call", tool="block"), False))
    await until(begun.is_set, "the tool runs")
    pin = node.board.simulated_pin("fan")
    assert pin.state
    ending = asyncio.create_task(node.__aexit__(None, None, None))
    await until(lambda: not node.board.outputs()["fan"][0], "the output is safe", timeout_s=0.5)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    gate.set()

    assert node.board.outputs()["fan"][1].reason == "the node stops"
    with pytest.raises(StoreError):
        node._journal.read()


async def test_a_tool_that_does_not_heed_its_end_does_not_hold_up_the_nodes(tmp_path: Path) -> None:
    """Within three seconds it is over."""
    release = asyncio.Event()

    async def stubborn(_: Mapping[str, JSON], __: ToolContext) -> Output:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return Output()

    begun = time.monotonic()
    async with Node(settings(tmp_path), tools=[Tool(ToolSpec("stubborn"), stubborn)]) as node:
        node._post(TaskArrived(Task("t1", "r1", "call", tool="stubborn"), False))
        await until(lambda: node._executor._runs, "the tool runs")
    took_s = time.monotonic() - begun
    release.set()

    assert took_s < 3


async def test_tools_that_hang_do_not_keep_the_journal_from_writing(tmp_path: Path) -> None:
    """Blocking tools have threads of their own."""
    gate = threading.Event()

    def hang(_: Mapping[str, JSON], __: ToolContext) -> Output:
        gate.wait(20)
        return Output()

    async with Node(settings(tmp_path), tools=[Tool(ToolSpec("hang"), hang)]) as node:
        for number in range(40):  # more than the loop's own pool has threads on a small machine
            node._executor.start(Task(f"t{number}", "r1", "call", tool="hang"), time.monotonic() + 30)
        await until(lambda: len(node._executor._runs) == 40, "they hang")
        receive_stop(node, b"STOP")
        await until(lambda: node._journal.read().is_stopped, "the stop is stored", timeout_s=3)
        gate.set()


async def test_a_task_of_the_last_moment_is_not_begun(tmp_path: Path) -> None:
    """It is rejected, and may be tried again: nobody would see its end."""
    called: list[str] = []

    async def tool(_: Mapping[str, JSON], context: ToolContext) -> Output:
        called.append(context.task)
        return Output()

    node = Node(settings(tmp_path), tools=[Tool(ToolSpec("quick"), tool)])
    await node.__aenter__()
    stop = node._executor.stop

    async def stop_late() -> None:
        await stop()
        node._post(TaskArrived(Task("t1", "r1", "call", tool="quick"), False))

    node._executor.stop = stop_late  # type: ignore[method-assign]
    await node.__aexit__(None, None, None)
    await asyncio.sleep(0)
    journal = Journal(tmp_path / "node-n1.sqlite")
    [entry] = journal.read().entries
    journal.close()

    assert called == []
    assert entry.result is not None
    assert entry.result.state is State.REJECTED
    assert entry.result.error is not None
    assert entry.result.error.retryable


async def test_a_health_that_cannot_be_said_does_not_end_the_healths_that_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node without health counts as lost."""
    calls: list[int] = []

    def read_health() -> dict[str, float]:
        calls.append(1)
        return {"cpu_temp_c": float("nan")}

    monkeypatch.setattr(service, "read_health", read_health)
    async with Node(settings(tmp_path, health_interval_s=0.01)):
        await until(lambda: len(calls) >= 3, "it is tried again")


async def test_a_node_whose_card_no_message_can_carry_says_so_at_once(tmp_path: Path) -> None:
    """Else it would run, and nobody would ever see it."""
    tool = Tool(ToolSpec("novel", "word " * 20_000), lambda *_: Output())

    with pytest.raises(ConfigError, match=r"node n1: its labels, devices and tools cannot be shown.*65536"):
        Node(settings(tmp_path), tools=[tool])


async def test_a_stop_that_comes_while_a_release_is_stored_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow disk the release would be performed after the stop had been seen."""
    remember_stop(tmp_path)
    node = Node(settings(tmp_path))
    stores, may_store = [], asyncio.Event()
    store = Node._store

    async def slow(self: Node, effects: Sequence[NodeEffect]) -> Sequence[NodeEffect]:
        if any(isinstance(effect, SaveStop) for effect in effects):
            stores.append(1)
            if len(stores) == 2:
                await may_store.wait()
                return effects
            receive_stop(self, b"STOP")
        return await store(self, effects)

    monkeypatch.setattr(Node, "_store", slow)
    async with node:
        receive_stop(node, b"RUN")
        await until(lambda: len(stores) == 2, "the second stop is being stored")
        with pytest.raises(ToolError, match="the emergency stop holds"):
            node.board.set("fan", True, cause=PERSON)
        may_store.set()


async def test_the_emergency_stop_does_not_wait_for_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that acts and runs is ended at once; one whose start was being stored does not begin."""
    begun: list[str] = []
    ended: list[str] = []
    disk = threading.Event()
    disk.set()
    write = Journal.write

    def slow(self: Journal, effects: Sequence[NodeEffect]) -> None:
        disk.wait(5)
        write(self, effects)

    async def press(_: Mapping[str, JSON], context: ToolContext) -> Output:
        begun.append(context.task)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(context.task)
        return Output()

    monkeypatch.setattr(Journal, "write", slow)
    async with Node(settings(tmp_path), tools=[Tool(ToolSpec("press", effect="actuate"), press)]) as node:
        node._post(TaskArrived(Task("t1", "r1", "call", tool="press"), False))
        await until(lambda: begun == ["t1"], "the first runs")
        disk.clear()
        node._post(TaskArrived(Task("t2", "r1", "call", tool="press"), False))
        await until(lambda: node._core.running == 2, "the second is being stored")
        receive_stop(node, b"STOP")
        await until(lambda: ended == ["t1"], "the first is ended, whatever the disk does")
        disk.set()
        await until(lambda: node._core.running == 0 and not node.backlog, "both have ended")
        results = {entry.task.id: entry.result for entry in node._journal.read().entries}

    assert begun == ["t1"]
    assert {task: result and result.error and result.error.code for task, result in results.items()} == {
        "t1": ErrorCode.STOPPED,
        "t2": ErrorCode.STOPPED,
    }


class _FullDisk:
    """A journal that cannot be written for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        usual = Journal.write

        def write(journal: Journal, effects: Sequence[NodeEffect]) -> None:
            if self.is_full:
                raise StoreError("the disk is full")
            usual(journal, effects)

        monkeypatch.setattr(Journal, "write", write)


async def test_off_does_not_wait_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a person's, nor that of what a failed task had set; all the rest does."""
    async with Node(settings(tmp_path)) as node:
        disk = _FullDisk(monkeypatch)
        node.board.set("fan", True, cause=PERSON)
        await until(lambda: node._actor.stuck is not None, "nothing can be stored")

        node._receive(Address(Kind.OUTPUT_SET, node="n1", device="fan"), Message("set", b"OFF"))
        assert node.board.outputs()["fan"][0] is False
        node._receive(Address(Kind.OUTPUT_SET, node="n1", device="fan"), Message("set", b"ON"))
        assert node.board.outputs()["fan"][0] is False
        node.board.set("fan", True, cause=Cause("task", "t1"))
        node._tool_ended(ToolEnded("t1", State.FAILED))
        assert node.board.outputs()["fan"][0] is False
        disk.is_full = False


async def test_a_stop_is_kept_however_much_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its release is heard: the journal knows of both."""
    async with Node(settings(tmp_path)) as node:
        disk = _FullDisk(monkeypatch)
        node._actor._capacity = 5
        node.board.set("fan", True, cause=PERSON)
        for _ in range(10):
            node._receive(Address(Kind.MASTER_STATUS), Message("pibot/master/status", b"online", qos=1))
        receive_stop(node, b"STOP")
        assert node.board.outputs()["fan"][0] is False
        disk.is_full = False
        await until(lambda: node._journal.read().is_stopped, "the stop is kept")

        receive_stop(node, b"RUN")
        await until(lambda: not node._journal.read().is_stopped, "its end is kept")
        node.board.set("fan", True, cause=PERSON)


async def test_a_master_that_only_the_broker_remembers_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both lost their power, and the broker came back with the ``online`` that it had kept."""
    reached: list[bool] = []
    async with Node(settings(tmp_path)) as node:
        monkeypatch.setattr(node.board, "reach", lambda is_reached, _: reached.append(is_reached))
        node._receive(Address(Kind.MASTER_STATUS), Message("pibot/master/status", b"online", qos=1, retain=True))
        kept = Message("pibot/master/health", b'{"interval_s":10}', retain=True)
        node._receive(Address(Kind.MASTER_HEALTH), kept)
        node._receive(Address(Kind.MASTER_HEALTH), replace(kept, retain=False))
        node._master._heard_at -= 31
        node._look_for_master()

    assert reached[:4] == [False, False, True, False]


async def test_an_order_while_the_stop_holds_is_counted_as_refused(tmp_path: Path) -> None:
    """And after the release nothing comes back by itself."""
    async with Node(settings(tmp_path)) as node:
        receive_stop(node, b"STOP")
        assert node.board.outputs()["fan"][0] is False
        node._receive(Address(Kind.OUTPUT_SET, node="n1", device="fan"), Message("set", b"ON"))
        await until(lambda: node.refused == 1, "it is refused")
        receive_stop(node, b"RUN")
        await until(lambda: not node._core.is_stopped and not node.backlog, "the stop is over")

        assert node.board.outputs()["fan"][0] is False
        node.board.set("fan", True, cause=PERSON)


async def test_what_a_process_says_to_itself_is_taken_however_much_waits() -> None:
    """The end of a tool cannot be said again."""

    class Core:
        def handle(self, event: str, now: float) -> list[str]:
            return [event]

        def tick(self, now: float) -> list[str]:
            return []

        def wake_at(self) -> float | None:
            return None

    async def store(effects: Sequence[str]) -> Sequence[str]:
        return effects

    performed: list[str] = []
    actor: Actor[str, str] = Actor(Core(), store=store, perform=performed.append, capacity=1)

    def broken() -> None:
        raise ZeroDivisionError("a bug")

    assert actor.post("wire", broken)
    assert not actor.post("wire")
    assert actor.post("tool ended", is_own=True)
    actor.start()
    await actor.stop()
    assert performed == ["wire", "tool ended"]


def test_a_workspace_in_which_skills_would_be_run_is_refused(tmp_path: Path) -> None:
    """A model could write a tool of its own there."""
    for folder, workspace in (("w/skills", "w"), ("w", "w/files"), ("w", "w")):
        skills = SkillSettings(folders=(tmp_path / folder,), workspace=tmp_path / workspace)
        with pytest.raises(ConfigError, match="nor around it, where skills are run"):
            Node(replace(settings(tmp_path), skills=skills))


def test_a_node_has_the_shipped_skills_that_are_on(tmp_path: Path) -> None:
    """All of them by default, but no program; and nothing is made before it is used."""
    node = Node(settings(tmp_path))
    assert {spec.name for spec in node.tools.specs()} == {
        *("output_set", "output_get", "system_status", "file_read", "file_write", "file_list", "file_delete"),
        *("download", "timer_set", "timer_list", "timer_cancel", "memory_read", "memory_write"),
    }
    few = SkillSettings(shipped=("memory", "system"), programs=("df",))
    node = Node(replace(settings(tmp_path), skills=few))
    assert [spec.name for spec in node.tools.specs()] == [
        "system_status",
        "memory_read",
        "memory_write",
        "shell_exec",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_cannot_be_one_is_told_at_once(tmp_path: Path) -> None:
    """With the name of the entry."""
    with pytest.raises(ConfigError, match=r"'\.\./sh'"):
        Node(replace(settings(tmp_path), skills=SkillSettings(programs=("../sh",))))


async def test_a_skill_that_makes_the_card_too_large_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named, and the node goes on with the others."""
    folder = tmp_path / "skills"
    folder.mkdir()
    for name, words in (("a", "x"), ("b", "x" * 40_000), ("c", "x" * 40_000), ("d", "x")):
        tool = f'from pibot_mesh.agent.tools import tool\n@tool\ndef {name}() -> str:\n    """{words}."""\n'
        (folder / f"{name}.py").write_text(tool)

    async with Node(settings(tmp_path)) as node:
        assert {name for name in "abcd" if name in node.tools} == {"a", "b", "d"}
        assert encode(node.card())

    [message] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert f"{folder / 'c.py'}: " in message
    assert "65536" in message


async def test_a_task_that_was_cut_off_is_told_with_the_effect_of_its_skill(tmp_path: Path) -> None:
    """Skills are loaded before what was cut off is looked at."""
    (tmp_path / "skills").mkdir()
    (tmp_path / "skills" / "look.py").write_text(
        'from pibot_mesh.agent.tools import tool\n@tool\ndef look() -> str:\n    """Look."""\n'
    )
    journal = Journal(tmp_path / "node-n1.sqlite")
    journal.write([Save(Entry(Task("t1", "r1", "call", tool="look"), "running"), True)])
    journal.close()

    async with Node(settings(tmp_path)):
        pass

    journal = Journal(tmp_path / "node-n1.sqlite")
    [entry] = journal.read().entries
    journal.close()
    assert entry.result is not None
    assert entry.result.tool_calls[0].effect == "read"


async def reasons_of(state_dir: Path, monkeypatch: pytest.MonkeyPatch, *boots: str) -> list[str | None]:
    """Why a node started that was started and ended in good order in each of these starts of its machine."""
    reasons = []
    for boot in boots:
        monkeypatch.setattr(service, "read_machine_boot", partial(str, boot))
        async with Node(settings(state_dir)) as node:
            reasons.append(node.card().start_reason)
    return reasons


async def test_a_nodes_card_says_why_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time, again on the same machine, and after that was started anew; nothing where that is not known."""
    reasons = await reasons_of(tmp_path, monkeypatch, "m1", "m1", "m2", "", "m2")

    assert reasons == ["first", "restart", "reboot", None, None]


async def test_what_a_bug_ended_counts_as_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs are safe and the mesh is told, and yet nobody wanted that end; what a person can cause is none."""
    reasons = []
    for error in (KeyError("a bug"), StoreError("disk full"), asyncio.CancelledError(), None):
        monkeypatch.setattr(service, "read_machine_boot", lambda: "m1")
        node = Node(settings(tmp_path))
        await node.__aenter__()
        reasons.append(node.card().start_reason)
        await node.__aexit__(type(error) if error else None, error, None)

    assert reasons == ["first", "crash", "restart", "restart"]


async def test_a_journal_that_cannot_be_written_at_the_end_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start counts as one after a crash."""

    def fail(_: Journal) -> None:
        raise StoreError("disk full")

    with monkeypatch.context() as full:
        full.setattr(Journal, "end", fail)
        assert await reasons_of(tmp_path, full, "m1") == ["first"]

    assert "n1: this end will be taken for a crash: disk full" in caplog.text
    assert await reasons_of(tmp_path, monkeypatch, "m1") == ["crash"]
