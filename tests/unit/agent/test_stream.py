"""Events on their way to a reader who may be slow."""

from __future__ import annotations

import asyncio

from pibot_mesh.agent.events import AgentEvent, MessageDelta, RunStart, ToolUpdate, TurnStart, event_json
from pibot_mesh.agent.stream import MAX_UNREAD, MAX_UPDATES, EventStream


async def read(stream: EventStream) -> list[AgentEvent]:
    """All that waits, and the end."""
    stream.close()
    events: list[AgentEvent] = []
    while (event := await stream.next()) is not None:
        events.append(event)
    return events


async def test_events_are_numbered_and_carry_their_turn() -> None:
    """From 0, one by one."""
    stream = EventStream("r")
    stream.put(RunStart, "do it")
    stream.turn = 1
    stream.put(TurnStart)

    assert await read(stream) == [RunStart("r", 0, 0, "do it"), TurnStart("r", 1, 1)]
    assert event_json(RunStart("r", 0, 0, "do it")) == {
        "type": "run_start",
        "run": "r",
        "turn": 0,
        "seq": 0,
        "instruction": "do it",
    }


async def test_deltas_that_wait_are_merged() -> None:
    """By kind; a merged one takes no number of its own, so there is no gap."""
    stream = EventStream("r")
    for text, kind in (("a", "text"), ("b", "text"), ("c", "reasoning"), ("d", "text")):
        stream.delta(text, kind)  # type: ignore[arg-type]
    stream.put(TurnStart)

    assert await read(stream) == [
        MessageDelta("r", 0, 0, "ab"),
        MessageDelta("r", 0, 1, "c", "reasoning"),
        MessageDelta("r", 0, 2, "d"),
        TurnStart("r", 0, 3),
    ]


async def test_a_delta_that_was_read_is_not_lengthened() -> None:
    """A reader who keeps up sees each piece."""
    stream = EventStream("r")
    stream.delta("a", "text")
    assert await stream.next() == MessageDelta("r", 0, 0, "a")
    stream.delta("b", "text")
    assert await read(stream) == [MessageDelta("r", 0, 1, "b")]


async def test_deltas_that_nobody_reads_are_dropped_and_leave_a_gap() -> None:
    """Lifecycle events are not; when there is room again, deltas come again."""
    stream = EventStream("r")
    stream.delta("x" * MAX_UNREAD, "text")
    stream.delta("lost", "text")
    stream.put(TurnStart)
    first = await stream.next()
    stream.delta("y", "text")

    assert isinstance(first, MessageDelta)
    assert (first.seq, len(first.text)) == (0, MAX_UNREAD)
    assert await read(stream) == [TurnStart("r", 0, 2), MessageDelta("r", 0, 3, "y")]


async def test_progress_that_nobody_reads_is_bounded() -> None:
    """And comes again when some of it was read."""
    stream = EventStream("r")
    for number in range(MAX_UPDATES + 5):
        stream.update("c", str(number))
    assert await stream.next() == ToolUpdate("r", 0, 0, "c", "0")
    stream.update("c", "last")

    events = await read(stream)

    assert len(events) == MAX_UPDATES
    assert events[-1] == ToolUpdate("r", 0, MAX_UPDATES + 5, "c", "last")


async def test_a_reader_waits_for_what_comes() -> None:
    """And is told of the end."""
    stream = EventStream("r")
    reading = asyncio.ensure_future(stream.next())
    await asyncio.sleep(0)
    assert not reading.done()
    stream.put(TurnStart)
    assert await reading == TurnStart("r", 0, 0)

    reading = asyncio.ensure_future(stream.next())
    await asyncio.sleep(0)
    stream.close()
    assert await reading is None
