"""From a request to a plan, and from results to words: what the master's service asks of a planner."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Exchange, Refusal
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.protocol.messages import NodeCard, Plan, Request, StepResult, Usage, WireError

__all__ = ["Exchange", "OfflinePlanner", "Planner", "Planning", "Situation", "Words"]


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan is made with.

    *cards* are those of the nodes that are online, *own_card* that of the master; *offline* are nodes that are known
    and not there; *load* is how many tasks a node holds, for its size; *conversation* is what the request goes on from,
    the oldest first.
    """

    cards: Mapping[str, NodeCard]
    own_card: NodeCard
    offline: Collection[str] = ()
    load: Mapping[str, float] = field(default_factory=dict)
    conversation: Sequence[Exchange] = ()


@dataclass(frozen=True, slots=True)
class Planning:
    """The plan for a request, or why there is none, and what it took to find it."""

    outcome: Plan | Refusal
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, and what it took to find them."""

    text: str
    usage: Usage = Usage()


class Planner(Protocol):
    """Makes plans from requests, and words from results."""

    async def plan(self, request: Request, situation: Situation) -> Planning:
        """A plan for *request*, or why there is none."""

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        """What happened, in words, from the results, at once: the same for the same results."""

    async def write(self, request: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        """What happened, in a model's words, where *plan* is a model's and every step went well."""

    def examples(self, language: str) -> list[str]:
        """Sentences to try."""

    def close(self) -> None:
        """Let go of what the planner holds."""


class OfflinePlanner:
    """Plans with the offline engine, in a thread of its own, so that long sentences do not hold up the loop.

    *sentences* are users' own templates. Raises ConfigError where one of them is wrong.
    """

    def __init__(self, sentences: Sequence[Path] = ()) -> None:
        self._engine = OfflineEngine(sentences)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="planner")

    async def plan(self, request: Request, situation: Situation) -> Planning:
        """A plan for *request*, or why there is none."""
        loop = asyncio.get_running_loop()
        return Planning(await loop.run_in_executor(self._thread, self._plan, request, situation))

    def _plan(self, request: Request, situation: Situation) -> Plan | Refusal:
        outcome = self._engine.plan(
            request.text,
            situation.cards,
            node=request.node,
            known=situation.offline,
            conversation=situation.conversation,
        )
        if isinstance(outcome, Plan):
            return outcome
        is_retryable = outcome.code == ErrorCode.OFFLINE
        return Refusal(WireError(outcome.code, outcome.text, is_retryable))

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        """What happened, in words, from the results, in the language of the request."""
        return self._engine.answer(plan, results)

    async def write(self, _: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        """The same as `answer`: there is no model here."""
        return Words(self.answer(plan, results))

    def examples(self, language: str) -> list[str]:
        """Sentences that the engine knows."""
        return self._engine.examples(language)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
