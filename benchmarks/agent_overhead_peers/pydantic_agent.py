"""pydantic-ai, over chat completions, streamed; it traces nothing unless it is told to."""

from __future__ import annotations

import harness
import script


def prepare(base_url: str) -> harness.Run:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=base_url, api_key=script.KEY)
    agent = Agent(OpenAIChatModel(script.MODEL, provider=provider), system_prompt=script.SYSTEM)
    agent.tool_plain(harness.add_async, name="add")

    async def run(prompt: str) -> str:
        async with agent.run_stream(prompt) as result:
            return "".join([piece async for piece in result.stream_text(delta=True, debounce_by=None)])

    return run


if __name__ == "__main__":
    harness.measure(prepare)
