"""A node with the tool ``append``, which writes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.config.settings import BrokerSettings, NodeSettings
from pibot_mesh.node.service import Node
from reliability_peers.order import SIDE_BY_SIDE, Task, do, given


async def run() -> None:
    order = given()
    tools = ToolRegistry()

    @tools.tool(effect="write", safe_to_retry=order.is_safe_to_retry)
    def append(task: str, duration_s: float) -> str:
        """Append the id of a task to the file.

        Args:
            task: The id.
            duration_s: How long it takes.
        """
        do(Task(task, duration_s), order.effects)
        return f"appended {task}"

    settings = NodeSettings(
        "worker",
        broker=BrokerSettings(port=order.port),
        state_dir=Path(order.folder) / "node",
        simulate=True,
        running=SIDE_BY_SIDE,
    )
    async with Node(settings, tools=[tools["append"]]):
        order.ready.touch()
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s")
    asyncio.run(run())
