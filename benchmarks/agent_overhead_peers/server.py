"""A model that answers at once, on a free port of loopback. Prints the port; ends when its standard input does.

It is the referee, too: a request without the system prompt, the tool or the right result of the last call is refused.
An answer is written whole, so that its own pace plays no part: each SSE event is one HTTP chunk, as services send them.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache

import script

_ASKED = re.compile(rb"turns=(\d+) deltas=(\d+)")
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_USAGE = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}


def _text(message: dict) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _results(messages: list[dict]) -> list[str]:
    """What the tool gave so far. smolagents sends it as the user's words, behind the word Observation."""
    return [
        _text(message)
        for message in messages
        if message["role"] == "tool" or (message["role"] == "user" and _text(message).startswith("Observation:"))
    ]


def _complaint(request: dict, results: list[str]) -> str:
    """What the peer did wrong, or ""."""
    messages, tools = request["messages"], [tool["function"]["name"] for tool in request.get("tools", ())]
    if script.SYSTEM not in _text(messages[0]):
        return "the system prompt is not there"
    if "add" not in tools:
        return f"the tool add is not among {tools}"
    if results and str(script.result(len(results) - 1)) not in results[-1]:
        return f"the result of call {len(results)} is {results[-1]!r}"
    return ""


def _call_pieces(call: int, name: str, pieces: list[str]) -> list[dict]:
    """The deltas of one tool call."""
    start = {"index": 0, "id": f"call_{call}", "type": "function", "function": {"name": name, "arguments": ""}}
    more = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    return [{"role": "assistant", "content": None, "tool_calls": [start]}, *more]


def _deltas(turns: int, deltas: int, call: int, *, has_final_tool: bool) -> tuple[list[dict], str]:
    """The deltas of an answer, and its finish reason."""
    if call < turns - 1:
        a, b = script.arguments(call)
        return _call_pieces(call, "add", ['{"a":', f" {a},", ' "b":', f" {b}", "}"]), "tool_calls"
    pieces = script.final_pieces(turns, deltas)
    if has_final_tool:
        return _call_pieces(call, "final_answer", ['{"answer": "', *pieces, '"}']), "tool_calls"
    return [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)], "stop"


def _whole(deltas: list[dict]) -> dict:
    """The message that *deltas* add up to."""
    message: dict = {"role": "assistant", "content": "".join(delta.get("content") or "" for delta in deltas) or None}
    fragments = [call for delta in deltas for call in delta.get("tool_calls", ())]
    if fragments:
        text = "".join(fragment["function"]["arguments"] for fragment in fragments)
        function = {"name": fragments[0]["function"]["name"], "arguments": text}
        message["tool_calls"] = [{"id": fragments[0]["id"], "type": "function", "function": function}]
    return message


@cache
def _response(turns: int, deltas: int, call: int, *, is_stream: bool, has_usage: bool, has_final_tool: bool) -> bytes:
    """The HTTP response, head and all."""
    parts, finish = _deltas(turns, deltas, call, has_final_tool=has_final_tool)
    frame = {"id": f"chatcmpl-{call}", "created": 1750000000, "model": script.MODEL}
    if not is_stream:
        choice = {"index": 0, "message": _whole(parts), "logprobs": None, "finish_reason": finish}
        return _plain("200 OK", frame | {"object": "chat.completion", "choices": [choice], "usage": _USAGE})
    frame["object"] = "chat.completion.chunk"
    ends = [(delta, None) for delta in parts] + [({}, finish)]
    events: list[dict] = [
        frame | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}]}
        for delta, end in ends
    ]
    if has_usage:
        events.append(frame | {"choices": [], "usage": _USAGE})
    lines = [f"data: {json.dumps(event, separators=(',', ':'))}\n\n".encode() for event in events]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in [*lines, b"data: [DONE]\n\n"])
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + chunks + b"0\r\n\r\n"


def _plain(status: str, body: dict) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def respond(body: bytes) -> bytes:
    """The response to the request *body*."""
    request = json.loads(body)
    asked = _ASKED.search(body)
    results = _results(request["messages"])
    complaint = _complaint(request, results) if asked else "the prompt is not there"
    if not asked or complaint:
        return _plain("400 Bad Request", {"error": {"message": f"benchmark: {complaint}", "type": "wrong"}})
    return _response(
        int(asked[1]),
        int(asked[2]),
        len(results),
        is_stream=bool(request.get("stream")),
        has_usage=bool((request.get("stream_options") or {}).get("include_usage")),
        has_final_tool=any(tool["function"]["name"] == "final_answer" for tool in request["tools"]),
    )


class Connection(asyncio.Protocol):
    """One client, which may ask as often as it likes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(self._received, 0, end)
        end_of_body = end + (int(length[1]) if length else 0)
        if len(self._received) >= end_of_body:
            body = bytes(self._received[end:end_of_body])
            self._received.clear()
            self._transport.write(respond(body))


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
