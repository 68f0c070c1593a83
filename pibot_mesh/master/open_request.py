"""A request that has no reply yet: what is known of it, and what its tasks may still use. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
"""What of a request's time is kept for its end (a tenth at most): an agent stops by itself and says how far it came."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The very call that a person has approved: of this tool, on this node, with these arguments."""

    node: str
    tool: str
    args: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Question:
    """A call that waits for a person's word.

    *task* is the agent task that asks; where it is None, the master itself asks, before it sends *call*.
    """

    step: str
    tool: str
    within_s: float
    task: str | None = None
    call: Grant | None = None


@dataclass(frozen=True, slots=True)
class Delegate:
    """A step that the master's own agent waits for: the *key* that it knows it by, and the agent's own task."""

    key: str
    by: str


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
    by_gateway: set[str] = field(default_factory=set)
    """The tasks that have asked the model gateway: what they use is counted there."""
    questions: dict[str, Question] = field(default_factory=dict)
    """The calls that wait for a person, by their ids."""
    answered: set[str] = field(default_factory=set)
    """The ids of those that wait no more."""
    held_since: float | None = None
    """Since when the request's time stands still, while somebody is asked."""
    held_s: float = 0.0
    """How long it has stood still before."""
    left_s: float = 0.0
    """What it had left when it was stopped."""
    resumed: set[str] = field(default_factory=set)
    """The tasks that were under way when the master started: an agent may have asked before."""
    granted: dict[str, Grant] = field(default_factory=dict)
    """What a person has approved and is not sent yet, by step."""
    delegates: dict[str, Delegate] = field(default_factory=dict)
    """The steps that the master's own agent waits for."""

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
        usages = [self.record.usage, *(step.usage for step in self.record.steps), *self.record.used.values()]
        return reduce(add_usage, usages, Usage())

    def add_used(self, task: str, usage: Usage) -> None:
        """An open task has asked the model gateway."""
        used = {**self.record.used, task: add_usage(self.record.used.get(task, Usage()), usage)}
        self.record = replace(self.record, used=used)

    def take_used(self, task: str) -> Usage:
        """What *task* has asked of the model gateway; it is kept elsewhere from now on."""
        used = dict(self.record.used)
        usage = used.pop(task, Usage())
        self.record = replace(self.record, used=used)
        return usage

    def share(self, step: Step, seconds_left: float, *, is_safe: bool) -> Share | None:
        """What the task of the agent step *step* may use, of what is left; None where nothing is.

        What is left is parted evenly among the agent steps that have not begun. The master's own agent gets half: it
        may delegate, and what it delegates needs a share too.
        """
        waiting = [self.planned(one.step).kind for one in self.record.steps if not (one.task or one.state.is_terminal)]
        tokens, calls = self._left("tokens"), self.calls_left - waiting.count("call")
        if tokens <= 0 or calls <= 0:
            return None
        parts = max(1, waiting.count("agent")) + (step.node == MASTER or step.id in self.delegates)
        kept_s = min(WORDS_S, seconds_left / 10)
        timeout_s = max(0.1, min(step.timeout_s or AGENT_TIMEOUT_S, seconds_left - kept_s))
        limits = Limits(self.budget.turns, max(1, calls // parts), max(1, tokens // parts))
        return Share(limits, round(timeout_s, 3), is_safe)

    @property
    def calls_left(self) -> int:
        """The tool calls of the budget that nobody has made and no open task was given."""
        return self._left("tool_calls")

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
        return (limit or 0) - tokens_of(self.record.used.get(step.task or "", Usage()))


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
