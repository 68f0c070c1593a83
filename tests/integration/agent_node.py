"""A node with a model, in a process of its own, for tests that kill it: ``python -m tests.integration.agent_node PORT
STATE_DIR ROOT MODEL_URL``.

Its tools write a line to ``done.log`` in the state directory; ``press`` does not come back.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.config.settings import BrokerSettings, ModelSettings, NodeSettings, SkillSettings
from pibot_mesh.node.service import Node


async def run(port: int, state_dir: Path, root: str, model_url: str) -> None:
    log = os.open(state_dir / "done.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    tools = ToolRegistry()

    @tools.tool
    def look() -> str:
        """Look at the sky."""
        os.write(log, b"look\n")
        return "clouds"

    @tools.tool(effect="write")
    def note(text: str) -> str:
        """Write it down."""
        os.write(log, f"note {text}\n".encode())
        return "written"

    @tools.tool(effect="actuate")
    async def press() -> str:
        """Press the button."""
        os.write(log, b"press\n")
        await asyncio.Event().wait()
        return "pressed"

    settings = NodeSettings(
        "n1",
        root,
        BrokerSettings(port=port),
        state_dir,
        skills=SkillSettings(shipped=()),
        model=ModelSettings("custom", base_url=model_url, model="m"),
    )
    async with Node(settings, tools=tools):
        await asyncio.Event().wait()


if __name__ == "__main__":
    [_, port, state_dir, root, model_url] = sys.argv
    asyncio.run(run(int(port), Path(state_dir), root, model_url))
