"""Conversations for the offline engine's tests: each text is planned with what was said before it."""

from __future__ import annotations

from collections.abc import Mapping

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Exchange
from pibot_mesh.master.offline import OfflineEngine, Refusal
from pibot_mesh.protocol.messages import NodeCard, Plan, Reply, State, Step, StepResult, ToolCall, WireError
from tests.unit.master.offline.house import HOUSE, KNOWN


def exchange(text: str, outcome: Plan | Refusal, *skipped: str) -> Exchange:
    """What is remembered of *text*: its plan, done but for the steps *skipped*, or its refusal."""
    if isinstance(outcome, Refusal):
        error = WireError(outcome.code, outcome.text)
        return Exchange(text, Reply("r", State.REJECTED, outcome.text, error=error))
    results = tuple(
        StepResult(step.id, State.SKIPPED if step.id in skipped else State.COMPLETED, step.node)
        for step in outcome.steps
    )
    return Exchange(text, Reply("r", State.COMPLETED, "done", plan=outcome, results=results))


def talk(
    engine: OfflineEngine, *texts: str, cards: Mapping[str, NodeCard] = HOUSE, node: str | None = None
) -> Plan | Refusal:
    """What the last of *texts* means after the others, which are all said to the whole house."""
    *before, last = texts
    said: list[Exchange] = []
    for text in before:
        said.append(exchange(text, engine.plan(text, HOUSE, known=KNOWN, conversation=said)))
    return engine.plan(last, cards, node=node, known=KNOWN, conversation=said)


def agent_exchange(*calls: ToolCall, node: str | None = "worker-1") -> Exchange:
    """A model's plan: one instruction for any node, which an agent on *node* carried out with *calls*."""
    plan = Plan("llm", (Step("s1", "agent", instruction="make it cosy"),))
    result = StepResult("s1", State.COMPLETED, node, tool_calls=calls)
    return Exchange("make it cosy", Reply("r", State.COMPLETED, "done", "llm", plan, (result,)))


def call_exchange(step: Step, ran_on: str | None = None) -> Exchange:
    """A model's plan of one call."""
    result = StepResult(step.id, State.COMPLETED, ran_on)
    return Exchange("x", Reply("r", State.COMPLETED, "done", "llm", Plan("llm", (step,)), (result,)))


def refused(code: ErrorCode) -> Exchange:
    """A request that came to no plan."""
    return Exchange("x", Reply("r", State.REJECTED, "no", error=WireError(code, "no")))
