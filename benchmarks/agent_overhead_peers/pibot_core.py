"""PiBot's agent core over one of its HTTP paths (the argument says which); a fresh core for each run, as tasks get."""

from __future__ import annotations

import sys

import harness
import script


def prepare(base_url: str) -> harness.Run:
    from pibot_mesh.agent import AgentCore, LLMClient, ToolRegistry
    from pibot_mesh.config.settings import ModelSettings

    transport = sys.argv[3]
    assert transport in {"standard", "openai"}
    settings = ModelSettings("custom", base_url, script.MODEL, script.KEY, transport=transport)
    client = LLMClient(settings)
    tools = ToolRegistry()
    tools.tool(name="add")(harness.add_async)

    async def run(prompt: str) -> str:
        core = AgentCore(client, tools, system_prompt=script.SYSTEM)
        async for _ in core.run(prompt):
            pass
        return core.outcome.text or f"{core.outcome.state}: {core.outcome.reason}"

    return run


if __name__ == "__main__":
    harness.measure(prepare)
