"""What was refused a moment ago."""

from __future__ import annotations

from pibot_mesh.master.refusals import KEPT, KEPT_S, Refusals
from pibot_mesh.protocol.messages import Reply, State


def no(name: str) -> Reply:
    return Reply(name, State.REJECTED, "too much")


def test_a_refusal_is_known_for_its_time() -> None:
    """And no longer."""
    refusals = Refusals()
    refusals.note(no("r1"), now=10.0)

    assert refusals.of("r1", now=10.0 + KEPT_S) == no("r1")
    assert refusals.of("r1", now=10.1 + KEPT_S) is None
    assert refusals.of("r2", now=10.0) is None


def test_only_so_many_refusals_are_kept_and_none_beyond_its_time() -> None:
    """A flood of requests takes no memory."""
    refusals = Refusals()
    for number in range(KEPT + 1):
        refusals.note(no(f"r{number}"), now=0.0)

    assert refusals.of("r0", now=0.0) is None
    assert refusals.of("r1", now=0.0) == no("r1")
    refusals.note(no("late"), now=KEPT_S + 1)
    assert list(refusals._replies) == ["late"]
