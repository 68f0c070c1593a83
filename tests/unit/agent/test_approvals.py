"""Calls that wait for a person, and a clock that waits with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pibot_mesh.agent.approvals import ARGS_BYTES, Approvals, Verdict
from pibot_mesh.agent.run_clock import RunClock
from pibot_mesh.protocol.messages import ToolSpec
from tests.brokers import until

DOOR = ToolSpec("open_door", effect="actuate")


def nested(levels: int) -> dict[str, Any]:
    """Arguments as deep as JSON of a message may be; in an event they stand one level deeper."""
    return {"in": nested(levels - 1)} if levels > 1 else {"text": "deep down"}


class Desk:
    """Where calls are asked about."""

    def __init__(self, *words: str, within_s: float = 60.0, limit_s: float = 60.0) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.overs: list[float] = []
        self.clock = RunClock(limit_s, lambda: self.overs.append(asyncio.get_running_loop().time()))
        self.approvals = Approvals(
            words, within_s, lambda type_, data: self.told.append((type_, dict(data))), self.clock
        )

    def ask(self, call: str = "c1", **args: Any) -> asyncio.Task[Verdict]:
        return asyncio.create_task(self.approvals.ask(call, DOOR, args))

    async def asked(self, number: int = 1) -> None:
        await until(lambda: [type_ for type_, _ in self.told].count("approval_required") == number, "the question")


@pytest.mark.parametrize(
    ("words", "spec", "must_ask"),
    [
        ((), DOOR, False),
        (("actuate",), DOOR, True),
        (("open_door",), DOOR, True),
        (("write", "close_door"), DOOR, False),
        ((), ToolSpec("look", approval="ask"), True),
    ],
)
def test_a_tool_is_asked_about_by_its_name_its_effect_or_its_own_wish(
    words: tuple[str, ...], spec: ToolSpec, must_ask: bool
) -> None:
    """Any of these is enough."""
    assert Desk(*words).approvals.must_ask(spec) is must_ask


async def test_a_question_shows_the_call_and_its_answer_is_told() -> None:
    """The first word counts."""
    desk = Desk()
    asking = desk.ask(which="front")
    await desk.asked()
    assert desk.told == [
        (
            "approval_required",
            {"call": "c1", "tool": "open_door", "effect": "actuate", "args": {"which": "front"}, "within_s": 60.0},
        )
    ]
    desk.approvals.answer("c2", False, "another one")
    desk.approvals.answer("c1", True, "it is me")
    desk.approvals.answer("c1", False, "no, wait")

    assert await asking == Verdict(True, "it is me")
    assert desk.told[1:] == [
        ("approval_answered", {"call": "c1", "tool": "open_door", "granted": True, "reason": "it is me"})
    ]
    desk.approvals.answer("c1", True, "again")


async def test_no_answer_is_a_denial() -> None:
    """After the time that a question waits."""
    desk = Desk(within_s=0.05)

    assert await desk.ask() == Verdict(False, "nobody approved it within 0.05 s")
    assert [data.get("granted") for _, data in desk.told] == [None, False]


async def test_a_question_whose_run_ends_is_taken_back_in_words() -> None:
    """Who was asked sees that it is over."""
    desk = Desk()
    asking = desk.ask()
    await desk.asked()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert desk.told[-1] == (
        "approval_answered",
        {"call": "c1", "tool": "open_door", "granted": False, "reason": "the run was ended"},
    )


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"text": "x" * ARGS_BYTES}, "make them shorter"),
        ({"text": "\ud800"}, "cannot be shown"),
        (nested(32), "cannot be shown"),
    ],
)
async def test_what_nobody_can_see_whole_is_not_asked_about(args: dict[str, Any], says: str) -> None:
    """Something could hide in it."""
    desk = Desk()

    verdict = await desk.ask(**args)

    assert not verdict.is_granted
    assert says in verdict.reason
    assert desk.told == []


# The clock


async def test_the_clock_stands_still_while_questions_wait() -> None:
    """However many; and it is over once, later by as much."""
    desk = Desk(limit_s=0.1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    desk.clock.start()
    first, second = desk.ask("c1"), desk.ask("c2")
    await desk.asked(2)
    desk.approvals.answer("c1", True, "yes")
    await first
    await until(lambda: loop.time() > begun + 0.3, "its time would be over by now")
    assert desk.overs == []
    desk.approvals.answer("c2", True, "yes")
    await second
    await until(lambda: desk.overs, "it goes on")

    assert desk.overs[0] - begun >= 0.38


async def test_a_clock_that_was_stopped_stays_so() -> None:
    """Whoever still held it."""
    desk = Desk(limit_s=0.02)
    loop = asyncio.get_running_loop()
    desk.clock.start()
    asking = desk.ask()
    await desk.asked()
    desk.clock.stop()
    desk.approvals.answer("c1", True, "yes")
    await asking
    begun = loop.time()
    await until(lambda: loop.time() > begun + 0.1, "its time would be over by now")

    assert desk.overs == []


async def test_a_clock_that_is_held_as_it_starts_waits() -> None:
    """Until nobody holds it any more."""
    desk = Desk(limit_s=0.02)
    loop = asyncio.get_running_loop()
    desk.clock.hold()
    desk.clock.start()
    begun = loop.time()
    await until(lambda: loop.time() > begun + 0.1, "its time would be over by now")
    assert desk.overs == []
    desk.clock.go_on()

    await until(lambda: desk.overs, "it goes on")
