"""The quirks that refuse: what a naive client sends is refused, and what a right one sends is not."""

from __future__ import annotations

import pytest

from pibot_mesh.protocol.codec import JSON
from pibot_mesh.testing import QUIRKS, HttpAnswer, SeenRequest, say

SYSTEM = {"role": "system", "content": "You look."}
LONG = "call_" + 40 * "x"


def _round(first: str, second: str, output: str = "dark", **more: JSON) -> JSON:
    """A conversation with two calls and their results."""
    called = {"role": "assistant", "tool_calls": [{"id": first}, {"id": second}], **more}
    results = [{"role": "tool", "tool_call_id": one, "content": output} for one in (first, second)]
    return {"messages": [called, *results]}


def _said(*reasonings: str | None) -> JSON:
    return {
        "messages": [
            {"role": "assistant"} if one is None else {"role": "assistant", "reasoning_content": one}
            for one in reasonings
        ]
    }


@pytest.mark.parametrize(
    ("name", "naive", "right"),
    [
        ("max_tokens is refused (OpenAI)", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("max_completion_tokens is refused", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("stream_options is refused", {"stream_options": {}}, {}),
        ("parallel_tool_calls is refused", {"parallel_tool_calls": True}, {}),
        ("tools: [] is refused", {"tools": []}, {}),
        ("tools: [] is refused", {"tool_choice": "auto"}, {}),
        (
            "the developer role is refused (DeepSeek)",
            {"messages": [{**SYSTEM, "role": "developer"}]},
            {"messages": [SYSTEM]},
        ),
        ("long and odd call ids are refused", _round(f"{LONG}a", f"{LONG}b"), _round("a", "b")),
        ("long and odd call ids are refused", _round("a|", "b"), _round("a", "b")),
        ("long and odd call ids are refused", _round("a", "a"), _round("a", "b")),
        ("empty tool output is refused", _round("a", "b", ""), _round("a", "b", "(no output)")),
        ("reasoning must be sent back (DeepSeek)", _said("The attic first.", None), _said("The attic first.", "")),
    ],
)
def test_a_refusal_tells_naive_from_right(name: str, naive: JSON, right: JSON) -> None:
    """With 400 and words, or an answer."""
    answer = QUIRKS[name].answer
    assert not isinstance(answer, HttpAnswer)

    refused = answer(SeenRequest("POST", "/v1/chat/completions", {}, naive, 1))

    assert refused.status == 400
    assert answer(SeenRequest("POST", "/v1/chat/completions", {}, right, 1)) == say("Yes.")
