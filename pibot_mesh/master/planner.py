"""From a request to a plan: the planner that the master's service calls."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Refusal
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.protocol.messages import NodeCard, Plan, Request, StepResult, WireError


class Planner(Protocol):
    """Makes plans from requests, and words from results."""

    async def plan(self, request: Request, cards: Mapping[str, NodeCard], offline: Collection[str]) -> Plan | Refusal:
        """A plan for *request* on the nodes of *cards*; *offline* are nodes that are known and not there."""

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        """What happened, in words, from the results, in the language of the request."""

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

    async def plan(self, request: Request, cards: Mapping[str, NodeCard], offline: Collection[str]) -> Plan | Refusal:
        """A plan for *request* on the nodes of *cards*; *offline* are nodes that are known and not there."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._plan, request, cards, offline)

    def _plan(self, request: Request, cards: Mapping[str, NodeCard], offline: Collection[str]) -> Plan | Refusal:
        outcome = self._engine.plan(request.text, cards, node=request.node, known=offline)
        if isinstance(outcome, Plan):
            return outcome
        is_retryable = outcome.code == ErrorCode.OFFLINE
        return Refusal(WireError(outcome.code, outcome.text, is_retryable))

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        """What happened, in words, from the results, in the language of the request."""
        return self._engine.answer(plan, results)

    def examples(self, language: str) -> list[str]:
        """Sentences that the engine knows."""
        return self._engine.examples(language)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
