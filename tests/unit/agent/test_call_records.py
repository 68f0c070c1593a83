"""What is kept of calls fits, and what is least missed goes first."""

from __future__ import annotations

import json
from typing import Any

from pibot_mesh.agent.call_records import ARGS_BYTES, CALLS_BYTES, fit_calls, short_call
from pibot_mesh.protocol.codec import to_dict
from pibot_mesh.protocol.messages import Effect, ToolCall


def call(effect: Effect = "read", **args: Any) -> ToolCall:
    return ToolCall("tool", args, True, effect)


def size(calls: tuple[ToolCall, ...]) -> int:
    return len(json.dumps([to_dict(one) for one in calls], ensure_ascii=False, separators=(",", ":")).encode())


def test_short_arguments_stay_as_they_are() -> None:
    """Whatever they are."""
    one = call(text="é" * 100, deep={"a": [1, None]})

    assert short_call(one) is not None
    assert short_call(one).args == one.args


def test_long_arguments_are_cut_in_the_middle() -> None:
    """The short ones beside them stay, and what is left says how much is missing."""
    short = short_call(call(path="notes.txt", text="x" * 60_000, rows=list(range(10_000)), on=True))

    assert short.args["path"] == "notes.txt"
    assert short.args["on"] is True
    assert "of 60000 bytes left out" in short.args["text"]
    assert "bytes left out" in short.args["rows"]
    assert len(json.dumps(short.args)) < 2 * ARGS_BYTES
    assert (short.name, short.ok, short.effect) == ("tool", True, "read")


def test_a_thousand_arguments_are_bounded_too() -> None:
    """A model can make them up."""
    short = short_call(ToolCall("tool", {f"name {number}" * 100: "x" * 100 for number in range(1000)}))

    assert len(json.dumps(short.args)) < 10 * ARGS_BYTES


def test_calls_that_fit_are_whole() -> None:
    """Nothing is touched."""
    calls = (call(a=1), call("write", b=2))

    assert fit_calls(calls) == calls


def test_the_arguments_of_calls_that_only_read_go_first() -> None:
    """Then those of all."""
    calls = (call(a="x" * 300), call("actuate", b="y" * 300))

    assert fit_calls(calls, room=600) == (call(), calls[1])
    assert fit_calls(calls, room=200) == (call(), call("actuate"))


def test_what_is_kept_is_as_long_as_was_said() -> None:
    """In bytes of JSON."""
    calls = tuple(call("write", text="é" * 100) for _ in range(1000))

    assert CALLS_BYTES / 2 < size(fit_calls(calls)) <= CALLS_BYTES


def test_calls_that_only_read_go_before_those_that_changed_something() -> None:
    """And at last the oldest."""
    calls = (*(call() for _ in range(50)), *(ToolCall(f"set{number}", {}, None, "write") for number in range(8)))

    assert fit_calls(calls, room=8 * 80) == calls[50:]
    assert fit_calls(calls, room=4 * 80) == calls[54:]
    assert fit_calls(calls, room=10) == ()
