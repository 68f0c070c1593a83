"""What a run may use, and when a model call is tried again. Pure: no clock; chance is given."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from pibot_mesh.agent.model import FailureKind, ModelFailure


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits of one run; all are on by default. A run that meets one ends ``stopped``, with what it has."""

    turns: int = 50
    """Model calls that are answered."""
    tool_calls: int = 100
    tokens: int = 500_000
    """Input and output of all model calls together; estimated where the service does not tell."""
    wall_s: float = 600.0
    """Seconds from start to end."""
    same_calls: int = 3
    """So many calls in a row of the same tool with the same arguments are one too many."""
    answer_tokens: int | None = None
    """The longest answer; None: the model's own limit."""
    context_tokens: int = 32_000
    """What the model can read at once. Older turns are summarised before a request gets larger than that."""
    tool_output_bytes: int = 16 * 1024
    """Longer output of a tool is cut in the middle, and kept whole in a file."""
    parallel: int = 8
    """Tools that run at the same time, at most."""
    retries: int = 4
    """How often a model call is tried again."""
    retry_base_s: float = 0.5
    """The first wait before another try; each further one is twice as long, up to 30 s."""

    def __post_init__(self) -> None:
        """Raises ValueError for a limit with which nothing could be done."""
        for name, least in (("turns", 1), ("parallel", 1), ("same_calls", 2), ("context_tokens", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"RunLimits.{name}: at least {least} is expected, not {getattr(self, name)}")


MAX_DELAY_S: Final = 30.0
MAX_RETRY_AFTER_S: Final = 120.0
"""A service that asks to wait for longer than that is not waited for."""


def retry_delay(failure: ModelFailure, attempt: int, limits: RunLimits, jitter: Random) -> float | None:
    """Seconds to wait after the try number *attempt* (from 1) failed, or None where it is not tried again.

    Empty answers are counted by themselves, and so are all other failures.

    Exponential, with a jitter of a quarter either way, so that nodes which were refused together do not come back
    together; never less than the service asks for. An empty answer is tried again once.
    """
    tries = 1 if failure.kind is FailureKind.EMPTY else limits.retries
    asked_s = failure.retry_after_s or 0.0
    if not failure.is_retryable or attempt > tries or asked_s > MAX_RETRY_AFTER_S:
        return None
    delay_s = min(limits.retry_base_s * 2.0 ** (attempt - 1), MAX_DELAY_S) * jitter.uniform(0.75, 1.25)
    return max(delay_s, asked_s)
