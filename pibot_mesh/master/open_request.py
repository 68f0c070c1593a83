"""A request that has no reply yet: what is known of it, and what its tasks may still use. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Final

from pibot_mesh.agent.events import add_usage
from pibot_mesh.master.events import Record, Share
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Limits, State, Step, StepResult, Usage

AGENT_TIMEOUT_S: Final = 300.0
"""How long an agent step may take that does not say so itself."""
WORDS_S: Final = 5.0
"""What of a request's time is kept for its end, so that an agent stops by itself and says how far it came."""


@dataclass(frozen=True, slots=True)
class Question:
    """A call that waits for a person's word.

    *task* is the agent task that asks; None: the master itself asks, before it sends the step's call.
    """

    step: str
    tool: str
    asked_at: float
    within_s: float
    task: str | None = None


@dataclass(slots=True)
class OpenRequest:
    """A request that has no reply yet, with what this process alone knows of it. *budget* is all that it may use."""

    record: Record
    arrived_at: float
    budget: Limits
    plan_s: float = 0.0
    seq: int = 0
    is_writing: bool = False
    """Whether the planner is asked to put the results in words."""
    is_plain: bool = False
    """Whether the answer must be there at once, in plain words."""
    tries: dict[str, int] = field(default_factory=dict)
    """How often each task was sent, in its present attempt."""
    used: dict[str, Usage] = field(default_factory=dict)
    """What open tasks have asked of the model gateway."""
    questions: dict[str, Question] = field(default_factory=dict)
    """The calls that wait for a person, by their ids."""
    resumed: set[str] = field(default_factory=set)
    """The tasks that were under way when the master started: an agent may have asked before."""
    granted: set[str] = field(default_factory=set)
    """The steps whose call a person has approved."""
    delegates: dict[str, str] = field(default_factory=dict)
    """The steps that the master's own agent waits for, with the keys it knows them by."""

    def step(self, step_id: str) -> StepResult:
        """How far the step is."""
        return next(step for step in self.record.steps if step.step == step_id)

    def planned(self, step_id: str) -> Step:
        """The step as the plan has it."""
        assert self.record.plan is not None
        return next(step for step in self.record.plan.steps if step.id == step_id)

    def put(self, step: StepResult) -> None:
        """*step* is how far it is now."""
        steps = tuple(step if old.step == step.step else old for old in self.record.steps)
        self.record = replace(self.record, steps=steps)

    def data(self) -> dict[str, JSON]:
        """What the completed steps gave, by step: what references and conditions look at."""
        return {step.step: step.output.data for step in self.record.steps if step.state is State.COMPLETED}

    def open_agents(self) -> Iterator[StepResult]:
        """The agent steps whose tasks are on their way or at work."""
        for step in self.record.steps:
            if step.task and not step.state.is_terminal and self.planned(step.step).kind == "agent":
                yield step

    @property
    def usage(self) -> Usage:
        """All that the request has used of the model so far."""
        usages = [self.record.usage, *(step.usage for step in self.record.steps), *self.used.values()]
        return reduce(add_usage, usages, Usage())

    def share(self, step: Step, seconds_left: float) -> Share | None:
        """What the task of the agent step *step* may use, of what is left; None where nothing is.

        What is left is parted evenly among the agent steps that have not begun. The master's own agent gets half: it
        may delegate, and what it delegates needs a share too.
        """
        tokens, calls = self._left("tokens"), self._left("tool_calls")
        if tokens <= 0 or calls <= 0:
            return None
        waiting = [
            other
            for other in (self.record.plan.steps if self.record.plan else ())
            if other.kind == "agent" and self.step(other.id).task is None and not self.step(other.id).state.is_terminal
        ]
        parts = max(1, len(waiting)) + (step.node == MASTER or step.id in self.delegates)
        timeout_s = max(1.0, min(step.timeout_s or AGENT_TIMEOUT_S, seconds_left - WORDS_S))
        return Share(Limits(self.budget.turns, max(1, calls // parts), max(1, tokens // parts)), round(timeout_s, 3))

    def _left(self, what: str) -> int:
        """The tokens or tool calls of the budget that nobody has used and no open task was given."""
        is_tokens = what == "tokens"
        left: int = getattr(self.budget, what)
        left -= tokens_of(self.record.usage) if is_tokens else 0
        for step in self.record.steps:
            if step.task is None:
                continue
            if self.planned(step.step).kind == "call":
                left -= 0 if is_tokens else 1
            elif step.state.is_terminal:
                left -= tokens_of(step.usage) if is_tokens else len(step.tool_calls)
            else:
                limits = self.record.shares[step.step].limits
                left -= (limits.tokens if is_tokens else limits.tool_calls) or 0
        return left

    def tokens_left(self, step: StepResult) -> int:
        """The tokens that an open agent step may still use, by what the model gateway has seen of it."""
        share = self.record.shares.get(step.step)
        limit = share.limits.tokens if share is not None else None
        return (limit or 0) - tokens_of(self.used.get(step.task or "", Usage()))


def within(limits: Limits, most: Limits) -> Limits:
    """*limits*, where they ask for less than *most*; a request cannot raise what it may use."""

    def least(asked: int | None, limit: int | None) -> int | None:
        return limit if asked is None else asked if limit is None else min(asked, limit)

    return Limits(
        least(limits.turns, most.turns), least(limits.tool_calls, most.tool_calls), least(limits.tokens, most.tokens)
    )


def tokens_of(usage: Usage) -> int:
    """Input and output together; what was cached and what was thought are parts of them."""
    return usage.input + usage.output
