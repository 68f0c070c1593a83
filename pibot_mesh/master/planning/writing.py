"""Results put in words by a model: one call, and nothing but the results to tell of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.events import RunState
from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.model import Model
from pibot_mesh.master.planner import Words
from pibot_mesh.master.planning.answers import own_words
from pibot_mesh.master.planning.prompts import write_message, write_prompt
from pibot_mesh.protocol.messages import Plan, Request, StepResult

WRITE_S: Final = 60.0
"""Seconds that the model may take for the words."""


async def write(
    model: Model, soul: str, request: Request, plan: Plan, results: Sequence[StepResult], *, context_tokens: int
) -> Words:
    """What happened, in the words of *model* and the voice of *soul*; an empty text where it gives none.

    An agent that was the whole plan has said it already, and is not asked again.
    """
    if own := own_words(plan, results):
        return Words(own)
    if request.limits.tokens == 0:
        return Words("")
    limits = RunLimits(turns=1, wall_s=WRITE_S, retries=1, context_tokens=context_tokens)
    agent = AgentCore(model, [], system_prompt=write_prompt(soul), limits=limits)
    outcome = await agent.answer(write_message(request, plan, results))
    text = outcome.text.strip() if outcome.state is RunState.COMPLETED else ""
    return Words(text, outcome.usage)
