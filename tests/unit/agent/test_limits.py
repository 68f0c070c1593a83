"""When a model call is tried again."""

from __future__ import annotations

from random import Random

import pytest

from pibot_mesh.agent.limits import RunLimits, retry_delay
from pibot_mesh.agent.model import FailureKind, ModelFailure

LIMITS = RunLimits(retries=3, retry_base_s=1.0)


class Middle(Random):
    """Chance without chance."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def failure(
    kind: FailureKind = FailureKind.NETWORK, *, is_retryable: bool = True, after: float | None = None
) -> ModelFailure:
    """A model call that went wrong."""
    return ModelFailure(kind, "no", is_retryable, after)


@pytest.mark.parametrize(
    ("attempt", "delay"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, None)], ids=["first", "second", "third", "over"]
)
def test_each_wait_is_twice_as_long_until_the_tries_are_used_up(attempt: int, delay: float | None) -> None:
    """Exponential."""
    assert retry_delay(failure(), attempt, LIMITS, Middle()) == delay


def test_a_wait_has_an_end() -> None:
    """However often it went wrong."""
    assert retry_delay(failure(), 40, RunLimits(retries=99), Middle()) == 30.0


def test_chance_parts_those_who_failed_together() -> None:
    """By up to a quarter either way."""
    delays = {retry_delay(failure(), 1, LIMITS, Random(seed)) for seed in range(50)}

    assert len(delays) > 40
    assert all(delay is not None and 0.75 <= delay <= 1.25 for delay in delays)


def test_what_the_service_asks_for_is_honoured() -> None:
    """As the least; a wait that nobody wants is none."""
    assert retry_delay(failure(after=7.5), 1, LIMITS, Middle()) == 7.5
    assert retry_delay(failure(after=0.1), 1, LIMITS, Middle()) == 1.0
    assert retry_delay(failure(after=3600), 1, LIMITS, Middle()) is None


def test_an_empty_answer_is_tried_again_once() -> None:
    """A model that has nothing to say will not find it the third time."""
    empty = failure(FailureKind.EMPTY)
    assert retry_delay(empty, 1, LIMITS, Middle()) is not None
    assert retry_delay(empty, 2, LIMITS, Middle()) is None


def test_what_will_not_get_better_is_not_tried_again() -> None:
    """A wrong key, for one."""
    assert retry_delay(failure(FailureKind.AUTH, is_retryable=False), 1, LIMITS, Middle()) is None


@pytest.mark.parametrize(("name", "value"), [("turns", 0), ("parallel", 0), ("same_calls", 1), ("context_tokens", 0)])
def test_a_limit_that_lets_nothing_happen_is_refused(name: str, value: int) -> None:
    """In words, before a run hangs on it."""
    with pytest.raises(ValueError, match=f"RunLimits.{name}: at least"):
        RunLimits(**{name: value})
