"""The first version's way: tasks are analysed and done in one process, without a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pibot_mesh import TaskPlanner, WorkerPool, create_default_worker_pool
from pibot_mesh.agent.tools import Tool, ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode, PlanError, StoreError
from pibot_mesh.master.worker_pool import Worker
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Condition, Output, Result, State, Step, ToolSpec, WireError
from pibot_mesh.testing import ScriptedModel, call

WRITE = Step("s1", node="master", tool="file_write", args={"path": "a.txt", "text": "sunny"})
LOOK = Step("s1", "agent", "worker-1", instruction="Which files are there?", tools=("file_list",))


def result(data: JSON, text: str = "") -> Result:
    return Result("t", "pool", 1, State.COMPLETED, Output(text, data))


@pytest.fixture
def pool(tmp_path: Path) -> WorkerPool:
    return create_default_worker_pool(state_dir=tmp_path / "pool")


async def test_the_first_versions_three_lines_work(tmp_path: Path) -> None:
    """As they stand in the integration guide, with a server of our own for the weather."""
    async with _served(b"sunny, 24 degrees") as url:
        step = {"id": "s1", "work": "network", "tool": "download", "args": {"url": url, "file": "weather.txt"}}
        llm_client = ScriptedModel(call("make_plan", complexity="simple", language="en", steps=[step]))

        planner = TaskPlanner(llm_client)
        worker_pool = create_default_worker_pool(llm_client, state_dir=tmp_path)
        plan = await planner.analyze_task("Download weather data")
        assert not plan.handle_locally
        done = await worker_pool.execute_task(plan.subtasks[0])

    assert (done.state, done.error) == (State.COMPLETED, None)
    assert (tmp_path / "workspace" / "weather.txt").read_text("utf-8") == "sunny, 24 degrees"


class _served:  # noqa: N801 - used as a function
    """A web server on loopback that gives *body* to whoever asks."""

    def __init__(self, body: bytes) -> None:
        self._head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        self._body = body

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/weather"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._head + self._body)
        await writer.drain()
        writer.close()


def test_the_default_pool_is_this_machine(pool: WorkerPool, tmp_path: Path) -> None:
    """The master and three workers with the shipped tools; nothing is made on the disk before it is needed."""
    assert list(pool.cards) == ["master", "worker-1", "worker-2", "worker-3"]
    assert {"system_status", "file_read", "download", "memory_write"} <= {
        tool.name for tool in pool.cards["worker-2"].tools
    }
    assert not any(card.agent for card in pool.cards.values())
    assert not (tmp_path / "pool").exists()
    assert len(create_default_worker_pool(workers=1, state_dir=tmp_path).cards) == 2


async def test_workers_share_what_they_write(pool: WorkerPool) -> None:
    """It is one machine."""
    await pool.execute_task(WRITE)

    read = await pool.execute_task(Step("s2", tool="file_read", args={"path": "a.txt"}))

    assert read.output.text == "sunny"


async def test_an_instruction_is_done_with_the_model(tmp_path: Path) -> None:
    """By an agent that has the tools it was allowed, and what the steps before gave."""
    model = ScriptedModel(call("file_list"), "None at all.")
    pool = create_default_worker_pool(model, state_dir=tmp_path)
    step = Step("s2", "agent", instruction="Which files are there?", tools=("file_list",), after=("s1",))

    done = await pool.execute_task(step, earlier={"s1": result(None, "look in the workspace")})

    assert (done.state, done.output.text) == (State.COMPLETED, "None at all.")
    assert [one.name for one in done.tool_calls] == ["file_list"]
    asked = model.requests[0]
    assert [tool.name for tool in asked.tools] == ["file_list"]
    assert '<data from="context">\ns1: look in the workspace\n</data>' in asked.messages[0].text


async def test_what_an_earlier_step_gave_is_filled_in(pool: WorkerPool) -> None:
    """References and conditions look at its result."""
    write = Step("s2", tool="file_write", args={"path": "b.txt", "text": {"$ref": "s1.text"}})
    read = Step("s3", tool="file_read", args={"path": "b.txt"}, when=Condition("s1.count", "above", 3))
    earlier = {"s1": result({"text": "warm", "count": 4})}

    await pool.execute_task(write, earlier=earlier)
    done = await pool.execute_task(read, earlier=earlier)
    skipped = await pool.execute_task(read, earlier={"s1": result({"count": 2})})

    assert done.output.text == "warm"
    assert (skipped.state, skipped.error) == (
        State.CANCELED,
        WireError(ErrorCode.CANCELED, "not needed: it is not so that s1.count above 3"),
    )


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (LOOK, "step s1: it is an instruction, and this pool has no model: create_default_worker_pool(llm_client=...)"),
        (Step("s1", tool="fly"), "step s1: there is no tool 'fly' on any node"),
        (Step("s1", node="cellar", tool="file_list"), "step s1: there is no node 'cellar' online"),
        (Step("s1", node="worker-1", tool="file_read"), "step s1: 'path' is a required property"),
        (
            Step("s2", tool="file_list", after=("s1",)),
            "step s2: it needs what s1 gave: do that first, and hand it in as earlier={...}",
        ),
    ],
)
async def test_a_subtask_that_cannot_run_is_refused_in_words(pool: WorkerPool, step: Step, problem: str) -> None:
    """Before anything is done."""
    with pytest.raises(PlanError) as caught:
        await pool.execute_task(step)

    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ({"$ref": "s1.gone"}, "step s2: the result of s1 has no 'gone'"),
        ({"$ref": "s1.count"}, "step s2: text: 4 is not of type 'string'"),
    ],
)
async def test_a_reference_that_does_not_fit_is_told(pool: WorkerPool, text: JSON, problem: str) -> None:
    """Once it is known what it stands for."""
    write = Step("s2", tool="file_write", args={"path": "b.txt", "text": text})

    with pytest.raises(PlanError) as caught:
        await pool.execute_task(write, earlier={"s1": result({"count": 4})})

    assert caught.value.problems == (problem,)


async def test_a_tool_that_fails_gives_a_result_that_says_so(pool: WorkerPool) -> None:
    """An error of the work is no error of the program."""
    done = await pool.execute_task(Step("s1", tool="file_read", args={"path": "gone.txt"}))

    assert done.state is State.FAILED
    assert done.error is not None
    assert "gone.txt" in done.error.message


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With its path."""
    (tmp_path / "file").write_text("no folder", "utf-8")
    pool = create_default_worker_pool(state_dir=tmp_path / "file")

    with pytest.raises(StoreError, match="file/workspace: cannot be made"):
        await pool.execute_task(WRITE)


class _Slow:
    """Workers whose one tool waits until it may end."""

    def __init__(self, *names: str) -> None:
        self.busy: list[str] = []
        self.may_end = asyncio.Event()
        self.pool = WorkerPool([Worker(name, ToolRegistry([self._tool(name)]), ("slow",)) for name in names])

    def _tool(self, name: str) -> Tool:
        async def wait(args: Mapping[str, JSON], context: ToolContext) -> Output:
            self.busy.append(name)
            await self.may_end.wait()
            return Output(name)

        return Tool(ToolSpec("wait", parameters={"type": "object"}, timeout_s=5), wait)


async def test_the_least_busy_worker_is_taken() -> None:
    """And never the master, unless it is named."""
    slow = _Slow("master", "one", "two")
    step = Step("s1", tool="wait", labels=("slow",))

    async with asyncio.timeout(5):
        tasks = [
            asyncio.create_task(slow.pool.execute_task(one))
            for one in (step, step, Step("s1", "call", "master", tool="wait"))
        ]
        while len(slow.busy) < 3:
            await asyncio.sleep(0)
        slow.may_end.set()
        results = await asyncio.gather(*tasks)

    assert sorted(slow.busy) == ["master", "one", "two"]
    assert [one.output.text for one in results] == ["one", "two", "master"]


async def test_a_subtask_ends_with_its_time() -> None:
    """The tool's own limit, or a shorter one of the step."""
    slow = _Slow("one")
    begun = time.monotonic()

    done = await slow.pool.execute_task(Step("s1", tool="wait", timeout_s=0.05))

    assert done.error == WireError(ErrorCode.TIMEOUT, "wait did not end within 0.05 s")
    assert time.monotonic() - begun < 2
