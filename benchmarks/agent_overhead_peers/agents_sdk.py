"""The OpenAI Agents SDK, over chat completions, streamed, with its tracing off."""

from __future__ import annotations

import harness
import script


def prepare(base_url: str) -> harness.Run:
    from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=base_url, api_key=script.KEY)
    agent = Agent(
        name="adder",
        instructions=script.SYSTEM,
        tools=[function_tool(harness.add_async, name_override="add")],
        model=OpenAIChatCompletionsModel(model=script.MODEL, openai_client=client),
    )

    async def run(prompt: str) -> str:
        result = Runner.run_streamed(agent, prompt, max_turns=50)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    return run


if __name__ == "__main__":
    harness.measure(prepare)
