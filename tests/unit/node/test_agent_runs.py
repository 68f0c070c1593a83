"""Instructions in the hands of the executor: what they tell the core, what they wait for, and what is left of them."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.model import FailureKind, Model, ModelFailure, ModelRequest
from pibot_mesh.agent.task_run import TaskRun
from pibot_mesh.agent.tools import ToolContext, ToolRegistry
from pibot_mesh.config.settings import MESH, ModelSettings, NodeSettings, SkillSettings
from pibot_mesh.errors import ConfigError, ErrorCode
from pibot_mesh.node import executor as module
from pibot_mesh.node.agent import NodeAgent
from pibot_mesh.node.events import (
    AnswerApproval,
    ApprovalAnswered,
    ApprovalAwaited,
    CallBegun,
    CallEnded,
    LetCall,
    RunInput,
    RunTold,
    SteerRun,
    ToolEnded,
)
from pibot_mesh.node.executor import TaskExecutor
from pibot_mesh.protocol.messages import LLMChunk, LLMRequest, Output, State, Task, ToolCall, ToolSpec
from pibot_mesh.testing import ScriptedModel, call
from tests.brokers import until


def settings(state_dir: Path, **fields: Any) -> NodeSettings:
    return replace(NodeSettings("n1", state_dir=state_dir, skills=SkillSettings(shipped=("files",))), **fields)


class Bench:
    """An executor whose agent has a model that plays a script."""

    def __init__(self, state_dir: Path, *script: Any, ask: tuple[str, ...] = ()) -> None:
        self.words: list[RunInput] = []
        self.ended: asyncio.Queue[ToolEnded] = asyncio.Queue()
        self.done: list[str] = []
        self.model = ScriptedModel(*script)
        self.tools = self._registry()
        self.agent = NodeAgent(settings(state_dir, ask=ask), self.tools, list, self._send)
        self.agent._model = lambda _: self.model  # type: ignore[assignment,method-assign]
        self.executor = TaskExecutor(self.tools, self.ended.put_nowait, told=self.words.append, agent=self.agent)

    def _send(self, _: LLMRequest) -> None:
        raise AssertionError("it has a model of its own")

    def _registry(self) -> ToolRegistry:
        tools = ToolRegistry()

        @tools.tool
        def look() -> str:
            """Look."""
            self.done.append("look")
            return "clouds"

        @tools.tool(effect="actuate")
        async def press() -> str:
            """Press."""
            self.done.append("press")
            return "pressed"

        @tools.tool
        def long() -> str:
            """Give much."""
            return "x" * 500_000

        @tools.tool
        def slow(context: ToolContext) -> str:
            """Tell how far it is."""
            context.update("half")
            context.update("almost")
            return "done"

        return tools

    def start(self, name: str = "t1", **fields: Any) -> Task:
        told = {"id": name, "request": "r1", "kind": "agent", "instruction": "be nice"}
        task = Task(**{**told, **fields})
        self.executor.start(task, time.monotonic() + 30)
        return task

    async def word(self) -> ToolEnded:
        async with asyncio.timeout(10):
            return await self.ended.get()

    async def heard(self, kind: type[Any], number: int = 1) -> Any:
        """The word of this kind with this number."""
        of_kind: Callable[[], list[Any]] = lambda: [one for one in self.words if isinstance(one, kind)]  # noqa: E731
        await until(lambda: len(of_kind()) >= number, f"{kind.__name__} number {number}")
        return of_kind()[number - 1]


async def test_a_run_tells_what_the_core_must_know(tmp_path: Path) -> None:
    """Each before the event that the mesh sees; and at last how it ended."""
    bench = Bench(tmp_path, [call("look"), call("press")], "Done.", ask=("press",))
    bench.start()
    asked = await bench.heard(ApprovalAwaited)
    bench.executor.pass_on(AnswerApproval("t1", asked.call, True, "yes"))
    begun = {one.record.name: one for one in [await bench.heard(CallBegun, 1), await bench.heard(CallBegun, 2)]}
    bench.executor.pass_on(LetCall("t1", begun["press"].call))
    ended = await bench.word()

    assert ended.state is State.COMPLETED
    assert ended.output == Output("Done.", {"text": "Done."})
    assert ended.tool_calls == (ToolCall("look", {}, True, "read"), ToolCall("press", {}, True, "actuate"))
    assert begun["press"].call == asked.call
    assert begun["press"].record == ToolCall("press", {}, None, "actuate")
    for word, type_ in ((ApprovalAwaited, "approval_required"), (ApprovalAnswered, "approval_answered")):
        place = bench.words.index(await bench.heard(word))
        following = bench.words[place + 1]
        assert isinstance(following, RunTold)
        assert (following.type, following.data["call"]) == (type_, asked.call)
    assert {(one.call, one.ok) for one in bench.words if isinstance(one, CallEnded)} == {
        (one.call, True) for one in begun.values()
    }


async def test_a_call_that_changes_something_is_made_when_the_core_lets_it(tmp_path: Path) -> None:
    """One that reads is not held up; an order for a call that is not there is nothing."""
    bench = Bench(tmp_path, [call("look"), call("press")], "Done.")
    bench.start()
    await bench.heard(CallEnded)
    begun = [await bench.heard(CallBegun, 1), await bench.heard(CallBegun, 2)]
    [press] = [one for one in begun if one.record.name == "press"]
    bench.executor.pass_on(LetCall("t1", "other"))
    bench.executor.pass_on(LetCall("t9", press.call))
    assert bench.done == ["look"]
    bench.executor.pass_on(LetCall("t1", press.call))
    await bench.word()

    assert bench.done == ["look", "press"]


async def test_orders_that_come_before_its_model_is_there_wait(tmp_path: Path) -> None:
    """The first instruction loads what it needs."""
    bench = Bench(tmp_path, "Oui.")
    bench.start()
    bench.executor.pass_on(SteerRun("t1", "in French"))
    assert (await bench.word()).output.text == "Oui."
    assert bench.model.requests[0].messages[-1].text == "in French"

    task = bench.start("t2")
    bench.executor.end(task, "too loud")
    ended = await bench.word()
    assert (ended.state, ended.error and ended.error.message) == (State.CANCELED, "too loud")
    assert len(bench.model.requests) == 1


async def test_a_bug_ends_the_task_in_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And its traceback stands in the log."""
    bench = Bench(tmp_path)

    def broken(*_: object) -> Model:
        raise ZeroDivisionError("oh")

    bench.agent._model = broken  # type: ignore[assignment,method-assign]
    bench.start()
    ended = await bench.word()

    assert (ended.state, ended.tool_calls) == (State.FAILED, None)
    assert ended.error is not None
    assert (ended.error.code, ended.error.message) == (ErrorCode.INTERNAL, "the run broke: ZeroDivisionError: oh")
    assert "ZeroDivisionError" in caplog.text


async def test_an_earlier_attempt_that_was_left_behind_is_not_heard_any_more(tmp_path: Path) -> None:
    """Its words would be taken for those of the new one."""
    gate = asyncio.Event()
    bench = Bench(tmp_path, [gate, "old"], "new")
    bench.start()
    await until(lambda: bench.model.requests, "the first is asked")
    bench.start(attempt=2)

    assert (await bench.word()).output.text == "new"
    words = len(bench.words)
    gate.set()
    await until(lambda: not bench.executor._works, "the first one ends")
    assert bench.ended.empty()
    assert len(bench.words) == words


async def test_a_node_that_stops_ends_its_runs(tmp_path: Path) -> None:
    """Within a second, and with what they have."""
    bench = Bench(tmp_path, ["Well", asyncio.Event()])
    bench.start()
    await until(lambda: any(isinstance(one, RunTold) and one.type == "message_delta" for one in bench.words), "a word")
    begun = time.monotonic()
    await bench.executor.stop()

    ended = await bench.word()
    assert time.monotonic() - begun < 1
    assert (ended.state, ended.output.text) == (State.CANCELED, "Well")
    assert ended.error is not None
    assert ended.error.message == "the node stops"


async def test_a_run_that_does_not_end_with_the_node_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls are those that it told of."""
    monkeypatch.setattr(module, "_STOP_WITHIN_S", 0.05)
    bench = Bench(tmp_path)
    bench.agent.load = asyncio.Event().wait  # type: ignore[assignment]
    bench.start(retry="safe")
    await asyncio.sleep(0)
    await bench.executor.stop()

    ended = await bench.word()
    assert (ended.state, ended.tool_calls) == (State.UNKNOWN, None)
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == (ErrorCode.INTERRUPTED, True)


async def test_an_executor_without_an_agent_refuses_instructions() -> None:
    """The core does not send it any."""
    ended: asyncio.Queue[ToolEnded] = asyncio.Queue()
    executor = TaskExecutor(ToolRegistry(), ended.put_nowait)
    executor.start(Task("t1", "r1", "agent", instruction="be nice"), time.monotonic() + 30)

    word = await ended.get()
    assert (word.state, word.error and word.error.code) == (State.REJECTED, ErrorCode.NO_MODEL)


async def test_a_call_task_tells_how_far_it_is(tmp_path: Path) -> None:
    """The first words at once, from whatever thread they come."""
    bench = Bench(tmp_path)
    bench.start(kind="call", tool="slow")
    assert (await bench.word()).state is State.COMPLETED

    told = await bench.heard(RunTold)
    assert told == RunTold("t1", "tool_update", {"tool": "slow", "text": "half"})
    assert [one.data["text"] for one in bench.words if isinstance(one, RunTold)] in (["half", "almost"], ["half"])


# What is left of a run


async def test_thirty_runs_leave_nothing_behind(tmp_path: Path) -> None:
    """Neither their transcripts nor their outputs, in memory or in files."""
    alive: list[weakref.ref[Any]] = []
    bench = Bench(tmp_path, *[[call("long")], "Done."] * 32)
    new_run = bench.agent.new_run

    def noted(*arguments: Any) -> TaskRun:
        run = new_run(*arguments)
        alive.extend([weakref.ref(run), weakref.ref(run._agent)])
        return run

    bench.agent.new_run = noted  # type: ignore[assignment,method-assign]

    async def run(name: str) -> None:
        bench.start(name)
        ended = await bench.word()
        assert ended.tool_calls == (ToolCall("long", {}, True, "read"),)
        bench.words.clear()
        bench.model.requests[:] = [ModelRequest(()) for _ in bench.model.requests]

    await run("first")
    await run("second")
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(30):
        await run(f"t{number}")
    await until(lambda: gc.collect() >= 0 and not any(one() for one in alive), "the last run is gone, too")
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(alive) == 64
    assert not [one for one in gc.get_objects() if isinstance(one, AgentCore)]
    assert (bench.executor._runs, bench.executor._works) == ({}, {})
    assert after - before < 200_000, "each of the runs had outputs of half a megabyte"
    assert list(bench.agent._outputs.iterdir()) == []  # type: ignore[union-attr]


async def test_a_long_output_can_be_read_on_while_the_run_lasts(tmp_path: Path) -> None:
    """It lies in the workspace, where the tools for files may read; what an earlier process left there is removed."""
    seen: list[str] = []

    def look_into(request: ModelRequest) -> str:
        [path] = (tmp_path / "workspace" / ".pibot-outputs" / "t1").iterdir()
        assert str(path) in request.messages[-1].text
        seen.append(path.read_text())
        return "Done."

    old = tmp_path / "workspace" / ".pibot-outputs" / "t0"
    old.mkdir(parents=True)
    bench = Bench(tmp_path, call("long"), look_into)
    bench.start()
    await bench.word()

    assert "x" * 500_000 in seen[0]
    assert not old.exists()
    assert not (tmp_path / "workspace" / ".pibot-outputs" / "t1").exists()


# The model


async def first_part(agent: NodeAgent) -> object:
    """What the model of a task says first."""
    async for part in agent._model(Task("t1", "r1", "agent", instruction="hm")).stream(ModelRequest(())):
        return part
    return None


async def test_a_node_without_a_key_asks_the_master_while_that_is_there(tmp_path: Path) -> None:
    """And says at once that it is away where it is."""
    sent: list[LLMRequest] = []
    agent = NodeAgent(settings(tmp_path), ToolRegistry(), list, sent.append)
    agent.received("c0", LLMChunk("c0", 0))
    agent.master_seen(True)
    agent.master_seen(False)

    away = await first_part(agent)
    assert isinstance(away, ModelFailure)
    assert (away.kind, away.is_retryable, sent) == (FailureKind.NETWORK, True, [])

    agent.master_seen(True)
    talking = asyncio.create_task(agent_says(agent))
    await until(lambda: sent, "the request")
    assert sent[0].task == "t1"
    agent.received(sent[0].id, LLMChunk(sent[0].id, 0, delta={"content": "Hello"}))
    agent.master_seen(False)
    text, failure = await talking
    assert text == "Hello"
    assert isinstance(failure, ModelFailure)
    await agent.stop()
    assert isinstance(await first_part(agent), ModelFailure)


async def agent_says(agent: NodeAgent) -> tuple[str, object]:
    from pibot_mesh.agent.messages import UserMessage
    from pibot_mesh.agent.model import Delta

    text, last = "", object()
    async for part in agent._model(Task("t1", "r1", "agent", instruction="hm")).stream(
        ModelRequest((UserMessage("hm"),))
    ):
        last = part
        if isinstance(part, Delta):
            text += part.text
    return text, last


async def test_a_node_with_a_model_of_its_own_has_one_client_for_all_tasks(tmp_path: Path) -> None:
    """Which is closed with the node."""
    model = ModelSettings("custom", base_url="http://127.0.0.1:9/v1", model="m")
    agent = NodeAgent(settings(tmp_path, model=model), ToolRegistry(), list, lambda _: None)
    await agent.stop()
    task = Task("t1", "r1", "agent", instruction="hm")

    client = agent._model(task)
    assert agent._model(task) is client
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    client.aclose = close  # type: ignore[attr-defined]
    await agent.stop()
    assert closed == [True]


def test_a_model_that_cannot_be_asked_is_told_at_once(tmp_path: Path) -> None:
    """Not by the first task."""
    for model in (ModelSettings("custom"), ModelSettings("custom", base_url="http://h/v1"), ModelSettings("oops")):
        with pytest.raises(ConfigError, match=r"model\."):
            NodeAgent(settings(tmp_path, model=model), ToolRegistry(), list, lambda _: None)
    NodeAgent(settings(tmp_path, model=ModelSettings(MESH)), ToolRegistry(), list, lambda _: None)


async def test_a_model_that_is_not_there_after_all_is_said_in_the_result(tmp_path: Path) -> None:
    """A package was taken away, for instance."""
    bench = Bench(tmp_path)

    def missing(*_: object) -> Model:
        raise ConfigError(["model.transport: the openai package is not installed"])

    bench.agent._model = missing  # type: ignore[assignment,method-assign]
    bench.start()
    ended = await bench.word()

    assert ended.error is not None
    assert (ended.state, ended.error.code) == (State.FAILED, ErrorCode.NO_MODEL)
    assert "openai package" in ended.error.message


def test_the_card_says_which_tools_ask(tmp_path: Path) -> None:
    """Those that the settings name, by name or effect, and those that ask by themselves."""
    agent = NodeAgent(settings(tmp_path, ask=("look", "actuate")), ToolRegistry(), list, lambda _: None)
    specs = [
        ToolSpec("look"),
        ToolSpec("press", effect="actuate"),
        ToolSpec("note", effect="write"),
        ToolSpec("own", approval="ask"),
    ]

    assert [agent.shown(spec).approval for spec in specs] == ["ask", "ask", "auto", "ask"]


def test_what_is_heavy_is_loaded_by_the_first_instruction_alone() -> None:
    """A node that gets none never pays for it."""
    program = "import pibot_mesh.node.service, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()

    assert "pibot_mesh.node.agent" in loaded
    assert {"pibot_mesh.agent.core", "pibot_mesh.agent.task_run", "pibot_mesh.agent.client"}.isdisjoint(loaded)
    assert {"pibot_mesh.node.mesh_model", "ssl", "http.client"} & set(loaded) <= {"ssl", "http.client"}
