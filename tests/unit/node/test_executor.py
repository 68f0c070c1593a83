"""Tools run each in a task of its own, and end in one word each."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping

import pytest

from pibot_mesh.agent.tools import Tool, ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.node import executor as module
from pibot_mesh.node.events import ToolEnded
from pibot_mesh.node.executor import TaskExecutor
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, State, Task, ToolSpec


class Bench:
    """An executor with tools that wait until they are let go."""

    def __init__(self) -> None:
        self.ended: asyncio.Queue[ToolEnded] = asyncio.Queue()
        self.contexts: list[ToolContext] = []
        self.gate, self.is_in_thread = threading.Event(), threading.Event()
        tools = [
            Tool(ToolSpec("quick"), self._quick),
            Tool(ToolSpec("slow"), self._slow),
            Tool(ToolSpec("deaf", safe_to_retry=False), self._deaf),
            Tool(ToolSpec("bad"), self._bad),
            Tool(ToolSpec("heedful"), self._heedful),
        ]
        self.tools = ToolRegistry(tools)
        self.executor = TaskExecutor(self.tools, self.ended.put_nowait)

    def start(self, tool: str, retry: str = "safe", name: str = "t1") -> Task:
        task = Task(name, "r1", "call", tool=tool, retry=retry)  # type: ignore[arg-type]
        self.executor.start(task, time.monotonic() + 30)
        return task

    async def word(self) -> ToolEnded:
        async with asyncio.timeout(5):
            return await self.ended.get()

    async def _quick(self, _: Mapping[str, JSON], context: ToolContext) -> Output:
        self.contexts.append(context)
        return Output("done")

    async def _slow(self, *_: object) -> Output:
        await asyncio.Event().wait()
        raise AssertionError("nobody lets it go")

    def _deaf(self, *_: object) -> Output:
        self.is_in_thread.set()
        self.gate.wait(5)
        return Output("done at last")

    def _heedful(self, _: Mapping[str, JSON], context: ToolContext) -> Output:
        self.is_in_thread.set()
        assert context.canceled.wait(5)
        raise ToolError("ended half way", code=ErrorCode.CANCELED)

    def _bad(self, *_: object) -> Output:
        raise ToolError("the fan is gone", code="gone")


async def test_a_tool_runs_on_behalf_of_its_task() -> None:
    """It knows task and request; its output is what is said."""
    bench = Bench()
    bench.start("quick")

    assert await bench.word() == ToolEnded("t1", State.COMPLETED, Output("done"))
    assert bench.contexts == [ToolContext("t1", "r1")]


async def test_a_tool_that_fails_says_why() -> None:
    """In the words of its error."""
    bench = Bench()
    bench.start("bad")

    ended = await bench.word()

    assert ended.state is State.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.error.message) == ("gone", "the fan is gone")


async def test_a_tool_is_not_started_after_its_time() -> None:
    """The journal took too long: `rejected`, and worth trying again (promise 3)."""
    bench = Bench()
    bench.executor.start(Task("t1", "r1", "call", tool="quick"), time.monotonic())

    ended = await bench.word()

    assert ended.state is State.REJECTED
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == (ErrorCode.EXPIRED, True)
    assert bench.contexts == []


async def test_an_async_tool_is_told_to_end() -> None:
    """It ends as `canceled`; the other tasks go on."""
    bench = Bench()
    task = bench.start("slow")
    bench.start("slow", name="t2")
    await asyncio.sleep(0)

    bench.executor.end(task)

    ended = await bench.word()
    assert (ended.task, ended.state) == ("t1", State.CANCELED)
    await bench.executor.stop()
    assert (await bench.word()).task == "t2"


@pytest.mark.parametrize("tool", ["slow", "deaf"])
async def test_a_tool_that_is_ended_as_it_begins_is_not_called(tool: str) -> None:
    """Also one in a thread, which need not look whether it was told to end."""
    bench = Bench()
    bench.executor.end(bench.start(tool))

    ended = await bench.word()

    assert (ended.state, bench.is_in_thread.is_set()) == (State.CANCELED, False)


async def test_a_tool_in_a_thread_ends_when_it_is_done() -> None:
    """It cannot be told, so its output is what is said."""
    bench = Bench()
    task = bench.start("deaf")
    await asyncio.to_thread(bench.is_in_thread.wait, 5)
    bench.executor.end(task)
    bench.gate.set()

    assert (await bench.word()).output == Output("done at last")


@pytest.mark.parametrize("how", ["end", "stop"])
async def test_a_tool_in_a_thread_can_heed_its_end(how: str) -> None:
    """It looks at its context, and says that it was stopped."""
    bench = Bench()
    task = bench.start("heedful")
    await asyncio.to_thread(bench.is_in_thread.wait, 5)

    if how == "end":
        bench.executor.end(task)
    else:
        await bench.executor.stop()

    ended = await bench.word()
    assert ended.state is State.CANCELED
    assert ended.error is not None
    assert ended.error.message == "ended half way"


async def test_a_tool_that_is_taken_away_in_the_middle_goes_on() -> None:
    """In a thread or in the loop, it can be told to end as before."""
    bench = Bench()
    slow, deaf = bench.start("slow"), bench.start("deaf", name="t2")
    await asyncio.to_thread(bench.is_in_thread.wait, 5)
    bench.tools.remove("slow")
    bench.tools.remove("deaf")
    bench.executor.end(slow)
    bench.executor.end(deaf)
    bench.gate.set()

    words = {ended.task: ended for ended in [await bench.word(), await bench.word()]}

    assert words["t1"].state is State.CANCELED
    assert words["t2"].output == Output("done at last")


async def test_a_tool_that_was_taken_away_before_its_start_is_not_run() -> None:
    """The journal took a moment, and meanwhile its skill has gone."""
    bench = Bench()
    bench.tools.remove("quick")
    bench.start("quick")

    ended = await bench.word()

    assert ended.state is State.REJECTED
    assert ended.error is not None
    assert ended.error.code == ErrorCode.UNKNOWN_TOOL


async def test_nothing_is_begun_after_the_end() -> None:
    """`rejected`, and worth trying again elsewhere."""
    bench = Bench()
    await bench.executor.stop()
    bench.start("quick")

    ended = await bench.word()

    assert ended.state is State.REJECTED
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == (ErrorCode.INTERRUPTED, True)
    assert bench.contexts == []


async def test_telling_what_does_not_run_is_no_error() -> None:
    """It may have ended a moment before."""
    bench = Bench()
    task = bench.start("quick")
    await bench.word()

    bench.executor.end(task)
    await bench.executor.stop()


@pytest.mark.parametrize(("retry", "is_retryable"), [("safe", True), ("never", False)])
async def test_a_tool_that_is_left_in_its_thread_at_the_end_is_unknown(
    retry: str, is_retryable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`canceled` would claim that it was stopped (promise 2)."""
    monkeypatch.setattr(module, "_STOP_WITHIN_S", 0.05)
    bench = Bench()
    bench.start("deaf", retry)
    await asyncio.to_thread(bench.is_in_thread.wait, 5)

    await bench.executor.stop()
    bench.gate.set()

    ended = await bench.word()
    assert ended.state is State.UNKNOWN
    assert ended.error is not None
    assert (ended.error.code, ended.error.retryable) == (ErrorCode.INTERRUPTED, is_retryable)
