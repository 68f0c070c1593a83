"""The same loop over the openai package, streamed."""

from __future__ import annotations

import json

import harness
import script


def prepare(base_url: str) -> harness.Run:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=base_url, api_key=script.KEY)
    function = {"name": "add", "description": script.ADD_DESCRIPTION, "parameters": script.ADD_SCHEMA}
    tools = [{"type": "function", "function": function}]

    async def ask(messages: list[dict]) -> tuple[str, list[dict]]:
        """One model call: the text and the tool calls."""
        texts: list[str] = []
        calls: list[dict] = []
        stream = await client.chat.completions.create(model=script.MODEL, messages=messages, tools=tools, stream=True)
        async for chunk in stream:
            delta = chunk.choices[0].delta
            if delta.content:
                texts.append(delta.content)
            for fragment in delta.tool_calls or ():
                if fragment.index == len(calls):
                    name = fragment.function.name
                    calls.append({"id": fragment.id, "type": "function", "function": {"name": name, "arguments": ""}})
                calls[fragment.index]["function"]["arguments"] += fragment.function.arguments or ""
        return "".join(texts), calls

    async def run(prompt: str) -> str:
        messages: list[dict] = [{"role": "system", "content": script.SYSTEM}, {"role": "user", "content": prompt}]
        while True:
            text, calls = await ask(messages)
            if not calls:
                return text
            messages.append({"role": "assistant", "content": text, "tool_calls": calls})
            for call in calls:
                result = str(harness.add(**json.loads(call["function"]["arguments"])))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})

    return run


if __name__ == "__main__":
    harness.measure(prepare)
