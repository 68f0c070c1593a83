"""smolagents' ToolCallingAgent, streamed; it prints nothing. It has no asyncio of its own, so it runs without."""

from __future__ import annotations

import harness
import script


def prepare(base_url: str) -> harness.Run:
    from rich.console import Console
    from smolagents import AgentLogger, LogLevel, OpenAIModel, ToolCallingAgent, tool
    from smolagents.agents import EMPTY_PROMPT_TEMPLATES

    agent = ToolCallingAgent(
        tools=[tool(harness.add)],
        model=OpenAIModel(script.MODEL, api_base=base_url, api_key=script.KEY),
        prompt_templates={**EMPTY_PROMPT_TEMPLATES, "system_prompt": script.SYSTEM},
        stream_outputs=True,
        max_steps=50,
        logger=AgentLogger(level=LogLevel.OFF, console=Console(quiet=True)),
    )

    def run(prompt: str) -> str:
        return str(agent.run(prompt))

    return run


if __name__ == "__main__":
    harness.measure(prepare)
