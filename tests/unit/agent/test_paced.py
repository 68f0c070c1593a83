"""Events on their way: in order, at once where something begins or ends, and else ten times a second."""

from __future__ import annotations

import asyncio
from typing import Any

from pibot_mesh.agent.event_data import TEXT_BYTES
from pibot_mesh.agent.paced import PacedEvents
from tests.brokers import until


class Ear:
    """Hears what is told, and when."""

    def __init__(self, every_s: float = 0.1) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.at: list[float] = []
        self.events = PacedEvents(self._hear, every_s)

    def _hear(self, type_: str, data: Any) -> None:
        self.heard.append((type_, dict(data)))
        self.at.append(asyncio.get_running_loop().time())

    @property
    def texts(self) -> list[str]:
        return [data.get("text", type_) for type_, data in self.heard]


async def test_the_first_piece_comes_at_once_and_the_next_ones_together() -> None:
    """A tenth of a second later."""
    ear = Ear()
    for piece in "abc":
        ear.events.delta(1, piece, "text")
    assert ear.heard == [("message_delta", {"turn": 1, "text": "a", "kind": "text"})]

    await until(lambda: len(ear.heard) == 2, "the others")

    assert ear.texts == ["a", "bc"]
    assert ear.at[1] - ear.at[0] >= 0.09


async def test_a_stream_makes_at_most_ten_a_second() -> None:
    """And nothing of it is lost."""
    ear = Ear(0.05)
    for _ in range(200):
        ear.events.delta(1, "x", "text")
        await asyncio.sleep(0.001)
    ear.events.close()

    assert "".join(ear.texts) == "x" * 200
    gaps = [later - earlier for earlier, later in zip(ear.at[:-1], ear.at[1:-1], strict=False)]
    assert min(gaps) >= 0.045
    assert len(gaps) >= 3


async def test_what_begins_or_ends_something_comes_behind_what_was_said_before() -> None:
    """At once, and so does that."""
    ear = Ear(60)
    ear.events.delta(1, "a", "text")
    ear.events.delta(1, "b", "reasoning")
    ear.events.delta(1, "c", "text")
    ear.events.update("c1", {"call": "c1", "text": "half"})
    ear.events.put("message_end", {"turn": 1})

    assert ear.texts == ["a", "b", "c", "half", "message_end"]


async def test_different_things_that_wait_come_one_after_another() -> None:
    """All together ten a second, of each tool its last words."""
    ear = Ear(0.02)
    ear.events.delta(1, "a", "text")
    ear.events.delta(1, "b", "text")
    for text in ("1 %", "2 %"):
        ear.events.update("c1", {"call": "c1", "text": text})

    await until(lambda: len(ear.heard) == 3, "all")

    assert ear.texts == ["a", "b", "2 %"]
    assert ear.at[2] - ear.at[1] >= 0.018


async def test_after_a_pause_the_first_comes_at_once_again() -> None:
    """Also where nothing waited when the time had come."""
    ear = Ear(0.02)
    ear.events.delta(1, "a", "text")
    ear.events.delta(1, "b", "text")
    ear.events.flush()
    begun = asyncio.get_running_loop().time()
    await until(lambda: asyncio.get_running_loop().time() > begun + 0.05, "a pause")
    ear.events.delta(1, "c", "text")

    assert ear.texts == ["a", "b", "c"]


async def test_after_the_end_nothing_is_told() -> None:
    """What waited was told before."""
    ear = Ear(60)
    ear.events.delta(1, "a", "text")
    ear.events.delta(1, "b", "text")
    ear.events.close()
    ear.events.delta(1, "c", "text")
    ear.events.put("run_end", {})

    assert ear.texts == ["a", "b"]


async def test_a_text_is_no_longer_than_a_message_can_carry() -> None:
    """However much came in a tenth of a second."""
    ear = Ear(60)
    ear.events.delta(1, "a", "text")
    ear.events.delta(1, "x" * 100_000, "text")
    ear.events.flush()

    assert len(ear.texts[1]) <= TEXT_BYTES
    assert "of 100000 bytes left out" in ear.texts[1]
