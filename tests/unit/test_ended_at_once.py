"""A task that is cancelled in the moment in which it begins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from pibot_mesh.agent.tools import Tool, ToolContext, ToolRegistry
from pibot_mesh.node.events import ToolEnded
from pibot_mesh.node.executor import TaskExecutor
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, State, Task, ToolSpec


async def test_a_tool_that_is_ended_before_its_first_step_is_canceled_and_has_done_nothing() -> None:
    """Order and cancel may come from the broker in one breath; without a word its node would call it ``unknown``."""
    was_run = False

    async def switch(_: Mapping[str, JSON], __: ToolContext) -> Output:
        nonlocal was_run
        was_run = True
        return Output("done")

    ended: asyncio.Queue[ToolEnded] = asyncio.Queue()
    executor = TaskExecutor(ToolRegistry([Tool(ToolSpec("switch", effect="actuate"), switch)]), ended.put_nowait)
    task = Task("t1", "r1", "call", tool="switch")
    executor.start(task, time.monotonic() + 30)
    executor.end(task)
    async with asyncio.timeout(5):
        word = await ended.get()
    assert (word.task, word.state, was_run) == ("t1", State.CANCELED, False)
    await executor.stop()
    assert ended.empty()
