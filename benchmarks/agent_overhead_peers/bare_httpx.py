"""The yardstick: the least that a streamed tool loop over httpx can do."""

from __future__ import annotations

import json

import harness
import script


def prepare(base_url: str) -> harness.Run:
    import httpx

    client = httpx.AsyncClient(base_url=base_url, headers={"Authorization": f"Bearer {script.KEY}"})
    function = {"name": "add", "description": script.ADD_DESCRIPTION, "parameters": script.ADD_SCHEMA}
    fixed = {"model": script.MODEL, "stream": True, "tools": [{"type": "function", "function": function}]}

    async def ask(messages: list[dict]) -> tuple[str, list[dict]]:
        """One model call: the text and the tool calls."""
        texts: list[str] = []
        calls: list[dict] = []
        async with client.stream("POST", "/chat/completions", json={**fixed, "messages": messages}) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                delta = json.loads(line[6:])["choices"][0]["delta"]
                if delta.get("content"):
                    texts.append(delta["content"])
                for fragment in delta.get("tool_calls", ()):
                    if fragment["index"] == len(calls):
                        calls.append(fragment)
                    else:
                        calls[fragment["index"]]["function"]["arguments"] += fragment["function"]["arguments"]
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
