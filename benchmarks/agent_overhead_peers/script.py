"""What the loopback model says, for the server that says it and the harness that checks what came of it."""

from __future__ import annotations

MODEL = "benchmark"
KEY = "a-key-for-nobody"
SYSTEM = "You add numbers. Call the tool `add` for every sum, one at a time, then say the last result."
ADD_DESCRIPTION = "Add two whole numbers."
ADD_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}


def prompt(turns: int, deltas: int) -> str:
    """What the person asks: *turns* model calls, all but the last for a sum, and *deltas* pieces of final text."""
    return f"Please add these numbers. turns={turns} deltas={deltas}"


def arguments(call: int) -> tuple[int, int]:
    """What the tool is called with for the call number *call* (from 0): never the same twice in one run."""
    return call + 1, 1000


def result(call: int) -> int:
    return sum(arguments(call))


def final_pieces(turns: int, deltas: int) -> list[str]:
    """The final text, as it is streamed; its end is the last sum."""
    last = f"{result(turns - 2)}" if turns > 1 else "nothing"
    return [f"word{index % 1000} " for index in range(deltas - 1)] + [last]
